"""Atomic writing: the old file or the new one, whatever goes wrong between."""

from __future__ import annotations

import json
import math
import os
import stat
import threading

import pytest

from fer import files
from fer.files import write_atomic, write_bytes_atomic, write_json_atomic


def test_a_new_file_holds_what_was_written(tmp_path):
    write_bytes_atomic(tmp_path / "a", b"one")
    write_bytes_atomic(tmp_path / "b", memoryview(b"two"))
    write_json_atomic(tmp_path / "c.json", {"x": [1, None, "ü"]})
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"two"
    assert json.loads((tmp_path / "c.json").read_bytes()) == {"x": [1, None, "ü"]}


def failing_writer(error: BaseException):
    def write(file) -> None:
        file.write(b"half of the ne")
        raise error

    return write


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("x"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "config.json"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        write_atomic(path, failing_writer(error))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_rename_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_bytes(b"old")

    def refuse(*_args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Read-only"):
        write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_json_refuses_what_json_does_not_have(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text("1")
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(path, value)
    assert path.read_text() == "1"


def test_the_content_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("sync"), real_sync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), real_replace(a, b)))
    write_bytes_atomic(tmp_path / "a", b"x")
    assert done == ["sync", "rename", "sync"]


def test_a_file_is_as_readable_as_any_other(tmp_path):
    write_bytes_atomic(tmp_path / "a", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~files._UMASK


def test_readers_never_see_a_half_written_file(tmp_path):
    path, done, bad = tmp_path / "a.json", threading.Event(), []
    values = [{"n": n, "pad": "x" * (5000 * (n % 3))} for n in range(60)]
    write_json_atomic(path, values[0])

    def read() -> None:
        while not done.is_set():
            try:
                if json.loads(path.read_bytes()) not in values:
                    bad.append("other")
            except ValueError:
                bad.append("half")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for value in values:
        write_json_atomic(path, value)
    done.set()
    for reader in readers:
        reader.join()
    assert bad == []
