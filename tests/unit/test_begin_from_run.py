"""A run that begins from the best weights of another: the same network, other rates or pictures; what does not fit is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fer import train as training
from fer.card import model_card
from fer.checkpoint import halve, load_checkpoint, save_checkpoint
from fer.cli import main
from fer.config import Config, ModelConfig, with_settings
from fer.data import dataset
from fer.device import Runtime
from fer.ensembles import create_ensemble
from fer.errors import CheckpointError, ConfigError, RunError
from fer.experiments import groups
from fer.jobs import submit
from fer.models import build_model
from fer.models.inputs import Preprocess
from fer.models.transfer import load_first_weights
from fer.origins import Origin, learned_from
from fer.pretrained import weights_note
from fer.repair import check_store
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


@pytest.fixture
def detour(done, make_run) -> RunStore:
    """The store with 'away' beside 'done', which learned from 'tiny': it began from 'done' and learned from 'others'."""
    dataset.save(dataclasses.replace(draw_blobs(seed=5), name="others"))
    make_run("away", **SMALL, model__from_run="done", data__name="others", train__epochs=1)
    fit(done, "away")
    return done


def as_before(store: RunStore, run_id: str, **data) -> None:
    """Make a run's record one of an earlier version, which did not name all that it goes back to."""
    path = store.folder(run_id) / "config.json"
    record = json.loads(path.read_text())
    del record["data"]["learned_from"]
    record["data"] |= data
    path.write_text(json.dumps(record))


FAR = r"Run 'away' began from run 'done', which learned from another split or version of 'tiny'.*data\.val_fraction=none as"


def test_a_detour_over_other_data_hides_nothing(detour, make_run):
    with pytest.raises(RunError, match=FAR):
        make_run("back", **SMALL, model__from_run="away", data__val_fraction=0.2)
    note = make_run("back", **SMALL, model__from_run="away").start_note  # on the split that 'done' learned from
    assert "'away', which learned from 'others': where" in note and "done" not in note
    dataset.save(dataclasses.replace(draw_blobs(seed=6), name="third"))
    note = make_run("on", **SMALL, model__from_run="away", data__name="third").start_note
    assert "run 'away', which learned from 'others', and from run 'done', which learned from 'tiny': where" in note


@pytest.mark.parametrize("of_before", [False, True])
def test_where_it_went_is_known_after_the_first_is_gone(detour, make_run, of_before):
    if of_before:
        as_before(detour, "away")
    detour.delete("done")
    if not of_before:
        with pytest.raises(RunError, match=FAR):
            make_run("back", **SMALL, model__from_run="away", data__val_fraction=0.2)
        return
    note = make_run("back", **SMALL, model__from_run="away", data__val_fraction=0.2).start_note
    assert (
        "run 'away', which learned from 'others', and from run 'done', which learned from 'tiny', with which split"
        in note
    )


def test_records_of_before_are_followed_through_the_store(detour, make_run):
    as_before(detour, "away")
    with pytest.raises(RunError, match=FAR):
        make_run("back", **SMALL, model__from_run="away", data__val_fraction=0.2)
    path = detour.folder("away") / "config.json"
    record = json.loads(path.read_text())
    del record["data"]["start_note"]  # of a version that did not look at all
    path.write_text(json.dumps(record))
    detour.delete("done")
    note = make_run("back", **SMALL, model__from_run="away", data__val_fraction=0.2).start_note
    assert "and from run 'done', of which nothing is known here" in note


def test_another_run_that_has_the_name_by_now_is_not_taken_for_the_first(detour, make_run):
    """And runs that name each other in a circle have an end."""
    as_before(detour, "away")
    detour.delete("done")
    make_run("done", **SMALL, model__from_run="away", data__name="others")
    as_before(detour, "done")
    found = learned_from(detour, detour.get("done"))
    assert [(o.run, o.data) for o in found] == [("done", "others"), ("away", "others"), ("done", "tiny")]
    path = detour.folder("away") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created": 2e9}))  # a clock that was wrong
    assert [o.run for o in learned_from(detour, detour.get("done"))][:2] == ["done", "away"]


def test_what_is_odd_in_a_record_is_not_known(detour):
    as_before(detour, "away", learned_from=[5, {"run": "a\nb", "data": 3, "val_fraction": True}, {}])
    _, second, third = learned_from(detour, detour.get("away"))
    assert (second, third) == (Origin("a b"), Origin(""))


def test_an_ensemble_says_what_its_members_go_back_to(detour, make_run):
    make_run("away2", **SMALL, model__from_run="done", data__name="others", train__epochs=1, seed=1)
    fit(detour, "away2")
    made = create_ensemble(detour, ["away", "away2"], run_id="both")
    assert made.start_note == detour.get("away").start_note
    assert [o.run for o in learned_from(detour, made)] == ["away", "done", "away2"]


# Weights out of a file


BACKBONE = {"model__name": "mobilenet-v3", "model__input_side": 48}


def write_weights(path: Path, **extra) -> str:
    """A file as a run of a backbone leaves it."""
    config = tiny_config(**BACKBONE, data__name=extra["data"])
    model = build_model(config.model, 7)
    save_checkpoint(path, model, config, dataset.CLASSES, Preprocess.for_channels("rgb"), epoch=1, **extra)
    return str(path)


def test_a_file_of_a_run_counts_as_the_run(store, make_run, tiny, tmp_path):
    own = {"run": "elsewhere", "data": "tiny", "fingerprint": tiny.fingerprint}
    file = write_weights(tmp_path / "own.safetensors", **own)
    with pytest.raises(
        RunError, match=r"own\.safetensors are of run 'elsewhere', which learned from another.*another file"
    ):
        make_run("a", **BACKBONE, model__weights=file, data__val_fraction=0.2)
    with pytest.raises(RunError, match="another split or version of 'tiny'"):
        submit(store, [(None, tiny_config(**BACKBONE, model__weights=file, data__val_fraction=0.2))])
    assert store.ids() == []
    assert make_run("a", **BACKBONE, model__weights=file).start_note is None
    dataset.save(dataclasses.replace(draw_blobs(seed=5), name="others"))
    run = make_run("b", **BACKBONE, model__weights=file, data__name="others")
    assert "It began from run 'elsewhere', which learned from 'tiny'" in run.start_note


def test_a_file_tells_what_its_run_began_from(make_run, tiny, tmp_path):
    first = {"run": "first", "data": "tiny", "fingerprint": tiny.fingerprint, "val_fraction": None}
    own = {"run": "away", "data": "others", "fingerprint": "f" * 32}
    file = write_weights(tmp_path / "away.safetensors", **own, record={"data": {"learned_from": [first]}})
    with pytest.raises(RunError, match="are of run 'away', which began from run 'first', which learned from another"):
        make_run("a", **BACKBONE, model__weights=file, data__val_fraction=0.2)


def test_other_files_are_taken_as_they_come(make_run, tmp_path):
    content = build_model(tiny_config(**BACKBONE).model, 7).state_dict()
    safetensors.torch.save_file(content, tmp_path / "a.safetensors")
    safetensors.torch.save_file(content, tmp_path / "b.safetensors", {"format": "fer-lab/1", "extra": "[]"})
    torch.save(content, tmp_path / "c.pth")
    notes = [make_run(n[0], **BACKBONE, model__weights=str(tmp_path / n)).start_note for n in
             ("a.safetensors", "b.safetensors", "c.pth")]  # fmt: skip
    assert (notes[0], notes[2]) == (None, None)
    assert "run 'b.safetensors', of which nothing is known here" in notes[1]  # ours, and damaged


def test_weights_carry_what_they_go_back_to(detour):
    kept = load_checkpoint(detour.folder("away") / "best.safetensors").extra["record"]["data"]
    (first,) = kept["learned_from"]
    assert (first["run"], first["data"], first["fingerprint"]) == ("done", "tiny", detour.get("done").fingerprint)
    (detour.folder("away") / "config.json").unlink()
    check_store(detour, repair=True)
    mended = detour.get("away")
    assert mended.start_note == kept["start_note"] and [o.run for o in learned_from(detour, mended)] == ["away", "done"]


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
