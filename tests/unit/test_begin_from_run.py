"""A run that begins from the best weights of another: the same network, other rates or pictures; what does not fit is said."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from fer import train as training
from fer.card import model_card
from fer.checkpoint import halve, load_checkpoint
from fer.cli import main
from fer.config import Config, ModelConfig, with_settings
from fer.data import dataset
from fer.device import Runtime
from fer.ensembles import create_ensemble
from fer.errors import CheckpointError, ConfigError, RunError
from fer.experiments import groups
from fer.jobs import submit
from fer.models import build_model
from fer.models.transfer import load_first_weights
from fer.pretrained import weights_note
from fer.runs import RunStore, hold
from fer.train import Learner, Watcher, fit
from fer.verdicts import verdicts
from tests.conftest import draw_blobs, tiny_config
from tests.made_runs import write_run

SMALL = {"model__name": "compact", "model__channels": "grey", "model__width": 0.25}


@pytest.fixture
def done(store, small, tiny) -> RunStore:
    """A store with the finished run 'done' of a very small network."""
    shutil.copytree(small / "done", store.root / "done")
    return store


def test_it_begins_where_the_other_was_best_and_goes_on(done, make_run):
    make_run("more", **SMALL, model__from_run="done", optim__lr=1e-5, train__epochs=1)
    run = fit(done, "more")
    before = done.get("done").best
    assert run.status["first_weights"]["run"] == "done" and len(run.status["first_weights"]["sha256"]) == 64
    assert run.metrics[0]["train_loss"] < done.get("done").metrics[0]["train_loss"]  # it knew something
    assert abs(run.metrics[0]["val_loss"] - before["val_loss"]) < 0.1  # and a tiny rate left it there


@pytest.mark.parametrize("changes", [{}, {"train.ema_decay": 0.9}])
def test_the_first_weights_are_the_others(done, changes):
    config = with_settings(tiny_config(**SMALL, model__from_run="done"), changes)
    learner = Learner.fresh(config, torch.arange(14) % 7, 7, Runtime(torch.device("cpu"), "fp32", 1), trained_in=done)
    theirs = load_checkpoint(done.folder("done") / "best.safetensors").model.state_dict()
    for name, tensor in learner.shown.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_weights_shipped_in_half_precision_are_taken_in_full(done):
    halve(done.folder("done") / "best.safetensors")
    model = build_model(ModelConfig(name="compact", channels="grey", width=0.25), 7)
    load_first_weights(model, tiny_config(**SMALL, model__from_run="done").model, done)
    assert {t.dtype for t in model.parameters()} == {torch.float32}


def test_another_number_of_classes_keeps_the_fresh_last_layer(done):
    torch.manual_seed(0)
    config = tiny_config(**SMALL, model__from_run="done").model
    model = build_model(config, 5)
    last = [t.clone() for t in list(model.parameters())[-2:]]
    first = next(model.parameters()).clone()
    load_first_weights(model, config, done)
    assert all(torch.equal(a, b) for a, b in zip(last, list(model.parameters())[-2:], strict=True))
    assert not torch.equal(first, next(model.parameters()))


def test_resuming_asks_for_the_other_run_no_more(done, make_run, monkeypatch):
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)  # it looks for a stop request after each step
    make_run("more", **SMALL, model__from_run="done", train__epochs=2)
    fit(done, "more", Watcher(on_epoch=lambda _row: done.request_stop("more")))
    assert done.get("more").state == "stopped"
    first = done.get("more").status["first_weights"]
    done.delete("done")
    done.requeue("more", reserved=True)
    run = fit(done, "more")
    assert run.state == "finished" and run.status["first_weights"] == first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__width": 0.5}, r"model\.width is 0\.5, but run 'done' has 0\.25.*set model\.width=0\.25"),
        ({"model__channels": "rgb"}, r"model\.channels is rgb, but run 'done' has grey"),
        ({"model__name": "vgg"}, r"model\.name is vgg, but run 'done' has compact"),
    ],
)
def test_another_network_is_refused_before_it_has_a_folder(done, make_run, changes, said):
    with pytest.raises(CheckpointError, match=said):
        make_run("more", **{**SMALL, **changes}, model__from_run="done")
    assert done.ids() == ["done"]


def test_what_has_no_weights_need_not_agree(done):
    """A dropout layer moves the names of the layers behind it."""
    config = tiny_config(**SMALL, model__depth=3, model__dropout=0.4, model__from_run="done").model
    model = build_model(config, 7)
    load_first_weights(model, config, done)
    theirs = load_checkpoint(done.folder("done") / "best.safetensors").model
    assert [*model.state_dict()] != [*theirs.state_dict()]
    for ours, other in zip(model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(ours, other)


def test_damaged_weights_of_the_other_are_said(done, make_run):
    (done.folder("done") / "best.safetensors").write_bytes(b"no weights")
    make_run("more", **SMALL, model__from_run="done")
    with pytest.raises(CheckpointError, match=r"The weights done/best\.safetensors are damaged"):
        fit(done, "more")


def test_a_run_that_still_trains_is_no_beginning(done, make_run):
    done.write_status("done", {"state": "running"})
    with (
        hold(done.folder("done") / "run.lock"),
        pytest.raises(CheckpointError, match="Run 'done' is running, so nothing"),
    ):
        make_run("more", **SMALL, model__from_run="done")


def test_another_split_of_the_same_pictures_is_refused(done, make_run):
    """Or it would be judged on what its first weights learned from."""
    said = r"another split or version of 'tiny'.*Set data\.val_fraction=none as there, or set model\.from_run=none"
    with pytest.raises(RunError, match=said):
        make_run("more", **SMALL, model__from_run="done", data__val_fraction=0.2)
    with pytest.raises(RunError, match=said):
        submit(done, [(None, tiny_config(**SMALL, model__from_run="done", data__val_fraction=0.2))])
    assert done.ids() == ["done"]


def test_other_pictures_of_the_same_name_are_refused_with_a_cure_that_helps(done, make_run):
    dataset.save(dataclasses.replace(draw_blobs(seed=5), name="tiny"))
    with pytest.raises(
        RunError, match="Import the files that it learned from, or these under another name than 'tiny'"
    ):
        make_run("more", **SMALL, model__from_run="done")
    dataset.save(dataclasses.replace(draw_blobs(seed=5), name="others"))
    assert make_run("more", **SMALL, model__from_run="done", data__name="others").start_note


def test_other_pictures_are_said_beside_the_figures_and_so_by_what_begins_from_there(done, make_run, tiny):
    dataset.save(dataclasses.replace(draw_blobs(seed=5), name="others"))
    first = make_run("first", **SMALL, model__from_run="done", data__name="others")
    assert "It began from run 'done', which learned from 'tiny'" in first.start_note
    first = fit(done, "first")
    second = make_run("second", **SMALL, model__from_run="first", data__name="others")
    assert second.start_note == first.start_note
    assert first.start_note in model_card(first)
    together = {**first.record, "kind": "ensemble", "members": ["first", "second"]}
    assert first.start_note in model_card(dataclasses.replace(first, record=together))
    assert make_run("third", **SMALL, model__from_run="done").start_note is None


def test_seeds_that_began_from_one_run_are_no_trainings_of_their_own(store):
    tops = {"baseline": (0.54, 0.55, 0.545), "step-decay": (0.556, 0.565, 0.562)}
    runs = [
        write_run(store, f"{name}-{seed}", [{"val_top1": top}], recipe=name, seed=seed, model__from_run="done")
        for name, values in tops.items()
        for seed, top in enumerate(values)
    ]
    of = {g.recipe: g for g in groups(runs)}
    (found,) = verdicts(of["baseline"], of.values())
    assert found.kind != "recipes"


def test_no_such_run_one_without_weights_and_an_ensemble_are_refused(done, make_run, capsys):
    with pytest.raises(RunError, match="There is no run 'gone'"):
        make_run("more", **SMALL, model__from_run="gone")
    make_run("waiting", **SMALL)
    with pytest.raises(CheckpointError, match="Run 'waiting' is queued, so nothing can begin from it"):
        make_run("more", **SMALL, model__from_run="waiting")
    done.request_stop("waiting")
    with pytest.raises(CheckpointError, match="Run 'waiting' has no weights.*trained at least one epoch"):
        make_run("more", **SMALL, model__from_run="waiting")
    shutil.copytree(done.folder("done"), done.folder("done2"))
    create_ensemble(done, ["done", "done2"], run_id="both")
    with pytest.raises(CheckpointError, match="Run 'both' is an ensemble"):
        make_run("more", **SMALL, model__from_run="both")
    with pytest.raises(RunError, match="cannot be a run id"):
        make_run("more", **SMALL, model__from_run="../done")
    assert main(["train", "--recipe", "fast", "--dataset", "tiny", "--set", "model.from_run=gone"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_there_is_one_beginning_only(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"model\.from_run is a, so there is nothing else to begin from"):
        with_settings(Config(), {"model.name": "resnet18", "model.from_run": "a", "model.pretrained": True})
    assert ModelConfig(from_run=" ").from_run is None
    assert weights_note(ModelConfig(from_run="a")) == "The network begins from the best weights of run a."
