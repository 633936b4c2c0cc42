"""Ensembles: the mean of the members' calibrated probabilities, in a folder that everybody takes for a run."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from fer import train as training
from fer.card import model_card
from fer.checkpoint import load_checkpoint
from fer.data import dataset
from fer.ensembles import create_ensemble
from fer.errors import DataError, RunError
from fer.evaluate import compute_logits, evaluate_run
from fer.metrics import softmax
from fer.predict import Predictor
from fer.repair import check_store
from fer.runs import hold, temperature_note
from fer.train import Watcher, fit
from tests.conftest import draw_blobs


@pytest.fixture
def two(finished_run, store, make_run):
    """Two runs with weights on the same data: 'done', and 'other' of another seed."""
    make_run("other", seed=1, train__epochs=2)
    return finished_run, fit(store, "other")


def test_an_ensemble_answers_with_the_mean_of_its_members_calibrated_probabilities(two, store, tiny):
    made = create_ensemble(store, ["done", "other"], "both", device="cpu")
    assert (made.state, made.members, made.recipe, made.problems) == ("finished", ("done", "other"), "ensemble", ())
    images = torch.from_numpy(tiny.subset("val")[0])
    probs = []
    for run in two:
        checkpoint = load_checkpoint(run.path / "best.safetensors")
        temperature = run.report("val")["calibration"]["temperature"]
        probs.append(softmax(compute_logits(checkpoint.model, checkpoint.preprocess, images), temperature))
    with np.load(made.path / "logits-val.npz") as kept:
        logits = kept["logits"]
    np.testing.assert_allclose(softmax(logits), np.mean(probs, axis=0), atol=1e-6)
    report = made.report("val")
    assert report["top1"] == pytest.approx((np.mean(probs, axis=0).argmax(1) == tiny.subset("val")[1]).mean())
    asked = Predictor("both", store).predict(tiny.subset("val")[0])
    np.testing.assert_allclose(asked, softmax(logits, report["calibration"]["temperature"]), atol=1e-6)


def test_a_member_that_warmed_up_for_longer_than_an_ensembles_one_epoch(finished_run, store, make_run):
    make_run("warm", seed=1, train__epochs=2, schedule__warmup_epochs=1.0)
    fit(store, "warm")
    assert create_ensemble(store, ["warm", "done"], device="cpu").state == "finished"


def test_a_run_that_still_trains_is_no_member(two, store):
    store.write_status("other", {**two[1].status, "state": "running"})
    with (
        hold(two[1].path / "run.lock"),
        pytest.raises(RunError, match="Run 'other' is running, so its weights will change"),
    ):
        create_ensemble(store, ["done", "other"], device="cpu")


def test_an_ensemble_looks_like_a_run_to_everyone(two, store):
    made = create_ensemble(store, ["done", "other"], device="cpu")
    assert made.id.startswith("ensemble-")
    assert made.has_weights
    assert (made.progress, made.epochs, made.best["val_top1"]) == (1.0, 1, made.report("val")["top1"])
    seconds = sum(row["epoch_seconds"] for run in two for row in run.metrics)
    assert made.best["epoch_seconds"] == pytest.approx(seconds, abs=1e-3)
    assert made.model["num_params"] == sum(run.model["num_params"] for run in two)
    assert len({made.experiment, *(run.experiment for run in two)}) == 3
    assert {p.name for p in made.path.iterdir()} >= {"config.json", "metrics.jsonl", "report.json", "logits-val.npz"}
    assert not (made.path / "best.safetensors").exists()
    again = evaluate_run(store, made.id, device="cpu")
    assert again == made.report("val")
    assert evaluate_run(store, made.id, tta=True, device="cpu")["n"] == 70


def test_the_cost_of_an_ensemble_holds_the_trainings_that_its_members_began_from_each_once(two, store, make_run):
    for run_id, origin in (("second", "done"), ("third", "second"), ("fourth", "second")):
        make_run(run_id, model__from_run=origin, train__epochs=1)
        fit(store, run_id)
    made = create_ensemble(store, ["third", "fourth"], "late", device="cpu")
    held = [store.get(i) for i in ("third", "fourth", "second", "done")]
    assert made.best["epoch_seconds"] == pytest.approx(
        sum(r["epoch_seconds"] for h in held for r in h.metrics), abs=1e-3
    )
    assert made.origins_note == "including second, done, which they began from"
    both = create_ensemble(store, ["done", "second"], "both", device="cpu")
    assert (both.origins_note, both.best["epoch_seconds"]) == (
        "",
        pytest.approx(sum(r["epoch_seconds"] for i in ("done", "second") for r in store.get(i).metrics), abs=1e-3),
    )
    store.delete("done")
    gone = create_ensemble(store, ["third", "other"], "gone", device="cpu")
    said = "including second, which they began from, without done, which they began from and which was not in the store"
    assert gone.origins_note == said and f"minutes together, {said}." in model_card(gone)


def test_an_ensemble_of_an_ensemble_takes_its_members_once(two, store):
    create_ensemble(store, ["done", "other"], "both", device="cpu")
    assert create_ensemble(store, ["both", "done"], "again", device="cpu").members == ("done", "other")


def test_what_cannot_be_a_member_is_refused_and_nothing_is_left(two, store, make_run):
    make_run("new")
    make_run("elsewhere", data__val_fraction=0.3, train__epochs=1)
    fit(store, "elsewhere")
    for names, said in (
        (["done"], "at least two different runs; this names 1"),
        (["done", "done"], "at least two different runs; this names 1"),
        (["done", "gone"], "no run 'gone'"),
        (["done", "new"], "'new' has no weights"),
        (["done", "elsewhere"], "'elsewhere' was trained on other data or another split than 'done'"),
    ):
        with pytest.raises(RunError, match=said):
            create_ensemble(store, names, "bad")
    with pytest.raises(RunError, match="a run 'done' already"):
        create_ensemble(store, ["done", "other"], "done")
    assert store.get("done").state == "finished"
    assert "bad" not in store.ids()


def test_without_the_data_nothing_is_made(two, store, tmp_path):
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="no prepared data set 'tiny'"):
        create_ensemble(store, ["done", "other"], "both")
    assert "both" not in store.ids()


def test_a_member_that_is_gone_is_named(two, store):
    made = create_ensemble(store, ["done", "other"], "both", device="cpu")
    key = store.delete("other")
    assert not store.get("both").has_weights
    in_trash = (
        r"'both' needs its member 'other', which is in the trash \(python -m fer runs trash restore other\)\. Bring"
    )
    for ask in (
        lambda: Predictor("both", store),
        lambda: evaluate_run(store, "both", device="cpu"),
        lambda: evaluate_run(store, "both", tta=True, device="cpu"),
    ):
        with pytest.raises(RunError, match=in_trash):
            ask()
    store.restore(key)
    Predictor("both", store)
    (store.root / "other" / "best.safetensors").unlink()
    with pytest.raises(RunError, match="'both' needs its member 'other', which has no weights"):
        Predictor("both", store)
    store.delete("other")
    store.empty_trash()
    with pytest.raises(RunError, match="'both' needs its member 'other', which is not in the store"):
        Predictor("both", store)
    assert store.get("both").report("val") == made.report("val")


def test_an_ensemble_does_not_answer_with_other_weights_than_it_was_made_of(finished_run, store, make_run, monkeypatch):
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)
    make_run("going", seed=2, train__epochs=4)
    looks = iter(range(10_000))
    fit(store, "going", Watcher(should_stop=lambda: next(looks) >= 8))
    assert store.get("going").state == "stopped" and len(store.get("going").metrics) == 1
    made = create_ensemble(store, ["done", "going"], "both", device="cpu")
    Predictor("both", store)
    store.requeue("going")
    folder = fit(store, "going").path
    shutil.copy(folder / "last.safetensors", folder / "best.safetensors")  # should no later epoch be better
    said = r"'both' was made of other weights than these members have now: going\. .*fer ensemble done going"
    for ask in (lambda: Predictor("both", store), lambda: evaluate_run(store, "both", device="cpu")):
        with pytest.raises(RunError, match=said):
            ask()
    assert store.get("both").report("val") == made.report("val")
    assert [(f.run, f.cure) for f in check_store(store) if f.run == "both"] == [("both", "make the ensemble again")]
    create_ensemble(store, ["done", "going"], "again", device="cpu")
    Predictor("again", store)


def test_an_ensemble_of_before_that_names_no_weights_answers(two, store):
    made = create_ensemble(store, ["done", "other"], "both", device="cpu")
    assert set(made.made_of) == {"done", "other"} and made.changed_members() == []
    model = json.loads((made.path / "model.json").read_text())
    layers = [{k: v for k, v in layer.items() if k != "weights"} for layer in model["layers"]]
    (made.path / "model.json").write_text(json.dumps({**model, "layers": layers}))
    shutil.copy(store.root / "done" / "best.safetensors", store.root / "other" / "best.safetensors")
    assert store.get("both").made_of == {}
    Predictor("both", store)


def test_with_views_an_ensemble_answers_the_same_before_and_after_its_members_are_evaluated_so(two, store):
    create_ensemble(store, ["done", "other"], "both", device="cpu")
    first = evaluate_run(store, "both", tta=True, device="cpu")
    assert all("calibration" in store.get(member).report("val+tta") for member in ("done", "other"))
    evaluate_run(store, "done", tta=True, device="cpu")
    again = evaluate_run(store, "both", tta=True, device="cpu")
    assert (again["loss"], again["calibration"]) == (first["loss"], first["calibration"])


@pytest.mark.parametrize(("data", "split"), [("doubtful", "test"), ("others", "val")])
def test_the_order_of_evaluations_changes_no_figure_of_an_ensemble(doubtful, store, data, split):
    dataset.save(dataclasses.replace(draw_blobs(seed=9), name="others", fingerprint=""))
    members = [doubtful("a"), doubtful("b", seed=1)]
    create_ensemble(store, ["a", "b"], "both", device="cpu")
    first = evaluate_run(store, "both", data, split, tta=True, device="cpu")
    for name in ("a", "b", "both"):
        again = evaluate_run(store, name, tta=True, device="cpu")
        assert again["calibration"]["temperature"] == store.get(name).temperature(tta=True) != 1
    assert all(store.get(m.id).temperature(tta=True) != m.temperature() for m in members)
    assert evaluate_run(store, "both", data, split, tta=True, device="cpu") == first


def test_members_whose_data_are_not_here_are_named(two, store, tmp_path):
    create_ensemble(store, ["done", "other"], "both", device="cpu")
    evaluate_run(store, "other", tta=True, device="cpu")
    dataset.save(dataclasses.replace(draw_blobs(seed=9), name="others", fingerprint=""))
    (tmp_path / "data" / "tiny.npz").unlink()
    report = evaluate_run(store, "both", "others", tta=True, device="cpu")
    assert report["calibration"]["unfitted"] == ["done", "both"]
    assert "fitted with ten views for done, both, whose own data set is not prepared" in temperature_note(report)


def test_an_ensemble_whose_making_was_broken_off_is_not_trained(two, store):
    config = store.get("done").config
    store.create(config, recipe=None, data={}, run_id="half", kind="ensemble", members=["done", "other"], reserved=True)
    store.write_status("half", {"state": "queued", "queued": 0, "reserved": True})
    assert store.get("half").state == "lost"
    with pytest.raises(RunError, match="no training to resume. Delete it, and make it again of done, other"):
        store.requeue("half")
    assert store.get("half").state == "lost"


def test_odd_members_in_the_record_are_not_paths(finished_run):
    for members in (["../x", "done"], "done", None, [1, "done"]):
        run = dataclasses.replace(finished_run, record={"kind": "ensemble", "members": members})
        assert set(run.members) <= {"done"}
