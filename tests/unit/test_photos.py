"""Photos in a zip: unpacked in memory, within limits, and nothing that an archive holds can do harm."""

from __future__ import annotations

import contextlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from fer import photos
from fer.errors import ImageError
from fer.images import read_photo
from fer.photos import is_zip, unzip


def png(value: int = 9) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(value).integers(0, 256, (20, 20), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_pictures_come_out_in_order_and_other_files_are_passed_over(method):
    files = {"b/2.png": png(2), "notes.txt": b"no", "1.PNG": png(1), "__MACOSX/._1.png": b"x", ".hidden.png": b"x"}
    found = unzip(pack(files, method), "a.zip")
    assert [(p.name, p.content, p.error) for p in found] == [("2.png", png(2), ""), ("1.PNG", png(1), "")]
    assert read_photo(found[0].content, found[0].name).shape == (20, 20)


def test_a_photo_of_a_kind_that_cannot_be_read_is_an_entry_with_the_sentence_of_a_single_one():
    names = ["1.png", "x/IMG_2.HEIC", "3.avif", "4.Heif"]
    found = unzip(pack({name: png() for name in names} | {"__MACOSX/._IMG_2.HEIC": b"x", "._3.avif": b"x"}), "a.zip")
    assert [p.name for p in found] == ["1.png", "IMG_2.HEIC", "3.avif", "4.Heif"] and not found[0].error
    for photo in found[1:]:
        with pytest.raises(ImageError) as alone:
            read_photo(png(), photo.name)
        assert photo.error == str(alone.value) and not photo.content


def test_equal_names_in_different_folders_are_told_apart():
    found = unzip(pack({"a/1.png": png(1), "b/1.png": png(2), "b/2.png": png(3)}), "a.zip")
    assert [(p.name, p.content) for p in found] == [("a/1.png", png(1)), ("b/1.png", png(2)), ("2.png", png(3))]


def test_an_entry_without_a_name_is_passed_over():
    content = pack({"a.png": png(), "X.png": b"1"}).replace(b"X.png", b"\0.png")
    assert [p.name for p in unzip(content, "a.zip")] == ["a.png"]


def test_a_name_in_a_zip_is_never_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../evil.png", "/etc/evil.png", "C:\\temp\\evil.png", "a/../../evil.png"]
    found = unzip(pack({n: png() for n in names}), "a.zip")
    assert [p.name for p in found] == ["evil.png", "etc/evil.png", "C:/temp/evil.png", "a/evil.png"]
    assert list(tmp_path.rglob("*")) == []


def test_a_bomb_and_a_picture_too_large_are_left_out_with_a_word(monkeypatch):
    bomb = pack({"bomb.bmp": b"BM" + bytes(1_000_000), "fine.png": png()})
    first, second = unzip(bomb, "a.zip")
    assert "200 times" in first.error and not first.content and second.content
    monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", 100)
    assert "more than" in unzip(pack({"x.png": png()}), "a.zip")[0].error


def test_count_and_size_have_limits(monkeypatch):
    with pytest.raises(ImageError, match="201 pictures. At most 200"):
        unzip(pack({f"{i}.png": b"x" for i in range(201)}), "many.zip")
    monkeypatch.setattr(photos, "MAX_ZIP_BYTES", 600)
    with pytest.raises(ImageError, match="MB unpacked"):
        unzip(pack({"a.bmp": bytes(5000)}), "wide.zip")
    with pytest.raises(ImageError, match="At most .* MB are allowed; split it"):
        unzip(pack({"a.png": png()}), "heavy.zip")


def test_an_archive_that_lies_about_a_size_gives_no_more_than_it_says():
    content = bytearray(pack({"a.png": png()}, zipfile.ZIP_STORED))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (5).to_bytes(4, "little")  # the unpacked size
    [photo] = unzip(bytes(content), "a.zip")
    assert photo.error or len(photo.content) <= 5


def test_a_locked_picture_is_said_to_be_locked():
    content = bytearray(pack({"a.png": png()}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + place
        content[at] |= 1
    assert "password" in unzip(bytes(content), "a.zip")[0].error


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 nothing", b"text", pack({"a.png": png()})[:60]],
    ids=["empty", "signature", "text", "cut"],  # a zip holds the time of its making: no name for a test
)
def test_what_is_no_zip_is_a_sentence(content):
    with pytest.raises(ImageError, match="damaged or no zip"):
        unzip(content, "a\n.zip")


def test_a_zip_without_pictures_says_so():
    with pytest.raises(ImageError, match="holds no picture"):
        unzip(pack({"a.txt": b"x", "inner.zip": pack({"a.png": png()})}), "a.zip")


def test_random_damage_gives_photos_or_a_sentence():
    content, rng = pack({f"{i}.png": png(i) for i in range(3)}), np.random.default_rng(0)
    for _ in range(200):
        broken = np.frombuffer(content, np.uint8).copy()
        broken[rng.integers(0, len(broken), 8)] = rng.integers(0, 256, 8)
        with contextlib.suppress(ImageError):
            assert all(p.content or p.error for p in unzip(broken.tobytes(), "a.zip"))


def test_a_zip_is_told_by_name_or_beginning():
    assert is_zip("a.ZIP", b"") and is_zip("x", pack({})[:4] or b"") is False
    assert is_zip("x.bin", pack({"a": b"b"}))
