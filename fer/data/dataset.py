"""The prepared data set: pictures, labels and splits in one array file.

`data/<name>.npz` holds everything that training needs as plain arrays, so that a later load is one read of the disk
and no picture is decoded twice. The root is `data/` in the project or `FER_DATA_DIR`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer import access
from fer.errors import DataError, NotAllowed
from fer.files import PROJECT_ROOT, ZIP_ERRORS, write_bytes_atomic

CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SPLITS = ("train", "val", "test")
SIZE = 48
SAMPLE = "sample"
PREFERRED = "fer2013"
_FER2013_NAMES = (PREFERRED, "icml_face_data", "face-expression-recognition")
_FER2013_PICTURES = 35_887  # of all splits, also where they are divided in another way, as in the study's set from Kaggle
_FORMAT = 1
_DAMAGE = (*ZIP_ERRORS, OSError, KeyError, TypeError)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with labels and splits, in memory.

    images: (N, 48, 48) uint8, 0 to 255; labels: (N,) int64, an index into `classes`; splits: (N,) uint8, an index into
    `SPLITS`; sources: (N,) str, the file name or row that each picture came from; meta: what the import saw (`spec`,
    `skipped`, `origin`, `val_from`), JSON values only.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    sources: np.ndarray
    classes: tuple[str, ...] = CLASSES
    meta: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def synthetic(self) -> bool:
        """Whether the pictures are drawn, not photographed."""
        return bool(self.meta.get("synthetic"))

    @property
    def fer2013(self) -> bool:
        """Whether the pictures are FER2013's, by the data set's name, by that of what it was imported from, or by their number."""
        words = f"{self.name} {self.meta.get('origin', '')}".lower()
        return any(name in words for name in _FER2013_NAMES) or len(self) == _FER2013_PICTURES

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that hold pictures, in the order train, val, test."""
        return tuple(s for i, s in enumerate(SPLITS) if bool((self.splits == i).any()))

    @property
    def split_note(self) -> str | None:
        """A sentence for every place that shows a figure, where `val` is also the only held-out split; else None."""
        return self.meta.get("split_note")

    @property
    def ignored_note(self) -> str:
        """Which files beside the pictures the import left unread, in a sentence; '' where none, or where it is not known."""
        files, pictures, copies = (self.meta.get(k, 0) for k in ("ignored", "ignored_pictures", "copies"))
        if not files:
            return ""
        said, of_them = [f"{files:,} file{'s' * (files > 1)} ignored"], "of them " * (files > 1)
        if pictures:
            examples = ", ".join(self.meta.get("ignored_examples", []))
            said.append(f"{of_them}{pictures:,} picture{'s' * (pictures > 1)} outside of the splits, e.g. {examples}")
        if copies:
            said.append(f"{of_them}{copies:,} second cop{'ies' if copies > 1 else 'y'} of pictures that are here")
        if "copies" in self.meta and not pictures and not copies:
            said.append(f"{'none of them' if files > 1 else 'not'} a picture")
        return f"{', '.join(said)}."

    def indices(self, split: str) -> np.ndarray:
        """The positions of the pictures of one split, ascending, (n,) int64. Raises DataError if there are none."""
        if split not in SPLITS:
            raise DataError(f"There is no split '{split}'. Allowed: {', '.join(SPLITS)}.")
        found = np.flatnonzero(self.splits == SPLITS.index(split))
        if not len(found):
            raise DataError(
                f"The data set '{self.name}' has no pictures in its split '{split}'. "
                f"It has: {', '.join(self.split_names) or 'none at all'}."
            )
        return found

    def subset(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The images (n, 48, 48) uint8 and labels (n,) int64 of one split. Raises DataError if there are none."""
        chosen = self.indices(split)
        return self.images[chosen], self.labels[chosen]

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by split and class: `{split: {class: n}}`, splits without pictures left out."""
        return {
            split: {
                name: int(n)
                for name, n in zip(
                    self.classes,
                    np.bincount(self.labels[self.indices(split)], minlength=len(self.classes)),
                    strict=True,
                )
            }
            for split in self.split_names
        }

    def with_val_fraction(self, fraction: float | None) -> Dataset:
        """The same pictures with that share of train, by class, held out as `val`.

        What was `val` becomes `test` where the data set has no test split, and is left unused where it has one. The
        choice depends on the pictures alone, so every run with this fraction sees the same split; the fingerprint
        differs from the original's. None or 0 returns the data set unchanged. Raises DataError where it holds out none.
        """
        if not fraction:
            return self
        splits = self.splits.copy()
        train, val, test = range(3)
        was_val = np.flatnonzero(splits == val)
        has_test = bool((splits == test).any())
        splits[was_val] = 255 if has_test else test
        rng = np.random.default_rng(int(self.fingerprint[:15], 16))
        for label in range(len(self.classes)):
            members = np.flatnonzero((splits == train) & (self.labels == label))
            held = rng.permutation(members)[: round(len(members) * fraction)]
            splits[held] = val
        if not (splits == val).any():
            raise DataError(
                f"data.val_fraction={fraction:g} of {int((splits == train).sum()):,} training pictures holds out none. Take a larger share."
            )
        digest = hashlib.sha256(f"{self.fingerprint}/val_fraction={fraction!r}".encode()).hexdigest()[:32]
        meta = {k: v for k, v in self.meta.items() if k != "split_note"}
        return replace(self, splits=splits, meta=meta, fingerprint=digest)


def fingerprint(data: Dataset) -> str:
    """32 hexadecimal digits that name the pictures, labels, splits and classes, in this order; not the file names."""
    digest = hashlib.sha256(json.dumps(list(data.classes)).encode())
    for array, kind in ((data.images, np.uint8), (data.labels, "<i8"), (data.splits, np.uint8)):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()[:32]


def picture_hashes(images: np.ndarray) -> np.ndarray:
    """(N,) uint64: 8 bytes of BLAKE2b of each picture, so that paired tests can match pictures without keeping them."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in np.ascontiguousarray(images))
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()


def data_root() -> Path:
    """Where prepared data sets lie: `FER_DATA_DIR`, or `data/` in the project."""
    return Path(os.environ.get("FER_DATA_DIR") or PROJECT_ROOT / "data").expanduser()


def check_name(name: str) -> str:
    """The name, if it can be a data set's. Raises DataError."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"'{name}' cannot name a data set. Use 1 to 64 of the characters a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or digit."
        )
    return name


def check_new_name(name: str) -> str:
    """The name, if a data set may be imported under it: not that of the sample faces. Raises DataError."""
    if check_name(name) == SAMPLE:
        raise DataError(f"The name '{SAMPLE}' belongs to the built-in faces. Choose another.")
    return name


def dataset_path(name: str) -> Path:
    """The file of a prepared data set, whether it exists or not."""
    return data_root() / f"{check_name(name)}.npz"


def prepared() -> list[str]:
    """The names of the data sets that were prepared, the built-in sample faces left out, sorted."""
    names = (p.stem for p in data_root().glob("*.npz"))
    return sorted(n for n in names if n != SAMPLE and _NAME.fullmatch(n))


def available() -> list[str]:
    """Every data set that a run can use: the prepared ones, then the built-in sample faces."""
    return [*prepared(), SAMPLE]


def default_dataset() -> str:
    """The data set for a run that names none.

    `fer2013` where it is prepared, else the only prepared one, else the sample faces. Raises DataError where several
    are prepared and none is called `fer2013`.
    """
    names = prepared()
    if PREFERRED in names:
        return PREFERRED
    if len(names) > 1:
        raise DataError(f"Several data sets are prepared: {', '.join(names)}. Say which one with --dataset NAME.")
    return names[0] if names else SAMPLE


def save(data: Dataset) -> Path:
    """Write the data set to its file; atomic. Returns the path. Raises DataError where it cannot be written."""
    access.require("saving a data set")
    path = dataset_path(data.name)
    buffer = io.BytesIO()
    head = {
        "format": _FORMAT,
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "meta": data.meta,
    }
    np.savez(
        buffer,
        head=np.array(json.dumps(head)),
        images=data.images,
        labels=data.labels.astype(np.int64),
        splits=data.splits.astype(np.uint8),
        sources=np.asarray(data.sources, dtype=np.str_),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, buffer.getbuffer())
    except OSError as error:
        raise DataError(
            f"The data set could not be written to {path}: {error.strerror}. Free some space or set FER_DATA_DIR to a folder that can be written."
        ) from error
    return path


def load(name: str) -> Dataset:
    """Read a prepared data set; the sample faces are drawn on first use. Raises DataError."""
    path = dataset_path(name)
    if name == SAMPLE:
        return _load_sample(path)
    if not path.is_file():
        raise DataError(
            f"There is no prepared data set '{name}'. Available: {', '.join(available())}. "
            f"Prepare one with: python -m fer data import PATH --name {name}"
        )
    return _read(path, name)


def _read(path: Path, name: str) -> Dataset:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            if head["format"] > _FORMAT:
                raise DataError(
                    f"{path.name} was prepared by a newer FER Lab (format {head['format']}, this one reads {_FORMAT}). Import the data set again."
                )
            data = Dataset(
                name=name,
                images=file["images"],
                labels=file["labels"],
                splits=file["splits"],
                sources=file["sources"],
                classes=tuple(head["classes"]),
                meta=head["meta"],
                fingerprint=head["fingerprint"],
            )
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged and cannot be read. Delete it and import the data set again.") from error
    return data


def load_head(name: str) -> dict[str, Any]:
    """Name, fingerprint, classes and meta of a prepared data set without its pictures. Raises DataError."""
    path = dataset_path(name)
    if not path.is_file():
        data = load(name)
        return {"name": name, "fingerprint": data.fingerprint, "classes": list(data.classes), "meta": data.meta}
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return json.loads(str(file["head"]))
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged and cannot be read. Delete it and import the data set again.") from error


def replaced_by(data: Dataset) -> str:
    """Which other data set saving this one would replace, in a sentence; '' where none that can be read."""
    if data.name not in prepared():
        return ""
    with contextlib.suppress(DataError):  # one that is damaged is no loss
        head = load_head(data.name)
        if head["fingerprint"] != data.fingerprint:
            return (
                f"There is another data set '{data.name}' already, from {head['meta'].get('origin', 'an unknown source')} "
                f"(fingerprint {head['fingerprint'][:8]}; this one has {data.fingerprint[:8]})."
            )
    return ""


def delete(name: str) -> None:
    """Remove a prepared data set's file. Raises DataError if there is none."""
    access.require("deleting a data set")
    path = dataset_path(name)
    if not path.is_file():
        if name == SAMPLE:
            raise DataError(f"The data set '{SAMPLE}' has no file to delete: it is drawn when it is first used.")
        raise DataError(f"There is no prepared data set '{name}'. Prepared: {', '.join(prepared()) or 'none'}.")
    try:
        path.unlink()
    except OSError as error:
        raise DataError(f"{path} cannot be deleted: {error.strerror}. See who may write in that folder.") from error


def describe_resolution(values: Iterable[tuple[float, float] | None]) -> str:
    """'96 dpi', 'not stated', or a list of what was seen, for the picture specification."""
    seen = sorted(
        {"not stated" if v is None else f"{v[0]:g} dpi" if v[0] == v[1] else f"{v[0]:g} x {v[1]:g} dpi" for v in values}
    )
    return ", ".join(seen) if seen else "not stated"


def _load_sample(path: Path) -> Dataset:
    """The sample faces from their file; drawn where it is missing, damaged or of an older drawing."""
    from fer.data.sample import VERSION, draw_sample

    if path.is_file():
        with contextlib.suppress(DataError):
            data = _read(path, SAMPLE)
            if data.meta.get("version") == VERSION:
                return data
    data = draw_sample()
    try:
        save(data)
    except (DataError, NotAllowed):
        pass  # a read-only data folder: drawn again next time
    return data
