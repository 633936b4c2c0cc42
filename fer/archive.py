"""A run as a zip: packed here, taken in elsewhere after every file of it was looked at.

What is packed is what the run shows and can be asked about. `resume.pt` stays behind: it is a pickle, which a reader of other
people's files must not open, and a run goes on only on the machine that began it.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fer.errors import RunError
from fer.files import write_atomic, write_json_atomic
from fer.repair import safetensors_header
from fer.runs import ACTIVE, TTA, RunStore, check_run_id

FILES = (
    "config.json",
    "status.json",
    "model.json",
    "checksums.json",
    "metrics.jsonl",
    "notes.json",
    "train.log",
    "best.safetensors",
    "last.safetensors",
    "report.json",
    "report-local.json",
    "logits-train.npz",
    "logits-val.npz",
    "logits-test.npz",
    *(f"logits-{split}{TTA}.npz" for split in ("train", "val", "test")),
)
MAX_RUNS = 1000
MAX_BYTES = 4 * 2**30  # unpacked
_ENTRY = re.compile(r"([a-z0-9][a-z0-9._-]{0,79})/([A-Za-z0-9._+-]+)")
_CHUNK = 2**20


def pack(store: RunStore, run_ids: Sequence[str], path: Path) -> int:
    """Write these runs as one zip, one folder a run; atomic. Returns the number of files. Raises RunError."""
    runs = [store.get(run_id) for run_id in dict.fromkeys(run_ids)]
    entries = [(f"{run.id}/{name}", run.path / name) for run in runs for name in FILES if (run.path / name).is_file()]

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, source in entries:
                archive.write(source, name)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write)
    except OSError as error:
        raise RunError(
            f"The zip {path} could not be written: {error.strerror}. Choose another place with --out."
        ) from error
    return len(entries)


def take_in(store: RunStore, path: Path) -> list[str]:
    """Take the runs of a zip into the store, all or none; returns their ids here, new ones where an id is taken.

    Raises RunError that names the file where one lies outside of a run's folder, is not part of a run, is damaged, holds
    a pickle, or where all of it would be larger than 4 GB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            by_run = _entries(archive)
            drafts = {run_id: store.root / f".new-{secrets.token_hex(8)}" for run_id in by_run}
            try:
                with store.changing():
                    for run_id, members in by_run.items():
                        _unpack(archive, members, drafts[run_id])
                        _check(drafts[run_id], run_id)
                    return [store.place(draft, run_id) for run_id, draft in drafts.items()]
            finally:
                for draft in drafts.values():
                    shutil.rmtree(draft, ignore_errors=True)
    except FileNotFoundError as error:
        raise RunError(f"There is no file {path}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RunError(
            f"{path.name} is not a zip, is damaged, or is encrypted: {error}. Export the runs again."
        ) from error


def _entries(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    """`{run id: its files}`; every name and size is looked at before anything is unpacked."""
    by_run: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        if info.is_dir():
            continue
        match = _ENTRY.fullmatch(info.filename)
        if not match or ".." in info.filename or (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise RunError(
                f"The zip holds {info.filename[:120]!r}, which does not lie in a run's folder. Nothing was imported."
            )
        if match[2] not in FILES:
            hint = (
                " It may hold code, which is never imported."
                if match[2].endswith((".pt", ".pth", ".pkl", ".pickle", ".bin"))
                else ""
            )
            raise RunError(
                f"The zip holds {info.filename[:120]!r}, which is no part of a run.{hint} Nothing was imported."
            )
        by_run.setdefault(check_run_id(match[1]), []).append(info)
    total = sum(info.file_size for infos in by_run.values() for info in infos)
    if total > MAX_BYTES or len(by_run) > MAX_RUNS:
        raise RunError(
            f"The zip would unpack to {total / 2**30:.1f} GB in {len(by_run):,} runs. At most 4 GB and {MAX_RUNS:,} runs are imported at once."
        )
    if not by_run:
        raise RunError("The zip holds no run. Make one with: python -m fer runs export RUN --to zip")
    return by_run


def _unpack(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    folder.mkdir(parents=True)
    for info in members:
        target = folder / info.filename.partition("/")[2]
        if target.exists():
            raise RunError(f"The zip holds {info.filename!r} twice. Nothing was imported.")
        with archive.open(info) as source, open(target, "wb") as file:
            left = info.file_size
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise RunError(f"{info.filename!r} in the zip is larger than it says. Nothing was imported.")
                file.write(chunk)


def _check(folder: Path, run_id: str) -> None:
    """Whether the folder is a whole run; its status is made one of a run that nobody trains."""
    run = RunStore(folder.parent).read_folder(folder)
    if run.config is None or run.problems:
        raise RunError(f"Run '{run_id}' in the zip cannot be used: {'; '.join(run.problems)}. Nothing was imported.")
    for path in folder.glob("*.safetensors"):
        if safetensors_header(path) is None:
            raise RunError(f"{run_id}/{path.name} in the zip is damaged. Nothing was imported.")
    for path in folder.glob("*.npz"):
        _check_arrays(path, run_id)
    for name in ("model.json", "checksums.json", "report.json", "report-local.json"):
        if (folder / name).exists() and not isinstance(_json(folder / name), dict):
            raise RunError(f"{run_id}/{name} in the zip is damaged. Nothing was imported.")
    status = {k: v for k, v in run.status.items() if k not in ("worker", "turn", "reserved", "ray")}
    if status["state"] in ACTIVE or status["state"] not in ("stopped", "finished", "failed"):
        status.update(state="stopped", error="It was exported before its end. Resume trains it from its start here.")
    write_json_atomic(folder / "status.json", {**status, "imported": time.time()})


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _check_arrays(path: Path, run_id: str) -> None:
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                file[name]
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise RunError(f"{run_id}/{path.name} in the zip is damaged or holds code. Nothing was imported.") from error
