"""Training: the same seed gives the same run, and an interruption leaves no trace in it."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from benchmarks import study_loop
from benchmarks.same_learning import compare_steps
from fer import device, files
from fer import train as training
from fer.checkpoint import load_checkpoint
from fer.config import Config, with_settings
from fer.data import dataset
from fer.device import Runtime, torch_threads
from fer.errors import CheckpointError, DataError, RunError, TrainingError
from fer.evaluate import compute_logits
from fer.files import PROJECT_ROOT
from fer.jobs import create_run
from fer.models import build_model
from fer.models.inputs import Preprocess
from fer.runs import Run, RunStore, hold
from fer.train import Learner, Watcher, build_optimizer, fit, picture_order
from tests.conftest import draw_blobs, tiny_config

STEPS = 5  # in an epoch of the tiny data: 140 pictures, 32 in a batch


def figures(run: Run) -> list[dict]:
    """The metrics without the times."""
    return [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in run.metrics]


def weights(run: Run, name: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.path / f"{name}.safetensors")


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def every_step(monkeypatch):
    """Let the loop report, and look for a stop request, after every step."""
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)


class StopAfter:
    """Asks for a stop at the n-th look, which `every_step` makes the n-th step."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


# What a run leaves behind


def test_a_finished_run_has_all_its_files(finished_run):
    assert finished_run.state == "finished"
    assert {p.name for p in finished_run.path.iterdir() if p.suffix != ".lock"} == {
        "config.json", "status.json", "model.json", "metrics.jsonl", "best.safetensors", "last.safetensors",
        "resume.pt", "report.json", "logits-val.npz", "checksums.json",
    }  # fmt: skip
    assert finished_run.problems == ()
    assert finished_run.model["num_params"] == 423_751
    assert finished_run.progress == 1.0


def test_the_status_says_where_and_with_what_it_ran(finished_run):
    status = finished_run.status
    assert (status["device"], status["precision"], status["threads"]) == ("cpu", "fp32", 1)
    assert status["versions"]["torch"] == torch.__version__
    assert status["error"] is None
    assert status["queued"] <= status["started"] <= status["finished"]
    assert (status["epoch"], status["step"], status["steps_per_epoch"]) == (3, 0, STEPS)


def test_each_line_has_exactly_the_figures_of_the_contract(finished_run):
    keys = ["epoch", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_macro_f1", "epoch_seconds"]
    lines = (finished_run.path / "metrics.jsonl").read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [keys] * 3
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_the_tiny_data_is_learned(finished_run):
    assert finished_run.best["val_top1"] > 0.6
    assert finished_run.last["train_loss"] < finished_run.metrics[0]["train_loss"]


def test_the_weights_say_what_they_were_trained_on(finished_run, tiny):
    best = load_checkpoint(finished_run.path / "best.safetensors")
    assert best.config == finished_run.config
    assert best.classes == tiny.classes
    assert best.epoch == finished_run.best["epoch"]
    assert best.extra["val_top1"] == finished_run.best["val_top1"]
    assert best.extra["fingerprint"] == tiny.fingerprint
    assert load_checkpoint(finished_run.path / "last.safetensors").epoch == 3


def test_val_figures_are_those_of_the_last_weights_over_the_whole_split(finished_run, tiny):
    last = load_checkpoint(finished_run.path / "last.safetensors")
    images, labels = tiny.subset("val")
    one_by_one = []
    for image, label in zip(images, labels, strict=True):
        logits = torch.from_numpy(compute_logits(last.model, last.preprocess, torch.from_numpy(image[None])))
        loss = functional.cross_entropy(logits, torch.tensor([int(label)])).item()
        one_by_one.append((loss, logits.argmax().item() == label))
    losses, right = zip(*one_by_one, strict=True)
    assert finished_run.last["val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert finished_run.last["val_top1"] == np.mean(right)


def test_the_report_is_of_the_best_weights_and_agrees_with_the_metrics(finished_run):
    report, best = finished_run.report("val"), finished_run.best
    assert report["epoch"] == best["epoch"]
    for ours, theirs in (("top1", "val_top1"), ("loss", "val_loss"), ("macro_f1", "val_macro_f1")):
        assert report[ours] == pytest.approx(best[theirs], rel=1e-6)


# The same seed


def test_the_same_seed_gives_the_same_run_and_another_another(store, make_run):
    runs = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(hash(name) % 1000)  # what happened before in this process does not matter
        make_run(name, seed=seed, train__epochs=1)
        runs[name] = fit(store, name)
    assert figures(runs["a"]) == figures(runs["b"])
    assert same_weights(weights(runs["a"]), weights(runs["b"]))
    assert figures(runs["a"])[0]["train_loss"] != figures(runs["c"])[0]["train_loss"]
    assert not same_weights(weights(runs["a"]), weights(runs["c"]))


def test_the_order_of_the_pictures_depends_on_seed_and_epoch_alone():
    first = picture_order(0, 0, 140)
    assert torch.equal(first, picture_order(0, 0, 140))
    assert sorted(first.tolist()) == list(range(140))
    assert not torch.equal(first, picture_order(0, 1, 140))
    assert not torch.equal(first, picture_order(1, 0, 140))


# The arithmetic


def plain_loop(config, data: dataset.Dataset, steps: int) -> tuple[list[float], torch.nn.Module]:
    """What a textbook would write: torch's own optimizer and scheduler, contiguous tensors, one loss a step."""
    torch.manual_seed(config.seed)
    model = build_model(config.model, len(data.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr)
    if config.optim.name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=config.optim.lr, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, config.schedule.step_size, config.schedule.gamma)
    images, labels = data.subset("train")
    inputs = torch.from_numpy(images).float()[:, None].expand(-1, 3, -1, -1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inputs = (inputs - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    losses: list[float] = []
    for epoch in range(config.train.epochs):
        for chosen in picture_order(config.seed, epoch, len(labels)).split(config.train.batch_size):
            loss = functional.cross_entropy(model(inputs[chosen]), torch.from_numpy(labels)[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                return losses, model
        scheduler.step()
    return losses, model


def step_losses(seen: list[training.Progress]) -> list[float]:
    """The loss of each step, taken out of the running means that were reported after each."""
    sizes, losses = [32, 32, 32, 32, 12], []
    for i, p in enumerate(seen):
        before = seen[i - 1].loss * sum(sizes[: p.step - 1]) if p.step > 1 else 0.0
        losses.append((p.loss * sum(sizes[: p.step]) - before) / sizes[p.step - 1])
    return losses


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_in_plain_arithmetic_a_run_is_a_loop_written_by_hand_to_the_digit(store, make_run, tiny, every_step, name):
    changes = {"optim__name": name, "optim__lr": 0.01, "runtime__arithmetic": "plain"}
    run = make_run("a", schedule__name="step", schedule__step_size=1, schedule__gamma=0.5, **changes)
    seen: list[training.Progress] = []
    fit(store, "a", Watcher(on_progress=seen.append))
    with torch_threads(1):
        theirs, model = plain_loop(run.config, tiny, 3 * STEPS)
    assert step_losses(seen) == pytest.approx(theirs, rel=1e-6)  # taken out of running means, which cost a few digits
    assert same_weights(model.state_dict(), torch.load(store.folder("a") / "resume.pt", weights_only=True)["model"])


def test_the_engine_learns_what_the_studys_own_loop_learns(tiny, tmp_path, monkeypatch):
    """To the digit in plain arithmetic; else in double precision, where no rounding can grow, and from the same weights at each step."""
    monkeypatch.setattr(study_loop, "BATCH", 16)
    found = compare_steps(tiny, study_loop.unpack(tiny, tmp_path / "pictures"), 8)
    assert found["max_loss_difference_plain"] == 0
    assert found["max_loss_difference"] > 0  # the fast arithmetic does round in other places
    assert found["max_loss_difference_fp64"] < 1e-9
    assert found["max_loss_difference_one_step"] < 1e-5
    assert found["max_gradient_difference_one_step"] < 1e-4


@pytest.mark.parametrize(("arithmetic", "mixup", "side"), [("fast", 0.0, 44), ("fast", 0.2, 44), ("plain", 0.0, 48)])
def test_only_the_fast_arithmetic_leaves_out_the_pixels_that_a_network_does_not_see(arithmetic, mixup, side):
    config = with_settings(Config(), {"runtime.arithmetic": arithmetic, "augment.mixup": mixup})
    labels = torch.arange(4)
    learner = Learner.fresh(config, labels, 7, Runtime(torch.device("cpu"), "fp32", 1))
    given: list[tuple[int, ...]] = []
    learner.model[3].register_forward_hook(lambda _layer, inputs, _out: given.append(tuple(inputs[0].shape[2:])))
    learner.step(torch.zeros(4, 48, 48, dtype=torch.uint8), labels, 0.001, 0)
    assert given == [((side - 4) // 2,) * 2]


def test_the_train_loss_is_the_mean_over_pictures_not_over_batches(store, make_run, tiny):
    run = make_run("a", train__epochs=1, train__batch_size=128)  # batches of 128 and 12
    fit(store, "a")
    losses, _ = plain_loop(run.config, tiny, 2)
    over_pictures, over_batches = (losses[0] * 128 + losses[1] * 12) / 140, sum(losses) / 2
    assert abs(over_pictures - over_batches) > 1e-4
    assert store.get("a").last["train_loss"] == pytest.approx(over_pictures, rel=1e-5)


def test_the_rate_in_the_metrics_follows_the_schedule(store, make_run):
    make_run("a", schedule__name="exponential", schedule__gamma=0.5, optim__lr=0.004)
    rates = [row["lr"] for row in fit(store, "a").metrics]
    assert rates == pytest.approx([0.004, 0.002, 0.001])


def test_plateau_reads_the_validation_losses_of_the_run(store, make_run):
    make_run("a", schedule__name="plateau", schedule__patience=0, schedule__factor=0.1, train__epochs=4, optim__lr=1e-9)
    run = fit(store, "a")  # a rate at which nothing improves by 0.01 %
    assert [row["lr"] for row in run.metrics] == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimizer_takes_its_settings(make_run, name):
    config = make_run(None, optim__name=name, optim__weight_decay=0.01, optim__momentum=0.8).config
    optimizer = build_optimizer(config, build_model(config.model, 7))
    assert type(optimizer).__name__.lower() == name
    assert optimizer.defaults["weight_decay"] == 0.01
    assert optimizer.defaults["lr"] == 0.001
    if name == "sgd":
        assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.8, True)


# Interruption


SETTINGS = {"schedule__name": "one-cycle", "optim__name": "sgd", "optim__lr": 0.05}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Run:
    """A run with SETTINGS that nothing interrupted."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS_DIR", str(root / "runs"))
        patch.setenv("FER_DATA_DIR", str(root / "data"))
        dataset.save(draw_blobs())
        create_run(RunStore(), tiny_config(**SETTINGS), recipe=None, run_id="undisturbed")
        return fit(RunStore(), "undisturbed")


def assert_same_outcome(a: Run, b: Run) -> None:
    assert a.state == b.state == "finished"
    assert figures(a) == figures(b)
    for name in ("last", "best"):
        assert same_weights(weights(a, name), weights(b, name)), name
    ours, theirs = ({k: v for k, v in r.report("val").items() if k != "run"} for r in (a, b))
    assert ours == theirs


def test_a_run_saved_where_no_scaler_is_needed_goes_on_where_one_is(store, make_run, every_step, monkeypatch):
    """From a CPU to a GPU without bf16, played here by fp16 on the CPU, which is slow: one epoch."""
    make_run("a", **{**SETTINGS, "train__epochs": 1})
    fit(store, "a", Watcher(should_stop=StopAfter(2)))
    store.requeue("a")
    monkeypatch.setattr(training._Fit, "_runtime", lambda self, saved: Runtime(torch.device("cpu"), "fp16", 1))
    run = fit(store, "a")
    assert (run.state, run.status["precision"]) == ("finished", "fp16")


def test_an_epochs_seconds_hold_the_wait_for_its_last_steps(store, make_run, monkeypatch):
    """On a GPU the steps are launched long before they are done."""

    def wait(self) -> None:
        time.sleep(0.3)

    monkeypatch.setattr(training._Fit, "_check_finite", wait)
    make_run("a", **SETTINGS)
    assert all(row["epoch_seconds"] > 0.3 for row in fit(store, "a").metrics)


@pytest.mark.parametrize("looks", [[STEPS], [1, 2, 6]])
def test_stopped_and_resumed_is_the_same_as_undisturbed(store, make_run, undisturbed, every_step, looks):
    """After an epoch's last step; and three times: after the first step and in the middle of two epochs."""
    make_run("a", **SETTINGS)
    for n in looks:
        run = fit(store, "a", Watcher(should_stop=StopAfter(n)))
        assert run.state == "stopped"
        assert not (run.path / "stop").exists()
        assert store.requeue("a").state == "queued"
    assert (run.status["epoch"], run.status["step"]) == divmod(sum(looks), STEPS) or looks == [STEPS]
    assert_same_outcome(fit(store, "a"), undisturbed)


def test_an_augmented_run_goes_on_with_the_random_numbers_it_would_have_had(store, make_run, every_step):
    changes = {"augment__flip": True, "augment__shift": 2, "model__name": "compact", "model__channels": "grey"}
    make_run("whole", **changes)
    whole = fit(store, "whole")
    make_run("parted", **changes)
    fit(store, "parted", Watcher(should_stop=StopAfter(STEPS + 2)))
    store.requeue("parted")
    parted = fit(store, "parted")
    assert figures(parted) == figures(whole)
    assert same_weights(weights(parted), weights(whole))
    make_run("plain", **{**changes, "augment__flip": False, "augment__shift": 0})
    assert figures(fit(store, "plain")) != figures(whole)


def test_a_disk_that_is_full_before_it_begins_is_said(store, make_run, monkeypatch):
    make_run("a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunStore, "write_status", full)
    with pytest.raises(TrainingError, match="Run 'a' could not begin. The disk is full. Free some space"):
        fit(store, "a")
    assert store.get("a").state == "queued"


def test_runs_that_train_at_once_share_the_cores(store, make_run, monkeypatch):
    monkeypatch.setattr(device, "physical_cores", lambda: 6)
    seen = []
    for name, held in (("alone", []), ("second", ["other"]), ("seventh", [str(i) for i in range(6)])):
        make_run(name, runtime__threads=None, train__epochs=1)
        monkeypatch.setattr(RunStore, "held", lambda _store, name=name, held=held: [*held, name])
        seen.append(fit(store, name).status["threads"])
    assert seen == [6, 3, 1]


def test_plateau_goes_on_with_the_losses_from_before_the_stop(store, make_run, every_step):
    settings = {"schedule__name": "plateau", "schedule__patience": 0, "optim__lr": 1e-9}
    make_run("a", **settings)
    fit(store, "a", Watcher(should_stop=StopAfter(2 * STEPS + 2)))
    store.requeue("a")
    resumed = fit(store, "a")
    make_run("b", **settings)
    assert_same_outcome(resumed, fit(store, "b"))


def test_a_stop_file_is_obeyed_within_the_epoch(store, make_run, every_step):
    make_run("a")
    steps = []

    def ask(progress) -> None:
        steps.append(progress.step)
        if len(steps) == 3:
            assert store.get("a").state == "running"
            assert store.request_stop("a") == "stopping"

    assert fit(store, "a", Watcher(on_progress=ask)).state == "stopped"
    assert steps == [1, 2, 3]


KILLED = """
import os, signal, sys
from fer import train
from fer.runs import RunStore
train._REPORT_SECONDS = train._SAVE_SECONDS = 0.0
steps = []
def count(progress):
    steps.append(progress)
    if len(steps) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
train.fit(RunStore(), sys.argv[1], train.Watcher(on_progress=count))
"""


def test_killed_and_resumed_is_the_same_as_undisturbed(store, make_run, undisturbed):
    make_run("a", **SETTINGS)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, "a"], env=environment, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    lost = store.get("a")
    assert (lost.state, len(lost.metrics)) == ("lost", 1)
    store.requeue("a")
    lines: list[str] = []
    resumed = fit(store, "a", Watcher(log=lines.append))
    assert "from epoch 2, step 2" in lines[0]  # the last save was after the step before the last
    assert_same_outcome(resumed, undisturbed)


def test_cut_off_between_an_epochs_line_and_its_save_no_line_is_doubled(store, make_run, undisturbed, monkeypatch):
    make_run("a", **SETTINGS)
    save = training._Fit._save_resume

    def cut_off(self) -> None:
        if self.state.epoch == 2:
            raise KeyboardInterrupt
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(training._Fit, "_save_resume", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fit(store, "a")
    assert len(store.get("a").metrics) == 2
    store.requeue("a")
    assert_same_outcome(fit(store, "a"), undisturbed)


def test_a_run_without_a_save_begins_again(store, make_run):
    make_run("a", train__epochs=1)
    store.append_metrics("a", {"epoch": 1, "half": True})
    store.write_status("a", {"state": "failed"})
    store.requeue("a")
    assert len(fit(store, "a").metrics) == 1


def test_a_damaged_save_says_what_to_delete(store, make_run):
    run = make_run("a")
    (run.path / "resume.pt").write_bytes(b"nothing that torch wrote")
    with pytest.raises(CheckpointError, match=r"a/resume\.pt is damaged\. Delete that file"):
        fit(store, "a")
    assert store.get("a").state == "failed"


# What goes wrong


def test_a_loss_that_is_no_number_fails_with_its_cure_and_leaves_no_such_weights(store, make_run):
    make_run("a", optim__name="sgd", optim__lr=10, train__epochs=2, train__batch_size=8)
    with pytest.raises(TrainingError, match=r"no longer a number.*learning rate of 10.*try a tenth"):
        fit(store, "a")
    run = store.get("a")
    assert run.state == "failed"
    assert "no longer a number" in run.status["error"]
    assert run.metrics == ()
    assert not (run.path / "best.safetensors").exists()


def test_weights_broken_by_an_epochs_last_step_are_not_kept(store, make_run, monkeypatch):
    """The losses of the steps are finite then; only validation sees it."""
    make_run("a", train__epochs=2)
    step, taken = training._Fit._step, []

    def break_the_tenth(self, *batch) -> None:
        step(self, *batch)
        taken.append(1)
        if len(taken) == 2 * STEPS:
            with torch.no_grad():
                next(self.learner.model.parameters()).fill_(math.nan)

    monkeypatch.setattr(training._Fit, "_step", break_the_tenth)
    with pytest.raises(TrainingError, match="no longer a number in epoch 2"):
        fit(store, "a")
    run = store.get("a")
    assert run.state == "failed"
    assert len(run.metrics) == 1
    for name in ("best", "last"):
        assert all(v.isfinite().all() for v in weights(run, name).values())


def test_data_that_changed_is_refused(store, make_run, tiny):
    make_run("a")
    labels = tiny.labels.copy()
    labels[0] += 1
    dataset.save(dataclasses.replace(tiny, labels=labels, fingerprint=""))
    with pytest.raises(DataError, match=r"'tiny' has changed since this run was made.*clone"):
        fit(store, "a")
    run = store.get("a")
    assert run.state == "failed"
    assert "has changed" in run.status["error"]


def test_data_that_is_gone_is_a_named_failure(store, make_run):
    make_run("a")
    dataset.delete("tiny")
    with pytest.raises(DataError, match="no prepared data set 'tiny'"):
        fit(store, "a")
    assert store.get("a").state == "failed"


def test_a_run_whose_lock_is_held_is_left_alone(store, make_run, monkeypatch):
    run = make_run("a")
    before = (run.path / "status.json").read_bytes()
    monkeypatch.setattr(training, "hold", lambda path: hold(path, timeout=0.05))
    with hold(run.path / "run.lock"), pytest.raises(RunError, match="in use by another process"):
        fit(store, "a")
    assert (run.path / "status.json").read_bytes() == before


@pytest.mark.parametrize("state", ["stopped", "finished", "failed", "running"])
def test_only_a_queued_run_is_started(store, make_run, state):
    make_run("a")
    store.write_status("a", {"state": state})
    with pytest.raises(RunError, match="only a queued run can be started"):
        fit(store, "a")
    assert json.loads((store.root / "a" / "status.json").read_text())["state"] == state


def test_a_run_that_is_not_there_is_not_made_by_starting_it(store):
    with pytest.raises(RunError, match="no run 'gone'"):
        fit(store, "gone")
    assert os.listdir(store.root) == []


def test_a_run_that_cannot_be_read_says_why(store, make_run):
    run = make_run("a")
    (run.path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot be read: config\.json is damaged"):
        fit(store, "a")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MemoryError(),
            r"Memory ran out with train\.batch_size=32\. A step with train\.batch_size=16 was tried and fits",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), r"batch_size=16 was tried"),
        (torch.OutOfMemoryError("CUDA out of memory"), r"^GPU memory ran out .*batch_size=16 was tried"),
        (OSError(28, "No space left on device"), "disk is full"),
        (OSError(30, "Read-only file system"), "could not be written"),
    ],
)
def test_what_a_machine_runs_out_of_is_said_with_its_cure(store, make_run, monkeypatch, error, said):
    make_run("a")

    def fail(*_args):
        raise error

    monkeypatch.setattr(training._Fit, "_step", fail)
    with pytest.raises(TrainingError, match=said):
        fit(store, "a")
    assert store.get("a").state == "failed"


def test_a_defect_of_ours_stays_loud_and_is_written_down(store, make_run, monkeypatch):
    make_run("a")
    monkeypatch.setattr(training._Fit, "_step", lambda *_a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(store, "a")
    assert store.get("a").status["error"] == "ZeroDivisionError: division by zero"


# Splits


def test_val_fraction_holds_out_part_of_train(store, make_run, tiny):
    run = make_run("a", data__val_fraction=0.2, train__epochs=1)
    assert run.fingerprint != tiny.fingerprint
    lines = []
    fit(store, "a", Watcher(log=lines.append))
    assert "(112 train, 28 val)" in lines[0]
    assert store.get("a").report("val")["n"] == 28


def test_a_share_that_holds_out_nothing_is_refused(tiny):
    with pytest.raises(DataError, match=r"data\.val_fraction=0\.001 of 140 training pictures holds out none"):
        tiny.with_val_fraction(0.001)


def test_a_batch_larger_than_the_data_is_one_step(store, make_run):
    make_run("a", train__batch_size=1000, train__epochs=1)
    assert fit(store, "a").status["steps_per_epoch"] == 1


def test_the_resume_file_holds_no_code(finished_run: Run):
    saved = torch.load(Path(finished_run.path / "resume.pt"), weights_only=True)
    assert (saved["epoch"], saved["step"], saved["precision"]) == (3, 0, "fp32")
    assert Preprocess.for_channels("rgb") == load_checkpoint(finished_run.path / "best.safetensors").preprocess


# A machine that fails underneath


def test_what_a_smaller_batch_fits_is_found_by_trying_and_offered(store, make_run, monkeypatch):
    """A memory that holds a step of 8 pictures and no more."""
    make_run("a")
    real, tried = training.Learner.step, []

    def step(self, images, *rest):
        tried.append(len(images))
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, *rest)

    monkeypatch.setattr(training.Learner, "step", step)
    with pytest.raises(TrainingError, match=r"train\.batch_size=8 was tried and fits"):
        fit(store, "a")
    assert tried == [32, 16, 8]
    assert store.get("a").status["try_instead"] == {"train.batch_size": 8}


def test_where_no_batch_fits_none_is_offered(store, make_run, monkeypatch):
    make_run("a")

    def full(*_args):
        raise MemoryError

    monkeypatch.setattr(training.Learner, "step", full)
    with pytest.raises(TrainingError, match="no smaller batch was seen to fit"):
        fit(store, "a")
    assert "try_instead" not in store.get("a").status


def test_a_loss_that_is_no_number_names_its_step_and_offers_a_lower_rate(store, make_run, monkeypatch):
    make_run("a", train__epochs=2)
    step, taken = training.Learner.step, []

    def break_the_eighth(self, *batch):
        loss, right = step(self, *batch)
        taken.append(1)
        return (loss * math.nan if len(taken) == STEPS + 3 else loss), right

    monkeypatch.setattr(training.Learner, "step", break_the_eighth)
    with pytest.raises(TrainingError, match=rf"in epoch 2, step 3 of {STEPS}\..*last whole epoch, 1, are kept"):
        fit(store, "a")
    run = store.get("a")
    assert run.status["try_instead"] == {"optim.lr": 0.0001}
    assert torch.load(run.path / "resume.pt", weights_only=True)["epoch"] == 1
    assert all(v.isfinite().all() for v in weights(run).values())


def test_weights_that_broke_inside_an_epoch_are_not_saved_on_a_stop(store, make_run, every_step, monkeypatch):
    make_run("a")
    step = training._Fit._step

    def break_weights(self, *batch) -> None:
        step(self, *batch)
        if (self.state.epoch, self.state.step) == (1, 1):
            with torch.no_grad():
                next(self.learner.model.parameters()).fill_(math.nan)

    monkeypatch.setattr(training._Fit, "_step", break_weights)
    with pytest.raises(TrainingError, match="no longer a number in epoch 2"):
        fit(store, "a", Watcher(should_stop=StopAfter(STEPS + 2)))
    saved = torch.load(store.folder("a") / "resume.pt", weights_only=True)
    assert saved["epoch"] == 1
    assert all(v.isfinite().all() for v in saved["model"].values())


@pytest.mark.parametrize("name", ["best.safetensors", "metrics.jsonl", "resume.pt", "status.json"])
def test_a_disk_that_fills_up_at_any_file_fails_with_the_reason_and_the_save_before_goes_on(
    store, make_run, undisturbed, monkeypatch, name
):
    """From the second epoch on, the file cannot be written, and nothing else can before some space is given back."""
    make_run("a", **SETTINGS)
    full = {"now": False}

    def refuse(path) -> None:
        due = Path(path).name == name and bool(store.get("a").metrics)
        full["now"] = (full["now"] or due) and (store.folder("a") / ".reserve").exists()
        if full["now"]:
            raise OSError(28, "No space left on device")

    real_append, real_write = RunStore.append_metrics, files.write_atomic
    with monkeypatch.context() as patch:
        patch.setattr(
            RunStore,
            "append_metrics",
            lambda s, i, row: (refuse(s.folder(i) / "metrics.jsonl"), real_append(s, i, row)),
        )
        for module in (files, training):
            patch.setattr(
                module, "write_atomic", lambda path, write, **more: (refuse(path), real_write(path, write, **more))
            )
        with pytest.raises(TrainingError, match="The disk is full. Free some space, then resume"):
            fit(store, "a")
    run = store.get("a")
    assert (run.state, run.problems) == ("failed", ())
    assert "disk is full" in run.status["error"]
    assert not [p for p in run.path.iterdir() if p.suffix == ".tmp" or p.name == ".reserve"]
    store.requeue("a")
    assert_same_outcome(fit(store, "a"), undisturbed)


def test_a_store_that_is_removed_while_a_run_trains_is_said(store, make_run, every_step):
    make_run("a")
    lines: list[str] = []

    def remove(_progress) -> None:
        shutil.rmtree(store.root, ignore_errors=True)

    with pytest.raises(TrainingError, match="folder .* is gone: it was deleted or its disk was taken away"):
        fit(store, "a", Watcher(on_progress=remove, log=lines.append))
    assert "status could not be written" in lines[-1]
    assert not store.root.exists()


def test_a_store_that_becomes_read_only_is_said(store, make_run, read_only, every_step):
    make_run("a")
    with pytest.raises(TrainingError, match=r"could not be written: .*Read-only.*Resume the run when"):
        fit(store, "a", Watcher(on_epoch=lambda _row: read_only(store.root)))


def test_a_torn_last_line_is_dropped_and_said_on_resuming(store, make_run, undisturbed, every_step):
    make_run("a", **SETTINGS)
    fit(store, "a", Watcher(should_stop=StopAfter(STEPS + 2)))
    with open(store.folder("a") / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "lr": 0.0')
    assert store.get("a").problems == ("metrics.jsonl: a torn last line left out",)
    store.requeue("a")
    lines: list[str] = []
    assert_same_outcome(fit(store, "a", Watcher(log=lines.append)), undisturbed)
    assert lines[0] == "metrics.jsonl: a torn last line dropped"


def test_lost_metrics_are_written_again_from_the_save(store, make_run, undisturbed, every_step):
    make_run("a", **SETTINGS)
    fit(store, "a", Watcher(should_stop=StopAfter(2 * STEPS + 1)))
    (store.folder("a") / "metrics.jsonl").unlink()
    store.requeue("a")
    lines: list[str] = []
    assert_same_outcome(fit(store, "a", Watcher(log=lines.append)), undisturbed)
    assert lines[0] == "metrics.jsonl: 2 lost epochs written again from resume.pt"


@pytest.mark.parametrize("stops", [False, True])
def test_a_run_that_has_ended_has_all_of_its_log(make_run, store, stops):
    """Who follows a log reads until the run has ended; a line that came later would be lost."""
    make_run("a", train__epochs=1)
    told = []
    fit(store, "a", Watcher(log=lambda line: told.append((line, store.get("a").state)), should_stop=lambda: stops))
    assert told[-1][0].startswith("stopped in" if stops else "finished: best")
    assert {state for _, state in told} == {"running"}
    assert store.get("a").state == ("stopped" if stops else "finished")
