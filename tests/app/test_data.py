"""Data: the sample faces, a prepared set, importing good and bad files."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from fer.data import dataset
from fer.data.dataset import CLASSES, Dataset
from fer.data.read import import_path
from fer.errors import FerError
from fer.ui import augmented


def small(name: str, n: int = 70) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name,
        rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        np.arange(n) % 7,
        (np.arange(n) >= n // 2).astype(np.uint8),
        np.array([f"{i}" for i in range(n)]),
        meta={"spec": {"dimensions": {"48 x 48": n}}, "split_note": "No separate test split here."},
    )


@pytest.fixture
def page(open_page) -> AppTest:
    dataset.save(small("faces"))
    return open_page("data")


def zipped(folder: Path) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "test"):
            for i, name in enumerate(CLASSES):
                picture = io.BytesIO()
                Image.fromarray(np.full((48, 48), 20 * i, np.uint8)).save(picture, "PNG")
                archive.writestr(f"{split}/{name}/{i}.png", picture.getvalue())
    return path


def test_shows_counts_and_the_note_on_splits(page: AppTest) -> None:
    assert not page.exception
    assert [m.value for m in page.metric] == ["70", "35", "35"]
    assert any("No separate test split" in c.value for c in page.caption)


def test_sample_faces_are_called_synthetic(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = small("sample")
    drawn.meta["synthetic"] = True
    dataset.save(drawn)
    page.selectbox[0].select("sample").run()
    assert not page.exception
    assert "Synthetic faces" in page.info[0].value


def test_import_by_path_prepares_and_shows_it(page: AppTest, tmp_path: Path) -> None:
    page.text_input[0].set_value(str(zipped(tmp_path)))
    page.text_input[1].set_value("mine")
    page.button[-1].click().run()
    assert not page.exception
    assert "mine" in dataset.prepared()
    assert any("'mine' is prepared" in s.value for s in page.success)
    assert page.selectbox[0].value == "mine"


def test_pictures_that_the_import_ignored_are_named_then_and_later(page: AppTest, tmp_path: Path) -> None:
    path = zipped(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cover.png", b"x")
        archive.writestr("train/stray.png", b"x")
    page.text_input[0].set_value(str(path))
    page.text_input[1].set_value("mine")
    next(c for c in page.checkbox if c.label.startswith("Skip")).set_value(True)
    page.button[-1].click().run()
    said = "1 file ignored, 1 picture outside of the splits, e.g. cover.png."
    assert any(said in s.value.replace("\\", "") for s in page.success)
    assert any(said == m.value.replace("\\", "") for m in page.markdown)
    assert any(e.label == "1 left out: not readable, or in no class folder" for e in page.expander)


@pytest.mark.parametrize(
    ("path", "name", "says"),
    [
        ("", "mine", "There is nothing to import"),
        ("/no/such/file.zip", "mine", "file.zip"),
        ("SET", "Bad Name", "cannot name a data set"),
        ("SET", "sample", "belongs to the built-in faces"),
        ("SET", "faces", "There is a data set 'faces' already"),
    ],
)
def test_what_cannot_be_imported_is_said_and_nothing_changes(
    page: AppTest, tmp_path: Path, path: str, name: str, says: str
) -> None:
    before = dataset.load("faces").fingerprint
    page.text_input[0].set_value(str(zipped(tmp_path)) if path == "SET" else path)
    page.text_input[1].set_value(name)
    page.button[-1].click().run()
    assert not page.exception
    assert says in page.error[0].value.replace("\\", "")
    assert dataset.prepared() == ["faces"]
    assert dataset.load("faces").fingerprint == before


def test_the_specification_says_how_many_values_it_leaves_out(open_page) -> None:
    data = small("faces")
    data.meta["spec"] = {"dimensions": {f"{i} x 48": 10 + i for i in range(20)}, "format": {"PNG": 70}}
    dataset.save(data)
    page = open_page("data")
    rows = next(d.value for d in page.dataframe if "property" in d.value.columns)
    sizes = rows[rows.property.str.startswith("Dim")]
    assert sizes.value.iloc[-1] == "12 others" and len(sizes) == 9
    assert sizes.pictures.sum() == sum(data.meta["spec"]["dimensions"].values())
    assert not rows[rows.property == "File format"].value.str.contains("other").any()


@pytest.mark.parametrize("replace", [False, True])
def test_what_another_tab_saved_meanwhile_is_replaced_only_with_the_tick(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    def slow(*args, **kwargs) -> Dataset:
        dataset.save(small("race"))
        return import_path(*args, **kwargs)

    monkeypatch.setattr("fer.ui.data.import_path", slow)
    page.text_input[0].set_value(str(zipped(tmp_path)))
    page.text_input[1].set_value("race")
    next(c for c in page.checkbox if c.label.startswith("Replace")).set_value(replace)
    page.button[-1].click().run()
    assert len(dataset.load("race")) == (14 if replace else 70)
    assert replace or "There is another data set 'race' already" in page.error[0].value.replace("\\", "")


def test_import_by_upload(page: AppTest, tmp_path: Path) -> None:
    at = page
    next(c for c in at.segmented_control if c.label == "From").set_value("Upload").run()
    at.file_uploader[0].set_value(("set.zip", zipped(tmp_path).read_bytes(), "application/zip"))
    at.text_input[0].set_value("sent")
    at.button[-1].click().run()
    assert not at.exception
    assert "sent" in dataset.prepared()
    assert dataset.load("sent").meta["origin"] == "set.zip"


def test_augmentation_shows_pictures_before_and_after_by_recipe(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(*arguments: str) -> dict:
        asked.append(arguments)
        return {"png": base64.b64encode(encoded(np.zeros((4, 4), np.uint8))).decode()}

    monkeypatch.setattr(augmented, "core_json_soon", answer)
    page.run()
    assert not page.exception
    assert "augment.mixup=0.0" in asked[-1]
    assert "faces" in asked[-1]
    page.selectbox[1].select("mixup").run()
    assert "augment.mixup=0.2" in asked[-1]
    assert len(page.get("image")) == len(CLASSES) + 1  # the Pictures tab has a row for each class
    assert any("First row: one training picture of each class" in c.value for c in page.caption)


def test_augmentation_says_what_went_wrong_and_when_it_is_still_drawn(page: AppTest, monkeypatch) -> None:
    def fails(*_: str) -> None:
        raise FerError("This machine took more than 120 s.")

    monkeypatch.setattr(augmented, "core_json_soon", fails)
    page.run()
    assert any("more than 120 s" in w.value for w in page.warning)
    monkeypatch.setattr(augmented, "core_json_soon", lambda *_: None)
    page.run()
    assert any("Drawing the pictures" in c.value for c in page.caption)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
