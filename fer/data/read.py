"""Reading a data set in: Kaggle's picture folders, the same in a zip, and FER2013's CSV files.

A source is a list of entries (a path inside it, a size, a way to read it), whether they come from a folder or from a
zip; a zip's members are read in memory one at a time and nothing is ever written under a name taken from it. What is
read is sorted by split, class and file name, so that a folder and a zip of the same pictures give the same data set.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import struct
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from fer.data.dataset import CLASSES, SIZE, SPLITS, Dataset, check_name, describe_resolution
from fer.errors import DataError, ImageError
from fer.files import ZIP_ERRORS
from fer.images import EXTENSIONS, OF_PHONES, ImageInfo, read_with_info, shown_name, to_face

MAX_MEMBERS = 500_000
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_PICTURE_BYTES = 32 * 1024**2
_MAX_DIRECTORY_BYTES = 64 * 1024**2  # a zip's list of its own members
_MAX_LINE = 1024**2
_PROGRESS_EVERY = 64
_SKIP = "leave it out with --skip-bad ('Skip bad pictures' on the Data page)"
_SHOWN = 120  # characters of a member's path in messages and in `sources`

PREFIXES = {"training_": "train", "publictest_": "val", "privatetest_": "test"}
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev", "devel", "development", "eval", "evaluation", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
SPLIT_FOLDERS = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
SYNONYMS = {
    "angry": ("anger", "angriness"),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid", "scared"),
    "happy": ("happiness", "joy"),
    "neutral": ("neutrality",),
    "sad": ("sadness",),
    "surprise": ("surprised",),
}
# The numbers in FER2013's own CSV stand in another order than our classes.
CSV_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
_PIXELS = {str(value): value for value in range(256)}  # looking a pixel up is several times faster than int()
_DELIMITERS = (",", ";", "\t", "|")
_LISTED = 100  # lines of what cannot be read that a message has
_CSV_COLUMNS = ("emotion", "pixels", "usage")
_LABELS = {word: CLASSES.index(name) for name, words in SYNONYMS.items() for word in (name, *words)}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
_SIDE_FILES = {".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".ini"}
_SIDE_FILES |= {".pkl", ".pickle", ".h5", ".hdf5", ".mat", ".pth", ".onnx", ".safetensors", ".parquet", ".jsonl", ".toml"}
_SIDE_FILES |= {".mp4", ".avi", ".mov", ".mkv", ".mp3", ".wav", ".sh", ".js", ".css", ".pptx", ".dat", ".bin", ".pts"}
_SIDE_FILES |= {".db", ".log", ".py", ".ipynb", ".doc", ".docx", ".xls", ".xlsx", ".bib", ".lnk", ".npy", ".npz", ".pt"}
_PICTURES = {*EXTENSIONS, *OF_PHONES, ".jp2", ".pgm", ".ppm"}  # what is called one before it is opened
_JUNK_NAMES = {"thumbs.db", "desktop.ini", "icon\r"}

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Entry:
    """One file of a source: its path inside the source, its stated size in bytes, and a way to open it."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Source:
    """A folder or a zip: its name without a path, the files in it and the folders in it."""

    origin: str
    entries: list[Entry]
    folders: list[str]
    zipped: bool


@dataclass(frozen=True)
class Picture:
    """An entry whose path says where it belongs.

    split_label: the split's name in the source, such as 'validation' or 'PublicTest'; folder: its split and class
    folder; label: an index into CLASSES, None where the class is not one of the seven; tail: the path inside `folder`.
    """

    entry: Entry
    split: str
    split_label: str
    folder: str
    label: int | None
    tail: str

    @property
    def source(self) -> str:
        """The picture's name without the folders in front of its split and class."""
        return f"{self.folder}/{self.tail}"


def import_path(path: Path, name: str, *, skip_bad: bool = False, progress: Progress | None = None) -> Dataset:
    """Read a folder, a zip or a CSV file in; nothing is saved (`fer.data.dataset.save` does).

    A picture becomes 48x48 grey uint8. `skip_bad` leaves out what cannot be read or lies in no class folder, and lists it in
    `meta["skipped"]`.
    `progress` is called with the pictures read so far and the total (None where it is not known beforehand).
    Raises DataError: the path does not exist or is none of the three, an unknown or empty class, a split without
    pictures, pictures or rows that cannot be read (named, 100 lines at most), a limit exceeded.
    """
    check_name(name)
    shown = shown_name(str(path))
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise DataError(f"There is no file or folder '{shown}'. Give a folder, a zip or a CSV file.") from error
    try:
        if path.is_dir():
            return _import_source(_folder(path), name, skip_bad, progress)
        if not path.exists():
            raise DataError(f"There is no file or folder '{shown}'. Give a folder, a zip or a CSV file.")
        if not path.is_file():
            raise DataError(f"'{shown}' is neither a file nor a folder. Give a folder, a zip or a CSV file.")
        with path.open("rb") as file:
            return import_file(file, path.name, name, skip_bad=skip_bad, progress=progress)
    except OSError as error:
        where = shown_name(str(error.filename or path))
        reason = error.strerror or "read error"
        raise DataError(f"'{where}' cannot be read: {reason}. Check the path and its permissions.") from error


def import_file(
    file: BinaryIO, filename: str, name: str, *, skip_bad: bool = False, progress: Progress | None = None
) -> Dataset:
    """`import_path` for an open zip or CSV, such as an upload; it must be seekable. `filename` is only a name.

    The content decides what it is, the name only the wording of an error. Raises DataError.
    """
    check_name(name)
    origin = shown_name(PurePosixPath(filename.replace("\\", "/")).name or "upload")
    file.seek(0)
    start = file.read(4096)
    file.seek(0)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        with _open_zip(file, origin) as archive:
            return _import_source(_zip(archive, origin), name, skip_bad, progress)
    if origin.lower().endswith(".csv") or _header(start.split(b"\n")[0]) is not None:
        return _import_csv(file, origin, origin, name, skip_bad, progress)
    if origin.lower().endswith(".zip"):
        raise DataError(f"'{origin}' is not a zip file, or its beginning is damaged. Download it again.")
    raise DataError(
        f"'{origin}' is neither a zip nor a CSV file. Give a folder of pictures, a zip of it, or fer2013.csv; "
        "unpack any other archive first and give its folder."
    )


def class_index(word: str) -> int | None:
    """The class that a folder name means, as an index into CLASSES; None for an unknown one. Case does not matter."""
    return _LABELS.get(word.strip().casefold())


# Sources


def _folder(root: Path) -> Source:
    """Every file below a folder; a linked folder is followed, once. Raises OSError where one cannot be read."""
    origin, entries, folders, seen = shown_name(root.resolve().name), [], [], {os.path.realpath(root)}
    for folder, names, files in os.walk(root, followlinks=True, onerror=_raise):
        real = {n: os.path.realpath(Path(folder, n)) for n in names}
        names[:] = sorted(n for n in names if real[n] not in seen)
        seen.update(real.values())
        folders.append(Path(folder).relative_to(root).as_posix())
        for file in sorted(files):
            path = Path(folder, file)
            if path.is_file():  # not a pipe, a socket or a broken link
                entries.append(Entry(path.relative_to(root).as_posix(), path.stat().st_size, _opener(path)))
        if len(entries) > MAX_MEMBERS:
            raise DataError(f"'{origin}' holds more than {MAX_MEMBERS:,} files, the most allowed.")
    return Source(origin, entries, folders, zipped=False)


def _raise(error: OSError) -> None:
    raise error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _open_zip(file: BinaryIO, origin: str) -> zipfile.ZipFile:
    try:
        _check_directory(file, origin)
        return zipfile.ZipFile(file)
    except (*ZIP_ERRORS, OverflowError, OSError) as error:
        raise DataError(f"'{origin}' is not a zip file, or it is damaged or incomplete. Download it again.") from error


def _check_directory(file: BinaryIO, origin: str) -> None:
    """Refuse a list of members that would fill the memory before `zipfile` builds an object for each of them."""
    end_size = file.seek(0, os.SEEK_END)
    tail_at = max(0, end_size - 65557)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("no end of the directory")
    size = struct.unpack_from("<L", tail, at + 12)[0]
    end = tail_at + at
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # Zip64: its own end stands before, 56 + 20 bytes
        size = struct.unpack_from("<Q", tail, at - 76 + 40)[0]
        end -= 76
    if size <= _MAX_DIRECTORY_BYTES:
        file.seek(max(0, end - size))
        if file.read(size).count(b"PK\x01\x02") <= MAX_MEMBERS:
            return
    raise DataError(f"'{origin}' holds more than {MAX_MEMBERS:,} files, the most allowed. Split it into smaller zips.")


def _zip(archive: zipfile.ZipFile, origin: str) -> Source:
    """The members of a zip. Of two with one name the later counts, as when it is unpacked. Raises DataError."""
    members = archive.infolist()
    total = sum(m.file_size for m in members)
    if len(members) > MAX_MEMBERS:
        raise DataError(f"'{origin}' holds {len(members):,} files. At most {MAX_MEMBERS:,} are allowed.")
    if total > MAX_UNPACKED_BYTES:
        raise DataError(
            f"'{origin}' unpacks to {total / 2**30:.1f} GiB. At most {MAX_UNPACKED_BYTES / 2**30:g} GiB are allowed."
        )
    if any(m.flag_bits & 0x1 for m in members):
        raise DataError(f"'{origin}' is encrypted. Unpack it with its password and import the folder.")
    folders, files = [], {}
    for member in members:
        path = "/".join(p for p in member.filename.replace("\\", "/").split("/") if p not in ("", ".", ".."))
        if not path:
            continue
        if member.filename.endswith(("/", "\\")):
            folders.append(path)
        else:
            files[path] = Entry(path, member.file_size, _member_opener(archive, member))
    return Source(origin, list(files.values()), folders, zipped=True)


def _member_opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def open_member() -> BinaryIO:
        # Other methods can unpack megabytes from one block before zipfile looks at a limit.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            name = shown_name(member.filename, _SHOWN)
            raise ImageError(f"'{name}' is compressed with a method that is not read. Pack the zip with 'deflate'.")
        return archive.open(member)  # type: ignore[return-value]

    return open_member


def _junk(path: str) -> bool:
    parts = path.split("/")
    return parts[-1].lower() in _JUNK_NAMES or any(p.startswith(".") or p == "__MACOSX" for p in parts)


# What a source holds


def _import_source(source: Source, name: str, skip_bad: bool, progress: Progress | None) -> Dataset:
    """Pictures where there are any in a split's folder, else the CSV; what is neither is counted as ignored, and pictures
    among it are named."""
    useful = [e for e in source.entries if not _junk(e.path)]
    candidates = [e for e in useful if not _is(e, _ARCHIVES | _SIDE_FILES)]
    placed = {e.path: _place(e) for e in candidates}
    pictures = [p for p in placed.values() if p and not _side_file(p)]
    outside = sorted(e.path for e in candidates if placed[e.path] is None and _is(e, _PICTURES))
    table = None if pictures else _find_csv(useful, source.origin)
    if table:
        with _opened(table, source.origin) as file:
            lines, ignored = io.BufferedReader(file, _MAX_LINE), _Ignored(len(source.entries) - 1, outside)
            return _import_csv(lines, table.path, source.origin, name, skip_bad, progress, ignored)
    archives = [e.path for e in useful if _is(e, _ARCHIVES)]
    if archives and (source.zipped or not pictures):
        raise DataError(
            f"'{source.origin}' contains another archive, '{shown_name(archives[0], _SHOWN)}'. "
            "Unpack that one and import its folder."
        )
    _check_layout(pictures, source.folders, len(candidates), source.origin, skip_bad)
    ignored = _Ignored(len(source.entries) - len(pictures), outside)
    strays = sorted(p.entry.path for p in pictures if p.label is None)  # to be skipped, or they would have been refused
    pictures = [p for p in pictures if p.label is not None]
    _check_splits(pictures, outside, source.origin)
    return _import_pictures(pictures, source.origin, name, skip_bad, progress, ignored, strays)


def _is(entry: Entry, suffixes: set[str]) -> bool:
    return os.path.splitext(entry.path)[1].lower() in suffixes


def _place(entry: Entry) -> Picture | None:
    """Where a picture belongs, by the official prefix of its name or by its folders; None if by neither."""
    *folders, file = entry.path.split("/")
    prefix = next((p for p in PREFIXES if file.lower().startswith(p)), None)
    if prefix:
        return _place_by_name(entry, folders, file, prefix)
    at = _split_folder(folders)
    if at is None:
        return None
    label = class_index(folders[at + 1]) if at + 1 < len(folders) else None
    tail = "/".join([*folders[at + 2 :], file])
    return Picture(entry, SPLIT_FOLDERS[folders[at].lower()], folders[at], "/".join(folders[at : at + 2]), label, tail)


def _place_by_name(entry: Entry, folders: list[str], file: str, prefix: str) -> Picture:
    known = [i for i, f in enumerate(folders) if class_index(f) is not None]
    at = known[-1] if known else len(folders) - 1
    label = class_index(folders[at]) if folders else None
    official = file[: len(prefix) - 1]
    start = at - 1 if at > 0 and folders[at - 1].lower() in SPLIT_FOLDERS else at
    folder = "/".join(folders[max(start, 0) : at + 1])
    return Picture(entry, PREFIXES[prefix], official, folder, label, "/".join([*folders[at + 1 :], file]))


def _split_folder(folders: list[str]) -> int | None:
    """The position of the innermost split folder that has a folder in it, else of the innermost one."""
    found = [i for i, f in enumerate(folders) if f.lower() in SPLIT_FOLDERS]
    inner = [i for i in found if i + 1 < len(folders)]
    return (inner or found or [None])[-1]


def _check_layout(
    pictures: list[Picture], folders: list[str], candidates: int, origin: str, skip_bad: bool
) -> None:
    """Unknown classes, empty classes and empty splits, told before a picture is decoded; `skip_bad` lets pictures outside
    of a class folder pass. Raises DataError."""
    if not pictures and not any(f.split("/")[-1].lower() in SPLIT_FOLDERS for f in folders):
        raise DataError(
            f"'{origin}' is not laid out as a data set: {candidates:,} pictures, none of them in a folder such as "
            "train/happy/. Put them in train/<class>/ and test/<class>/ (or val/), or give fer2013.csv."
        )
    lost = [p for p in pictures if p.label is None]
    if turned := [p for p in lost if _is_turned(p)]:
        path = shown_name(turned[0].entry.path, _SHOWN)
        raise DataError(
            f"'{origin}' has its splits inside of its class folders: {len(turned):,} pictures, e.g. {path}. Put the classes inside "
            "of the splits, as in train/happy/."
        )
    if unknown := sorted({_class_word(p) for p in lost} - {""}):
        raise DataError(_unknown_class_text(unknown, origin))
    if lost and not skip_bad:
        raise DataError(_stray_text(sorted(p.entry.path for p in lost), origin))
    paths = sorted(p.entry.path for p in pictures)
    for folder in folders if pictures else []:
        if _should_hold_pictures(folder) and not _holds(paths, folder):
            raise DataError(
                f"The folder '{shown_name(folder, _SHOWN)}' of '{origin}' has no pictures. "
                "Put some in, or remove the folder."
            )


def _check_splits(pictures: list[Picture], outside: list[str], origin: str) -> None:
    """Refuse class folders that belong to no known split, and two folders that would become one. Raises DataError."""
    others = Counter(word for path in outside if (word := _unknown_split(path)) is not None)
    if others:
        names = ", ".join(f"'{shown_name(w, _SHOWN)}' ({n:,})" if w else f"its top ({n:,})" for w, n in sorted(others.items())[:10])
        raise DataError(
            f"'{origin}' has pictures in class folders that belong to no known split, in {names}. Splits are "
            f"{_splits_in_words()}. Rename the folder to one of these words, or move it out of the data set."
        )
    words: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for picture in pictures:
        if picture.folder.split("/")[0] == picture.split_label:  # by its folder, not by an official name
            words[picture.split][picture.split_label.casefold()] += 1
    _check_words(words, origin)


def _check_words(words: dict[str, Counter[str]], origin: str) -> None:
    """Refuse two words for one split, whose pictures may not have been meant to become one. Raises DataError."""
    for split, found in words.items():
        if len(found) > 1:
            names = " and ".join(f"'{w}' ({n:,} pictures)" for w, n in sorted(found.items()))
            raise DataError(
                f"'{origin}' has {len(found)} words for the split {split}: {names}. Call them by one word, or those that are "
                f"meant for another split by that one's. Splits are {_splits_in_words()}."
            )


def _unknown_split(path: str) -> str | None:
    """The folder that stands before a class folder, '' where none does; None for a picture in no class folder."""
    folders = path.split("/")[:-1]
    known = [i for i, f in enumerate(folders) if class_index(f) is not None]
    return "/".join(folders[: known[0]]) if known else None


def _splits_in_words() -> str:
    return "; ".join(f"{split}: {', '.join(words)}" for split, words in _SPLIT_WORDS.items())


def _should_hold_pictures(folder: str) -> bool:
    """Whether a folder stands for a split, or for a class in a split."""
    parts = folder.lower().split("/")
    in_split = len(parts) > 1 and parts[-2] in SPLIT_FOLDERS
    return not _junk(folder) and (parts[-1] in SPLIT_FOLDERS or (in_split and class_index(parts[-1]) is not None))


def _holds(paths: list[str], folder: str) -> bool:
    """Whether one of the sorted paths lies in the folder."""
    at = bisect_left(paths, folder + "/")
    return at < len(paths) and paths[at].startswith(folder + "/")


def _side_file(picture: Picture) -> bool:
    """Whether it lies in no class folder and is not called a picture: such as a split's labels.dat or LICENSE."""
    return picture.label is None and not _class_word(picture) and not _is(picture.entry, _PICTURES)


def _is_turned(picture: Picture) -> bool:
    """Whether its class stands before its split, as in happy/train/0.png."""
    folders = picture.entry.path.split("/")[:-1]
    at = _split_folder(folders)
    return bool(at) and class_index(folders[at - 1]) is not None


def _class_word(picture: Picture) -> str:
    """The folder that stands where a class is expected; '' where there is none."""
    return picture.folder.split("/")[-1] if picture.folder.lower() not in SPLIT_FOLDERS else ""


def _unknown_class_text(unknown: list[str], origin: str) -> str:
    names = ", ".join(f"'{shown_name(u)}'" for u in unknown[:20])
    return f"'{origin}' has unknown classes: {names}. Allowed: {', '.join(CLASSES)}. Rename or remove these folders."


def _stray_text(paths: list[str], origin: str) -> str:
    shown = ", ".join(shown_name(p, _SHOWN) for p in paths[:5])
    more = f" and {len(paths) - 5:,} more" if len(paths) > 5 else ""
    some = "1 picture lies" if len(paths) == 1 else f"{len(paths):,} pictures lie"
    return (
        f"In '{origin}' {some} outside a class folder: {shown}{more}. Put each in one of the folders {', '.join(CLASSES)}, "
        f"remove it, or {_SKIP}."
    )


# Pictures


def _import_pictures(
    pictures: list[Picture], origin: str, name: str, skip_bad: bool, progress: Progress | None, ignored: _Ignored,
    strays: list[str],
) -> Dataset:
    """Decode the pictures in their final order. strays: paths of pictures in no class, skipped as bad ones are."""
    roles, val = _roles({p.split: p.split_label for p in reversed(pictures)}, origin)
    ordered = sorted(pictures, key=lambda p: (SPLITS.index(roles[p.split]), p.label, p.tail, p.source, p.entry.path))
    _check_filled([p.label for p in ordered], [roles[p.split] for p in ordered], origin)
    images = np.empty((len(ordered), SIZE, SIZE), np.uint8)
    chosen, bad, spec, budget, copies = [], [], _Spec(), _Budget(), _Copies()
    for done, picture in enumerate(ordered, 1):
        try:
            face, info = _read_face(picture.entry, budget)
        except ImageError as error:
            bad.append((picture.entry.path, str(error)))
        else:
            if not copies.repeats(picture, face):
                images[len(chosen)] = face
                chosen.append(picture)
                spec.add(f"{info.width} x {info.height}", info.dpi, info.bit_depth, info.format)
        _report(progress, done, len(ordered))
    _refuse_bad(len(bad), [reason for _, reason in bad], origin, skip_bad, "picture")
    return _build(
        name,
        images[: len(chosen)],
        [p.label for p in chosen],
        [roles[p.split] for p in chosen],
        [p.source for p in chosen],
        _meta(origin, spec, val, [*strays, *(n for n, _ in bad)], ignored, copies=len(ordered) - len(chosen) - len(bad)),
    )


def _read_face(entry: Entry, budget: _Budget) -> tuple[np.ndarray, ImageInfo]:
    # Four times the final size: a large JPEG is decoded at a fraction of its own, and resampling sees no difference.
    image, info = read_with_info(budget.read(entry), name=entry.path, min_side=4 * SIZE)
    return to_face(image), info


class _Copies:
    """Tells a copy from a second tree of the same pictures, as one of Kaggle's sets has; asked in sorted order."""

    def __init__(self) -> None:
        self.key: tuple[str, int | None, str] | None = None
        self.seen: set[bytes] = set()

    def repeats(self, picture: Picture, face: np.ndarray) -> bool:
        """Whether a picture of this split, class and name with these pixels came before."""
        key = (picture.split, picture.label, picture.tail)
        if key != self.key:
            self.key, self.seen = key, set()
        digest = hashlib.blake2b(face.tobytes(), digest_size=16).digest()
        if digest in self.seen:
            return True
        self.seen.add(digest)
        return False


class _Budget:
    """Reads entries, each up to the largest picture and all together up to the largest data set."""

    def __init__(self) -> None:
        self.total = 0

    def read(self, entry: Entry) -> bytes:
        """The entry's bytes. Raises ImageError for this one, DataError where all together are too large."""
        shown = shown_name(entry.path, _SHOWN)
        if entry.size > MAX_PICTURE_BYTES:
            raise ImageError(f"'{shown}' has more than {MAX_PICTURE_BYTES / 2**20:g} MiB, the most for one picture.")
        try:
            with entry.open() as file:
                content = file.read(entry.size + 1)  # zipfile unpacks as much as it is asked for
        except OSError as error:
            raise ImageError(f"'{shown}' cannot be opened: {error.strerror or 'read error'}.") from error
        except ZIP_ERRORS as error:
            raise ImageError(f"'{shown}' is damaged inside the zip, or is not what the zip says of it.") from error
        self.total += len(content)
        if len(content) > entry.size:
            raise ImageError(f"'{shown}' grew while it was read. Import again when nothing writes to it.")
        if self.total > MAX_UNPACKED_BYTES:
            raise DataError(f"The pictures have more than {MAX_UNPACKED_BYTES / 2**30:g} GiB, the most allowed.")
        return content


def _by_reason(bad: list[tuple[int, str]]) -> list[str]:
    """A line for each reason, with the first rows that it holds for."""
    rows: dict[str, list[int]] = {}
    for number, reason in bad:
        rows.setdefault(reason, []).append(number)
    return [
        f"Row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:10]))}"
        f"{f' and {len(numbers) - 10:,} more' * (len(numbers) > 10)}: {reason}."
        for reason, numbers in rows.items()
    ]


def _refuse_bad(n: int, lines: list[str], origin: str, skip_bad: bool, what: str) -> None:
    if not n or skip_bad:
        return
    more = [f"and {len(lines) - _LISTED:,} more"] * (len(lines) > _LISTED)
    lines = "\n".join([*lines[:_LISTED], *more])
    raise DataError(
        f"{n:,} {what}{'s' if n > 1 else ''} of '{origin}' cannot be read. Repair or remove what is "
        f"listed here, or {_SKIP}.\n{lines}"
    )


# CSV


def _find_csv(entries: list[Entry], origin: str) -> Entry | None:
    """The CSV to read: one of FER2013's names, else the only one with the three columns."""
    tables = [e for e in entries if e.path.lower().endswith(".csv")]
    by_name = {e.path.split("/")[-1].lower(): e for e in reversed(tables)}
    for name in CSV_NAMES:
        if name in by_name:
            return by_name[name]
    fitting = [e for e in tables if _header(_first_line(e, origin)) is not None]
    if len(fitting) > 1:
        names = ", ".join(shown_name(e.path) for e in fitting[:5])
        raise DataError(f"'{origin}' holds several CSV files that fit: {names}. Import one of them by itself.")
    return fitting[0] if fitting else None


def _first_line(entry: Entry, origin: str) -> bytes:
    with _opened(entry, origin) as file:
        try:
            return file.readline(4096)
        except (*ZIP_ERRORS, OSError):
            return b""  # it does not fit, then


def _opened(entry: Entry, origin: str) -> BinaryIO:
    try:
        return entry.open()
    except (*ZIP_ERRORS, ImageError, OSError) as error:
        raise DataError(f"'{shown_name(entry.path)}' in '{origin}' is damaged and cannot be read.") from error


def _header(line: bytes) -> tuple[tuple[int, int, int], str] | None:
    """The positions of emotion, pixels and Usage in a CSV's first line, and what parts its cells; None where one of the
    three is missing."""
    text = line.decode("utf-8-sig", "replace")
    for delimiter in _DELIMITERS:
        cells = [c.strip().strip('"').strip().lower() for c in text.split(delimiter)]
        if set(_CSV_COLUMNS) <= set(cells):
            return tuple(cells.index(c) for c in _CSV_COLUMNS), delimiter  # type: ignore[return-value]
    return None


def _no_header(line: bytes, shown: str) -> DataError:
    if line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in line:
        return DataError(f"'{shown}' is written in UTF-16, or is no text. Save it as CSV in UTF-8 and import that.")
    first = shown_name(line.decode("utf-8-sig", "replace").strip(), _SHOWN)
    return DataError(
        f"'{shown}' does not begin with the columns emotion, pixels and Usage, parted by commas, semicolons or tabs; its first "
        f"line is '{first}'. Give fer2013.csv."
    )


def _import_csv(
    file: BinaryIO,
    table: str,
    origin: str,
    name: str,
    skip_bad: bool,
    progress: Progress | None,
    ignored: _Ignored | None = None,
) -> Dataset:
    """Read FER2013's CSV row by row; its rows are numbered as a spreadsheet does, the header being row 1."""
    shown = shown_name(table)
    with _csv_errors(shown):
        first = file.readline(4096)
    header = _header(first)
    if header is None:
        raise _no_header(first, shown)
    columns, delimiter = header
    faces, labels, splits, rows, bad, seen = [], [], [], [], [], {}
    words: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for number, row in _rows(file, shown, delimiter):
        try:
            face, label, usage = _parse_row(row, columns)
        except ValueError as error:
            bad.append((number, str(error)))
        else:
            split = SPLIT_FOLDERS[_usage_word(usage)]
            faces.append(face)
            labels.append(label)
            splits.append(split)
            rows.append(number)
            seen.setdefault(split, usage)
            words[split][_usage_word(usage)] += 1
        if len(faces) + len(bad) > MAX_MEMBERS:
            raise DataError(f"'{shown}' has more than {MAX_MEMBERS:,} rows, the most allowed.")
        _report(progress, number - 1, None)
    _refuse_bad(len(bad), _by_reason(bad), shown, skip_bad, "row")
    _check_words(words, shown)
    roles, val = _roles(seen, shown)
    roles_of = [roles[s] for s in splits]
    _check_filled(labels, roles_of, shown)
    order = sorted(range(len(rows)), key=lambda i: (SPLITS.index(roles_of[i]), labels[i], rows[i]))
    spec = _Spec()
    spec.add(f"{SIZE} x {SIZE}", None, "8-bit grey", "CSV", len(rows))
    _report(progress, len(rows), len(rows))
    return _build(
        name,
        np.stack([faces[i] for i in order]),
        [labels[i] for i in order],
        [roles_of[i] for i in order],
        [f"row {rows[i]}" for i in order],
        _meta(origin, spec, val, [f"row {n}" for n, _ in bad], ignored or _Ignored(0, [])),
    )


def _rows(file: BinaryIO, shown: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows behind the header with their numbers, blank ones and those of blank cells left out. Raises DataError."""
    with _csv_errors(shown):
        for number, row in enumerate(csv.reader(_lines(file, shown), delimiter=delimiter), 2):
            if any(cell.strip() for cell in row):
                yield number, row


@contextmanager
def _csv_errors(shown: str) -> Iterator[None]:
    try:
        yield
    except (*ZIP_ERRORS, csv.Error, OSError) as error:  # a UnicodeDecodeError is a ValueError
        raise DataError(f"'{shown}' is not a CSV file in UTF-8, or it is damaged. Download it again.") from error


def _lines(file: BinaryIO, shown: str) -> Iterator[str]:
    """Lines of text, read one at a time and each of bounded length, so that no file can fill the memory."""
    total = 0
    while line := file.readline(_MAX_LINE):
        total += len(line)
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise DataError(f"'{shown}' has a line of more than {_MAX_LINE:,} characters. Give fer2013.csv.")
        if total > MAX_UNPACKED_BYTES:
            raise DataError(f"'{shown}' has more than {MAX_UNPACKED_BYTES / 2**30:g} GiB, the most allowed.")
        yield line.decode("utf-8", "replace")  # a row with such a byte is named as one that cannot be read


def _parse_row(row: list[str], columns: tuple[int, int, int]) -> tuple[np.ndarray, int, str]:
    """The face (48, 48) uint8, the class index and the Usage of one row. Raises ValueError with the reason."""
    if len(row) <= max(columns):
        raise ValueError(f"it has {len(row)} columns; at least {max(columns) + 1} are needed")
    emotion, pixels, usage = (row[c].strip() for c in columns)
    if _usage_word(usage) not in SPLIT_FOLDERS:
        raise ValueError(
            f"Usage is '{shown_name(usage, 30)}'; allowed are Training, PublicTest and PrivateTest, or train, val and test"
        )
    return _parse_pixels(pixels), _parse_emotion(emotion), usage


def _usage_word(usage: str) -> str:
    """'Public Test' as SPLIT_FOLDERS has it."""
    return re.sub(r"[\s_-]", "", usage.casefold())


def _parse_emotion(text: str) -> int:
    if text in ("0", "1", "2", "3", "4", "5", "6"):
        return CLASSES.index(CSV_ORDER[int(text)])
    label = class_index(text)
    if label is None:
        listed = ", ".join(f"{i} {c}" for i, c in enumerate(CSV_ORDER))
        raise ValueError(f"emotion is '{shown_name(text, 30)}'; allowed are {listed}")
    return label


def _parse_pixels(text: str) -> np.ndarray:
    words = text.split()
    if len(words) != SIZE * SIZE:
        raise ValueError(f"it has {len(words):,} pixels; {SIZE * SIZE:,} are needed")
    try:
        return np.frombuffer(bytes(map(_PIXELS.__getitem__, words)), np.uint8).reshape(SIZE, SIZE)
    except KeyError as error:
        raise ValueError(f"a pixel is '{shown_name(error.args[0], 30)}'; allowed are 0 to 255") from None


# The data set


def _roles(seen: dict[str, str], origin: str) -> tuple[dict[str, str], tuple[str, str]]:
    """The split that each split found serves as, and for val its name in the source and the note or ''.

    `seen` maps a split to the word it has in the source. Raises DataError where train or any other is missing.
    """
    if "train" not in seen:
        raise DataError(
            f"'{origin}' has no training pictures. Put them in train/<class>/, name them Training_..., or give their rows of a "
            "CSV the Usage Training."
        )
    if len(seen) == 1:
        raise DataError(
            f"'{origin}' has pictures in its training split only. Add a split to measure on: val/<class>/ or "
            "test/<class>/ with pictures that are not in train."
        )
    if len(seen) == 3:
        return {s: s for s in SPLITS}, (seen["val"], "")
    other = "val" if "val" in seen else "test"
    note = (
        f"This data set has no separate test split: its '{shown_name(seen[other])}' pictures serve as val, so its "
        "figures are also the ones that epochs are chosen on."
    )
    return {"train": "train", other: "val"}, (seen[other], note)


class _Spec:
    """Counts what the pictures were like before they became 48x48 grey."""

    def __init__(self) -> None:
        self.counts = {key: Counter() for key in ("dimensions", "resolution", "bit_depth", "format")}

    def add(self, dimensions: str, dpi: tuple[float, float] | None, bit_depth: str, kind: str, n: int = 1) -> None:
        values = (dimensions, describe_resolution([dpi]), bit_depth, kind)
        for counter, value in zip(self.counts.values(), values, strict=True):
            counter[value] += n

    def as_dict(self) -> dict[str, dict[str, int]]:
        """The commonest value first."""
        return {key: dict(sorted(c.items(), key=lambda kv: (-kv[1], kv[0]))) for key, c in self.counts.items()}


@dataclass(frozen=True)
class _Ignored:
    """Files of a source that are no part of the data set: how many, and the paths of those that are pictures."""

    files: int
    pictures: list[str]


def _meta(
    origin: str, spec: _Spec, val: tuple[str, str], skipped: list[str], ignored: _Ignored, copies: int = 0
) -> dict[str, Any]:
    """copies: pictures that were read and are there already; they count as ignored, too."""
    served, note = val
    meta = {
        "spec": spec.as_dict(),
        "origin": origin,
        "val_from": served,
        "skipped": [shown_name(n, _SHOWN) for n in skipped],
        "ignored": ignored.files + copies,
        "ignored_pictures": len(ignored.pictures),
        "ignored_examples": [shown_name(n, _SHOWN) for n in ignored.pictures[:3]],
        "copies": copies,
    }
    return meta | ({"split_note": note} if note else {})


def _build(
    name: str, images: np.ndarray, labels: list[int], splits: list[str], sources: list[str], meta: dict[str, Any]
) -> Dataset:
    """The data set, once it is sure that what was left out emptied nothing. Raises DataError."""
    _check_filled(labels, splits, meta["origin"])
    wanted = SPLITS[:2] if "split_note" in meta else SPLITS
    for split in wanted:
        if split not in splits:
            raise DataError(f"The split '{split}' of '{meta['origin']}' has no pictures that can be read.")
    split_array = np.array([SPLITS.index(s) for s in splits], np.uint8)
    # Names are cut: an array of text is as wide as its longest entry.
    source_array = np.array([shown_name(s, _SHOWN) for s in sources], dtype=np.str_)
    return Dataset(name, images, np.array(labels, np.int64), split_array, source_array, meta=meta)


def _check_filled(labels: list[int], splits: list[str], origin: str) -> None:
    """Raises DataError where a class has no training picture."""
    held = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    empty = [name for index, name in enumerate(CLASSES) if index not in held]
    if empty:
        raise DataError(
            f"'{origin}' has no training pictures of the class{'es' if len(empty) > 1 else ''} {', '.join(empty)}. "
            f"Each of the seven needs some: {', '.join(CLASSES)}."
        )


def _report(progress: Progress | None, done: int, total: int | None) -> None:
    if progress and (done % _PROGRESS_EVERY == 0 or done == total):
        progress(done, total)
