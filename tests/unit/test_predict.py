"""A trained network asked about pictures: plain uint8 in, probabilities out, and a sentence for what is no picture."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fer import predict
from fer.data.dataset import CLASSES
from fer.errors import CheckpointError, ImageError, RunError
from fer.evaluate import evaluate_run
from fer.faces import Face, crop_face
from fer.metrics import softmax
from fer.predict import FacePrediction, Predictor, default_run, picture_paths, predict_file
from fer.selective import AnswerRule


@pytest.fixture
def predictor(finished_run, store) -> Predictor:
    return Predictor("done", store)


def plain_photo(height: int = 80, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def test_probabilities_are_those_of_the_evaluation(predictor, tiny, finished_run):
    images, labels = tiny.subset("val")
    probs = predictor.predict(images)
    assert probs.shape == (70, 7)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probs.argmax(axis=1) == labels) == finished_run.report("val")["top1"]
    with np.load(finished_run.path / "logits-val.npz") as kept:
        logits, temperature = kept["logits"], finished_run.report("val")["calibration"]["temperature"]
    assert temperature != 1
    np.testing.assert_allclose(probs, softmax(logits, temperature), rtol=1e-4, atol=1e-6)


def test_ten_views_are_averaged_where_asked_for(finished_run, store, tiny):
    evaluate_run(store, "done", tta=True, device="cpu")
    probs = Predictor("done", store, tta=True).predict(tiny.subset("val")[0])
    with np.load(finished_run.path / "logits-val+tta.npz") as kept:
        logits, temperature = kept["logits"], store.get("done").report("val+tta")["calibration"]["temperature"]
    np.testing.assert_allclose(probs, softmax(logits, temperature), rtol=1e-4, atol=1e-6)


def test_one_crop_counts_as_a_batch_of_one(predictor, tiny):
    np.testing.assert_allclose(predictor.predict(tiny.images[3]), predictor.predict(tiny.images[3:4]), rtol=1e-5)
    assert predictor.classes == CLASSES


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 48, 48)), np.zeros((48, 40), np.uint8), np.zeros((1, 3, 48, 48), np.uint8)]
)
def test_an_array_of_another_kind_is_a_defect_of_the_caller(predictor, wrong):
    with pytest.raises(ValueError, match="expected"):
        predictor.predict(wrong)


def test_a_picture_of_48_by_48_is_taken_as_a_face(predictor, tiny):
    (face,) = predictor.predict_photo(tiny.images[0])
    assert face.box == (0, 0, 48, 48)
    assert np.array_equal(face.crop, tiny.images[0])
    assert list(face.probs) == list(CLASSES)


def test_a_photo_without_a_face_has_none_unless_taken_whole(predictor):
    assert predictor.predict_photo(plain_photo()) == []
    (face,) = predictor.predict_photo(plain_photo(), whole=True)
    assert face.box == (20, 0, 80, 80), "the square that the network saw"
    assert face.crop.shape == (48, 48)


def test_every_face_found_gets_its_own_answer_in_the_same_order(predictor, tiny, monkeypatch):
    photo = np.concatenate([tiny.images[0], tiny.images[1]], axis=1)  # (48, 96): two faces side by side
    boxes = [(48, 0, 48, 48), (0, 0, 48, 48)]
    monkeypatch.setattr(predict, "find_faces", lambda _photo: [Face(box, 9.0) for box in boxes])
    monkeypatch.setattr(predict, "crop_face", lambda image, box, margin, angle: image[:, box[0] : box[0] + 48])
    found = predictor.predict_photo(photo)
    assert [f.box for f in found] == boxes
    assert np.array_equal(found[0].crop, tiny.images[1])
    expected = predictor.predict(tiny.images[[1, 0]])
    np.testing.assert_allclose([list(f.probs.values()) for f in found], expected, rtol=1e-5)


def test_a_face_at_the_edge_is_cropped_as_found_and_its_box_is_shown_inside(predictor, monkeypatch):
    photo = np.tile(np.arange(120, dtype=np.uint8), (80, 1))
    monkeypatch.setattr(predict, "find_faces", lambda _photo: [Face((-10, 20, 48, 48), 9.0)])
    (face,) = predictor.predict_photo(photo)
    assert face.box == (0, 20, 38, 48)
    assert np.array_equal(face.crop, crop_face(photo, (-10, 20, 48, 48)))


def test_a_prediction_names_its_most_probable_class():
    face = FacePrediction((1, 2, 3, 4), np.zeros((48, 48), np.uint8), {"a": 0.2, "b": 0.7, "c": 0.1})
    assert (face.label, face.confidence) == ("b", 0.7)
    assert face.to_json() == {
        "box": [1, 2, 3, 4],
        "label": "b",
        "confidence": 0.7,
        "unsure": False,
        "probs": {"a": 0.2, "b": 0.7, "c": 0.1},
    }


def test_a_real_photo_has_one_face_and_json_numbers(predictor, tmp_path):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    entry = json.loads(json.dumps(predict_file(predictor, str(tmp_path / "a.png"))))
    assert (entry["image"], entry["width"], entry["height"]) == (str(tmp_path / "a.png"), 512, 512)
    (face,) = entry["faces"]
    assert set(face) == {"box", "label", "confidence", "unsure", "probs"}
    assert sum(face["probs"].values()) == pytest.approx(1, abs=1e-5)
    x, y, w, h = face["box"]
    assert 150 < x + w / 2 < 300
    assert 50 < y + h / 2 < 200


def test_a_file_that_is_no_picture_is_an_entry_with_a_sentence(predictor, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("a.txt", "empty.png", "gone.png", ""):
        path = str(tmp_path / name)  # the last is a folder
        entry = predict_file(predictor, path)
        assert set(entry) == {"image", "error"}
        assert entry["image"] == path
        assert entry["error"].endswith(".")
        assert "\n" not in entry["error"]


def test_a_box_set_by_hand_is_taken_as_it_is(predictor, tiny):
    photo = plain_photo()
    photo[20:68, 30:78] = tiny.images[0][..., None]
    (face,) = predictor.predict_photo(photo, box=(30, 20, 48, 48))
    assert face.box == (30, 20, 48, 48) and np.array_equal(face.crop, tiny.images[0])
    (turned,) = predictor.predict_photo(photo, box=(30, 20, 48, 48), angle=20.0)
    assert np.array_equal(turned.crop, crop_face(photo, (30, 20, 48, 48), margin=0.0, angle=20.0))
    assert (turned.square, turned.angle) == ((30, 20, 48, 48), 20.0)
    with pytest.raises(ValueError, match="no pixel"):
        predictor.predict_photo(photo, box=(500, 20, 48, 48))


def test_the_square_of_a_found_face_gives_the_same_crop_by_hand(predictor, monkeypatch):
    photo = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    monkeypatch.setattr(predict, "find_faces", lambda _photo: [Face((-10, 20, 50, 49), 9.0, -20.0)])
    (found,) = predictor.predict_photo(photo)
    (again,) = predictor.predict_photo(photo, box=found.square, angle=found.angle)
    assert np.array_equal(again.crop, found.crop) and again.square == found.square == (-11, 18, 52, 52)


def test_below_the_threshold_an_answer_is_unsure(predictor, tiny):
    confident = [f.confidence for image in tiny.images[:20] for f in predictor.predict_photo(image)]
    for least, expected in ((0.0, False), (1.01, True)):
        predictor.rule = AnswerRule(0.0, 1.0, (0.0,) * 7, least, 0.8, 0.8, 0.5, 70)
        assert [predictor.predict_photo(image)[0].unsure for image in tiny.images[:20]] == [expected] * 20
    predictor.rule = None
    assert not predictor.predict_photo(tiny.images[0])[0].unsure and max(confident) <= 1


def test_precision_is_that_of_the_report(predictor, finished_run):
    for label, row in finished_run.report("val")["per_class"].items():
        assert predictor.precision(label) == row["precision"]
    assert predictor.precision("contempt") is None


def test_the_precision_of_a_label_that_was_never_said_is_not_known(predictor, finished_run):
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    report = content["reports"][finished_run.fingerprint]["val"]
    for row in report["confusion_matrix"]:
        row[2] = 0
    report["per_class"][CLASSES[2]]["precision"] = 0.0
    path.write_text(json.dumps(content))
    assert predictor.report and predictor.precision(CLASSES[2]) is None
    assert predictor.precision(CLASSES[3]) == report["per_class"][CLASSES[3]]["precision"]


@pytest.mark.parametrize("per_class", [None, [1], {"happy": {"prec": 1}}, {"happy": {"precision": "high"}}])
def test_a_damaged_report_has_no_precision(predictor, finished_run, per_class):
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    content["reports"][finished_run.fingerprint]["val"]["per_class"] = per_class
    path.write_text(json.dumps(content))
    assert predictor.report is None and predictor.precision("happy") is None


def test_a_rule_of_one_look_is_told_from_one_of_ten_views(finished_run, store):
    assert Predictor("done", store).rule_fits
    lent = Predictor("done", store, tta=True)
    assert lent.rule and not lent.rule_fits and not lent.report["tta"]
    evaluate_run(store, "done", tta=True, device="cpu")
    own = Predictor("done", store, tta=True)
    assert own.rule_fits and own.report["tta"]


def test_folders_and_patterns_are_the_pictures_in_them(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "[x].png", "._a.JPG", "c.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    inside = [str(tmp_path / n) for n in ("[x].png", "a.JPG", "b.png", "c.heic")]
    assert picture_paths([str(tmp_path)]) == inside, "one that cannot be read is not passed over, macOS's own files are"
    assert picture_paths([str(tmp_path / "._a.JPG")]) == [str(tmp_path / "._a.JPG")], "named, it is meant"
    assert picture_paths([str(tmp_path / "*.png"), str(tmp_path / "b.png")]) == [inside[0], inside[2]]
    assert picture_paths([inside[0], "gone.png"]) == [inside[0], "gone.png"], "a file's own name is no pattern"
    for nothing in (str(tmp_path / "deep"), str(tmp_path / "*.webp")):
        with pytest.raises(ImageError, match="holds no picture|No file matches"):
            picture_paths([nothing])


def test_a_folder_that_cannot_be_read_is_a_sentence(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(ImageError, match=rf"^'{tmp_path}' cannot be read: Permission denied\.$"):
        picture_paths([str(tmp_path)])


def test_a_shipped_run_without_weights_does_not_promise_any(store, finished_run):
    (finished_run.path / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match="The run saves them after its first epoch"):
        Predictor("done", store)
    (store.root / "shipped.json").write_text('["done"]')
    with pytest.raises(CheckpointError, match=r"'done' came with the project, without its weights.*--recipe baseline"):
        Predictor("done", store)


def test_runs_that_cannot_be_asked_say_why(store, make_run, finished_run):
    with pytest.raises(RunError, match="no run 'gone'"):
        Predictor("gone", store)
    assert not make_run("new").has_weights
    with pytest.raises(CheckpointError, match="no weights at new/"):
        Predictor("new", store)
    assert finished_run.has_weights


def test_the_default_run_is_the_best_on_photographs(store, finished_run):
    def copy(run_id: str, *, synthetic: bool, top1: float) -> None:
        folder = store.root / run_id
        shutil.copytree(finished_run.path, folder)
        record = json.loads((folder / "config.json").read_text())
        record["data"]["synthetic"] = synthetic
        (folder / "config.json").write_text(json.dumps(record))
        (folder / "metrics.jsonl").write_text(json.dumps({**finished_run.metrics[0], "val_top1": top1}) + "\n")

    copy("drawn", synthetic=True, top1=0.99)
    copy("better", synthetic=False, top1=0.5)
    copy("worse", synthetic=False, top1=0.3)
    store.delete("done")
    assert default_run(store) == "better"
    store.annotate("better", archived=True)
    assert default_run(store) == "worse"
    store.annotate("worse", archived=True)
    assert default_run(store) == "drawn"


def test_with_no_run_to_ask_it_says_how_to_get_one(store, make_run):
    make_run("new")
    with pytest.raises(RunError, match=r"No run has weights yet.*python -m fer train"):
        default_run(store)
