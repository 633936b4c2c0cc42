"""The run folder as a contract: whole or not there, readable whatever happened to it, alive while its lock is held."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fer import runs
from fer.config import Config, with_settings
from fer.errors import RunBroken, RunBusy, RunError
from fer.files import PROJECT_ROOT, write_json_atomic
from fer.runs import Run, RunStore, by_merit, check_run_id, hold, is_locked

DATA = {"fingerprint": "f" * 32, "synthetic": True, "split_note": None}


def new(store: RunStore, run_id: str = "a", **options) -> Run:
    return store.create(Config(), recipe="baseline", data=DATA, run_id=run_id, **options)


def row(epoch: int, **changes) -> dict:
    figures = {"lr": 0.001, "train_loss": 1.5, "train_top1": 0.4, "val_loss": 1.6, "val_top1": 0.3 + epoch / 100}
    return {"epoch": epoch, **figures, "val_macro_f1": 0.3, "epoch_seconds": 2.0, **changes}


def set_state(store: RunStore, run_id: str, state: str, **more) -> None:
    store.write_status(run_id, {"state": state, **more})


def snapshot(root: Path) -> dict[str, tuple]:
    """Every file below a folder with its content and time."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in sorted(root.rglob("*"))}


# Creating


def test_a_new_run_is_queued_and_holds_its_whole_config(store):
    config = with_settings(Config(), {"optim.lr": 0.005, "seed": 3})
    run = store.create(config, recipe="cosine", data=DATA, run_id="mine")
    assert (run.id, run.state, run.recipe, run.config) == ("mine", "queued", "cosine", config)
    assert (run.fingerprint, run.synthetic, run.split_note) == ("f" * 32, True, None)
    record = json.loads((run.path / "config.json").read_text())
    assert record["schema"] == 1
    assert record["kind"] == "run"
    assert record["experiment"] == config.experiment
    assert sorted(os.listdir(run.path)) == ["config.json", "status.json"]
    assert abs(run.created - time.time()) < 60


def test_an_id_is_made_from_recipe_and_seed(store):
    made = [store.create(Config(), recipe=r, data=DATA) for r in ("step-decay", None, None)]
    assert made[0].id.startswith("step-decay-s0-")
    assert made[1].id.startswith("custom-s0-")
    assert len({r.id for r in made}) == 3


def test_an_id_that_is_taken_is_refused_and_the_first_run_is_untouched(store):
    before = snapshot(new(store).path)
    with pytest.raises(RunError, match=r"a run 'a' already.*another id"):
        new(store)
    assert snapshot(store.root / "a") == before
    assert os.listdir(store.root) == ["a"]


@pytest.mark.parametrize("broken_call", ["rename", "mkstemp"])
def test_a_run_is_made_whole_or_not_at_all(store, monkeypatch, broken_call):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename" if broken_call == "rename" else "tempfile.mkstemp", full)
    with pytest.raises(RunError, match=r"cannot be written: No space left"):
        new(store)
    assert os.listdir(store.root) == []
    assert store.ids() == []


def test_two_who_want_one_id_at_the_same_moment_get_one_run(store):
    outcomes = []

    def create() -> None:
        try:
            outcomes.append(new(store).id)
        except RunError:
            outcomes.append(None)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(outcomes, key=str) == [None] * 7 + ["a"]
    assert os.listdir(store.root) == ["a"]
    assert store.get("a").state == "queued"


@pytest.mark.parametrize(
    "run_id",
    ["", ".", "..", "../a", "a/b", "a\\b", "/etc", "A", "é", "a b", ".hidden", "-x", "a..b", "x" * 81, "a\n", "a\0"],
)
def test_an_id_is_never_a_path(store, run_id):
    for act in (check_run_id, store.folder, store.get, store.delete, store.request_stop, store.requeue):
        with pytest.raises(RunError, match="cannot be a run id"):
            act(run_id)
    if run_id:
        with pytest.raises(RunError, match="cannot be a run id"):
            new(store, run_id)
    assert os.listdir(store.root) == []


@pytest.mark.parametrize("run_id", ["a", "step-decay-s0-1f2e", "0.5_x", "x" * 80])
def test_usual_ids_are_taken(store, run_id):
    assert new(store, run_id).id == run_id


# Listing


def test_a_store_that_does_not_exist_is_empty(tmp_path):
    empty = RunStore(tmp_path / "nowhere")
    assert empty.ids() == []
    assert empty.runs() == []
    assert not (tmp_path / "nowhere").exists()


def test_a_run_that_is_not_there_is_an_error_and_makes_no_folder(store):
    with pytest.raises(RunError, match=r"no run 'b'.*runs list"):
        store.get("b")
    assert os.listdir(store.root) == []


def test_runs_are_listed_newest_first_and_archived_ones_on_request(store, monkeypatch):
    for moment, run_id in ((100.0, "old"), (300.0, "new"), (200.0, "middle")):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        new(store, run_id)
    set_state(store, "middle", "stopped")
    store.annotate("middle", archived=True)
    assert [r.id for r in store.runs()] == ["new", "old"]
    assert [r.id for r in store.runs(archived=True)] == ["new", "middle", "old"]


def test_what_is_no_run_is_passed_over(store):
    new(store)
    (store.root / "README.md").write_text("x")
    (store.root / ".new-123").mkdir()
    (store.root / "Upper").mkdir()
    (store.root / "a..b").mkdir()
    assert [r.id for r in store.runs(archived=True)] == ["a"]


def test_the_root_comes_from_the_environment_else_from_the_project(tmp_path, monkeypatch):
    assert RunStore().root == tmp_path / "runs"
    monkeypatch.delenv("FER_RUNS_DIR")
    assert RunStore().root == runs.PROJECT_ROOT / "checkpoints"


# States


@pytest.mark.parametrize("state", ["queued", "stopped", "finished", "failed"])
def test_a_state_that_needs_no_process_is_what_the_file_says(store, state):
    new(store)
    set_state(store, "a", state)
    assert store.get("a").state == state


def test_running_is_believed_only_while_somebody_holds_the_lock(store):
    new(store)
    set_state(store, "a", "running")
    assert store.get("a").state == "lost"
    with hold(store.root / "a" / "run.lock"):
        assert store.get("a").state == "running"
        (store.root / "a" / "stop").touch()
        assert store.get("a").state == "stopping"
    assert store.get("a").state == "lost"
    assert json.loads((store.root / "a" / "status.json").read_text())["state"] == "running"


def test_a_process_that_is_killed_lets_go_of_its_lock(store):
    new(store)
    set_state(store, "a", "running")
    code = "import sys, time; from pathlib import Path; from fer.runs import hold\n"
    code += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(runs.PROJECT_ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root / "a" / "run.lock")], stdout=subprocess.PIPE, env=environment
    ) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            assert store.get("a").state == "running"
        finally:
            holder.kill()
    assert store.get("a").state == "lost"


def test_a_look_never_blocks_a_start(store):
    """Readers probe the lock as fast as they can; whoever wants to hold it gets it within its patience, every time."""
    new(store)
    lock = store.root / "a" / "run.lock"
    lock.touch()
    done, looks = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            looks.append(is_locked(lock))

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(20):
            with hold(lock):
                pass
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert len(looks) > 20


def test_two_looks_at_once_do_not_take_each_other_for_a_trainer(store):
    import fcntl

    new(store)
    lock = store.root / "a" / "run.lock"
    lock.touch()
    with open(lock) as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not is_locked(lock)


def test_a_lock_that_is_held_is_a_run_error_after_its_patience(store):
    new(store)
    lock = store.root / "a" / "run.lock"
    with hold(lock):
        began = time.monotonic()
        with pytest.raises(RunError, match="'a' is in use by another process"), hold(lock, timeout=0.1):
            pass
        assert time.monotonic() - began < 5
    with hold(lock):
        pass


# Damage


def damaged(store: RunStore, name: str, content: str | bytes | None) -> Run:
    new(store)
    store.append_metrics("a", row(1))
    path = store.root / "a" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert [r.id for r in store.runs(archived=True)] == ["a"]
    return store.get("a")


def use_everything(run: Run) -> None:
    """Ask a run for all that a page asks it for."""
    assert run.name
    assert run.recipe
    assert run.data_name
    assert 0 <= run.progress <= 1
    for value in (run.best, run.last, run.seconds_left, run.model, run.reports, run.report(), run.log_tail()):
        assert value is None or value is not NotImplemented
    for value in (run.fingerprint, run.synthetic, run.split_note, run.created, run.epochs, run.epoch_seconds):
        assert value is None or value is not NotImplemented


JUNK = [None, "", "{", "[]", "5", "null", '"text"', "{}", b"\xff\xfe\x00", "[" * 100_000]


@pytest.mark.parametrize("content", JUNK)
def test_a_damaged_config_is_the_state_broken(store, content):
    run = damaged(store, "config.json", content)
    assert (run.state, run.config) == ("broken", None)
    assert "config.json" in run.problems[0]
    use_everything(run)


@pytest.mark.parametrize("content", [*JUNK, '{"state": "dancing"}', '{"state": 5}'])
def test_a_damaged_status_is_the_state_broken(store, content):
    run = damaged(store, "status.json", content)
    assert run.state == "broken"
    assert run.config is not None
    use_everything(run)


@pytest.mark.parametrize("content", JUNK)
@pytest.mark.parametrize("name", ["model.json", "report.json", "notes.json"])
def test_damaged_side_files_leave_the_run_as_it_is(store, name, content):
    new(store)
    path = store.root / "a" / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    run = store.get("a")
    assert run.state == "queued"
    use_everything(run)


@pytest.mark.parametrize("content", ['{"reports": 5}', '{"reports": {"f": 5}}', '{"reports": []}'])
def test_a_report_file_of_another_shape_counts_as_none(store, content):
    new(store)
    (store.root / "a" / "report.json").write_text(content)
    assert store.get("a").reports == {}
    store.save_report("a", "f" * 32, "val", {"top1": 0.5})
    assert store.get("a").report() == {"top1": 0.5}


@pytest.mark.parametrize(
    "changes",
    [{"schema": "x"}, {"schema": None}, {"data": []}, {"data": "x"}, {"created": "yesterday"}, {"config": []}],
)
def test_a_record_of_another_shape_is_broken(store, changes):
    new(store)
    path = store.root / "a" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert [r.state for r in store.runs()] == ["broken"]
    use_everything(store.get("a"))


def test_a_newer_schema_says_so_and_what_to_do(store):
    new(store)
    path = store.root / "a" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    run = store.get("a")
    assert run.state == "broken"
    assert "newer FER Lab (schema 99, this one reads 1); update" in run.problems[0]


def test_a_setting_of_a_newer_version_is_named(store):
    new(store)
    path = store.root / "a" / "config.json"
    record = json.loads(path.read_text())
    record["config"]["optim"]["lookahead"] = 3
    path.write_text(json.dumps(record))
    assert "optim.lookahead" in store.get("a").problems[0]


def test_a_broken_run_can_be_deleted_and_not_resumed(store):
    damaged(store, "config.json", None)
    with pytest.raises(RunError, match="is broken"):
        store.requeue("a")
    store.delete("a")
    assert store.ids() == []


def test_a_whole_run_folder_that_is_empty_is_broken_not_a_crash(store):
    (store.root / "empty").mkdir()
    run = store.get("empty")
    assert run.state == "broken"
    use_everything(run)


# Metrics


def test_lines_come_back_in_order(store):
    new(store)
    for epoch in (1, 2, 3):
        store.append_metrics("a", row(epoch))
    run = store.get("a")
    assert [r["epoch"] for r in run.metrics] == [1, 2, 3]
    assert run.problems == ()
    assert run.last["epoch"] == 3
    assert run.epoch_seconds == 2.0


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_torn_last_line_is_left_out_and_named(store, cut):
    new(store)
    store.append_metrics("a", row(1))
    with open(store.root / "a" / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row(2))[:cut])
    run = store.get("a")
    assert [r["epoch"] for r in run.metrics] == [1]
    assert run.state == "queued"
    assert run.problems == ("metrics.jsonl: a torn last line left out",)


@pytest.mark.parametrize(
    "bad",
    ["not json", "{}", "[]", "5", json.dumps({**row(2), "lr": None}), json.dumps({**row(2), "val_loss": float("nan")})],
)
def test_a_line_that_is_no_epoch_is_left_out(store, bad):
    new(store)
    store.append_metrics("a", row(1))
    with open(store.root / "a" / "metrics.jsonl", "a") as file:
        file.write(bad + "\n")
    assert [r["epoch"] for r in store.get("a").metrics] == [1]


@pytest.mark.parametrize("number", ["1e999", "01", "1.", "+1", "NaN", "Infinity", '"1"', "1" * 400])
def test_a_number_that_is_none_leaves_its_line_out(store, number):
    new(store)
    store.append_metrics("a", row(1))
    with open(store.root / "a" / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row(2)).replace("1.6", number) + "\n")
    run = store.get("a")
    assert [r["epoch"] for r in run.metrics] == [1]
    assert run.problems == ("metrics.jsonl: 1 line that cannot be read left out",)


def test_rows_are_as_they_were_written_whatever_their_shape(store):
    """As the trainer writes them, with a figure more, with text, in another order: only the first two are read lazily."""
    new(store)
    path = store.root / "a" / "metrics.jsonl"
    for more in ({}, {"images_per_sec": 512}, {"note": "text"}):
        rows = [row(1, lr=1e-05, val_loss=2, **more), row(2, val_top1=0.9, **more), row(3, **more)]
        for shape in (rows, [dict(reversed(r.items())) for r in rows]):
            path.write_text("".join(json.dumps(r) + "\n" for r in shape))
            run = store.get("a")
            assert (run.best, run.last, run.metrics[0], run.metrics[-2:]) == (
                rows[1],
                rows[2],
                rows[0],
                tuple(rows[1:]),
            )
            assert (list(run.metrics), len(run.metrics), run.problems) == (rows, 3, ())
            with pytest.raises(IndexError):
                run.metrics[3]


def test_metrics_compare_by_content(store):
    for name, top in (("a", 0.4), ("b", 0.4), ("c", 0.5)):
        new(store, name)
        store.append_metrics(name, row(1, val_top1=top))
    a, b, c = (store.get(name).metrics for name in "abc")
    assert a == b == (row(1, val_top1=0.4),)
    assert hash(a) == hash(b)
    assert a != c
    assert a != 5


def test_a_doubled_epoch_counts_once(store):
    new(store)
    for epoch in (1, 2, 2, 3):
        store.append_metrics("a", row(epoch))
    assert [r["epoch"] for r in store.get("a").metrics] == [1, 2, 3]


def test_nan_is_never_written(store):
    new(store)
    with pytest.raises(ValueError, match="JSON"):
        store.append_metrics("a", row(1, val_loss=float("nan")))
    assert store.get("a").metrics == ()


def test_cutting_keeps_whole_epochs_only(store):
    new(store)
    assert store.cut_metrics("a", 3) == ()
    for epoch in (1, 2, 3):
        store.append_metrics("a", row(epoch))
    with open(store.root / "a" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "lr"')
    assert [r["epoch"] for r in store.cut_metrics("a", 2)] == [1, 2]
    store.append_metrics("a", row(3))
    run = store.get("a")
    assert [r["epoch"] for r in run.metrics] == [1, 2, 3]
    assert run.problems == ()


def test_the_best_epoch_is_the_first_of_equals(store):
    new(store)
    for epoch, value in ((1, 0.4), (2, 0.6), (3, 0.6), (4, 0.5)):
        store.append_metrics("a", row(epoch, val_top1=value))
    assert store.get("a").best["epoch"] == 2


def test_a_file_that_changed_is_read_again(store):
    new(store)
    for state in ("stopped", "failed", "stopped"):
        set_state(store, "a", state)
        assert store.get("a").state == state


def past(path: Path) -> None:
    """Make a file an hour old: old enough for every clock to tell its next change."""
    before = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(before, before))


@pytest.mark.parametrize(
    "name", ["config.json", "status.json", "metrics.jsonl", "notes.json", "model.json", "report.json"]
)
def test_every_file_that_changed_is_seen_at_once_and_the_others_are_not_read_again(store, name, monkeypatch):
    new(store)
    set_state(store, "a", "finished")
    store.append_metrics("a", row(1))
    for other in ("notes.json", "model.json", "report.json"):
        (store.root / "a" / other).write_text("{}")
    for file in (store.root / "a").iterdir():
        past(file)
    read = []

    def counted(path, *arguments):
        if Path(path).name != "train.log":  # its tail is read by whoever wants it
            read.append(Path(path).name)
        return open(path, *arguments)

    monkeypatch.setattr(runs, "open", counted, raising=False)
    for _ in range(2):
        use_everything(store.get("a"))
    assert sorted(read) == sorted(os.listdir(store.root / "a"))
    read.clear()
    path = store.root / "a" / name
    path.write_text(path.read_text() + " ")
    past(path)
    use_everything(store.get("a"))
    assert read == [name]


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(store):
    new(store)
    for state in ("stopped", "running", "stopped"):
        set_state(store, "a", state)
        past(store.root / "a" / "status.json")
        assert store.get("a").state == {"running": "lost"}.get(state, state)


def test_a_file_rewritten_within_one_tick_of_the_clock_is_read_again(store):
    new(store)
    path, now = store.root / "a" / "status.json", time.time_ns()
    for state in ("failed", "queued"):
        path.write_text(json.dumps({"state": state}))  # in place and as long as before
        os.utime(path, ns=(now, now))
        assert store.get("a").state == state


def test_a_lock_that_is_let_go_is_seen_though_no_file_changed(store):
    new(store)
    set_state(store, "a", "running")
    for file in (store.root / "a").iterdir():
        past(file)
    with hold(store.root / "a" / "run.lock"):
        assert store.get("a").state == "running"
    assert store.get("a").state == "lost"


def test_a_run_that_was_read_before_shows_a_later_report(store):
    run = new(store)
    store.save_report("a", "f" * 32, "val", {"top1": 0.5})
    assert run.report() == {"top1": 0.5}


def test_progress_and_time_left_follow_the_status(store):
    new(store)
    store.append_metrics("a", row(1))
    set_state(store, "a", "running", epoch=1, step=5, steps_per_epoch=10)
    with hold(store.root / "a" / "run.lock"):
        run = store.get("a")
        assert run.progress == pytest.approx(1.5 / 25)
        assert run.seconds_left == pytest.approx(23.5 * 2.0)
    set_state(store, "a", "finished", epoch=25, step=0, steps_per_epoch=10)
    assert store.get("a").progress == 1.0
    assert store.get("a").seconds_left is None


def test_the_time_left_is_not_that_of_frozen_epochs_nor_of_a_run_that_stops(store):
    config = with_settings(
        Config(), {"model.name": "resnet18", "train.epochs": 12, "train.freeze_epochs": 1, "model.pretrained": True}
    )
    store.create(config, recipe=None, data={}, run_id="a")
    store.append_metrics("a", row(1, epoch_seconds=20.0))
    set_state(store, "a", "running", epoch=1, step=0, steps_per_epoch=10, images_per_sec=100.0)
    with hold(store.root / "a" / "run.lock"):
        assert store.get("a").seconds_left is None
        store.append_metrics("a", row(2, epoch_seconds=90.0))
        set_state(store, "a", "running", epoch=2, step=0, steps_per_epoch=10)
        assert store.get("a").seconds_left == pytest.approx(10 * 90.0)
        (store.root / "a" / "stop").touch()
        assert (store.get("a").state, store.get("a").seconds_left) == ("stopping", None)


def test_a_run_whose_backbone_is_frozen_to_its_end_has_a_time_left(store):
    config = with_settings(
        Config(), {"model.name": "resnet18", "train.epochs": 4, "train.freeze_epochs": 9, "model.pretrained": True}
    )
    store.create(config, recipe=None, data={}, run_id="a")
    store.append_metrics("a", row(1, epoch_seconds=20.0))
    set_state(store, "a", "running", epoch=1, step=0, steps_per_epoch=10)
    with hold(store.root / "a" / "run.lock"):
        assert store.get("a").seconds_left == pytest.approx(3 * 20.0)


@pytest.mark.parametrize("created", ["1e20", "1e400", "-1", "NaN", "9" * 400])
def test_a_time_that_no_clock_says_is_damage(store, make_run, created):
    make_run("a")
    path = store.root / "a" / "config.json"
    text = path.read_text()
    path.write_text(re.sub(r'"created": [0-9.]+', f'"created": {created}', text))
    assert path.read_text() != text
    assert (store.get("a").state, store.get("a").created) == ("broken", 0.0)


def test_the_logs_tail_is_its_last_lines(store):
    new(store)
    assert store.get("a").log_tail() == ""
    (store.root / "a" / "train.log").write_bytes(b"".join(b"line %d\n" % i for i in range(5000)) + b"\xff half")
    assert store.get("a").log_tail(2) == "line 4999\n� half"


# Stop, resume, delete


def test_a_queued_run_is_stopped_at_once(store):
    new(store)
    assert store.request_stop("a") == "stopped"
    assert not (store.root / "a" / "stop").exists()


def test_a_running_run_is_asked_to_stop(store):
    new(store)
    set_state(store, "a", "running")
    with hold(store.root / "a" / "run.lock"):
        assert store.request_stop("a") == "stopping"
        assert (store.root / "a" / "stop").exists()
        assert store.request_stop("a") == "stopping"


def test_a_queued_run_that_a_worker_has_just_taken_keeps_the_request(store):
    new(store)
    with hold(store.root / "a" / "run.lock"):
        store.request_stop("a")
    assert (store.root / "a" / "stop").exists()


@pytest.mark.parametrize("state", ["stopped", "finished", "failed", "lost"])
def test_what_does_not_run_cannot_be_stopped(store, state):
    new(store)
    set_state(store, "a", "running" if state == "lost" else state)
    with pytest.raises(RunError, match=f"is {state}; only a queued or running"):
        store.request_stop("a")
    assert not (store.root / "a" / "stop").exists()


@pytest.mark.parametrize("state", ["stopped", "failed", "lost"])
def test_what_was_interrupted_can_be_queued_again(store, state):
    new(store)
    set_state(store, "a", "running" if state == "lost" else state, error="it broke", epoch=3)
    (store.root / "a" / "stop").touch()
    run = store.requeue("a")
    assert run.state == "queued"
    assert not run.status["error"]
    assert run.status["epoch"] == 3
    assert not (run.path / "stop").exists()


@pytest.mark.parametrize("state", ["queued", "running", "finished"])
def test_what_was_not_interrupted_cannot_be_queued_again(store, state):
    new(store)
    set_state(store, "a", state)
    with (
        hold(store.root / "a" / "run.lock"),
        pytest.raises(RunError, match=f"is {state}; only a stopped, failed or lost"),
    ):
        store.requeue("a")


def test_deleting_removes_the_folder_and_only_it(store):
    new(store)
    new(store, "b")
    store.delete("a")
    assert store.ids() == ["b"]
    new(store)


def test_what_was_deleted_lies_in_the_trash_and_comes_back(store):
    new(store)
    store.append_metrics("a", row(1))
    key = store.delete("a")
    (trashed,) = store.trash()
    assert (trashed.key, trashed.run) == (key, "a")
    assert trashed.bytes > 100
    assert abs(trashed.deleted - time.time()) < 60
    assert store.restore(key) == "a"
    assert (len(store.get("a").metrics), store.trash()) == (1, [])
    store.delete("a")
    new(store)
    other = store.restore("a")
    assert other.startswith("a-")
    assert len(store.get(other).metrics) == 1
    assert sorted(store.ids()) == sorted(["a", other])


def test_the_trash_is_emptied_for_good_and_knows_only_its_own(store):
    for name in ("a", "b"):
        new(store, name)
        store.delete(name)
    (store.root / ".trash" / "x@y").mkdir()
    with pytest.raises(RunError, match="no run '../b' in the trash"):
        store.restore("../b")
    assert store.empty_trash() == 2
    assert (store.trash(), os.listdir(store.root / ".trash")) == ([], ["x@y"])


def test_a_run_that_trains_cannot_be_deleted(store):
    new(store)
    set_state(store, "a", "running")
    with hold(store.root / "a" / "run.lock"), pytest.raises(RunError, match="in use by another process"):
        store.delete("a")
    assert store.get("a").config is not None


# Notes


def test_notes_are_kept_and_cleaned(store):
    new(store)
    run = store.annotate("a", name="  my\nrun\x00 ", tags=["x ", "", " y"], note="long\nstory", pinned=True)
    assert run.name == "my run"
    assert run.notes.tags == ("x", "y")
    assert run.notes.note == "long\nstory"
    assert store.get("a").notes == run.notes
    assert store.annotate("a", name="").name == "a"
    assert store.get("a").notes.pinned


@pytest.mark.parametrize("changes", [{"name": "x" * 81}, {"note": "x" * 4001}, {"tags": ["x" * 41]}])
def test_notes_that_are_too_long_are_refused(store, changes):
    new(store)
    with pytest.raises(RunError, match="at most"):
        store.annotate("a", **changes)
    assert not (store.root / "a" / "notes.json").exists()


@pytest.mark.parametrize("state", ["queued", "running", "stopping"])
def test_what_waits_or_trains_stays_in_view(store, state):
    new(store)
    with hold(store.root / "a" / "run.lock") if state != "queued" else contextlib.nullcontext():
        set_state(store, "a", "running" if state == "stopping" else state)
        if state == "stopping":
            (store.root / "a" / "stop").touch()
        assert store.get("a").state == state
        with pytest.raises(RunBusy, match=f"'a' is {state}.*Stop it first"):
            store.annotate("a", archived=True, note="kept?")
        assert store.annotate("a", archived=False, note="seen").notes.note == "seen"
    assert [r.id for r in store.runs()] == ["a"]


def test_an_archived_run_that_goes_on_comes_back_into_view(store):
    new(store)
    set_state(store, "a", "stopped")
    store.annotate("a", archived=True, tags=["kept"])
    assert store.runs() == []
    run = store.requeue("a")
    assert (run.state, run.notes.archived, run.notes.tags) == ("queued", False, ("kept",))
    assert [r.id for r in store.runs()] == ["a"]


# Shipped runs


@pytest.fixture
def shipped(store) -> Run:
    new(store)
    set_state(store, "a", "stopped")
    write_json_atomic(store.root / "shipped.json", ["a"])
    return store.get("a")


def test_a_shipped_run_can_be_archived_and_pinned_only(store, shipped):
    assert shipped.shipped
    store.annotate("a", archived=True, pinned=True)
    assert store.runs() == []
    for refuse in (
        lambda: store.annotate("a", name="mine"),
        lambda: store.annotate("a", note="x", archived=False),
        lambda: store.delete("a"),
        lambda: store.requeue("a"),
    ):
        with pytest.raises(RunError, match="came with the project"):
            refuse()
    assert store.get("a").notes.archived


def test_a_shipped_report_is_never_overwritten(store, shipped):
    fingerprint = "f" * 32
    write_json_atomic(shipped.path / "report.json", {"schema": 1, "reports": {fingerprint: {"val": {"top1": 0.5}}}})
    before = (shipped.path / "report.json").read_bytes()
    assert store.save_report("a", fingerprint, "val", {"top1": 0.9}) is False
    assert store.save_report("a", fingerprint, "test", {"top1": 0.7}) is True
    assert store.save_report("a", "0" * 32, "val", {"top1": 0.8}) is True
    assert (shipped.path / "report.json").read_bytes() == before
    run = store.get("a")
    assert run.report("val") == {"top1": 0.5}
    assert run.report("test") == {"top1": 0.7}
    assert run.report("val", "0" * 32) == {"top1": 0.8}


# Reports


def test_reports_are_kept_by_data_and_split_and_replaced_by_newer_ones(store):
    new(store)
    for fingerprint, split, top1 in (("f" * 32, "val", 0.1), ("f" * 32, "test", 0.2), ("0" * 32, "val", 0.3)):
        assert store.save_report("a", fingerprint, split, {"top1": top1})
    store.save_report("a", "f" * 32, "val", {"top1": 0.4})
    run = store.get("a")
    assert run.reports == {"f" * 32: {"val": {"top1": 0.4}, "test": {"top1": 0.2}}, "0" * 32: {"val": {"top1": 0.3}}}
    assert run.report()["top1"] == 0.4
    assert run.report("train") is None


def test_a_report_of_an_earlier_epoch_than_the_best_counts_as_none(store):
    """A run that was evaluated, and then resumed to a better epoch."""
    new(store)
    for epoch in (1, 2, 3):
        store.append_metrics("a", row(epoch))
    for split, of in (("test", {"epoch": 1}), ("val", {"epoch": 3}), ("val+tta", {"epoch": "3"}), ("train", {})):
        store.save_report("a", "f" * 32, split, {"top1": 0.5, **of})
    run = store.get("a")
    assert [s for s in ("test", "val", "val+tta", "train") if run.report(s)] == ["val", "train"]
    assert run.kept_report("test") == {"top1": 0.5, "epoch": 1} and run.kept_report("gone") is None
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    (run.path / "metrics.jsonl").write_text("\n".join([*lines[:2], "torn"]) + "\n")
    assert store.get("a").report("val"), "which epoch is the best is not known"


def test_no_shipped_report_is_of_an_earlier_epoch():
    for run in RunStore(PROJECT_ROOT / "checkpoints").runs(archived=True):
        for by_split in run.reports.values():
            assert not any(run.is_outdated(report) for report in by_split.values()), run.id


def test_a_report_that_could_not_be_written_is_not_shown(store, monkeypatch):
    new(store)
    store.save_report("a", "f" * 32, "val", {"top1": 0.1})
    assert store.get("a").report() == {"top1": 0.1}

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json_atomic", full)
    with pytest.raises(RunError, match="cannot be written"):
        store.save_report("a", "f" * 32, "val", {"top1": 0.9})
    assert store.get("a").report() == {"top1": 0.1}


# Looking without touching


def test_looking_changes_nothing(store):
    new(store)
    store.append_metrics("a", row(1))
    set_state(store, "a", "running")
    (store.root / "a" / "run.lock").touch()
    before = snapshot(store.root)
    for run in store.runs(archived=True):
        use_everything(run)
    assert snapshot(store.root) == before


def test_a_read_only_store_works_for_looking_and_says_so_for_the_rest(store, read_only):
    new(store)
    new(store, "b")
    set_state(store, "b", "stopped")
    store.append_metrics("b", row(1))
    read_only(store.root)
    assert [(r.id, r.state) for r in store.runs()] == [("b", "stopped"), ("a", "queued")]
    for change in (
        lambda: new(store, "c"),
        lambda: store.annotate("a", name="x"),
        lambda: store.delete("a"),
        lambda: store.request_stop("a"),
        lambda: store.requeue("b"),
        lambda: store.save_report("b", "f", "val", {}),
    ):
        with pytest.raises(RunError, match=r"cannot be written.*FER_RUNS_DIR"):
            change()


def test_a_folder_that_was_copied_is_the_same_run(store, tmp_path):
    new(store)
    store.append_metrics("a", row(1))
    store.save_report("a", "f" * 32, "val", {"top1": 0.5})
    other = RunStore(tmp_path / "elsewhere")
    shutil.copytree(store.root / "a", other.root / "renamed")
    copied, original = other.get("renamed"), store.get("a")
    assert (copied.config, copied.metrics, copied.reports) == (original.config, original.metrics, original.reports)


def test_a_run_that_vanishes_while_listed_is_passed_over(store, monkeypatch):
    new(store)
    new(store, "b")
    monkeypatch.setattr(RunStore, "ids", lambda _self: ["a", "b", "gone"])
    assert {r.id for r in store.runs()} == {"a", "b"}


def test_a_store_that_cannot_be_listed_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"cannot be read.*FER_RUNS_DIR"):
        RunStore(tmp_path / "file").ids()
    assert issubclass(RunBroken, RunError)


# What copied or hand-written folders may hold


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.json", '{"name": 5}'),
        ("notes.json", "[1]"),
        ("status.json", '{"state": "stopped", "epoch": null, "step": "x"}'),
        ("config.json", '{"schema": 1, "created": NaN}'),
    ],
)
def test_odd_values_are_named_and_nothing_that_is_shown_breaks(store, make_run, name, content):
    run = make_run("odd")
    (run.path / name).write_text(content)
    read = store.get("odd")
    assert [p for p in read.problems if p.startswith(name)]
    assert isinstance(read.name, str)
    assert 0 <= read.progress <= 1
    assert read.seconds_left is None
    assert math.isfinite(read.created)


def test_a_list_of_shipped_runs_that_is_none_ships_nothing(store, make_run):
    make_run("a")
    (store.root / "shipped.json").write_text("5")
    assert store.get("a").shipped is False


def test_a_reserved_run_whose_owner_is_gone_is_lost(store, make_run):
    make_run("mine", reserved=True)
    assert store.get("mine").state == "queued"
    status = store.get("mine").status
    store.write_status("mine", {**status, "queued": status["queued"] - 120})
    assert store.get("mine").state == "lost"
    assert store.requeue("mine").state == "queued"


def test_the_median_of_two_epochs_is_their_mean(store, make_run):
    run = make_run("two")
    row = dict.fromkeys(("lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_macro_f1"), 0.5)
    store.append_metrics(run.id, {"epoch": 1, **row, "epoch_seconds": 10.0})
    store.append_metrics(run.id, {"epoch": 2, **row, "epoch_seconds": 20.0})
    assert store.get("two").epoch_seconds == 15.0


def test_merit_puts_photographs_first_and_leaves_out_what_is_broken(store, make_run):
    row = dict.fromkeys(("lr", "train_loss", "train_top1", "val_loss", "val_macro_f1", "epoch_seconds"), 0.5)
    for run_id, top1 in (("low", 0.3), ("high", 0.6), ("torn", 0.9)):
        make_run(run_id)
        store.append_metrics(run_id, {"epoch": 1, **row, "val_top1": top1})
    drawn = store.create(Config(), recipe="baseline", data={"fingerprint": "x", "synthetic": True}, run_id="drawn")
    store.append_metrics(drawn.id, {"epoch": 1, **row, "val_top1": 0.8})
    (store.folder("torn") / "config.json").write_text("{")
    assert [r.id for r in by_merit(store.runs())] == ["high", "low", "drawn"]


def test_held_names_the_runs_that_a_process_trains(store, make_run):
    make_run("a")
    make_run("b")
    assert store.held() == []
    with hold(store.folder("b") / "run.lock"):
        assert store.held() == ["b"]
    assert store.held() == []
