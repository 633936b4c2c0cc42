"""Fetching the study's data set from Kaggle, for who has a network and, where Kaggle asks for it, a token.

The package `kagglehub` is optional and imported only here, when asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from fer.errors import DataError

HANDLE = "jonathanoheix/face-expression-recognition-dataset"
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
BY_HAND = f"Or download the zip by hand from {PAGE} and run: python -m fer data import PATH_OF_THE_ZIP --name kaggle"
_TOKEN = (
    "create a token in your Kaggle account's settings, save it as ~/.kaggle/kaggle.json or set KAGGLE_USERNAME and "
    "KAGGLE_KEY, then run this command again."
)


def fetch_kaggle() -> Path:
    """Download the study's data set, or find it in kagglehub's cache. Returns the folder, ready for `import_path`.

    Raises DataError, which says what to do: the package, the network or the token is missing, or Kaggle refuses.
    """
    hub = _kagglehub()
    try:
        folder = Path(hub.dataset_download(HANDLE))
    except Exception as error:  # any: the exceptions of an optional package and of the HTTP client below it
        raise _explained(error) from error
    if not folder.is_dir():
        raise DataError(f"kagglehub says that the data set lies in '{folder}', but there is no such folder. {BY_HAND}")
    return folder


def has_token() -> bool:
    """Whether Kaggle credentials are found where kagglehub looks for them; not whether Kaggle accepts them."""
    if os.environ.get("KAGGLE_API_TOKEN") or (os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")):
        return True
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle").expanduser()
    return any((folder / name).is_file() for name in ("kaggle.json", "access_token"))


def _kagglehub() -> ModuleType:
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            "Fetching from Kaggle needs the package kagglehub, which is not installed. Run: python -m pip install kagglehub, "
            f"then: python -m fer data kaggle. {BY_HAND}"
        ) from error
    return kagglehub


def _explained(error: Exception) -> DataError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or type(error).__name__ in ("UnauthenticatedError", "CredentialError"):
        what = "Kaggle does not accept your token" if has_token() else "Kaggle asks for a token and there is none here"
        return DataError(f"{what}: {_TOKEN} {BY_HAND}")
    if status is not None:
        return DataError(f"Kaggle answers with HTTP status {status} to the request for {HANDLE}. {BY_HAND}")
    token = "" if has_token() else f" If Kaggle asks for a token: {_TOKEN}"
    return DataError(
        f"The data set could not be downloaded from Kaggle ({type(error).__name__}). Check the network and the free "
        f"disk space, then run this command again.{token} {BY_HAND}"
    )
