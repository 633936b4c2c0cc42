"""Predict: no network to ask, photos of every kind, files that are none, the whole picture, examples, and privacy."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage import data as pictures
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import StopException

from fer import explain
from fer.card import FOR, LABELS, MUST_NOT, SAYS, UNKNOWN_LABELS
from fer.data.dataset import CLASSES, save
from fer.images import MAX_PHOTO_BYTES
from fer.predict import Predictor
from fer.results import as_csv, result_rows
from fer.ui import predict as parts
from tests.app.conftest import said, set_record
from tests.made_runs import write_run


def encode(picture: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """(512, 512, 3): one face, rather large, near the upper middle."""
    return pictures.astronaut()


def upload(at, *files: tuple[str, bytes]):
    at.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    return at.run()


def toggle(at, label: str):
    return next(t for t in at.toggle if t.label == label)


def charts(at) -> int:
    return len(at.get("plotly_chart"))


# --- the run


def test_without_a_network_the_page_says_what_to_do(open_page, add_run) -> None:
    add_run("no-weights", [0.4])
    at = open_page("predict")
    assert not at.exception and not at.file_uploader
    assert "There is no trained network to ask yet" in said(at)


def test_a_newcomer_is_told_what_to_do_and_no_camera_opens(open_page, finished_run) -> None:
    at = open_page("predict")
    assert not at.exception and not at.camera_input
    assert "Nothing uploaded yet" in said(at)
    assert all(words in said(at) for words in (FOR, UNKNOWN_LABELS, MUST_NOT, SAYS))
    set_record(finished_run, fer2013=True)
    assert LABELS in said(open_page("predict"))
    assert at.query_params["run"] == "done"


def test_the_camera_is_there_when_asked_for(open_page, finished_run) -> None:
    at = open_page("predict", **{"from": "Camera"})
    assert not at.exception and at.camera_input and not at.file_uploader


def test_a_synthetic_run_says_so_before_it_sees_a_photo(open_page, finished_run) -> None:
    assert not open_page("predict").warning
    set_record(finished_run, synthetic=True)
    at = open_page("predict")
    assert "Trained on synthetic faces" in at.warning[0].value
    kinds = [e.type for e in at.main]
    assert kinds.index("warning") < kinds.index("file_uploader")


def test_a_run_with_damaged_weights_is_a_sentence_and_another_can_be_chosen(open_page, finished_run) -> None:
    (finished_run.path / "best.safetensors").write_bytes(b"\0" * 100)
    at = open_page("predict", **{"from": "Example faces"})
    assert not at.exception
    assert "damaged" in at.error[0].value and at.selectbox


def test_a_damaged_report_by_class_hides_that_table_only(open_page, finished_run) -> None:
    path = finished_run.path / "report.json"
    content = path.read_text()
    assert "by class" in said(open_page("predict"))
    path.write_text(content.replace('"precision"', '"prec"'))
    at = open_page("predict")
    assert not at.exception and "by class" not in said(at)
    assert "What it says." in said(at)


def test_a_broken_run_is_not_offered(open_page, finished_run, store) -> None:
    (store.root / "broken").mkdir()
    (store.root / "broken" / "config.json").write_text("{")
    (store.root / "broken" / "best.safetensors").write_bytes(b"x")
    at = open_page("predict", run="broken")
    assert not at.exception and at.selectbox[0].value == "done"
    assert "The link names the run broken" in said(at)


# --- photos


def test_an_ensemble_has_no_best_epoch(open_page, finished_run, store) -> None:
    assert "in its best epoch" in said(open_page("predict", run="done"))
    shutil.copytree(finished_run.path, store.root / "done2")
    write_run(store, "both", [{"val_top1": 0.5}], members=["done", "done2"])
    words = said(open_page("predict", run="both"))
    assert "Right for 50.0 % of the validation pictures of fer2013." in words


def test_a_face_gets_a_box_a_label_in_words_and_seven_bars(open_page, finished_run, astronaut) -> None:
    at = upload(open_page("predict"), ("astronaut.jpg", encode(astronaut, "JPEG", quality=95)))
    assert not at.exception and not at.error
    words = said(at)
    assert "astronaut.jpg" in words and "512 x 512 pixels. 1 face." in words and "The face looks " in words
    assert charts(at) == 1 and len(at.image) == 2
    table = at.dataframe[0].value
    shares = table[list(CLASSES)].iloc[0].astype(float)
    assert shares.sum() == pytest.approx(100, abs=0.01)
    assert table["label"][0] == shares.idxmax() and table["confidence"][0] == pytest.approx(shares.max())


def test_many_photos_one_of_them_bad(open_page, finished_run, astronaut) -> None:
    two = np.hstack([astronaut, astronaut[:, ::-1]])
    files = [
        ("two.png", encode(two)),
        ("broken.jpg", encode(astronaut, "JPEG")[:5000]),
        ("nobody.png", encode(np.full((200, 300), 120, dtype=np.uint8))),
    ]
    at = upload(open_page("predict"), *files)
    assert not at.exception
    words = said(at)
    assert "2 faces, the biggest first" in words and "Face 2 looks " in words
    assert [e.value.replace("\\", "") for e in at.error] == [
        "'broken.jpg' is damaged or incomplete and cannot be read. Save it again as a JPEG, PNG, WebP, BMP, TIFF or GIF picture."
    ]
    assert "No face found." in words
    table = at.dataframe[0].value
    assert list(table["photo"]) == ["two.png", "two.png", "broken.jpg", "nobody.png"]
    assert table["problem"][3] == "no face found"
    columns = json.loads(at.dataframe[0].proto.columns)
    assert columns["problem"]["width"] >= 700, "a whole sentence"


def test_without_a_face_the_whole_picture_can_be_used(open_page, finished_run) -> None:
    at = upload(open_page("predict"), ("plain.png", encode(np.full((200, 300), 120, dtype=np.uint8))))
    assert charts(at) == 0
    toggle(at, "Use the whole picture as a face").set_value(True).run()
    assert not at.exception and charts(at) == 1
    assert "Judged whole, as one face, by the square in the middle: its ends are left out." in said(at)
    toggle(at, "Use the whole picture as a face").set_value(False).run()
    assert charts(at) == 0 and "No face found" in said(at)


def test_a_48_pixel_picture_goes_straight_in(open_page, finished_run, tiny) -> None:
    at = upload(open_page("predict"), ("crop.png", encode(tiny.images[150])))
    expected = Predictor("done").predict(tiny.images[150])[0]
    row = at.dataframe[0].value.iloc[0]
    assert [row[c] / 100 for c in CLASSES] == pytest.approx(expected.tolist(), abs=1e-5)


def turned(astronaut: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for viewing
    return encode(Image.fromarray(np.rot90(astronaut).copy()), "JPEG", exif=exif)


def test_a_photo_that_lies_on_its_side_is_turned_upright(open_page, finished_run, astronaut) -> None:
    at = upload(open_page("predict"), ("phone.jpg", turned(astronaut)))
    assert not at.exception and "1 face." in said(at)


def test_kinds_of_pictures_that_phones_and_scanners_make(open_page, finished_run, astronaut) -> None:
    image = Image.fromarray(astronaut)
    grey16 = np.asarray(image.convert("L")).astype(np.uint16) * 257
    files = [
        ("cmyk.jpg", encode(image.convert("CMYK"), "JPEG")),
        ("deep.png", encode(Image.fromarray(grey16))),
        ("moving.gif", encode(image, "GIF", save_all=True, append_images=[image.rotate(90)])),
        ("clear.webp", encode(image.convert("RGBA"), "WEBP")),
        ("old.bmp", encode(image, "BMP")),
        ("scan.tiff", encode(image, "TIFF")),
    ]
    at = upload(open_page("predict"), *files)
    assert not at.exception and not at.error
    assert list(at.dataframe[0].value["face"]) == [1] * 6


@pytest.mark.timeout(240)
def test_a_picture_of_64_megapixels_is_answered(open_page, finished_run) -> None:
    at = open_page("predict")
    at.default_timeout = 200
    upload(at, ("huge.png", encode(Image.new("RGB", (8000, 8000), "teal"), compress_level=1)))
    assert not at.exception and "8,000 x 8,000 pixels" in said(at)


def hostile(astronaut: np.ndarray) -> dict[str, bytes]:
    rng = random.Random(0)
    jpeg = encode(astronaut, "JPEG")
    return {
        "empty.png": b"",
        "text.jpg": b"hello",
        "paper.jpg": b"%PDF-1.7 hello",
        "archive.png": b"PK\x03\x04" + bytes(200),
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "noise.webp": rng.randbytes(4000),
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "head-only.png": encode(astronaut)[:60],
        "bomb.png": encode(Image.new("1", (30_000, 30_000))),
        "too-large.bmp": b"BM" + bytes(MAX_PHOTO_BYTES),
    }


def test_what_is_no_picture_gets_a_sentence_each(open_page, finished_run, astronaut) -> None:
    files = hostile(astronaut)
    at = upload(open_page("predict"), *files.items())
    assert not at.exception
    assert len(at.error) == 5, "five photos at a time; the table has all"
    for name, problem in zip(files, at.dataframe[0].value["problem"], strict=True):
        assert name in problem and problem.endswith(".") and "Traceback" not in problem


def test_a_file_name_is_never_markup_and_never_a_formula(open_page, finished_run, tiny) -> None:
    name = "=cmd|'x'![a](http://e):red[y].png"
    at = upload(open_page("predict"), (name, encode(tiny.images[0])))
    assert not at.exception
    title = at.subheader[0].value
    assert r"\[a\]\(" in title and ":red[" not in title
    assert at.dataframe[0].value["photo"][0] == "'" + name
    rows = result_rows([parts.answer([Predictor("done")], encode(tiny.images[0]), name).to_json()], CLASSES)
    table = pd.read_csv(io.BytesIO(as_csv(rows)))
    assert table["photo"][0] == "'" + name


def test_the_csv_holds_fractions_and_boxes(finished_run, astronaut) -> None:
    found = [
        parts.answer([Predictor("done")], encode(astronaut), "a.png"),
        parts.answer([Predictor("done")], b"no picture", "b.png"),
    ]
    table = pd.read_csv(io.BytesIO(as_csv(result_rows([a.to_json() for a in found], CLASSES))))
    first, second = table.iloc[0], table.iloc[1]
    assert first[list(CLASSES)].sum() == pytest.approx(1, abs=1e-5)
    assert (first["x"], first["box_width"]) == (found[0].faces[0].box[0], found[0].faces[0].box[2])
    assert "'b.png'" in second["problem"] and pd.isna(second["label"])


def test_more_photos_than_allowed_are_cut_with_a_word(open_page, finished_run, tiny, monkeypatch) -> None:
    monkeypatch.setattr(parts, "MAX_PHOTOS", 6)
    at = upload(open_page("predict"), *[(f"{i}.png", encode(tiny.images[i])) for i in range(8)])
    assert "You chose 8 photos; the first 6 are judged" in said(at)
    assert len(at.dataframe[0].value) == 6
    assert len(at.subheader) == 5 + 1, "five photos at a time, and the table"
    next(s for s in at.selectbox if s.label == "Photos shown").set_value(1).run()
    assert not at.exception and [s.value for s in at.subheader] == [r"5\.png", "All results"]


def test_a_zip_of_photos_is_unpacked_in_memory_and_a_bad_one_is_a_sentence(open_page, finished_run, tiny) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("x/one.png", encode(tiny.images[0])), ("two.png", b"broken"), ("read.me", b"no")):
            archive.writestr(name, content)
    at = upload(open_page("predict"), ("many.zip", buffer.getvalue()), ("bad.zip", b"PK\x03\x04"))
    assert not at.exception
    assert list(at.dataframe[0].value["photo"]) == ["one.png", "two.png", "bad.zip"]
    assert len(at.error) == 2 and charts(at) == 1
    assert len(at.session_state[parts._ZIPS]) == 2
    at.file_uploader[0].clear().run()
    assert not at.session_state[parts._ZIPS]


def test_an_ending_that_does_not_agree_with_the_content_is_a_sentence(open_page, finished_run, astronaut) -> None:
    at = upload(open_page("predict"), ("photo.png", encode(astronaut, "JPEG")))
    assert "ends in .png but holds a JPEG picture" in said(at) and charts(at) == 0


def test_a_photo_that_a_phone_made_is_told_of_before_and_gets_its_sentence(open_page, finished_run) -> None:
    at = open_page("predict")
    assert "A HEIC photo, as phones make them, cannot be read: save it as JPEG first." in said(at)
    assert not {".heic", ".heif", ".avif"} & set(at.file_uploader[0].proto.type)  # which would offer it
    at = upload(at, ("photo.jpg", b"\0\0\0\x18ftypheic"))
    sentence = (
        "'photo.jpg' is HEIC (or AVIF), which phones make and FER Lab cannot read: save it as JPEG and try again."
    )
    assert not at.exception and "Nothing uploaded yet" not in said(at)
    assert at.error[0].value.replace("\\", "") == sentence and at.dataframe[0].value["problem"][0] == sentence


def test_a_box_set_by_hand_is_judged(open_page, finished_run, tiny) -> None:
    photo = np.full((200, 300), 120, dtype=np.uint8)
    photo[50:98, 100:148] = tiny.images[150]
    at = upload(open_page("predict"), ("plain.png", encode(photo)))
    toggle(at, "Set the box by hand").set_value(True).run()
    for label, value in (("Side", 48), ("From the left", 100), ("From the top", 50)):
        next(s for s in at.slider if s.label.startswith(label)).set_value(value).run()
    assert not at.exception and charts(at) == 2, "the photo to draw on, and the bars"
    expected = Predictor("done").predict(tiny.images[150])[0]
    row = at.dataframe[0].value.iloc[0]
    assert [row[c] / 100 for c in CLASSES] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_box_set_by_hand_adds_a_face_or_takes_the_place_of_the_one_that_it_overlaps(
    open_page, finished_run, store, astronaut
) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    photo = np.full((512, 1300, 3), 90, np.uint8)
    photo[:, :512], photo[:300, 512:812] = astronaut, np.asarray(Image.fromarray(astronaut).resize((300, 300)))
    at = upload(open_page("predict", run="done"), ("two.png", encode(photo)))
    at.multiselect[0].set_value(["other"]).run()

    def boxes() -> list[tuple[int, ...]]:
        assert not at.exception
        (found,) = at.session_state[parts._ANSWERS].values()
        assert len(found.faces) == len(at.dataframe[0].value)
        return [face.box for face in found.faces]

    def put(side: int, left: int, top: int) -> list[tuple[int, ...]]:
        for label, value in (("Side", side), ("From the left", left), ("From the top", top)):
            next(s for s in at.slider if s.label.startswith(label)).set_value(value)
        at.run()
        return boxes()

    big, small = boxes()
    toggle(at, "Set the box by hand").set_value(True).run()
    side, left, top = (int(s.value) for s in at.slider)
    assert boxes() == [(left, top, side, side), small], "nothing is lost by setting a box"
    assert put(100, 1000, 350) == [(1000, 350, 100, 100), big, small], "a missed face is added"
    assert "3 faces, that of the box set by hand first" in said(at) and "In the box set by hand" in said(at)
    others = re.findall(r"other: (?::material/help: )?the face", said(at).replace("*", ""))
    assert len(others) == 3, "each network judges each of them"
    at.selectbox[0].set_value("other").run()
    assert boxes() == [(1000, 350, 100, 100), big, small], "another network"
    assert put(side, left + 9, top) == [(left + 9, top, side, side), small], "an off box is corrected"
    toggle(at, "Set the box by hand").set_value(False).run()
    assert boxes() == [big, small]


def lean(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).rotate(24, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)))


@pytest.mark.parametrize("change", [np.asarray, lean, lambda a: np.ascontiguousarray(a[:, 188:])])
def test_a_box_set_by_hand_begins_with_what_the_network_saw(open_page, finished_run, astronaut, change) -> None:
    """A face that stands upright, one that leans and is turned, and one that the photo's left edge cuts."""
    at = upload(open_page("predict"), ("a.png", encode(change(astronaut))))
    before = at.dataframe[0].value.iloc[0]
    toggle(at, "Set the box by hand").set_value(True).run()
    after = at.dataframe[0].value.iloc[0]
    assert not at.exception and [after[c] for c in CLASSES] == pytest.approx([before[c] for c in CLASSES], abs=1e-3)
    turned = "what is inside is turned by 20°"
    assert (turned in said(at)) == (change is lean)
    for slider in at.slider:
        slider.set_value(1)
    at.run()
    assert not at.exception and turned not in said(at), "the box is elsewhere now"


@pytest.mark.parametrize("size", [(200, 300), (20, 1200), (20_000, 50)])
def test_a_box_of_one_pixel_and_a_very_long_photo_are_no_defect(open_page, finished_run, size) -> None:
    at = upload(open_page("predict"), ("plain.png", encode(np.full(size, 120, dtype=np.uint8))))
    toggle(at, "Set the box by hand").set_value(True).run()
    next(s for s in at.slider if s.label.startswith("Side")).set_value(1).run()
    assert not at.exception and charts(at) == 2 and "All results" in said(at)


def test_what_was_set_for_a_photo_holds_while_others_are_shown(open_page, finished_run, monkeypatch) -> None:
    monkeypatch.setattr(parts, "_PHOTOS_A_PAGE", 1)
    at = upload(open_page("predict"), *[(f"{i}.png", encode(np.full((90, 120), 90 + i, np.uint8))) for i in range(2)])

    def show(page: int) -> None:
        next(s for s in at.selectbox if s.label == "Photos shown").set_value(page).run()
        at.run()
        assert not at.exception

    toggle(at, "Use the whole picture as a face").set_value(True).run()
    show(1)
    assert list(at.dataframe[-1].value["problem"].isna()) == [True, False], "the first photo has its face still"
    toggle(at, "Set the box by hand").set_value(True).run()
    next(s for s in at.slider if s.label.startswith("Side")).set_value(33).run()
    show(0)
    assert toggle(at, "Use the whole picture as a face").value
    assert "problem" not in at.dataframe[-1].value or at.dataframe[-1].value["problem"].isna().all()
    show(1)
    assert next(s for s in at.slider if s.label.startswith("Side")).value == 33
    toggle(at, "Set the box by hand").set_value(False).run()
    show(0)
    show(1)
    assert not toggle(at, "Set the box by hand").value and not at.slider


def test_after_a_stop_a_photo_that_was_looked_at_can_still_be_changed(open_page, finished_run, tiny) -> None:
    at = upload(open_page("predict"), *[(f"{i}.png", encode(np.full((90, 120), 90 + i, np.uint8))) for i in range(3)])
    at.session_state[parts._STOPPED] = True  # as if the stop had come before the last
    at.session_state[parts._ANSWERS] = dict(list(at.session_state[parts._ANSWERS].items())[:2])
    at.run()
    looked = ["0.png", "1.png"]
    toggle(at, "Use the whole picture as a face").set_value(True).run()
    assert f"Stopped: {len(looked)} of 3 photos were looked at." in said(at)
    assert [s.value.replace("\\", "") for s in at.subheader] == [*looked, "All results"]
    assert charts(at) == 1 and len(at.session_state[parts._ANSWERS]) == len(looked)
    next(b for b in at.button if b.label == "Go on").click().run()
    assert not at.exception and len(at.dataframe[-1].value) == 3 and "Stopped" not in said(at)


def test_a_stop_holds_for_another_network(open_page, finished_run, store, tiny) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    at = upload(open_page("predict", run="done"), *[(f"{i}.png", encode(tiny.images[i])) for i in range(2)])
    at.session_state[parts._STOPPED] = True
    at.selectbox[0].set_value("other").run()
    assert not at.exception and "Stopped: 0 of 2 photos were looked at." in said(at) and charts(at) == 0
    next(b for b in at.button if b.label == "Go on").click().run()
    assert charts(at) == 2 and {run[0].run.id for run, *_ in at.session_state[parts._ANSWERS]} == {"other"}


def test_a_drawn_box_is_the_square_around_its_middle_inside_the_photo() -> None:
    assert parts.drawn_square([100, 148], [50, 90], 300, 200) == (100, 46, 48)
    assert parts.drawn_square([148.4, 99.8], [98, 50], 300, 200) == (100, 50, 49), "drawn from any corner"
    assert parts.drawn_square([-20, 40], [-30, 10], 300, 200) == (0, 0, 60)
    assert parts.drawn_square([280, 320], [190, 230], 300, 200) == (260, 160, 40)
    assert parts.drawn_square([0, 300], [0, 200], 300, 200) == (50, 0, 200)
    assert parts.drawn_square([7, 7], [9, 9], 300, 200) == (6, 8, 1)


@pytest.mark.parametrize("size", [(50, 20_000), (3, 1200), (400, 300), (4000, 100), (20, 20), (100, 560)])
def test_a_photo_is_shown_in_its_place(size: tuple[int, int]) -> None:
    width = parts._view_width(parts.Answer("x", *size))
    assert 1 <= width <= 640 and width * size[1] / size[0] <= 560


def test_below_the_threshold_the_page_says_unsure(open_page, finished_run, tiny) -> None:
    path = finished_run.path / "report.json"
    path.write_text(re.sub(r'("least": )[^,]+', r"\g<1>1.01", path.read_text()))
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    words = said(at)
    assert not at.exception and "The face: unsure. Most like" in words.replace("*", "")
    assert "always unsure" in words.replace("*", "")
    assert at.dataframe[0].value["unsure"][0] == "unsure"


def test_the_price_of_being_sure_and_the_labels_precision_are_said(open_page, finished_run, tiny) -> None:
    words = said(upload(open_page("predict"), ("a.png", encode(tiny.images[0])))).replace("*", "")
    assert "It is unsure where an answer's chance of being right" in words and "of the faces got an answer" in words
    assert "it is right for" in words and "validation pictures of tiny" in words


def test_a_label_that_was_never_said_has_no_share_of_right_answers(open_page, finished_run, tiny) -> None:
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    report = content["reports"][finished_run.fingerprint]["val"]
    report["confusion_matrix"] = [[0] * len(CLASSES) for _ in CLASSES]
    path.write_text(json.dumps(content))
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    assert not at.exception and "is not known: it never said so on val." in said(at)
    assert set(at.table[0].value["right when it says so (precision)"]) == {"-"}
    report["per_class"] = {"happy": {}}
    path.write_text(json.dumps(content))
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    assert not at.exception and "it was not evaluated on val." in said(at)


def test_ten_views_without_an_evaluation_with_them_say_of_what_their_price_is(open_page, finished_run, tiny) -> None:
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    assert "one look at each" not in said(at)
    toggle(at, "Average over ten views").set_value(True).run()
    words = said(at)
    assert not at.exception and "it was not evaluated with ten views." in words
    assert "`python -m fer evaluate done --tta`" in words
    assert "validation pictures of tiny, with one look at each." in words


def test_how_often_it_is_right_is_said_of_the_views_that_are_asked(open_page, finished_run) -> None:
    at = open_page("predict")
    toggle(at, "Average over ten views").set_value(True).run()
    assert "in its best epoch, with one look at each." in said(at)
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    splits = content["reports"][finished_run.fingerprint]
    splits["val+tta"] = {**splits["val"], "tta": True, "top1": 0.1234}
    path.write_text(json.dumps(content))
    at.run()
    assert "Right for 12.3 % of the validation pictures of tiny, in its best epoch, with ten views." in said(at)
    toggle(at, "Average over ten views").set_value(False).run()
    assert not at.exception and "12.3 %" not in said(at) and "in its best epoch." in said(at)


def test_a_new_name_is_shown_at_once(open_page, finished_run, store, tiny) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    for name in ("First name", "Second name"):
        store.annotate("other", name=name)
        at = upload(open_page("predict", run="done"), ("a.png", encode(tiny.images[0])))
        at.multiselect[0].set_value(["other"]).run()
        assert f"{name}: the face looks" in said(at).replace("*", "")


def test_two_networks_judge_the_same_face_side_by_side(open_page, finished_run, store, tiny) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    at = upload(open_page("predict", run="done"), ("a.png", encode(tiny.images[0])))
    at.multiselect[0].set_value(["other"]).run()
    assert not at.exception and charts(at) == 2 and "other: the face looks" in said(at).replace("*", "")


def test_what_it_looked_at_and_the_closest_training_faces(open_page, finished_run, tiny) -> None:
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[150])))
    before = len(at.image)
    toggle(at, "What it looked at").set_value(True).run()
    assert not at.exception and len(at.image) == before + 3 and "Occlusion" in said(at)
    toggle(at, "The closest training faces").set_value(True).run()
    assert not at.exception and len(at.image) == before + 9


def test_looking_at_the_training_faces_is_announced_shows_how_far_it_is_and_can_be_stopped(
    open_page, finished_run, tiny, monkeypatch
) -> None:
    shown: list[str] = []
    real = DeltaGenerator.progress

    def progress(self, value, text=None, **options):
        if text and "training faces" in text:
            shown.append(text)
            if len(shown) == 3:
                raise StopException  # as Streamlit does when the visitor has switched it off or has left
        return real(self, value, text, **options)

    monkeypatch.setattr(explain, "_BATCH", 40)
    monkeypatch.setattr(DeltaGenerator, "progress", progress)
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[150])))
    before, train = len(at.image), len(tiny.indices("train"))
    near = toggle(at, "The closest training faces")
    assert "every face that it was trained on, about " in near.help and "can take minutes" in near.help
    near.set_value(True).run()
    said_so = f"Looking at all {train:,} training faces, once for this network"
    assert shown == [said_so, f"{said_so}: {4000 / train:.0f} %", f"{said_so}: {8000 / train:.0f} %"]
    assert len(at.image) == before
    at.run()
    assert shown[3:5] == [said_so, f"{said_so}: {min(100, 12000 / train):.0f} %"], "what is done is not done again"
    assert shown[-1] == f"{said_so}: 100 %"
    assert not at.exception and len(at.image) == before + 6
    count = len(shown)
    at.run()
    assert len(at.image) == before + 6 and len(shown) == count, "they are looked at once"


def test_many_photos_can_be_stopped_and_gone_on_with(open_page, finished_run, tiny) -> None:
    at = open_page("predict")
    at.session_state[parts._STOPPED] = True
    upload(at, *[(f"{i}.png", encode(tiny.images[i])) for i in range(3)])
    assert "Stopped: 0 of 3 photos" in said(at) and charts(at) == 0
    next(b for b in at.button if b.label == "Go on").click().run()
    assert not at.exception and charts(at) == 3 and "Stopped" not in said(at)


def test_another_run_judges_the_photos_that_are_there(open_page, finished_run, store, tiny) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    other = next(i for i in ("done", "other") if i != at.selectbox[0].value)
    at.selectbox[0].set_value(other).run()
    assert not at.exception and at.query_params["run"] == other
    assert len(at.dataframe[0].value) == 1


# --- examples


def test_one_click_shows_faces_of_the_runs_own_data(open_page, finished_run) -> None:
    at = open_page("predict")
    next(b for b in at.button if b.label == "Try it on example faces").click().run()
    assert not at.exception and charts(at) == len(CLASSES)
    words = said(at)
    assert "from the validation pictures of tiny" in words
    assert words.count("As labelled") + words.count("Labelled ") == len(CLASSES)


def test_without_its_data_set_the_examples_are_drawn_and_say_so(open_page, finished_run, tmp_path) -> None:
    (tmp_path / "data" / "tiny.npz").unlink()
    at = open_page("predict", **{"from": "Example faces"})
    assert not at.exception and charts(at) == len(CLASSES)
    assert "synthetic" in said(at) and "expect mistakes" in said(at)


def test_another_version_of_the_data_gives_no_examples_as_the_network_may_have_learned_from_them(
    open_page, finished_run, tiny
) -> None:
    save(replace(tiny, splits=1 - tiny.splits, fingerprint=""))  # what the network learned from is val now
    at = open_page("predict", **{"from": "Example faces"})
    assert not at.exception and charts(at) == len(CLASSES)
    words = said(at)
    assert "A picture of each class" not in words and "its data set tiny is another version here" in words
    toggle(at, "The closest training faces").set_value(True).run()
    assert "tiny is another version here than the one that it was trained on" in said(at)


def test_of_a_network_of_other_data_it_is_said_that_it_may_know_the_examples(open_page, finished_run, store) -> None:
    for name in ("same", "other"):
        shutil.copytree(finished_run.path, store.root / name)
    set_record(store.get("other"), fingerprint="another")
    at = open_page("predict", run="done", **{"from": "Example faces"})
    at.multiselect[0].set_value(["same", "other"]).run()
    assert not at.exception and "they may have learned from these pictures: other." in said(at)


def test_other_examples_are_other_faces(open_page, finished_run) -> None:
    at = open_page("predict", **{"from": "Example faces"})
    before = [url for image in at.image for url in image.value]
    next(b for b in at.button if b.label == "Show other faces").click().run()
    after = [url for image in at.image for url in image.value]
    assert len(before) == len(after) == len(CLASSES) and before != after


# --- privacy


def test_a_photo_is_seen_by_its_own_session_only_and_never_written(
    open_page, finished_run, astronaut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = lambda: {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}  # noqa: E731
    before = files()
    mine = upload(open_page("predict"), ("secret.png", encode(astronaut)))
    yours = open_page("predict")
    assert "secret.png" in said(mine) and "secret" not in said(yours) and not yours.dataframe
    assert len(mine.session_state[parts._ANSWERS]) == 1 and not yours.session_state[parts._ANSWERS]
    assert files() == before


def test_answers_are_forgotten_with_their_photo(open_page, finished_run, astronaut, tiny) -> None:
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])), ("b.png", encode(tiny.images[1])))
    assert len(at.session_state[parts._ANSWERS]) == 2
    upload(at, ("b.png", encode(tiny.images[1])))
    assert [a.name for a in at.session_state[parts._ANSWERS].values()] == ["b.png"]
    at.file_uploader[0].clear().run()
    assert not at.session_state[parts._ANSWERS]


def test_answers_are_not_worked_out_twice(open_page, finished_run, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = parts.answer
    monkeypatch.setattr(parts, "answer", lambda *a, **k: asked.append(a[2]) or real(*a, **k))
    at = upload(open_page("predict"), ("a.png", encode(tiny.images[0])))
    at.run()
    assert asked == ["a.png"]


def test_sessions_may_ask_one_network_at_once(finished_run, tiny, astronaut) -> None:
    predictor = Predictor("done")
    files = [encode(tiny.images[i]) for i in range(12)] + [encode(astronaut)] * 2
    alone = [parts.answer([predictor], content, "x") for content in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda content: parts.answer([predictor], content, "x"), files))
    for a, b in zip(alone, together, strict=True):
        assert [f.box for f in a.faces] == [f.box for f in b.faces]
        assert [f.probs for f in a.faces] == [pytest.approx(f.probs, abs=1e-6) for f in b.faces]
        assert a.view == b.view
