"""Several photos in one zip, unpacked in memory and never onto the disk, with limits that a hostile archive cannot pass."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from fer.errors import ImageError
from fer.images import EXTENSIONS, MAX_PHOTO_BYTES, check_ending, is_meant, shown_name

MAX_ZIP_BYTES = 100 * 2**20  # packed, and all its pictures unpacked together
MAX_ZIP_PHOTOS = 200
MAX_RATIO = (
    200  # unpacked to packed size of one picture: a bitmap of one colour packs to a thousandth, photos hardly at all
)


@dataclass(frozen=True)
class Photo:
    """A picture file that was sent, not yet decoded: its name, only to be shown, and its bytes, or why it has none. Of a
    zip that has the name several times, the name says the folder too."""

    name: str
    content: bytes = b""
    error: str = ""


def is_zip(name: str, content: bytes) -> bool:
    """Whether a file is meant to be a zip: by its name's ending, or because it begins like one."""
    return name.lower().endswith(".zip") or content[:4] == b"PK\x03\x04"


def unzip(content: bytes, name: str) -> list[Photo]:
    """The pictures in a zip in its own order, their names without folders where that tells them apart; other files are
    passed over.

    A picture over a limit, or of a kind that cannot be read (HEIC), is an entry with its error. Raises ImageError for what is no zip, for one without a picture, and
    for one with too many or too large pictures.
    """
    shown = shown_name(name)
    if len(content) > MAX_ZIP_BYTES:
        raise ImageError(
            f"'{shown}' has {len(content) / 2**20:.0f} MB. At most {MAX_ZIP_BYTES // 2**20} MB are allowed; split it."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [m for m in archive.infolist() if _is_picture(m)]
            _check_members(members, shown)
            names = _names(members)
            return [_unpack(archive, member, name) for member, name in zip(members, names, strict=True)]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error) as error:
        raise ImageError(f"'{shown}' is damaged or no zip file. Pack the pictures again.") from error


def _is_picture(member: zipfile.ZipInfo) -> bool:
    path = _path(member)
    folder = member.filename.endswith("/")  # a name can be empty, which is_dir() does not expect
    return not folder and "__MACOSX" not in path.parts and is_meant(path.name)


def _path(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))


def _names(members: list[zipfile.ZipInfo]) -> list[str]:
    """What to call each: its name, with the folders that it lies in where others have the same."""
    paths = [_path(m) for m in members]
    count = Counter(path.name for path in paths)
    inside = ["/".join(part for part in path.parts if part not in ("/", "//", "..")) for path in paths]
    return [path.name if count[path.name] == 1 else long for path, long in zip(paths, inside, strict=True)]


def _check_members(members: list[zipfile.ZipInfo], shown: str) -> None:
    if not members:
        raise ImageError(f"'{shown}' holds no picture. Endings looked for: {', '.join(EXTENSIONS)}.")
    if len(members) > MAX_ZIP_PHOTOS:
        raise ImageError(f"'{shown}' holds {len(members):,} pictures. At most {MAX_ZIP_PHOTOS} are allowed; split it.")
    total = sum(m.file_size for m in members)
    if total > MAX_ZIP_BYTES:
        raise ImageError(
            f"The pictures in '{shown}' have {total / 2**20:,.0f} MB unpacked. At most {MAX_ZIP_BYTES // 2**20} MB are allowed; split it."
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Photo:
    shown = shown_name(name)
    try:
        check_ending(name)
    except ImageError as error:
        return Photo(name, error=str(error))
    if member.flag_bits & 1:
        return Photo(name, error=f"'{shown}' is locked with a password. Pack it without one.")
    if member.file_size > MAX_PHOTO_BYTES:
        return Photo(name, error=f"'{shown}' has more than {MAX_PHOTO_BYTES // 2**20} MB. Save it smaller.")
    if member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return Photo(name, error=f"'{shown}' unpacks to more than {MAX_RATIO} times its size and was left out.")
    try:
        with archive.open(member) as file:
            content = file.read(MAX_PHOTO_BYTES + 1)  # whatever the archive says of its size
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        zlib.error,
        lzma.LZMAError,
    ):
        return Photo(name, error=f"'{shown}' is damaged inside the zip and was left out.")
    return Photo(name, content)
