"""Importing data sets: every layout, every error, and zips made to do harm. All data is drawn here and tiny."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer.data import read
from fer.data.dataset import CLASSES, SPLITS, load, load_head, save
from fer.data.read import class_index, import_file, import_path
from fer.errors import DataError

REAL = os.environ.get("FER_TEST_DATA")


def face(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face(seed)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def tree(splits=("train", "test"), classes=CLASSES, each: int = 2, lead: str = "") -> dict[str, bytes]:
    """Files of a small data set by path; every picture differs."""
    paths = [f"{lead}{s}/{c}/{i}.png" for s in splits for c in classes for i in range(each)]
    return {path: png(number) for number, path in enumerate(paths)}


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def csv_text(rows: list[tuple[int, int, str]], header: str = "emotion,pixels,Usage") -> str:
    lines = [f"{emotion},{' '.join(map(str, face(seed).ravel()))},{usage}" for emotion, seed, usage in rows]
    return "\n".join([header, *lines]) + "\n"


def csv_rows(usages=("Training", "PublicTest", "PrivateTest")) -> list[tuple[int, int, str]]:
    return [(e, 10 * u + e, usage) for u, usage in enumerate(usages) for e in range(7)]


def error_of(path: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        import_path(path, "x", **options)
    return str(caught.value)


# Layouts


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation", "validate", "dev", "eval", "PublicTest"])
def test_three_split_folders_keep_their_meaning(tmp_path, val):
    data = import_path(write_folder(tmp_path / "set", tree(("train", val, "test"))), "x")
    assert data.split_names == SPLITS
    assert data.split_note is None
    assert data.meta["val_from"] == val
    assert data.counts()["val"] == dict.fromkeys(CLASSES, 2)


@pytest.mark.parametrize("other", ["test", "validation"])
def test_the_only_other_split_serves_as_val_and_it_is_said(tmp_path, other):
    data = import_path(write_folder(tmp_path / "set", tree(("train", other))), "x")
    assert data.split_names == ("train", "val")
    assert data.split_note is not None
    assert f"'{other}' pictures serve as val" in data.split_note


def test_the_pictures_labels_and_names_belong_together(tmp_path):
    files = tree(("train", "val", "test"))
    data = import_path(write_folder(tmp_path / "set", files), "x")
    for image, label, split, source in zip(data.images, data.labels, data.splits, data.sources, strict=True):
        assert source.startswith(f"{SPLITS[split]}/{CLASSES[label]}/")
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(files[source]))))


@pytest.mark.parametrize("lead", ["images/", "a/b/images/", "test/"])
def test_leading_folders_do_not_matter(tmp_path, lead):
    plain = import_path(write_folder(tmp_path / "plain", tree()), "x")
    led = import_path(write_zip(tmp_path / "led.zip", tree(lead=lead)), "x")
    assert led.fingerprint == plain.fingerprint
    assert led.sources.tolist() == plain.sources.tolist()


def test_a_zip_in_any_order_equals_the_folder(tmp_path):
    files = tree(("train", "val"))
    folder = import_path(write_folder(tmp_path / "set", files), "x")
    zipped = import_path(write_zip(tmp_path / "set.zip", dict(reversed(files.items()))), "x")
    stored = import_path(write_zip(tmp_path / "stored.zip", files, zipfile.ZIP_STORED), "x")
    assert folder.fingerprint == zipped.fingerprint == stored.fingerprint
    np.testing.assert_array_equal(folder.images, zipped.images)
    assert (folder.meta["origin"], zipped.meta["origin"]) == ("set", "set.zip")


def test_official_prefixes_decide_the_split_whatever_the_folder(tmp_path):
    names = {"Training_1.png": "test", "PublicTest_2.png": "test", "PrivateTest_3.png": "train"}
    files = {f"{folder}/{c}/{n}": png(i) for i, (n, folder) in enumerate(names.items()) for c in CLASSES}
    data = import_path(write_zip(tmp_path / "k.zip", files), "x")
    assert data.split_names == SPLITS
    assert {str(s) for s in data.sources[data.splits == 2]} == {f"train/{c}/PrivateTest_3.png" for c in CLASSES}


def test_official_prefixes_need_no_split_folder_and_the_note_names_them(tmp_path):
    files = {f"{c}/{n}_7.png": png(i) for i, n in enumerate(["Training", "PublicTest"]) for c in CLASSES}
    data = import_path(write_folder(tmp_path / "set", files), "x")
    assert data.split_names == ("train", "val")
    assert "'PublicTest' pictures serve as val" in data.split_note


def test_class_names_in_other_words_and_case(tmp_path):
    words = {"Anger": "angry", "DISGUSTED": "disgust", "fearful": "fear", "Happiness": "happy"}
    words |= {"neutrality": "neutral", "sadness": "sad", "Surprised": "surprise"}
    data = import_path(write_folder(tmp_path / "set", tree(classes=tuple(words))), "x")
    assert data.counts()["train"] == dict.fromkeys(CLASSES, 2)
    assert {w: CLASSES[class_index(w)] for w in words} == words
    assert class_index("contempt") is None


def test_pictures_of_any_size_mode_and_format_become_48_grey(tmp_path):
    files = tree()
    big = io.BytesIO()
    Image.new("RGB", (640, 480), (90, 90, 90)).save(big, "JPEG", dpi=(96, 96))
    wide = io.BytesIO()
    Image.fromarray(np.full((60, 60), 90 * 257, np.uint16)).save(wide, "PNG")
    files |= {"train/happy/0.png": big.getvalue(), "train/happy/1.png": wide.getvalue()}
    data = import_path(write_folder(tmp_path / "set", files), "x")
    assert data.images.shape == (28, 48, 48) and data.images.dtype == np.uint8
    happy = data.images[(data.labels == CLASSES.index("happy")) & (data.splits == 0)]
    assert np.abs(happy.astype(int) - 90).max() <= 1
    assert data.meta["spec"] == {
        "dimensions": {"48 x 48": 26, "60 x 60": 1, "640 x 480": 1},
        "resolution": {"not stated": 27, "96 dpi": 1},
        "bit_depth": {"8-bit grey": 26, "16-bit grey": 1, "24-bit colour": 1},
        "format": {"PNG": 27, "JPEG": 1},
    }


def test_side_files_are_ignored_and_counted(tmp_path):
    side = ["readme.txt", "train/happy/Thumbs.db", "__MACOSX/train/happy/._0.png", "train/.DS_Store", "train/notes.md"]
    side += ["cover.png", "train/contempt/about.txt", "labels.csv"]
    files = tree() | dict.fromkeys(side, b"x") | {"cover.png": png(99)}
    zipped = import_path(write_zip(tmp_path / "set.zip", files), "x")
    assert zipped.meta["ignored"] == len(side)
    assert zipped.ignored_note == "8 files ignored, of them 1 picture outside of the splits, e.g. cover.png."
    assert import_path(write_folder(tmp_path / "set", files), "x").ignored_note == zipped.ignored_note
    del files["cover.png"]
    plain = import_path(write_zip(tmp_path / "plain.zip", files), "x")
    assert plain.ignored_note == "7 files ignored, none of them a picture."
    assert import_path(write_zip(tmp_path / "bare.zip", tree()), "x").ignored_note == ""


def test_pictures_beside_a_csv_are_named(tmp_path):
    files = {"fer2013.csv": csv_text(csv_rows()).encode(), "a/happy/0.png": png(1), "readme.md": b"x"}
    data = import_path(write_zip(tmp_path / "c.zip", files), "x")
    assert data.ignored_note == "2 files ignored, of them 1 picture outside of the splits, e.g. a/happy/0.png."


@pytest.mark.parametrize(("folder", "shown"), [("extra", "'extra'"), ("more/train2", "'more/train2'"), ("", "its top")])
def test_class_folders_of_no_known_split_are_refused(tmp_path, folder, shown):
    """They would be lost without a word, or test would serve as val where val has a name that is not known."""
    others = {f"{folder}/{c}/{i}.png".lstrip("/"): png(i) for c in ("happy", "sad") for i in range(3)}
    text = error_of(write_zip(tmp_path / "set.zip", tree() | others))
    assert f"belong to no known split, in {shown} (6). Splits are train: train, training; val: val, " in text
    assert text.endswith("Rename the folder to one of these words, or move it out of the data set.")


def test_two_folders_that_mean_one_split_are_refused(tmp_path):
    text = error_of(write_folder(tmp_path / "set", tree(("train", "val", "eval"))))
    assert "2 words for the split val: 'eval' (14 pictures) and 'val' (14 pictures)" in text
    named = {f"train/{c}/Training_7.png": png(90 + i) for i, c in enumerate(CLASSES)}  # an official name is no folder
    assert len(import_path(write_zip(tmp_path / "k.zip", tree() | named), "x")) == 35


def test_a_second_tree_of_the_same_pictures_counts_once(tmp_path):
    files = tree(lead="images/") | tree(lead="images/images/")
    data = import_path(write_zip(tmp_path / "twice.zip", files), "x")
    assert len(data) == 28
    assert data.meta["ignored"] == 28
    assert data.ignored_note == "28 files ignored, of them 28 second copies of pictures that are here."
    files["images/images/train/sad/0.png"] = png(77)  # the same name, another picture: kept
    assert len(import_path(write_zip(tmp_path / "twice.zip", files), "x")) == 29


def test_the_result_can_be_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_DATA_DIR", str(tmp_path / "data"))
    data = import_path(write_folder(tmp_path / "set", tree()), "mine")
    save(data)
    again = load("mine")
    assert again.fingerprint == data.fingerprint
    assert again.meta == data.meta
    assert str(tmp_path) not in str(again.meta)


def test_a_flipped_bit_in_a_prepared_file_is_damage_or_harmless(tmp_path):
    path = save(import_path(write_folder(tmp_path / "set", tree()), "mine"))
    content = path.read_bytes()
    directory = content.find(b"PK\x01\x02")
    for at in [*range(120), *range(directory, directory + 60), *range(len(content) - 22, len(content))]:
        for bit in (1, 8, 32):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            for look in (load, load_head):
                with contextlib.suppress(DataError):
                    look("mine")


def test_an_upload_is_read_by_its_content(tmp_path):
    content = write_zip(tmp_path / "a.zip", tree()).read_bytes()
    data = import_file(io.BytesIO(content), "C:\\Users\\me\\faces.bin", "x")
    assert len(data) == 28
    assert data.meta["origin"] == "faces.bin"
    assert len(import_file(io.BytesIO(csv_text(csv_rows()).encode()), "table.txt", "x")) == 21


def test_progress_reaches_the_end(tmp_path):
    calls = []
    import_path(write_folder(tmp_path / "set", tree(each=6)), "x", progress=lambda *c: calls.append(c))
    assert calls == [(64, 84), (84, 84)]


@pytest.mark.skipif(os.name == "nt", reason="making links needs a right there")
def test_a_linked_split_is_followed_and_a_loop_ends(tmp_path):
    write_folder(tmp_path / "store", tree(("train",)))
    root = write_folder(tmp_path / "set", tree(("test",)))
    (root / "train").symlink_to(tmp_path / "store" / "train")
    (root / "test" / "happy" / "loop").symlink_to(root)
    (root / "train" / "sad" / "gone.png").symlink_to(tmp_path / "nothing")
    assert len(import_path(root, "x")) == 28


# CSV


def test_the_csvs_numbers_are_mapped_to_our_classes(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(csv_rows()))
    data = import_path(path, "x")
    assert data.split_names == SPLITS and data.split_note is None
    order = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    for image, label, split in zip(data.images, data.labels, data.splits, strict=True):
        np.testing.assert_array_equal(image, face(10 * split + order.index(CLASSES[label])))
    assert data.sources[0] == "row 2"
    assert data.meta["spec"]["dimensions"] == {"48 x 48": 21}
    assert data.meta["spec"]["resolution"] == {"not stated": 21}


def test_columns_in_any_order_with_spaces_quotes_and_a_byte_order_mark(tmp_path):
    pixels = {e: " ".join(map(str, face(e).ravel())) for e in range(7)}
    rows = [f'{usage},{e},"{pixels[e]}"' for usage in ("Training", "PublicTest") for e in range(7)]
    path = tmp_path / "icml_face_data.csv"
    path.write_bytes("\r\n".join(["\ufeff Usage,emotion, pixels", *rows, "", ""]).encode())
    data = import_path(path, "x")
    assert len(data) == 14
    assert "'PublicTest' pictures serve as val" in data.split_note


def test_a_csv_in_a_zip_or_folder_equals_the_plain_one(tmp_path):
    plain = tmp_path / "fer2013.csv"
    plain.write_text(csv_text(csv_rows()))
    inside = {"challenge/data/fer2013.csv": plain.read_bytes(), "challenge/README": b"x", "challenge/more.zip": b"PK"}
    zipped = import_path(write_zip(tmp_path / "challenge.zip", inside), "x")
    assert zipped.fingerprint == import_path(plain, "x").fingerprint
    assert zipped.meta["origin"] == "challenge.zip" and zipped.meta["ignored"] == 2
    assert import_path(write_folder(tmp_path / "folder", inside), "x").fingerprint == zipped.fingerprint


def test_the_only_fitting_csv_is_found_by_its_columns(tmp_path):
    files = {"mine.csv": csv_text(csv_rows()).encode(), "other.csv": b"a,b\n1,2\n"}
    assert len(import_path(write_zip(tmp_path / "c.zip", files), "x")) == 21
    files["second.csv"] = files["mine.csv"]
    assert "several CSV files" in error_of(write_zip(tmp_path / "c.zip", files))


BAD_ROWS = {
    "emotion": ("7," + "0 " * 2304 + ",Training", "emotion is '7'"),
    "pixels": ("0," + "0 " * 2303 + ",Training", "2,303 pixels; 2,304 are needed"),
    "high": ("0," + "0 " * 2303 + "256,Training", "a pixel is '256'; allowed are 0 to 255"),
    "negative": ("0," + "0 " * 2303 + "-1,Training", "a pixel is '-1'"),
    "word": ("0," + "0 " * 2303 + "x,Training", "a pixel is 'x'"),
    "usage": ("0," + "0 " * 2304 + ",Holiday", "Usage is 'Holiday'"),
    "short": ("0", "it has 1 columns"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named(tmp_path, kind):
    line, reason = BAD_ROWS[kind]
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(csv_rows()) + line + "\n")
    text = error_of(path)
    assert "Row 23: " in text and reason in text
    data = import_path(path, "x", skip_bad=True)
    assert len(data) == 21 and data.meta["skipped"] == ["row 23"]


def test_bad_rows_are_listed_by_reason_and_not_without_end(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(csv_rows()) + "9,1 2,Training\n" * 30 + "0,1,Training\n" * 2)
    lines = error_of(path).splitlines()
    assert lines[0].startswith("32 rows of 'fer2013.csv' cannot be read") and len(lines) == 3
    assert lines[1].startswith("Rows 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 and 20 more: it has 2 pixels; ")
    assert lines[2] == "Rows 53, 54: it has 1 pixels; 2,304 are needed."
    path.write_text(csv_text(csv_rows()) + "".join(f"0,{'1 ' * n},Training\n" for n in range(150)))
    lines = error_of(path).splitlines()
    assert len(lines) == 102 and lines[-1] == "and 50 more"


@pytest.mark.parametrize(
    "words",
    [("Train", "Validation", "Test"), ("TRAINING", "Public Test", "private_test "), ("train", "dev", "testing")],
)
def test_usage_in_other_words_and_with_spaces(tmp_path, words):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(csv_rows(words)))
    data = import_path(path, "x")
    assert data.split_names == SPLITS and data.split_note is None and data.meta["val_from"] == words[1]


def test_two_words_for_one_split_in_a_csv_are_refused(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(csv_rows(("Training", "PublicTest", "eval"))))
    assert "2 words for the split val: 'eval' (7 pictures) and 'publictest' (7 pictures)" in error_of(path)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_separators_and_rows_of_blank_cells(tmp_path, delimiter):
    plain, other = tmp_path / "fer2013.csv", tmp_path / "other.csv"
    plain.write_text(csv_text(csv_rows()))
    other.write_text(csv_text(csv_rows()).replace(",", delimiter) + "  \n" + f" {delimiter} {delimiter}\n")
    data = import_path(other, "x")
    assert data.fingerprint == import_path(plain, "x").fingerprint and data.meta["skipped"] == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16_is_named(tmp_path, encoding):
    (tmp_path / "fer2013.csv").write_bytes(csv_text(csv_rows()).encode(encoding))
    assert "is written in UTF-16, or is no text. Save it as CSV in UTF-8" in error_of(tmp_path / "fer2013.csv")


def test_a_csv_that_is_none(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text("label,image\n1,2\n")
    assert "columns emotion, pixels and Usage" in error_of(path) and "first line is 'label,image'" in error_of(path)
    path.write_text("emotion,pixels,Usage\n")
    assert "no training pictures" in error_of(path)
    path.write_bytes(b"emotion,pixels,Usage\n0,\xff\xfe,Training\n")
    assert "Row 2: " in error_of(path)
    path.write_bytes(b"emotion,pixels,Usage\n" + b"1" * 3_000_000)
    assert "more than 1,048,576 characters" in error_of(path)
    path.write_bytes(b"emotion,pixels,Usage\n" + b'"' + (b"1 " * 50_000 + b"\n") * 20)
    assert "not a CSV file" in error_of(path)


def test_a_csv_is_streamed(tmp_path, monkeypatch):
    """A file of 40 MB may not be held in memory: only the pictures, 2,304 bytes each, are."""
    import tracemalloc

    monkeypatch.setattr(read, "_parse_pixels", lambda text: np.zeros((48, 48), np.uint8))
    monkeypatch.setattr(read, "MAX_MEMBERS", 600)
    rows = "".join(f"{e % 7},{'1 ' * 50_000},{'Training' if e < 300 else 'PublicTest'}\n" for e in range(400))
    content = ("emotion,pixels,Usage\n" + rows).encode()
    archive = write_zip(tmp_path / "c.zip", {"fer2013.csv": content})
    del rows, content
    tracemalloc.start()
    try:
        assert len(import_path(archive, "x")) == 400
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


# Errors


def test_a_path_that_is_not_there_or_not_a_data_set(tmp_path):
    assert "no file or folder" in error_of(tmp_path / "gone")
    assert "no file or folder" in error_of(Path("a\0b"))
    assert "cannot be read" in error_of(Path("x" * 5000))
    (tmp_path / "not.zip").write_bytes(b"this is no zip")
    assert "not a zip file" in error_of(tmp_path / "not.zip")
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b rest")
    assert "neither a zip nor a CSV" in error_of(tmp_path / "a.tar.gz")
    (tmp_path / "empty.zip").write_bytes(b"")
    assert "not a zip file" in error_of(tmp_path / "empty.zip")
    with pytest.raises(DataError, match="cannot name a data set"):
        import_path(tmp_path, "../evil")


def test_an_unknown_class_is_named_with_the_allowed_ones(tmp_path):
    others = {"train/contempt/0.png": png(1), "test/Boredom/0.png": png(2)}
    text = error_of(write_folder(tmp_path / "set", tree() | others))
    assert "'Boredom', 'contempt'" in text
    assert "angry, disgust, fear, happy, neutral, sad, surprise" in text
    prefixed = error_of(write_folder(tmp_path / "two", {"train/smug/Training_1.png": png(1)}))
    assert "'smug'" in prefixed


def test_a_picture_outside_a_class_folder(tmp_path):
    assert "outside a class folder" in error_of(write_folder(tmp_path / "set", tree() | {"train/0.png": png(1)}))
    assert "outside a class folder" in error_of(write_zip(tmp_path / "a.zip", tree() | {"Training_0.png": png(1)}))


def test_pictures_outside_a_class_folder_are_named_and_can_be_skipped(tmp_path):
    strays = {f"train/{i}.png": png(i) for i in range(6)} | {"test/cover.png": png(9)}
    root = write_folder(tmp_path / "set", tree() | strays)
    text = error_of(root)
    assert text.startswith("In 'set' 7 pictures lie outside a class folder: test/cover.png, train/0.png, train/1.png, ")
    assert "train/3.png and 2 more. Put each in one of the folders angry, " in text and "--skip-bad" in text
    data = import_path(root, "x", skip_bad=True)
    assert sorted(data.meta["skipped"]) == sorted(strays) and data.meta["ignored"] == 0 and len(data) == 28
    none = write_folder(tmp_path / "none", {"train/0.png": png(1), "test/0.png": png(2)})
    assert "no training pictures" in error_of(none, skip_bad=True)


@pytest.mark.parametrize(
    "name", ["train/labels.pkl", "train/happy/model.h5", "test/sad/clip.MP4", "train/odd.xyz", "train/LICENSE"]
)
def test_what_is_not_called_a_picture_is_a_side_file(tmp_path, name):
    data = import_path(write_folder(tmp_path / "set", tree() | {name: b"x"}), "x")
    assert len(data) == 28 and data.ignored_note == "1 file ignored, not a picture."


def test_what_may_be_a_picture_in_a_class_folder_is_opened(tmp_path):
    files = tree() | {"train/happy/subject01.happy": png(80), "train/happy/9f3c": png(81)}
    assert len(import_path(write_folder(tmp_path / "set", files), "x")) == 30
    assert "train/happy/note.xyz" in error_of(write_folder(tmp_path / "odd", tree() | {"train/happy/note.xyz": b"x"}))


@pytest.mark.parametrize("path", ["{c}/{s}/{i}.png", "faces/{c}/{s}/more/{i}.png"])
def test_splits_inside_of_classes_are_told_in_a_sentence(tmp_path, path):
    files = {path.format(s=s, c=c, i=i): png(i) for s in ("train", "test") for c in CLASSES for i in range(2)}
    text = error_of(write_folder(tmp_path / "set", files), skip_bad=True)
    assert f"splits inside of its class folders: 28 pictures, e.g. {path.format(s='test', c='angry', i=0)}. Put" in text


def test_an_empty_class_is_named(tmp_path):
    files = {p: c for p, c in tree().items() if not p.startswith("train/fear")}
    root = write_folder(tmp_path / "missing", files)
    assert "no training pictures of the class fear" in error_of(root)
    (root / "train" / "fear").mkdir()
    (root / "train" / "fear" / "readme.txt").write_text("none yet")
    assert "'train/fear'" in error_of(root)


def test_an_empty_class_in_another_split_or_in_a_zip(tmp_path):
    root = write_folder(tmp_path / "set", tree())
    for picture in (root / "test" / "sad").iterdir():
        picture.unlink()
    assert "'test/sad'" in error_of(root)
    archive = write_zip(tmp_path / "set.zip", {p: c for p, c in tree().items() if "train/happy" not in p})
    with zipfile.ZipFile(archive, "a") as opened:
        opened.mkdir("train/happy")
    assert "'train/happy'" in error_of(archive)


def test_a_split_without_pictures(tmp_path):
    root = write_folder(tmp_path / "set", tree(("train", "val")))
    (root / "test").mkdir()
    assert "'test'" in error_of(root)
    assert "no training pictures" in error_of(write_folder(tmp_path / "no-train", tree(("val", "test"))))
    assert "training split only" in error_of(write_folder(tmp_path / "only", tree(("train",))))
    (tmp_path / "bare" / "train").mkdir(parents=True)
    assert "no training pictures" in error_of(tmp_path / "bare")


def test_a_folder_that_is_no_data_set(tmp_path):
    assert "not laid out" in error_of(write_folder(tmp_path / "set", {"happy/1.png": png(1), "notes.txt": b""}))
    assert "not laid out" in error_of(write_zip(tmp_path / "empty.zip", {}))


def test_every_unreadable_picture_is_listed(tmp_path):
    bad = {f"train/sad/bad{i}.png": png(i)[: 200 + i] for i in range(25)} | {"test/sad/odd.heic": b"hello"}
    root = write_folder(tmp_path / "set", tree() | bad)
    text = error_of(root)
    assert text.startswith("26 pictures") and "--skip-bad" in text and "more" not in text
    assert [sum(name in line for line in text.split("\n")) for name in bad] == [1] * 26
    data = import_path(root, "x", skip_bad=True)
    assert len(data) == 28
    assert sorted(data.meta["skipped"]) == sorted(bad)
    assert data.fingerprint == import_path(write_folder(tmp_path / "good", tree()), "x").fingerprint


def test_skipping_may_not_empty_a_class_or_a_split(tmp_path):
    files = tree()
    broken = files | {p: b"broken" for p in files if p.startswith("train/fear")}
    assert "class fear" in error_of(write_folder(tmp_path / "a", broken), skip_bad=True)
    broken = files | {p: b"broken" for p in files if p.startswith("test/")}
    assert "split 'val'" in error_of(write_folder(tmp_path / "b", broken), skip_bad=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_may_not_be_read_is_an_error_and_not_left_out(tmp_path):
    root = write_folder(tmp_path / "set", tree())
    (root / "test" / "sad").chmod(0)
    try:
        assert "cannot be read" in error_of(root)
    finally:
        (root / "test" / "sad").chmod(0o755)


# Hostile zips


def test_a_row_with_a_byte_that_is_no_utf8_is_one_that_can_be_left_out(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_text(csv_rows()).encode() + b"\xff,1 2,Training\n")
    assert "Row 23: " in error_of(path)
    assert import_path(path, "x", skip_bad=True).meta["skipped"] == ["row 23"]


def test_a_zip_with_a_member_without_a_name_and_with_windows_folders(tmp_path):
    files = tree()
    names = ["\0", "data\\", "data\\train\\", *(f"data/{name}".replace("/", "\\") for name in files)]
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in zip(names, [b"", b"", b"", *files.values()], strict=True):
            member = zipfile.ZipInfo("x")
            member.filename = name
            archive.writestr(member, content)
    assert len(import_path(path, "x")) == len(files)


def test_no_path_is_taken_from_a_zip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = {"../../train/sad/up.png": png(90), "/train/sad/root.png": png(91), "..\\train\\sad\\win.png": png(92)}
    before = sorted(tmp_path.parent.rglob("*.png"))
    data = import_path(write_zip(tmp_path / "evil.zip", tree() | evil), "x")
    assert {"train/sad/up.png", "train/sad/root.png", "train/sad/win.png"} <= set(data.sources.tolist())
    assert sorted(tmp_path.parent.rglob("*.png")) == before
    assert [p.name for p in tmp_path.iterdir()] == ["evil.zip"]


def test_names_with_control_characters_are_shown_harmless_and_short(tmp_path):
    name = "train/sad/\x1b[31m\n" + "y" * 20_000 + ".png"
    text = error_of(write_zip(tmp_path / "evil.zip", tree() | {name: b"broken"}))
    assert "\x1b" not in text and len(text) < 700 and text.count("\n") == 1
    data = import_path(write_zip(tmp_path / "long.zip", tree() | {name: png(90)}), "x")
    assert data.sources.dtype.itemsize < 1000


def test_a_bomb_that_states_its_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "MAX_UNPACKED_BYTES", 100_000)
    assert "unpacks to" in error_of(write_zip(tmp_path / "bomb.zip", tree() | {"notes.txt": b"0" * 100_000}))


def test_one_member_over_the_limit_is_a_bad_picture(tmp_path):
    bomb = write_zip(tmp_path / "bomb.zip", tree() | {"train/sad/big.png": b"\0" * (read.MAX_PICTURE_BYTES + 1)})
    text = error_of(bomb)
    assert "'train/sad/big.png' has more than 32 MiB" in text
    assert import_path(bomb, "x", skip_bad=True).meta["skipped"] == ["train/sad/big.png"]


def patch_directory(path: Path, name: str, offset: int, value: bytes) -> None:
    """Overwrite part of a member's entry in the zip's directory, which is what zipfile believes."""
    content = bytearray(path.read_bytes())
    at = content.rfind(name.encode()) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    content[at + offset : at + offset + len(value)] = value
    path.write_bytes(content)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path):
    import tracemalloc

    name = "train/sad/liar.png"
    archive = write_zip(tmp_path / "bomb.zip", tree() | {name: b"\0" * 60_000_000})
    patch_directory(archive, name, 24, struct.pack("<I", 500))
    tracemalloc.start()
    try:
        text = error_of(archive)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert f"'{name}'" in text and text.startswith("1 picture of")


def test_what_is_really_read_is_counted_too(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", tree())
    monkeypatch.setattr(read._Budget, "read", _with_limit(read._Budget.read, monkeypatch))
    assert "the most allowed" in error_of(archive)


def _with_limit(original, monkeypatch):
    def limited(self, entry):
        monkeypatch.setattr(read, "MAX_UNPACKED_BYTES", 10_000)  # after the stated sizes were checked
        return original(self, entry)

    return limited


def test_too_many_members_are_refused_before_they_are_listed(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "many.zip", tree())
    monkeypatch.setattr(read, "MAX_MEMBERS", 10)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 10 files" in error_of(archive)
    monkeypatch.setattr(read, "_MAX_DIRECTORY_BYTES", 100)
    assert "more than 10 files" in error_of(archive)
    assert "more than 10 files" in error_of(write_folder(tmp_path / "many", tree()))


def test_a_zip64_directory_is_read_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)  # makes zipfile write the large form
    archive = write_zip(tmp_path / "large.zip", tree())
    assert b"PK\x06\x06" in archive.read_bytes()
    assert len(import_path(archive, "x")) == 28
    monkeypatch.setattr(read, "MAX_MEMBERS", 10)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 10 files" in error_of(archive)


def test_an_encrypted_zip(tmp_path):
    archive = write_zip(tmp_path / "secret.zip", tree())
    patch_directory(archive, "train/sad/0.png", 8, b"\x01\x00")
    assert "is encrypted" in error_of(archive)


def test_a_zip_in_a_zip(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", tree()).read_bytes()
    outer = write_zip(tmp_path / "o.zip", {"deep/inner.zip": inner})
    assert "contains another archive, 'deep/inner.zip'" in error_of(outer)
    assert "another archive" in error_of(write_zip(tmp_path / "p.zip", tree() | {"inner.zip": inner}))
    assert len(import_path(write_folder(tmp_path / "set", tree() | {"inner.zip": inner}), "x")) == 28


def test_unusual_compression_is_refused(tmp_path):
    archive = write_zip(tmp_path / "lzma.zip", tree(), zipfile.ZIP_LZMA)
    assert "Pack the zip with 'deflate'" in error_of(archive)


def test_a_damaged_zip(tmp_path):
    archive = write_zip(tmp_path / "a.zip", tree())
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    assert "damaged or incomplete" in error_of(archive)
    broken = bytearray(content)
    at = broken.find(b"train/sad/0.png") + 60
    broken[at : at + 20] = b"\xaa" * 20
    archive.write_bytes(broken)
    text = error_of(archive)
    assert text.count("\n") == 1 and "'train/sad/0.png' is damaged inside the zip" in text


def test_random_damage_to_a_zip_gives_a_data_set_or_an_error(tmp_path):
    content = write_zip(tmp_path / "a.zip", tree(each=1), zipfile.ZIP_STORED).read_bytes()
    directory = content.find(b"PK\x01\x02")
    rng = np.random.default_rng(4)
    for _ in range(80):
        broken = bytearray(content)
        for at in rng.integers(directory, len(content), 4):
            broken[at] = rng.integers(0, 256)
        with contextlib.suppress(DataError):
            assert import_file(io.BytesIO(broken), "a.zip", "x", skip_bad=True).images.shape[1:] == (48, 48)


def test_a_damaged_csv_in_a_zip(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"fer2013.csv": csv_text(csv_rows()).encode()})
    content = bytearray(archive.read_bytes())
    content[8_000:8_200] = b"\xaa" * 200
    archive.write_bytes(content)
    with pytest.raises(DataError):
        import_path(archive, "x", skip_bad=True)


# Real data


@pytest.mark.skipif(not REAL, reason="set FER_TEST_DATA to a fer2013.zip")
def test_the_real_fer2013():
    started = time.perf_counter()
    data = import_path(Path(REAL), "fer2013")
    print(f"{len(data):,} pictures in {time.perf_counter() - started:.1f} s")
    counts = data.counts()
    assert (sum(counts["train"].values()), sum(counts["val"].values())) == (28_709, 3_589)
    assert (counts["train"]["disgust"], counts["val"]["disgust"]) == (436, 56)
    assert data.meta["skipped"] == []
    assert data.meta["spec"]["dimensions"] == {"48 x 48": 32_298}
