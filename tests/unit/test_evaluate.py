"""Reports: of the best weights, kept by data and split, and never over a shipped one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from fer.card import model_card
from fer.checkpoint import halve, load_checkpoint
from fer.cli import main
from fer.data import dataset
from fer.data.dataset import picture_hashes
from fer.ensembles import create_ensemble
from fer.errors import CheckpointError, ConfigError, DataError, RunError
from fer.evaluate import Scorer, _batch, compute_logits, evaluate_run
from fer.files import write_json_atomic
from fer.metrics import calibration, softmax
from fer.models import build_model
from fer.models.inputs import Preprocess
from fer.models.transfer import Transfer
from fer.runs import known_note, temperature_note
from fer.train import fit
from fer.views import views
from tests.conftest import draw_blobs

KEYS = {
    "run", "dataset", "fingerprint", "split", "tta", "epoch", "n", "loss", "top1", "macro_f1", "per_class",
    "confusion_matrix", "classes", "calibration", "selective", "duplicates",
}  # fmt: skip


def save_as(name: str, **changes) -> dataset.Dataset:
    """Another data set of the same kind under a name of its own."""
    data = dataclasses.replace(draw_blobs(seed=9), name=name, fingerprint="", **changes)
    dataset.save(data)
    return data


def test_logits_do_not_depend_on_the_batch_or_on_the_mode_it_finds():
    torch.manual_seed(0)
    from fer.config import ModelConfig

    model = build_model(ModelConfig(), 7).train()
    images = torch.from_numpy(draw_blobs().images[:20])
    preprocess = Preprocess.for_channels("rgb")
    logits = compute_logits(model, preprocess, images)
    assert (logits.shape, logits.dtype) == ((20, 7), np.float32)
    assert not model.training
    np.testing.assert_allclose(compute_logits(model, preprocess, images[3:5]), logits[3:5], rtol=1e-4, atol=1e-5)


class Greedy(nn.Module):
    """A network with room for so many pictures at a time, which notes how many it was asked about."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error, self.asked = room, error, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        if len(images) > self.room:
            raise self.error
        return images.mean(dim=3)[:, 0, :7]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "mps", "cpu"],
)
def test_where_memory_runs_out_fewer_pictures_at_a_time_give_the_same(error):
    images, preprocess = torch.from_numpy(draw_blobs().images[:70]), Preprocess.for_channels("grey")
    greedy = Greedy(20, error)
    logits = compute_logits(greedy, preprocess, images)
    assert greedy.asked == [70, 35, 17, 17, 17, 17, 2]
    assert np.array_equal(logits, compute_logits(Greedy(70, error), preprocess, images))
    hopeless = Greedy(0, error)
    with pytest.raises(type(error)):
        compute_logits(hopeless, preprocess, images)
    assert hopeless.asked == [70, 35, 17, 8, 4, 2, 1]


def test_another_error_of_a_network_is_not_tried_again():
    broken = Greedy(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        compute_logits(broken, Preprocess.for_channels("grey"), torch.zeros(8, 48, 48, dtype=torch.uint8))
    assert broken.asked == [8]


@pytest.mark.parametrize(("side", "at_a_time"), [(48, 2048), (96, 512), (224, 94), (384, 32)])
def test_on_a_gpu_the_more_pictures_are_enlarged_the_fewer_at_a_time(side, at_a_time):
    enlarging = Transfer(nn.Identity(), (), side, 3, 0.0, 7)
    assert (_batch(enlarging, "cuda"), _batch(enlarging, "cpu")) == (at_a_time, 128)
    assert (_batch(nn.Flatten(), "cuda"), _batch(nn.Flatten(), "mps")) == (2048, 512)


def test_evaluating_again_agrees_with_the_training_to_the_last_digit(finished_run, store, tiny):
    at_the_end = finished_run.report("val")
    again = evaluate_run(store, "done", device="cpu")
    assert again == at_the_end
    assert set(again) == KEYS
    assert again["n"] == 70
    assert again["fingerprint"] == tiny.fingerprint
    json.dumps(again, allow_nan=False)


def test_another_split_is_kept_beside_the_first(finished_run, store):
    evaluate_run(store, "done", split="train")
    reports = store.get("done").reports[finished_run.fingerprint]
    assert {split: report["n"] for split, report in reports.items()} == {"val": 70, "train": 140}
    with np.load(finished_run.path / "logits-train.npz") as kept:
        assert kept["logits"].shape == (140, 7)


def test_another_data_set_is_kept_by_its_fingerprint_and_leaves_the_logits_alone(finished_run, store):
    other = save_as("other")
    before = (finished_run.path / "logits-val.npz").read_bytes()
    report = evaluate_run(store, "done", "other")
    assert (report["dataset"], report["fingerprint"]) == ("other", other.fingerprint)
    run = store.get("done")
    assert run.report("val", other.fingerprint) == report
    assert run.report("val") == finished_run.report("val")
    assert (finished_run.path / "logits-val.npz").read_bytes() == before


def test_kept_logits_give_the_report_and_name_their_pictures(finished_run, tiny):
    with np.load(finished_run.path / "logits-val.npz") as kept:
        logits, labels, hashes = kept["logits"], kept["labels"], kept["hashes"]
    images, true = tiny.subset("val")
    assert np.array_equal(labels, true)
    assert np.mean(logits.argmax(1) == labels) == finished_run.report("val")["top1"]
    assert np.array_equal(hashes, picture_hashes(images))
    assert len(set(hashes.tolist())) == 70
    assert picture_hashes(images[5:6])[0] == hashes[5]


def test_data_with_other_classes_is_refused(finished_run, store):
    save_as("other", classes=tuple("abcdefg"))
    with pytest.raises(DataError, match=r"'done' knows the classes angry.*'other' has a, b"):
        evaluate_run(store, "done", "other")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"dataset": "nope"}, DataError, "no prepared data set 'nope'"),
        ({"dataset": "../x"}, DataError, "cannot name a data set"),
        ({"split": "test"}, DataError, "no pictures in its split 'test'"),
        ({"split": "all"}, DataError, "no split 'all'. Allowed: train, val, test"),
        ({"device": "tpu"}, ConfigError, "runtime.device cannot be 'tpu'. Allowed: one of auto, cpu, cuda, mps"),
    ],
)
def test_what_cannot_be_evaluated_is_said(finished_run, store, options, error, said):
    with pytest.raises(error) as caught:
        evaluate_run(store, "done", **options)
    assert said in str(caught.value)


def test_a_run_that_is_missing_broken_or_has_no_weights_is_said(finished_run, store, make_run):
    with pytest.raises(RunError, match="no run 'gone'"):
        evaluate_run(store, "gone")
    make_run("new")
    with pytest.raises(CheckpointError, match=r"no weights at new/best\.safetensors"):
        evaluate_run(store, "new")
    (finished_run.path / "config.json").write_text("")
    with pytest.raises(RunError, match="cannot be read"):
        evaluate_run(store, "done")


def test_shipped_files_stay_as_they_are(finished_run, store):
    write_json_atomic(store.root / "shipped.json", ["done"])
    (finished_run.path / "report.json").write_text(
        json.dumps({"schema": 1, "reports": {finished_run.fingerprint: {"val": {"top1": 0.123}}}})
    )
    (finished_run.path / "logits-val.npz").write_bytes(b"as shipped")
    before = {p.name: p.read_bytes() for p in finished_run.path.iterdir()}
    report = evaluate_run(store, "done")
    assert report["top1"] != 0.123
    assert {p.name: p.read_bytes() for p in finished_run.path.iterdir() if p.name in before} == before
    assert store.get("done").report("val") == {"top1": 0.123}
    evaluate_run(store, "done", split="train")
    assert store.get("done").report("train")["n"] == 140
    assert (finished_run.path / "report.json").read_bytes() == before["report.json"]


def test_a_read_only_store_still_gives_the_answer(finished_run, store, read_only):
    read_only(store.root)
    report = evaluate_run(store, "done", split="train")
    assert report["saved"] is False
    assert report["n"] == 140


def test_a_run_with_val_fraction_is_scored_on_its_own_held_out_part(store, make_run, tiny):
    make_run("a", data__val_fraction=0.2, train__epochs=1)
    at_the_end = fit(store, "a").report("val")
    assert evaluate_run(store, "a", device="cpu") == at_the_end
    assert at_the_end["n"] == 28
    held_out = tiny.with_val_fraction(0.2).subset("val")[0]
    with np.load(store.root / "a" / "logits-val.npz") as kept:
        assert np.array_equal(kept["hashes"], picture_hashes(held_out))


def test_a_note_on_the_splits_comes_with_the_figures(finished_run, store):
    save_as("two", meta={"split_note": "val is the only held-out split"})
    assert evaluate_run(store, "done", "two")["split_note"] == "val is the only held-out split"


def test_the_report_is_of_the_best_weights_not_of_the_last(finished_run, store):
    (finished_run.path / "last.safetensors").unlink()
    epoch = load_checkpoint(finished_run.path / "best.safetensors").epoch
    assert evaluate_run(store, "done")["epoch"] == epoch == finished_run.best["epoch"]


def test_views_are_averaged_and_kept_beside_the_plain_report(finished_run, store, tiny):
    plain = finished_run.report("val")
    report = evaluate_run(store, "done", tta=True, device="cpu")
    run = store.get("done")
    assert (report["tta"], plain["tta"]) == (True, False)
    assert run.report("val") == plain
    assert run.report("val+tta") == report
    images = torch.from_numpy(tiny.subset("val")[0])
    checkpoint = load_checkpoint(run.path / "best.safetensors")
    seen = [softmax(compute_logits(checkpoint.model, checkpoint.preprocess, v)) for v in views(images)]
    with np.load(run.path / "logits-val+tta.npz") as kept:
        np.testing.assert_allclose(softmax(kept["logits"]), np.mean(seen, axis=0), atol=1e-5)


def test_the_temperature_is_fitted_on_val_and_used_for_other_splits(finished_run, store, tiny):
    report = finished_run.report("val")
    with np.load(finished_run.path / "logits-val.npz") as kept:
        assert report["calibration"] == calibration(kept["logits"], kept["labels"])
    on_train = evaluate_run(store, "done", split="train")
    assert on_train["calibration"]["temperature"] == report["calibration"]["temperature"]
    assert not on_train["calibration"]["cross_fitted"]
    assert store.get("done").temperature() == report["calibration"]["temperature"]
    assert store.get("done").temperature(tta=True) == report["calibration"]["temperature"]  # until views have their own
    assert "duplicates" not in on_train


@pytest.mark.parametrize(
    ("data", "split", "keeps"), [("doubtful", "test", True), ("other", "val", True), ("other", "train", False)]
)
def test_the_order_of_evaluations_changes_no_figure(doubtful, store, monkeypatch, data, split, keeps):
    save_as("other")
    plain = doubtful("a")
    if not keeps:
        monkeypatch.setenv("FER_READ_ONLY", "1")
    first = evaluate_run(store, "a", data, split, tta=True, device="cpu")
    assert first.pop("saved", True) == keeps
    monkeypatch.delenv("FER_READ_ONLY", raising=False)
    on_val = evaluate_run(store, "a", tta=True, device="cpu")
    again = evaluate_run(store, "a", data, split, tta=True, device="cpu")
    assert again == first and "unfitted" not in first["calibration"]
    assert first["calibration"]["temperature"] == on_val["calibration"]["temperature"]
    assert on_val["calibration"]["temperature"] not in (1.0, plain.temperature())


def test_a_run_that_was_never_evaluated_is_first_on_its_own_val(finished_run, store):
    (finished_run.path / "report.json").unlink()
    report = evaluate_run(store, "done", split="train", device="cpu")
    fitted = store.get("done").fitted_temperature()
    assert fitted is not None and report["calibration"]["temperature"] == fitted


def test_without_its_own_data_the_report_says_which_temperature_was_used(finished_run, store, tmp_path, capsys):
    save_as("other")
    (tmp_path / "data" / "tiny.npz").unlink()
    assert "unfitted" not in evaluate_run(store, "done", "other", device="cpu")["calibration"]
    assert main(["evaluate", "done", "--dataset", "other", "--tta", "--device", "cpu"]) == 0
    said = "No temperature was fitted with ten views for done, whose own data set is not prepared on this machine. That of one look"
    assert said in capsys.readouterr().out
    kept = store.get("done").report("val+tta", dataset.load("other").fingerprint)
    assert kept["calibration"]["temperature"] == finished_run.temperature() and temperature_note(kept).startswith(said)
    (finished_run.path / "report.json").unlink()
    plain = evaluate_run(store, "done", "other", device="cpu")
    assert plain["calibration"]["temperature"] == 1 and "None was used" in temperature_note(plain)


def test_a_run_without_a_usable_temperature_has_1(finished_run, store):
    assert evaluate_run(store, "done", "tiny")["calibration"]["temperature"] != 1
    for odd in ({}, {"calibration": None}, {"calibration": {"temperature": "2"}}, {"calibration": {"temperature": -1}}):
        content = {"schema": 1, "reports": {finished_run.fingerprint: {"val": odd}}}
        write_json_atomic(finished_run.path / "report.json", content)
        assert store.get("done").temperature() == 1.0


def test_pictures_of_val_that_stand_in_train_are_counted_and_left_out(finished_run, store, tiny):
    images = tiny.images.copy()
    images[140:150] = images[:10]  # val's first ten
    dataset.save(dataclasses.replace(tiny, images=images, name="twice", fingerprint=""))
    report = evaluate_run(store, "done", "twice")
    assert report["duplicates"]["in_train"] == 10
    scorer = Scorer.load(finished_run)
    right = scorer.logits(torch.from_numpy(images[150:])).argmax(1) == tiny.labels[150:]
    assert report["duplicates"]["top1_without"] == pytest.approx(right.mean())
    assert finished_run.report("val")["duplicates"]["in_train"] == 0


def save_with_known(tiny, name: str, n: int = 10) -> dataset.Dataset:
    """Other data whose val, and train, begin with this many of the pictures that 'tiny' has in train."""
    data = draw_blobs(seed=9)
    images = data.images.copy()
    images[:n] = images[140 : 140 + n] = tiny.images[:n]
    data = dataclasses.replace(data, name=name, images=images, fingerprint="")
    dataset.save(data)
    return data


def test_on_other_data_what_counts_as_known_is_what_the_run_learned_from(finished_run, store, tiny, tmp_path, capsys):
    data = save_with_known(tiny, "mixed")
    images = data.images.copy()
    images[140:150] = data.images[20:30]  # twice in those data, and unknown to the run
    dataset.save(dataclasses.replace(data, name="inside", images=images, fingerprint=""))
    assert evaluate_run(store, "done", "inside")["duplicates"] == {
        "in_train": 0,
        "top1_without": store.get("done").report("val", dataset.load("inside").fingerprint)["top1"],
        "of": ["tiny"],
    }
    report = evaluate_run(store, "done", "mixed", device="cpu")
    right = Scorer.load(finished_run).logits(torch.from_numpy(data.images[150:])).argmax(1) == data.labels[150:]
    assert report["duplicates"] == {"in_train": 10, "top1_without": pytest.approx(right.mean()), "of": ["tiny"]}
    assert evaluate_run(store, "done", "mixed", "train")["duplicates"]["in_train"] == 10
    assert "duplicates" not in evaluate_run(store, "done", split="train")
    assert main(["evaluate", "done", "--dataset", "mixed", "--device", "cpu"]) == 0
    said = f"10 of these pictures are among those that it learned from, the training pictures of tiny; top-1 without them is {right.mean():.2%}"
    assert said in capsys.readouterr().out
    dataset.save(dataclasses.replace(draw_blobs(seed=4), name="tiny"))  # other pictures under its name
    report = evaluate_run(store, "done", "mixed")
    assert report["duplicates"] == {"uncounted": ["tiny"]}
    said = "How many of these pictures it learned from is not known: tiny is not prepared on this machine as then."
    assert known_note(report, finished_run, str) == said


def test_a_held_out_share_counts_as_it_was(make_run, store, tiny):
    save_with_known(tiny, "mixed", 70)
    make_run("a", data__val_fraction=0.2, train__epochs=1)
    fit(store, "a")
    held = picture_hashes(tiny.with_val_fraction(0.2).subset("val")[0])
    among = int((~np.isin(picture_hashes(tiny.images[:70]), held)).sum())
    report = evaluate_run(store, "a", "mixed")
    assert 0 < report["duplicates"]["in_train"] == among < 70


def test_what_a_run_began_from_and_what_members_learned_from_count_too(finished_run, store, make_run, tiny):
    save_with_known(tiny, "mixed")
    for seed in (1, 2):
        make_run(f"on{seed}", model__from_run="done", data__name="mixed", train__epochs=1, seed=seed)
        run = fit(store, f"on{seed}")
    known = {"in_train": 10, "of": ["mixed", "tiny"]}  # of its own train those ten, and of what it began from
    assert {key: run.report("val")["duplicates"][key] for key in known} == known
    assert "10 of the 70 pictures of val are among those that it learned from" in model_card(run)
    both = create_ensemble(store, ["on1", "on2"], "both", device="cpu")
    assert {key: both.report("val")["duplicates"][key] for key in known} == known
    assert evaluate_run(store, "both", "tiny", "train")["duplicates"] == {
        **known,
        "in_train": 140,
        "top1_without": None,
    }
    report = evaluate_run(store, "both", "tiny", "train")
    assert known_note(report, both, str).startswith("All of these pictures are among those that it learned from")
    store.delete("done")
    (dataset.data_root() / "tiny.npz").unlink()
    found = evaluate_run(store, "on1")["duplicates"]
    assert (found["in_train"], found["uncounted"], "of" in found) == (10, ["tiny"], False)
    assert "train too; top-1 without them is 5" in known_note({"duplicates": {**found, "top1_without": 5}}, run, str)
    assert known_note({"duplicates": found}, run, str).endswith(
        "How many more of these pictures it learned from is not known: tiny is not prepared on this machine as then."
    )


def test_a_report_of_before_on_other_data_is_not_taken_for_such_a_count(finished_run):
    twice = {"in_train": 3, "top1_without": 0.5}
    own = {"fingerprint": finished_run.fingerprint, "duplicates": twice}
    assert known_note(own, finished_run, str) == "3 of these pictures stand in train too; top-1 without them is 0.5."
    note = known_note({**own, "fingerprint": "f" * 32}, finished_run, str)
    assert "is not known: this report of an earlier version counted" in note and "Evaluating again" in note
    for odd in ([], {"in_train": "many"}, {"of": 5, "uncounted": "x"}, {"in_train": 0, "top1_without": 1.0}):
        assert known_note({"duplicates": odd}, finished_run, str) == ""


def test_weights_kept_in_half_precision_are_read_as_any_others(finished_run, store):
    path = finished_run.path / "best.safetensors"
    before = load_checkpoint(path)
    size = path.stat().st_size
    halve(path)
    after = load_checkpoint(path)
    assert path.stat().st_size < 0.6 * size
    assert (after.config, after.classes, after.epoch) == (before.config, before.classes, before.epoch)
    for a, b in zip(after.model.parameters(), before.model.parameters(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert evaluate_run(store, "done")["top1"] == pytest.approx(finished_run.report("val")["top1"], abs=0.03)
