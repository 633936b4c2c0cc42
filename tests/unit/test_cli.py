"""The command line as a user types it: one JSON document, or one plain sentence and exit code 2."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer import jobs
from fer.cli import main
from fer.config import Config
from fer.data import dataset
from fer.data.dataset import CLASSES
from fer.files import PROJECT_ROOT, write_json_atomic
from fer.recipes import RECIPES
from fer.runs import RunStore, hold
from fer.schedules import lr_at
from fer.train import fit
from tests.conftest import TINY, draw_blobs
from tests.made_runs import write_run

SETTINGS = [word for path, value in TINY.items() if path != "data.name" for word in ("--set", f"{path}={value}")]


@pytest.fixture
def ask(capsys):
    """`ask("runs", "list", "--json")`: the exit code, what went to standard output, what to standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def ask_json(ask):
    """The one JSON document that a command prints."""

    def run(*words: str):
        code, out, err = ask(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def picture(tmp_path) -> str:
    path = tmp_path / "plain.png"
    Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(path)
    return str(path)


# What the user got wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --recipe nope", "There is no recipe 'nope'. Known recipes: baseline"),
        ("train --recipe step-decy", "Did you mean 'step-decay'?"),
        ("train --set optim.lrr=1", "There is no setting 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("train --set optim.lr", "Write it as PATH=VALUE"),
        ("train --set optim.lr=fast", "optim.lr cannot be 'fast'. Allowed: a number, greater than 0, at most 10."),
        ("train --set train.epochs=0", "train.epochs cannot be '0'"),
        ("train --set model.name=resnet", "Allowed: one of baseline, grouped-conv"),
        ("train --recipe grouped-conv --set model.channels=grey", "cannot take model.channels=grey"),
        ("train --seed x", "--seed"),
        ("train --seed -1", "seed cannot be"),
        ("train --dataset nope", "There is no prepared data set 'nope'. Available: tiny, sample."),
        ("train --dataset ../x", "data.name cannot be '../x'"),
        ("train --dataset tiny --run-id ../x", "cannot be a run id"),
        ("train --dataset tiny --run-id done", "There is a run 'done' already."),
        (
            "train --dataset tiny --set runtime.device=cpu --set runtime.precision=fp16",
            "'fp16' is not to be had on the CPU",
        ),
        ("train --nope", "No such option: --nope"),
        ("nope", "No such command 'nope'"),
        ("runs nope", "No such command 'nope'"),
        ("runs show", "Missing argument 'RUN'"),
        ("runs show gone", "There is no run 'gone'"),
        ("runs show ../done", "cannot be a run id"),
        ("runs stop done", "is finished; only a queued or running one can be stopped"),
        ("runs resume done", "is finished; only a stopped, failed or lost run can be resumed"),
        ("runs start done", "only a queued run can be started"),
        ("runs start gone", "There is no run 'gone'"),
        ("runs delete gone --yes", "There is no run 'gone'"),
        ("runs delete done", "Add --yes"),
        ("runs rename done " + "x" * 81, "A name has at most 80 characters; this one has 81."),
        ("runs archive gone", "There is no run 'gone'"),
        ("runs note gone", "There is no run 'gone'"),
        ("runs note done --untag a", "Run 'done' has no tag 'a'. Its tags: none."),
        ("runs note done --tag " + "x" * 41, "A tag has at most 40 characters; this one has 41."),
        ("runs list --state done", "There is no state 'done'. Allowed: queued, running"),
        ("runs list --recipe step-decy", "Did you mean 'step-decay'?"),
        ("runs list --sort size", "Runs cannot be sorted by 'size'. Allowed: created, name, best, last, seconds."),
        ("runs list --limit 0", "Invalid value for '--limit'"),
        ("evaluate", "Missing argument 'RUN'"),
        ("evaluate gone", "There is no run 'gone'"),
        ("evaluate done --split all", "There is no split 'all'. Allowed: train, val, test."),
        ("evaluate done --dataset nope", "There is no prepared data set 'nope'"),
        ("evaluate done --device tpu", "Allowed: one of auto, cpu, cuda, mps"),
        ("predict", "Missing argument 'PATH...'"),
        ("predict a.png --run gone", "There is no run 'gone'"),
        ("data show nope", "There is no prepared data set 'nope'"),
        ("data show ../x", "cannot name a data set"),
        ("data delete nope --yes", "There is no prepared data set 'nope'"),
        ("data import gone.zip --name x", "gone.zip"),
        ("data import . --name ../x", "cannot name a data set"),
        ("data import .", "Missing option '--name'"),
        ("cost --recipe nope", "There is no recipe 'nope'"),
        ("cost --dataset nope", "There is no prepared data set 'nope'"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_exit_code_2(ask, finished_run, words, said):
    before = {p.name for p in finished_run.path.parent.iterdir()}
    code, out, err = ask(*words.split(" "))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    made = {p.name for p in finished_run.path.parent.iterdir()} - before
    assert not made or "fp16" in words  # nothing is made of a request that was refused


def test_no_command_is_help_and_exit_code_2(ask):
    code, out, err = ask()
    assert code == 2
    assert "train" in out + err
    assert ask("--help")[0] == 0


def test_several_data_sets_and_none_named_asks(ask, tiny):
    dataset.save(dataset.Dataset("other", tiny.images, tiny.labels, tiny.splits, tiny.sources))
    code, _, err = ask("train")
    assert code == 2
    assert "Several data sets are prepared: other, tiny. Say which one with --dataset NAME." in err


def test_a_defect_of_ours_stays_loud(monkeypatch):
    monkeypatch.setattr("fer.cli.RunStore", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["runs", "list"])


# Training


def test_train_evaluate_and_show_as_json(ask_json, tiny, store):
    trained = ask_json(
        "train", "--recipe", "step-decay", "--dataset", "tiny", *SETTINGS, "--seed", "4", "--run-id", "demo"
    )
    assert (trained["id"], trained["state"], trained["recipe"], trained["seed"]) == (
        "demo",
        "finished",
        "step-decay",
        4,
    )
    assert trained["epochs_done"] == 3
    run = store.get("demo")
    assert [row["lr"] for row in run.metrics] == [lr_at(run.config, e * 5, 5) for e in range(3)]
    report = ask_json("evaluate", "demo")
    assert {k: report[k] for k in ("run", "dataset", "fingerprint", "split", "n")} == {
        "run": "demo", "dataset": "tiny", "fingerprint": tiny.fingerprint, "split": "val", "n": 70,
    }  # fmt: skip
    assert report["classes"] == list(CLASSES) == list(report["per_class"])
    assert set(report["per_class"]["sad"]) == {"precision", "recall", "f1", "n"}
    assert np.shape(report["confusion_matrix"]) == (7, 7)
    assert {"loss", "top1", "macro_f1"} <= set(report)
    assert ask_json("runs", "show", "demo")["id"] == "demo"
    assert [r["id"] for r in ask_json("runs", "list")] == ["demo"]


def test_plain_lines_elsewhere_than_in_a_terminal(ask, tiny, store):
    code, out, err = ask("train", "--dataset", "tiny", *SETTINGS, "--set", "train.epochs=2", "--run-id", "demo")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("run demo: baseline on tiny (140 train, 70 val), cpu")
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[3].startswith("finished: best val top-1")
    assert "\x1b" not in out
    assert (store.root / "demo" / "train.log").read_text() == out


def test_a_training_that_fails_is_a_sentence_and_a_failed_run(ask, tiny, store):
    options = ["--set", "optim.name=sgd", "--set", "optim.lr=10", "--set", "train.batch_size=8"]
    code, out, err = ask("train", "--dataset", "tiny", *SETTINGS, *options, "--run-id", "demo", "--json")
    assert (code, out) == (2, "")
    assert "no longer a number" in err
    assert store.get("demo").state == "failed"
    assert "failed: The training loss" in store.get("demo").log_tail()


def test_queue_returns_at_once_and_calls_a_worker(ask_json, tiny, store, monkeypatch):
    called = []
    monkeypatch.setattr(jobs, "ensure_worker", called.append)
    queued = ask_json("train", "--dataset", "tiny", "--queue", "--run-id", "demo")
    assert queued["state"] == "queued"
    assert len(called) == 1
    assert ask_json("runs", "stop", "demo")["state"] == "stopped"
    assert ask_json("runs", "resume", "demo", "--queue")["state"] == "queued"
    assert len(called) == 2


def test_what_nobody_would_train_is_not_queued(ask, tiny, store, monkeypatch):
    words = ("train", "--dataset", "tiny", "--queue", "--run-id", "demo")
    with monkeypatch.context() as patch:
        patch.setenv("FER_MAX_RUNS", "0")
        code, out, err = ask(*words)
        assert (code, out) == (2, "")
        assert err == "FER_MAX_RUNS cannot be '0'. Allowed: a whole number from 1 to 64.\n"
    (store.root / jobs.WORKER_LOG).mkdir()
    code, out, err = ask(*words)
    assert (code, out) == (2, "")
    assert "The worker could not be started" in err
    assert store.ids() == []


def test_a_polite_kill_saves_and_the_run_goes_on(ask, ask_json, tiny, store):
    words = ["train", "--dataset", "tiny", *SETTINGS, "--set", "train.epochs=60", "--run-id", "demo"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "fer", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 90
        while process.poll() is None and not (store.ids() and store.get("demo").metrics):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "Go on with: python -m fer runs resume demo\n"
    assert out.splitlines()[-1].startswith("stopped in epoch")
    run = store.get("demo")
    assert run.state == "stopped"
    assert (run.path / "resume.pt").exists()


def test_resume_in_the_foreground_finishes_the_run(ask, ask_json, make_run, store):
    make_run("demo", train__epochs=1)
    store.request_stop("demo")
    assert ask_json("runs", "resume", "demo")["state"] == "finished"


# Runs


def test_rename_archive_and_delete(ask, ask_json, finished_run, store):
    assert ask_json("runs", "rename", "done", "My best")["name"] == "My best"
    ask_json("runs", "archive", "done")
    assert ask_json("runs", "list") == []
    assert [r["id"] for r in ask_json("runs", "list", "--archived")] == ["done"]
    ask_json("runs", "archive", "done", "--undo")
    assert ask("runs", "list")[1].splitlines()[1].startswith("done")
    deleted = ask_json("runs", "delete", "done", "--yes")
    assert deleted.pop("trash").startswith("done@")
    assert deleted == {"id": "done", "deleted": True}
    assert store.ids() == []


def test_a_shipped_run_is_neither_renamed_nor_deleted(ask, finished_run, store):
    write_json_atomic(store.root / "shipped.json", ["done"])
    for words in (["rename", "done", "x"], ["note", "done", "--tag", "x"], ["delete", "done", "--yes"]):
        code, _, err = ask("runs", *words)
        assert code == 2
        assert "came with the project" in err
    assert store.ids() == ["done"]


def test_deleting_a_member_names_the_ensembles_that_lose_it(ask, store, monkeypatch):
    for run_id in ("a", "b", "c"):
        store.create(Config(), recipe="baseline", data={}, run_id=run_id)
    store.create(Config(), recipe=None, data={}, run_id="both", kind="ensemble", members=["a", "b"])
    store.create(Config(), recipe=None, data={}, run_id="all", kind="ensemble", members=["a", "b", "c"])
    store.write_status("all", {"state": "finished"})
    store.annotate("all", name="All three", archived=True)
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("fer.cli.typer.confirm", lambda text, abort: asked.append(text))
    one = "The ensemble All three has it as a member and cannot answer without it."
    two = "The ensembles All three, both have it as a member and cannot answer without it."
    assert ask("runs", "delete", "c")[1].splitlines()[1:] == [one]
    assert ask("runs", "delete", "b", "--yes")[1].splitlines()[1:] == [two]
    assert ask("runs", "delete", "both")[0] == 0
    assert asked == [f"{one} Delete run 'c' and all its files?", "Delete run 'both' and all its files?"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert ask("runs", "delete", "a")[2] == f"Deleting 'a' wants a yes, and there is nobody to ask. {one} Add --yes.\n"
    assert store.ids() == ["a", "all"]


def test_an_empty_store_says_what_to_do(ask, ask_json, store):
    assert "python -m fer train" in ask("runs", "list")[1]
    assert ask_json("runs", "list") == []


@pytest.fixture
def four(store) -> None:
    """Four runs, the newest last; the first is archived."""
    write_run(store, "old", [{"val_top1": 0.9}], created=1e9)
    write_run(store, "apple", [{"val_top1": 0.5, "epoch_seconds": 3.0}], created=2e9, notes={"tags": ["good", "cnn"]})
    write_run(store, "pear", [{"val_top1": 0.6}, {"val_top1": 0.4}], created=3e9, recipe="cosine", state="stopped")
    write_run(store, "fig", [], created=4e9, state="failed", notes={"tags": ["good"], "name": "Zebra"})
    store.annotate("old", archived=True)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("", ["fig", "pear", "apple"]),
        ("--archived --limit 2 --sort best", ["old", "pear"]),
        ("--state stopped --state failed", ["fig", "pear"]),
        ("--tag good", ["fig", "apple"]),
        ("--tag good --tag cnn", ["apple"]),
        ("--recipe cosine", ["pear"]),
        ("--recipe cosine --recipe ensemble --state failed", []),
        ("--sort name", ["apple", "pear", "fig"]),
        ("--sort best", ["pear", "apple", "fig"]),
        ("--sort last", ["apple", "pear", "fig"]),
        ("--sort seconds", ["apple", "pear", "fig"]),
        ("--sort created --limit 1", ["fig"]),
    ],
)
def test_the_list_is_filtered_and_sorted(ask_json, four, words, ids):
    assert [r["id"] for r in ask_json("runs", "list", *words.split())] == ids


def test_a_list_shows_tags_and_says_that_nothing_fits(ask, four):
    lines = ask("runs", "list")[1].splitlines()
    assert lines[0].endswith("tags") and lines[-1].endswith("good, cnn")
    assert "tags" not in ask("runs", "list", "--recipe", "cosine")[1]
    nothing = ask("runs", "list", "--state", "lost")[1]
    assert nothing == "None of the 3 runs fits. Archived ones are left out without --archived.\n"


def test_an_ensemble_has_no_epochs_in_list_and_show(ask, ask_json, four, store):
    write_run(store, "both", [{"val_top1": 0.7, "lr": 0.0, "epoch_seconds": 1.0}], members=["apple", "pear"])
    line = next(line for line in ask("runs", "list")[1].splitlines() if line.startswith("both"))
    assert line.split()[-4:] == ["-", "70.00%", "70.00%", "-"]
    assert [r["id"] for r in ask_json("runs", "list", "--sort", "seconds", "--limit", "1")] == ["apple"]
    shown = ask("runs", "show", "both")[1]
    assert "members: apple, pear" in shown and "70.00%" in shown and "epoch" not in shown


def test_a_run_is_noted_and_the_notes_are_shown(ask, ask_json, four, store):
    assert ask("runs", "note", "pear")[1] == "pear\n  nothing is noted\n"
    words = ["--name", "Pear", "--tag", "b, a", "--tag", "b", "--note", "two\x1b[2J\nlines", "--pin"]
    code, out, _ = ask("runs", "note", "pear", *words)
    assert (code, out) == (0, "pear, shown as 'Pear'\n  pinned\n  tags: b, a\n  note: two [2J\nlines\n")
    assert ask("runs", "show", "pear")[1].splitlines()[1:3] == ["  pinned", "  tags: b, a"]
    changed = ask_json("runs", "note", "pear", "--untag", "b", "--tag", "c", "--unpin", "--archive", "--name", "")
    assert {what: changed[what] for what in ("name", "tags", "pinned", "archived")} == {
        "name": "pear", "tags": ["a", "c"], "pinned": False, "archived": True,
    }  # fmt: skip
    assert changed["note"] == "two\x1b[2J\nlines"
    assert ask_json("runs", "note", "pear", "--unarchive", "--note", "")["note"] == store.get("pear").notes.note == ""


def test_a_damaged_run_says_so_in_the_list(ask, finished_run):
    with open(finished_run.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "l')
    code, out, _ = ask("runs", "list")
    assert (code, "finished, damaged" in out) == (0, True)


def test_a_broken_run_is_listed_and_shown_not_a_crash(ask, ask_json, finished_run):
    (finished_run.path / "config.json").write_text("{")
    assert ask_json("runs", "list")[0]["state"] == "broken"
    code, out, _ = ask("runs", "show", "done")
    assert code == 0
    assert "damaged: config.json" in out
    assert ask("runs", "list")[0] == 0


def test_a_finished_run_is_shown_as_a_table(ask, finished_run):
    _, out, _ = ask("runs", "show", "done")
    assert out.splitlines()[0].startswith("done: finished, recipe baseline, data tiny")
    assert len(out.splitlines()) == 5
    _, out, _ = ask("evaluate", "done")
    assert out.startswith("done on tiny val: 70 pictures, top-1 ")
    assert all(name in out for name in CLASSES)


# Runs that go on


def row(epoch: int) -> dict[str, float]:
    """An epoch of ten seconds."""
    facts = {"train_loss": 1.5, "train_top1": 0.4, "val_loss": 1.6, "val_macro_f1": 0.3, "epoch_seconds": 10.0}
    return {"epoch": epoch, "lr": 0.001, **facts, "val_top1": 0.3 + epoch / 100}


@pytest.fixture
def training(make_run, store, monkeypatch):
    """`training()`: the queued run 'demo' of three epochs, which goes a step further whenever a command waits: it begins, has a
    speed, ends its first epoch, then the other two. Whoever does it holds the run's lock."""

    def moves(run):
        with hold(run.path / "run.lock"), open(run.path / "train.log", "a") as file:
            speed = {}
            for epochs in ((), (), (1,), (2, 3)):
                for epoch in epochs:
                    store.append_metrics("demo", row(epoch))
                    print(f"epoch {epoch}\x1b[2J", file=file, flush=True)
                done = len(store.get("demo").metrics)
                state = "finished" if done == 3 else "running"
                store.write_status("demo", {"state": state, "epoch": done, "step": 2, "steps_per_epoch": 5, **speed})
                speed = {"images_per_sec": 1234.0, "running_loss": 1.25, "running_top1": 0.456}
                yield

    def make():
        going = moves(make_run("demo"))
        monkeypatch.setattr("fer.cli.sleep", lambda _seconds: next(going))
        return going

    return make


def test_a_run_that_trains_says_how_far_it_is(ask, training):
    going = training()
    assert ask("runs", "show", "demo")[1].splitlines()[-1] == "Waiting for its turn"
    for _ in range(3):
        next(going)
    code, out, err = ask("runs", "show", "demo")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (
        "Epoch 2 of 3, step 2 of 5, loss 1.250, top-1 45.6 %, 1,234 images/s, about 16 s left"
    )


def test_a_run_is_followed_with_a_line_an_epoch_to_its_end(ask, training):
    training()
    code, out, err = ask("runs", "show", "demo", "--follow")
    assert (code, err) == (0, "")
    numbers = "lr 0.001  train loss 1.5000 top-1 40.00%  val loss 1.6000 top-1"
    assert out.splitlines()[1:] == [
        "Waiting for its turn",
        "Epoch 1 of 3, step 2 of 5",
        "Epoch 1 of 3, step 2 of 5, loss 1.250, top-1 45.6 %, 1,234 images/s, about 0.3 s left",
        f"epoch 1/3  {numbers} 31.00%  10.0 s  about 16 s left",
        f"epoch 2/3  {numbers} 32.00%  10.0 s",
        f"epoch 3/3  {numbers} 33.00%  10.0 s",
        "finished: best val top-1 33.00% in epoch 3",
    ]


def test_what_keeps_a_followed_run_waiting_and_what_ended_it_is_said(ask, make_run, store, monkeypatch):
    make_run("demo")
    jobs.pause(store)
    failed = {"state": "failed", "error": "The disk is full."}
    monkeypatch.setattr("fer.cli.sleep", lambda _seconds: store.write_status("demo", failed))
    _, out, _ = ask("runs", "show", "demo", "--follow")
    assert out.splitlines()[1:] == [
        "Waiting for its turn. The queue is paused; go on with: python -m fer queue resume",
        "failed",
        "The disk is full.",
        "Go on with: python -m fer runs resume demo",
    ]


@pytest.mark.parametrize("words", [("show", "demo"), ("log", "demo")])
def test_ctrl_c_ends_the_watching_and_not_the_run(ask, training, monkeypatch, words):
    going = training()
    next(going)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fer.cli.sleep", interrupted)
    code, _, err = ask("runs", *words, "--follow")
    assert (code, err) == (0, "demo is no longer watched; nothing else has changed.\n")
    assert RunStore().get("demo").state == "running"


def test_a_log_is_printed_and_followed_and_steers_no_terminal(ask, training, store):
    training()
    lines = "".join(f"epoch {epoch} [2J\n" for epoch in (1, 2, 3))
    code, out, err = ask("runs", "log", "demo")
    assert (code, out, err) == (2, "", "Run 'demo' has no log yet: it waits. Add --follow to see it from the start.\n")
    assert ask("runs", "log", "demo", "--follow") == (0, lines, "")
    assert ask("runs", "log", "demo") == (0, lines, "")
    (store.root / "demo" / "train.log").unlink()
    code, out, err = ask("runs", "log", "demo", "--follow")
    assert (code, out) == (2, "")
    assert err.startswith("Run 'demo' has no log: there is no file ")


def test_lines_and_a_document_are_not_printed_at_once(ask, finished_run):
    code, out, err = ask("runs", "show", "done", "--follow", "--json")
    assert (code, out) == (2, "")
    assert err == "--follow prints lines as they come, --json one document. Leave one of them out.\n"


def test_what_is_queued_names_the_command_that_watches_it(ask, make_run, store, tiny, monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)
    watch = "watch it with: python -m fer runs show demo --follow"
    assert watch in ask("train", "--dataset", "tiny", "--queue", "--run-id", "demo")[1]
    ask("runs", "stop", "demo")
    assert watch in ask("runs", "resume", "demo", "--queue")[1]


# Predict


def test_augment_draws_a_picture_of_each_class_before_and_after(ask, ask_json, tiny, tmp_path):
    out = tmp_path / "batch.png"
    assert ask("augment", "--recipe", "augment", "--dataset", "tiny", "--out", str(out))[0] == 0
    with Image.open(out) as sheet:
        assert sheet.size == (2 * (7 * 52 - 4), 2 * (4 * 52 - 4))
    answer = ask_json("augment", "--dataset", "tiny", "--seed", "1")
    assert (answer["pictures"], answer["rows"]) == (7, 4)
    assert base64.b64decode(answer["png"]).startswith(b"\x89PNG")
    for words, said in (
        (("augment", "--dataset", "tiny"), "Say where the picture goes, with --out"),
        (("augment", "--dataset", "tiny", "--out", str(tmp_path / "no" / "x.png")), "cannot be written: No such file"),
    ):
        code, _, err = ask(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


def test_evaluate_with_views_and_an_ensemble_of_two(ask, ask_json, finished_run, store, make_run):
    report = ask_json("evaluate", "done", "--tta")
    assert report["tta"] is True
    assert 0 <= report["calibration"]["ece_after"] <= 1
    make_run("other", seed=1, train__epochs=1)
    fit(store, "other")
    made = ask_json("ensemble", "done", "other", "--run-id", "both")
    assert (made["run"], made["members"]) == ("both", ["done", "other"])
    assert made["val_top1"] == ask_json("evaluate", "both")["top1"]
    assert "calibration error" in ask("evaluate", "both")[1]
    code, _, err = ask("ensemble", "done")
    assert (code, err.count("\n")) == (2, 1)
    assert "at least two different runs" in err


def test_predict_as_json_has_the_promised_shape(ask, finished_run, picture, tmp_path, tiny):
    Image.fromarray(tiny.images[0]).save(tmp_path / "crop.png")
    (tmp_path / "notes.txt").write_text("no picture")
    paths = [str(tmp_path / "crop.png"), picture, str(tmp_path / "notes.txt")]
    code, out, err = ask("predict", *paths, "--run", "done", "--json")
    assert (code, err) == (0, "")
    crop, plain, text = json.loads(out)
    assert [crop["image"], plain["image"], text["image"]] == paths
    assert (crop["width"], crop["height"]) == (48, 48)
    (face,) = crop["faces"]
    assert face["box"] == [0, 0, 48, 48]
    assert set(face) == {"box", "label", "confidence", "unsure", "probs"}
    assert list(face["probs"]) == list(CLASSES)
    assert face["confidence"] == max(face["probs"].values()) == face["probs"][face["label"]]
    assert plain == {"image": picture, "width": 90, "height": 60, "faces": []}
    assert set(text) == {"image", "error"}


def test_predict_a_folder_into_a_table_and_annotated_pictures(ask, finished_run, tmp_path, tiny):
    folder, drawn, table = tmp_path / "in", tmp_path / "out" / "deep", tmp_path / "faces.csv"
    folder.mkdir()
    for name in ("=b.png", "a.png"):
        Image.fromarray(tiny.images[0]).save(folder / name)
    (folder / "broken.png").write_bytes(b"no")
    code, out, err = ask("predict", str(folder), "--csv", str(table), "--annotate", str(drawn), "--json")
    assert (code, err) == (0, "") and len(json.loads(out)) == 3
    rows = pd.read_csv(table)
    assert list(rows["run"]) == ["done"] * 3 and list(rows["face"].dropna()) == [1, 1]
    assert "is not a picture" in rows["problem"].dropna().item()
    made = sorted(p.name for p in drawn.iterdir())
    assert made == ["0001-=b.png", "0002-a.png"]
    with Image.open(drawn / made[0]) as image:
        assert image.size == (48, 48)
    patterns = json.loads(ask("predict", str(folder / "*b.png"), str(folder / "a.png"), "--json")[1])
    assert [Path(e["image"]).name for e in patterns] == ["=b.png", "a.png"]


@pytest.mark.parametrize("name", ["笑" * 78 + ".png", "a" * 240 + ".png"])
def test_a_long_name_is_cut_for_its_annotated_picture(ask, finished_run, tmp_path, tiny, name):
    Image.fromarray(tiny.images[0]).save(tmp_path / name)
    code, _out, err = ask("predict", str(tmp_path / name), "--annotate", str(tmp_path / "out"), "--json")
    [made] = (tmp_path / "out").iterdir()
    assert (code, err) == (0, "") and made.name == f"0001-{name[: 180 // len(name[0].encode())]}.png"


def test_a_picture_that_cannot_be_annotated_is_a_note_and_the_answers_are_kept(
    ask, finished_run, tmp_path, tiny, monkeypatch
):
    for name in "ab":
        Image.fromarray(tiny.images[0]).save(tmp_path / f"{name}.png")
    table, drawn = tmp_path / "faces.csv", tmp_path / "out"
    (drawn / "0001-a.png").mkdir(parents=True)  # in the place of a picture
    words = ("predict", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--annotate", str(drawn), "--csv", str(table))
    code, out, err = ask(*words)
    assert code == 0 and "a.png: face 1" in out and "b.png: face 1" in out
    assert "0001-a.png cannot be written" in err and (drawn / "0002-b.png").is_file()
    rows = pd.read_csv(table)
    assert list(rows["face"]) == [1, 1] and "cannot be written" in rows["problem"][0] and pd.isna(rows["problem"][1])
    assert "cannot be written" in json.loads(ask(*words, "--json")[1])[0]["note"]


def test_where_nothing_can_be_written_predict_says_so(ask, finished_run, tmp_path, picture):
    path = tmp_path / "gone" / "x.csv"
    code, _out, err = ask("predict", picture, "--csv", str(path))
    assert code == 2 and err == f"{path} cannot be written: No such file or directory. Choose another place.\n"
    code, _out, err = ask("predict", picture, "--annotate", picture)
    assert code == 2 and "cannot be made" in err
    code, _out, err = ask("predict", picture, "--csv", str(tmp_path))
    assert code == 2 and err == f"{tmp_path} cannot be written: Is a directory. Choose another place.\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
def test_a_pipe_is_written_into_and_not_replaced(ask, finished_run, tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    code, _out, err = ask("runs", "card", "done", "--out", str(pipe))
    assert code == 0, err
    assert pipe.is_fifo()
    reader.join(10)
    assert heard and heard[0].startswith("# Model card: done")


def test_no_face_is_no_error(ask, finished_run, picture):
    code, out, err = ask("predict", picture, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["faces"] == []
    assert ask("predict", picture)[0] == 0
    whole = json.loads(ask("predict", picture, "--whole", "--json")[1])
    assert whole[0]["faces"][0]["box"] == [15, 0, 60, 60]


def test_exit_code_2_only_where_no_file_could_be_read(ask, finished_run, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    bad, gone = str(tmp_path / "bad.png"), str(tmp_path / "gone.png")
    code, out, _ = ask("predict", bad, gone, "--json")
    assert code == 2
    assert ["error" in entry for entry in json.loads(out)] == [True, True]
    assert ask("predict", bad, picture, "--json")[0] == 0


def test_what_is_no_picture_is_said_on_standard_error(ask, finished_run, tmp_path):
    code, out, err = ask("predict", str(tmp_path / "gone.png"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "There is no file 'gone.png'." in err


def test_without_any_run_predict_says_how_to_train_one(ask, store, picture):
    code, _, err = ask("predict", picture)
    assert code == 2
    assert "Train one first" in err


# Data and the rest


def test_data_show_and_list(ask, ask_json, tiny):
    shown = ask_json("data", "show", "tiny")
    assert shown["fingerprint"] == tiny.fingerprint
    assert ask_json("data", "list") == [{"name": "tiny", "prepared": True}, {"name": "sample", "prepared": False}]
    code, out, _ = ask("data", "show", "tiny")
    assert code == 0
    for line in ("Dimensions:", "Resolution:", "Bit depth:"):
        assert line in out


@pytest.fixture
def faces(tmp_path) -> Path:
    """A folder of 28 pictures in Kaggle's layout."""
    images = draw_blobs().images
    for number, name in enumerate(CLASSES * 4):
        folder = tmp_path / "faces" / ("train" if number < 14 else "val") / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(folder / f"{number}.png")
    return tmp_path / "faces"


def test_another_data_set_is_replaced_only_where_that_is_asked_for(ask, tiny, faces):
    code, out, err = ask("data", "import", str(faces), "--name", "tiny")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("There is another data set 'tiny' already, from an unknown source")
    assert f"(fingerprint {tiny.fingerprint[:8]}; this one has " in err
    assert err.endswith("Add --replace to put this one in its place, or choose another --name.\n")
    assert dataset.load("tiny").fingerprint == tiny.fingerprint
    code, out, _ = ask("data", "import", str(faces), "--name", "tiny", "--replace")
    assert code == 0 and "in place of the one that was there" in out
    assert len(dataset.load("tiny")) == 28


def test_the_same_pictures_again_and_a_damaged_file_need_no_word(ask, faces):
    words = ("data", "import", str(faces), "--name", "mine")
    assert ask(*words)[0] == 0
    code, out, _ = ask(*words)
    assert code == 0 and "in place of" not in out
    dataset.dataset_path("mine").write_bytes(b"no data set")
    assert ask(*words)[0] == 0
    assert len(dataset.load("mine")) == 28


def test_an_import_can_be_used_by_its_name(ask_json, faces):
    found = ask_json("data", "import", str(faces), "--name", "mine")
    assert found["name"] == "mine"
    assert [e["name"] for e in ask_json("data", "list")] == ["mine", "sample"]


def test_what_an_import_ignored_is_said_and_kept(ask, ask_json, faces):
    (faces / "cover.png").write_bytes(b"x")
    said = "1 file ignored, 1 picture outside of the splits, e.g. cover.png.\n"
    assert said in ask("data", "import", str(faces), "--name", "mine")[1]
    assert said in ask("data", "show", "mine")[1]
    found = ask_json("data", "show", "mine")
    keys = ("ignored", "ignored_pictures", "ignored_examples", "copies")
    assert [found[k] for k in keys] == [1, 1, ["cover.png"], 0]


def test_what_is_left_out_is_listed_to_the_hundredth(ask, ask_json, tmp_path):
    rows = [f"{e},{f'{e} ' * 2304},{usage}" for usage in ("Training", "PublicTest") for e in range(7)]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels,Usage", *rows, *["9,,Training"] * 120]))
    lines = ask("data", "import", str(tmp_path / "x.csv"), "--name", "mine", "--skip-bad")[1].splitlines()
    assert sum("left out: row" in line for line in lines) == 100
    assert "  and 20 more, which --json lists" in lines
    assert len(ask_json("data", "show", "mine")["skipped"]) == 120


def test_what_came_from_kaggle_can_be_imported_without_its_bad_pictures(ask, faces, monkeypatch):
    (faces / "train" / "happy" / "bad.png").write_bytes(b"x")
    monkeypatch.setattr("fer.data.kaggle.fetch_kaggle", lambda: faces)
    code, _, err = ask("data", "kaggle")
    assert code == 2 and "--skip-bad" in err
    code, out, _ = ask("data", "kaggle", "--skip-bad")
    assert code == 0 and "left out: train/happy/bad.png" in out


def test_deleting_faces_that_were_never_drawn_is_told_in_a_sentence(ask):
    assert "The data set 'sample' has no file to delete" in ask("data", "delete", "sample", "--yes")[2]
    assert "no prepared data set 'mine'. Prepared: none." in ask("data", "delete", "mine", "--yes")[2]


def test_recipes_are_all_listed(ask, ask_json):
    assert [r["name"] for r in ask_json("recipes")] == list(RECIPES)
    assert len(ask("recipes")[1].splitlines()) == len(RECIPES) + 1


def test_recipes_say_what_they_brought(ask, ask_json, store):
    for seed, best in ((0, 0.54), (1, 0.56)):
        write_run(
            store, f"d{seed}", [{"val_top1": best}, {"val_top1": 0.1}], recipe="dropout", seed=seed, train__epochs=25
        )
    found = {r["name"]: r["result"] for r in ask_json("recipes")}
    assert found["baseline"] is None
    assert found["dropout"] == {
        "dataset": "fer2013", "n": 2, "best_val_top1": pytest.approx(0.55), "std": pytest.approx(0.01414, abs=1e-5), "runs": ["d0", "d1"],
    }  # fmt: skip
    lines = {line.split()[0]: line for line in ask("recipes")[1].splitlines()}
    assert "55.00 ± 1.41 % (2 seeds)  fer2013  The baseline" in lines["dropout"]
    assert lines["dropout"].endswith("  model.dropout=0.5")
    assert lines["baseline"].split()[1:3] == ["-", "-"]


def test_cost_measures_or_only_counts(ask, ask_json, tiny):
    counted = ask_json("cost", "--no-measure", "--recipe", "grouped-conv")
    assert counted["model"]["num_params"] == 261_029
    assert "epoch_seconds" not in counted
    assert "never looks at them" in ask("cost", "--no-measure", "--recipe", "grouped-conv")[1]
    measured = ask_json("cost", *SETTINGS)
    assert 0 < measured["epoch_seconds"] < 60
    assert measured["total_seconds"] == pytest.approx(3 * measured["epoch_seconds"])
    assert (measured["device"], measured["precision"], measured["threads"]) == ("cpu", "fp32", 1)


@pytest.mark.parametrize(
    ("epochs", "frozen", "said"),
    [
        (1, 1, "about 20 s an epoch on sample, 20 s in all ("),
        (12, 1, "about 60 s an epoch on sample, the first 20 s, 11 min in all ("),
        (12, 3, "about 60 s an epoch on sample, the first 3 epochs 20 s each, 10 min in all ("),
    ],
)
def test_the_cost_of_frozen_epochs_is_told_from_that_of_the_others(ask, monkeypatch, epochs, frozen, said):
    answer = {"epoch_seconds": 60.0, "frozen_epoch_seconds": 20.0, "device": "cpu", "precision": "fp32", "threads": 1}
    answer["total_seconds"] = 60.0 * (epochs - frozen) + 20.0 * frozen
    monkeypatch.setattr("fer.cost.estimate", lambda *_, **__: answer)
    settings = ("--set", f"train.epochs={epochs}", "--set", f"train.freeze_epochs={frozen}")
    assert said in ask("cost", "--recipe", "transfer-resnet18", *settings)[1]


def test_the_cost_of_a_queued_run_is_with_the_cores_that_it_gets(ask_json, tiny, monkeypatch):
    monkeypatch.setattr("fer.device.physical_cores", lambda: 6)
    monkeypatch.setenv("FER_MAX_RUNS", "3")
    words = ("cost", "--dataset", "tiny", "--set", "runtime.device=cpu", "--set", "runtime.precision=fp32")
    assert (ask_json(*words)["threads"], ask_json(*words, "--queued")["threads"]) == (6, 2)


def test_a_cost_that_memory_does_not_suffice_for_is_a_sentence(ask, tiny, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr("fer.cost.Learner.fresh", fails)
    code, _, error = ask("cost", *SETTINGS)
    assert (code, error) == (
        2,
        "Memory ran out in a step with train.batch_size=32. Choose a smaller one, or a smaller network.\n",
    )


def test_a_setting_that_changes_nothing_is_named(ask, tiny):
    _, _, error = ask("cost", "--no-measure", "--dataset", "tiny", "--set", "schedule.gamma=0.3")
    assert (
        error == "note: schedule.gamma changes nothing while schedule.name is constant; it is for step, exponential.\n"
    )


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fer", "runs", "show", "gone"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("There is no run 'gone' in ")


def test_nothing_is_imported_over_the_sample_faces(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "import", str(tmp_path), "--name", "sample"]) == 2
    assert capsys.readouterr().err == "The name 'sample' belongs to the built-in faces. Choose another.\n"


# Several runs, and the queue


def test_a_grid_is_announced_queued_and_stopped_as_one(store, tiny, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)
    words = ["train", "--dataset", "tiny", "--set", "train.epochs=2", "--grid", "optim.lr=0.1,0.2", "--seeds", "3"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("6 runs, 12 epochs in all; how long is not known")
    runs = store.runs()
    assert {(r.config.optim.lr, r.config.seed) for r in runs} == {(lr, s) for lr in (0.1, 0.2) for s in range(3)}
    assert len({r.submission for r in runs}) == 1
    assert main(["runs", "stop", runs[0].id, "--together", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["stopped"]) == 6
    assert {r.state for r in store.runs()} == {"stopped"}


def test_a_grid_has_no_single_id_and_its_values_are_checked(store, tiny, capsys):
    assert main(["train", "--dataset", "tiny", "--seeds", "2", "--run-id", "x"]) == 2
    assert main(["train", "--dataset", "tiny", "--seeds", "2", "--grid", "seed=5,6"]) == 2
    assert "--run-id names one run" in capsys.readouterr().err
    assert main(["train", "--dataset", "tiny", "--grid", "optim.lr=high"]) == 2
    assert store.ids() == []


def test_the_queue_is_listed_paused_and_reordered(store, make_run, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)
    make_run("a")
    make_run("b")
    assert main(["queue", "pause"]) == main(["queue", "next", "b"]) == 0
    capsys.readouterr()
    assert main(["queue", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["waiting"], found["running"], found["paused"]) == (["b", "a"], [], True)
    assert main(["queue", "resume"]) == 0
    assert main(["queue", "list"]) == 0
    assert "paused" not in capsys.readouterr().out
    assert main(["queue", "next", "gone"]) == 2
