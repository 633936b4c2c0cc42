"""Writing files so that a reader, or a power cut, sees the old version or the new one and nothing between."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fer import access

PROJECT_ROOT = Path(__file__).resolve().parents[1]
ZIP_ERRORS = (  # what zipfile and its ways of packing raise where a zip is damaged or hostile, beside OSError
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, outside: bool = False) -> None:
    """Call `write` with a new file and put it in place of `path`: written, synced, renamed, the folder synced.

    outside: a file of the user's own outside of store and data, which read-only does not protect.
    Raises NotAllowed, and OSError (disk full, read-only); the old file is then untouched and nothing is left behind.
    """
    if not outside:
        access.require(f"writing {path.name}")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_UMASK)
        os.replace(name, path)
    except BaseException:
        if os.path.exists(name):
            os.unlink(name)
        raise
    sync_folder(path.parent)


def write_bytes_atomic(path: Path, content: bytes | memoryview, *, outside: bool = False) -> None:
    """`write_atomic` for bytes at hand."""
    write_atomic(path, lambda file: file.write(content), outside=outside)


def write_json_atomic(path: Path, value: Any) -> None:
    """`write_atomic` for a JSON value; NaN and infinity are refused with ValueError, since JSON has none."""
    write_bytes_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def sha256(path: Path) -> str:
    """What a file hashes to, 64 hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable; a system that cannot sync folders is left as it is."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _current_umask()
