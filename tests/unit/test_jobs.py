"""The queue and its worker: in order, one at a time, and nothing that happens to one run stops the next."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import psutil
import pytest

from fer import jobs
from fer.cli import main
from fer.config import Config, differing, parse_assignments, with_settings
from fer.data import dataset
from fer.errors import ConfigError, DataError, RunError
from fer.files import PROJECT_ROOT, write_json_atomic
from fer.jobs import WORKER_LOCK, command_line, create_run, grid, queue, seeds, submit, work, worker_alive
from fer.recipes import get_recipe
from fer.runs import Run, RunStore, hold
from tests.conftest import tiny_config
from tests.made_runs import write_run

# Configs for many runs


def test_a_grid_has_every_combination_the_last_setting_changing_fastest():
    configs = grid(Config(), {"optim.lr": [0.1, 0.2], "seed": [0, 1, 2]})
    assert [(c.optim.lr, c.seed) for c in configs] == [(0.1, 0), (0.1, 1), (0.1, 2), (0.2, 0), (0.2, 1), (0.2, 2)]
    assert grid(Config(), {}) == [Config()]
    assert len(grid(Config(), {"optim.lr": ["0.001", "1e-3", "0.01"]})) == 2


def test_a_grid_that_is_too_large_or_wrong_is_refused():
    with pytest.raises(ConfigError, match="has 1,000,000 runs. At most 200"):
        grid(Config(), {"seed": range(1000), "train.epochs": range(1, 1001)})
    with pytest.raises(ConfigError, match=r"optim\.lr cannot be -1"):
        grid(Config(), {"optim.lr": [0.1, -1]})
    with pytest.raises(ConfigError, match="no setting 'optim.rate'"):
        grid(Config(), {"optim.rate": [1]})
    with pytest.raises(
        ConfigError, match=r"all be the same\. schedule\.gamma changes nothing while schedule\.name is const"
    ):
        grid(Config(), {"schedule.gamma": [0.5, 0.9]})
    assert len(grid(Config(), {"schedule.name": ["constant", "step"], "schedule.gamma": [0.5, 0.9]})) == 4


def test_seeds_are_one_experiment():
    configs = seeds(Config(), [0, 5])
    assert [c.seed for c in configs] == [0, 5]
    assert len({c.experiment for c in configs}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.name": "fer2013", "seed": 3, "optim.lr": 0.0005},
        {"optim.name": "sgd", "optim.nesterov": False, "data.val_fraction": None, "runtime.threads": 2},
    ],
)
@pytest.mark.parametrize("recipe", [None, "step-decay"])
def test_the_command_line_makes_the_same_config(recipe, changes):
    words = shlex.split(command_line(recipe, changes))
    assert words[:4] == ["python", "-m", "fer", "train"]
    assert words[-1] == "--queue"
    options = dict(zip(words[4:-1:2], words[5:-1:2], strict=True))
    assignments = [v for k, v in zip(words[4:-1:2], words[5:-1:2], strict=True) if k == "--set"]
    found = parse_assignments(assignments)
    if "--dataset" in options:
        found["data.name"] = options["--dataset"]
    if "--seed" in options:
        found["seed"] = options["--seed"]
    base = get_recipe(options["--recipe"]).config()
    assert differing([with_settings(base, found), with_settings(base, changes)]) == {}


def test_the_command_line_can_be_pasted_whatever_a_path_is_called():
    command = command_line("transfer-resnet18", {"model.weights": "My Files/r$18;x.pth"})
    assert shlex.split(command)[-2] == "model.weights=My Files/r$18;x.pth"


def test_the_command_line_without_a_queue_trains_in_the_foreground():
    assert command_line("cosine", {}, queued=False) == "python -m fer train --recipe cosine"


TRANSFER = {"model.name": "resnet18", "model.pretrained": True, "train.freeze_epochs": 1}


@pytest.mark.parametrize(
    ("recipe", "changes", "axes"),
    [
        ("step-decay", {"seed": 5, "train.epochs": 2}, {"seed": [5, 6, 7]}),
        ("baseline", {"seed": 1}, {"seed": [4, 2, 9]}),
        (None, {}, {"optim.lr": [0.001, 1e-05, 0.3]}),
        ("baseline", {"optim.lr": 0.0005}, {"optim.lr": [0.01, 0.02], "model.name": ["grouped-conv", "baseline"]}),
        ("baseline", {}, {"train.patience": [None, 3], "augment.flip": [True, False], "seed": [0, 1]}),
        ("baseline", {}, {"data.name": ["tiny", "other"], "optim.lr": [0.1, 0.2]}),
        ("strong", {}, {"schedule.name": ["constant", "step"], "schedule.gamma": [0.5, 0.9]}),
        ("baseline", TRANSFER, {"model.name": ["resnet18", "resnet34"]}),
        ("baseline", TRANSFER, {"model.weights": ["/a b/r$18.pth", "/c.pth"]}),
    ],
)
def test_seeds_and_grids_are_one_command_that_makes_the_same_runs_as_one_submission(
    tiny, monkeypatch, capsys, recipe, changes, axes
):
    dataset.save(dataclasses.replace(tiny, name="other"))
    base = with_settings(get_recipe(recipe or "baseline").config(), {"data.name": "tiny", **changes})
    plan = [(recipe, config) for config in grid(base, axes)]
    (command,) = jobs.command_lines(plan)
    submitted = []

    def submit_(_store, configs, _on_ray):
        submitted.append(configs)
        return [Run("x", PROJECT_ROOT, "queued", None, {}, {}, ())]

    monkeypatch.setattr(jobs, "submit", submit_)
    assert main(shlex.split(command)[3:]) == 0, capsys.readouterr().err
    assert submitted == [[(recipe or "baseline", config) for _, config in plan]]


def test_what_no_grid_makes_is_a_command_a_run():
    study = [(name, get_recipe(name).config()) for name in ("baseline", "step-decay")]
    odd = [("baseline", with_settings(Config(), {"seed": s, "optim.lr": lr})) for s, lr in ((0, 0.1), (1, 0.2))]
    comma = [("baseline", with_settings(Config(), {**TRANSFER, "model.weights": f"/a,{n}.pth"})) for n in (1, 2)]
    for plan in (study, odd, comma):
        commands = jobs.command_lines(plan)
        assert len(commands) == 2 and all(command.endswith("--queue") for command in commands)
    assert jobs.command_lines([]) == []


# Queueing


def test_a_run_is_made_on_the_data_as_it_is_now(store, tiny):
    run = create_run(store, tiny_config(), recipe="baseline")
    assert (run.fingerprint, run.synthetic) == (tiny.fingerprint, False)
    with pytest.raises(DataError, match="no prepared data set 'gone'"):
        create_run(store, tiny_config(data__name="gone"), recipe=None)
    assert len(store.ids()) == 1


def test_data_without_a_split_to_validate_on_is_refused_before_a_run_is_made(store, tiny):
    only_train = dataset.Dataset("only", tiny.images, tiny.labels, tiny.splits * 0, tiny.sources)
    dataset.save(only_train)
    with pytest.raises(DataError, match="no pictures in its split 'val'"):
        create_run(store, tiny_config(data__name="only"), recipe=None)
    assert store.ids() == []
    create_run(store, tiny_config(data__name="only", data__val_fraction=0.3), recipe=None)


def test_the_queue_is_in_the_order_of_queueing_and_leaves_out_what_is_not_its_own(store, make_run):
    for run_id in ("c", "a", "b"):
        make_run(run_id)
    make_run("mine", reserved=True)
    make_run("archived")
    write_json_atomic(
        store.folder("archived") / "notes.json", {"schema": 1, "archived": True}
    )  # as an earlier version allowed
    store.request_stop("a")
    assert store.get("archived").notes.archived
    assert [r.id for r in queue(store)] == ["c", "b", "archived"]
    store.requeue("a")
    assert [r.id for r in queue(store)] == ["c", "b", "archived", "a"]


def test_submit_queues_all_and_calls_a_worker_once(store, tiny, monkeypatch):
    called = []
    monkeypatch.setattr(jobs, "ensure_worker", called.append)
    runs = submit(store, [("baseline", tiny_config(seed=s)) for s in (0, 1)])
    assert [r.config.seed for r in runs] == [0, 1]
    assert [r.id for r in queue(store)] == [r.id for r in runs]
    assert called == [store]


# The worker, with a child that only pretends to train


@pytest.fixture
def pretend(store, monkeypatch):
    """`pretend(act)`: in place of a training process, `act(run id)` is called; returns the ids in order."""

    def install(act=lambda run_id: store.write_status(run_id, {"state": "finished"}), code: int = 0) -> list[str]:
        trained: list[str] = []

        def call(command, _log, _environment, _stop) -> int:
            assert command[:4] == [sys.executable, "-m", "fer", "runs"]
            trained.append(command[-1])
            act(command[-1])
            return code

        monkeypatch.setattr(jobs, "_call", call)
        return trained

    return install


def test_the_worker_drains_the_queue_in_order_and_ends(store, make_run, pretend):
    for run_id in ("c", "a", "b"):
        make_run(run_id)
    trained = pretend()
    assert work(store, linger_seconds=0.05) == 3
    assert trained == ["c", "a", "b"]
    assert not worker_alive(store)
    assert work(store, linger_seconds=0.05) == 0


def test_the_worker_takes_what_is_queued_while_it_works(store, make_run, pretend):
    make_run("a")

    def act(run_id: str) -> None:
        assert worker_alive(store)
        if run_id == "a":
            make_run("later")
        store.write_status(run_id, {"state": "finished"})

    trained = pretend(act)
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["a", "later"]


def test_only_one_of_two_workers_serves(store, make_run, pretend):
    for run_id in ("a", "b", "c"):
        make_run(run_id)
    lock = threading.Lock()

    def act(run_id: str) -> None:
        assert lock.acquire(blocking=False), "two runs at once"
        time.sleep(0.1)
        store.write_status(run_id, {"state": "finished"})
        lock.release()

    trained, counts = pretend(act), []
    workers = [threading.Thread(target=lambda: counts.append(work(store, linger_seconds=0.3))) for _ in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(trained) == ["a", "b", "c"]
    assert sum(counts) == 3


def test_a_second_worker_leaves_at_once(store, make_run, pretend):
    make_run("a")
    trained = pretend()
    with hold(store.root / WORKER_LOCK):
        assert work(store) == 0
    assert trained == []


def test_a_process_that_dies_before_it_begins_is_a_failed_run_not_an_endless_loop(store, make_run, pretend):
    make_run("a")
    make_run("b")
    trained = pretend(lambda _run_id: None, code=-9)
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["a", "b"]
    run = store.get("a")
    assert run.state == "failed"
    assert "ended with code -9 before it began" in run.status["error"]


def test_a_run_whose_log_cannot_be_written_fails_with_the_reason_and_the_next_one_trains(store, make_run, pretend):
    make_run("a")
    make_run("b")
    (store.root / "a" / "train.log").mkdir()
    trained = pretend()
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["b"]
    assert (store.get("a").state, store.get("b").state) == ("failed", "finished")
    assert "train.log cannot be written: Is a directory" in store.get("a").status["error"]


def test_a_run_whose_folder_takes_nothing_is_tried_once_and_the_next_one_trains(
    store, make_run, pretend, monkeypatch, capfd
):
    make_run("a")
    make_run("b")
    write = RunStore.write_status

    def full(self, run_id, status) -> None:
        if run_id == "a":
            raise OSError(28, "No space left on device")
        write(self, run_id, status)

    monkeypatch.setattr(RunStore, "write_status", full)
    trained = pretend(lambda run_id: run_id == "a" or store.write_status(run_id, {"state": "finished"}))
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["a", "b"]
    assert (store.get("a").state, store.get("b").state) == ("queued", "finished")
    assert "a: The training process ended with code 0 before it began" in capfd.readouterr().out


def test_a_run_deleted_while_it_trains_does_not_stop_the_next(store, make_run, pretend):
    make_run("a")
    make_run("b")

    def act(run_id: str) -> None:
        store.delete(run_id) if run_id == "a" else store.write_status(run_id, {"state": "finished"})

    trained = pretend(act)
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["a", "b"]
    assert store.ids() == ["b"]


def test_a_run_deleted_between_the_look_and_the_start_does_not_stop_the_next(store, make_run, pretend, monkeypatch):
    make_run("a")
    make_run("b")
    trained = pretend()
    real = jobs._train_in_child

    def too_late(store_, run, *slot) -> None:
        if run.id == "a":
            store.delete("a")
        real(store_, run, *slot)

    monkeypatch.setattr(jobs, "_train_in_child", too_late)
    work(store, linger_seconds=0.05)
    assert trained == ["b"]
    assert store.ids() == ["b"]


def test_at_most_so_many_train_at_once(store, make_run, pretend, monkeypatch):
    for i in range(7):
        make_run(f"r{i}")
    monkeypatch.setenv("FER_MAX_RUNS", "3")
    lock, now, most = threading.Lock(), set(), []

    def act(run_id: str) -> None:
        with lock:
            now.add(run_id)
            most.append(len(now))
        time.sleep(0.4)
        with lock:
            now.discard(run_id)
        store.write_status(run_id, {"state": "finished"})

    trained = pretend(act)
    assert work(store, linger_seconds=0.05) == 7
    assert max(most) == 3
    # In the queue's order, but that those which start at one moment may overtake each other.
    assert len(trained) == 7 and all(abs(trained.index(f"r{i}") - i) < 3 for i in range(7))


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "65"])
def test_a_wrong_number_of_runs_at_a_time_is_refused(monkeypatch, value):
    monkeypatch.setenv("FER_MAX_RUNS", value)
    with pytest.raises(ConfigError, match="Allowed: a whole number from 1 to 64"):
        jobs.max_runs()


def test_with_a_wrong_number_of_runs_at_a_time_nothing_is_queued(store, tiny, monkeypatch):
    monkeypatch.setenv("FER_MAX_RUNS", "two")
    with pytest.raises(ConfigError, match="FER_MAX_RUNS cannot be 'two'"):
        submit(store, [("baseline", tiny_config())])
    assert not store.ids()


def test_runs_at_a_time_follow_gpus_and_then_cores(monkeypatch):
    monkeypatch.delenv("FER_MAX_RUNS", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 20)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _self: list(range(40)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (jobs.gpus(), jobs.max_runs()) == ([], 2)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _self: [0, 1, 2])
    assert jobs.max_runs() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    assert jobs.max_runs() == 3


def test_each_run_gets_a_gpu_of_its_own_and_its_share_of_the_cores(store, make_run, monkeypatch):
    for i in range(3):
        make_run(f"r{i}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("FER_MAX_RUNS", raising=False)
    seen = []

    def call(command, _log, environment, _stop) -> int:
        seen.append((command[-1], environment["CUDA_VISIBLE_DEVICES"], environment["FER_SHARING"]))
        time.sleep(0.5)
        store.write_status(command[-1], {"state": "finished"})
        return 0

    monkeypatch.setattr(jobs, "_call", call)
    work(store, linger_seconds=0.05)
    assert {gpu for _run, gpu, _sharing in seen[:2]} == {"4", "7"}
    assert {sharing for _run, _gpu, sharing in seen} == {"2"}


def test_run_next_goes_before_all_others(store, make_run):
    for run_id in ("a", "b", "c"):
        make_run(run_id)
    assert jobs.run_next(store, "c").state == "queued"
    assert [r.id for r in queue(store)] == ["c", "a", "b"]
    jobs.run_next(store, "b")
    jobs.run_next(store, "b")
    assert [r.id for r in queue(store)] == ["b", "c", "a"]
    store.request_stop("a")
    with pytest.raises(RunError, match="is stopped; only one that waits"):
        jobs.run_next(store, "a")
    store.requeue("a")
    assert [r.id for r in queue(store)][-1] == "a"


def test_a_paused_queue_starts_nothing_and_goes_on_when_told(store, make_run, pretend, monkeypatch):
    for run_id in ("a", "b"):
        make_run(run_id)
    called = []
    monkeypatch.setattr(jobs, "ensure_worker", called.append)
    trained = pretend(lambda run_id: (store.write_status(run_id, {"state": "finished"}), jobs.pause(store)))
    assert work(store, linger_seconds=0.05) == 1
    assert trained == ["a"]
    assert work(store, linger_seconds=0.05) == 0
    assert (jobs.paused(store), called) == (True, [])
    jobs.unpause(store)
    assert (jobs.paused(store), called) == (False, [store])
    assert work(store, linger_seconds=0.05) == 1


def test_a_submission_is_stopped_as_one_and_leaves_others_alone(store, make_run, tiny, monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)
    make_run("other")
    runs = submit(store, [("baseline", tiny_config(seed=s)) for s in range(3)])
    assert len({r.submission for r in runs}) == 1
    store.write_status(runs[1].id, {"state": "finished"})
    assert jobs.stop_submission(store, runs[0].id) == [runs[2].id, runs[0].id]
    assert [store.get(r.id).state for r in runs] == ["stopped", "finished", "stopped"]
    assert store.get("other").state == "queued"
    with pytest.raises(RunError, match="nothing to stop"):
        jobs.stop_submission(store, runs[0].id)
    assert store.get("other").submission is None


def test_a_submission_that_fails_half_way_is_taken_back(store, tiny, monkeypatch):
    create, made = RunStore.create, []

    def full_at_the_third(self, *args, **kwargs):
        if len(made) == 2:
            raise RunError("The run store cannot be written: No space left on device.")
        made.append(1)
        return create(self, *args, **kwargs)

    monkeypatch.setattr(RunStore, "create", full_at_the_third)
    with pytest.raises(RunError, match="No space left"):
        submit(store, [("baseline", tiny_config(seed=s)) for s in range(3)])
    assert store.ids() == []


def test_the_time_of_a_submission_follows_from_runs_of_its_kind(store, make_run, finished_run):
    configs = seeds(finished_run.config, [5, 6])
    known = jobs.seconds_known([finished_run], configs)
    assert known == pytest.approx(2 * 3 * finished_run.epoch_seconds)
    assert jobs.seconds_known([finished_run], [*configs, tiny_config(train__batch_size=7)]) is None
    assert jobs.seconds_known([finished_run], [with_settings(c, {"model.from_run": "done"}) for c in configs]) == known
    assert jobs.seconds_known([], configs) is None


def test_the_time_of_frozen_epochs_is_not_that_of_others(store):
    some, alone = (
        write_run(
            store, run_id, [{"epoch_seconds": s} for s in seconds],
            model__name="resnet18", model__pretrained=True, train__freeze_epochs=frozen,
        )
        for run_id, frozen, seconds in (("some", 2, [5.0, 5.0, 60.0]), ("alone", 3, [5.0, 5.0, 5.0]))
    )  # fmt: skip
    assert jobs.seconds_known([some, alone], [some.config]) == 3 * 60.0
    assert jobs.seconds_known([some, alone], [alone.config]) == 3 * 5.0
    assert jobs.seconds_known([some], [alone.config]) is None


def test_an_ensemble_s_one_row_says_nothing_of_an_epoch_s_time(finished_run):
    record = {**finished_run.record, "kind": "ensemble", "members": ["a", "b"]}
    assert jobs.seconds_known([dataclasses.replace(finished_run, record=record)], [finished_run.config]) is None


def test_choices_are_read_as_settings():
    assert jobs.choices(["optim.lr=0.1, 0.2,0.1", "seed=1"]) == {"optim.lr": ["0.1", "0.2"], "seed": ["1"]}
    with pytest.raises(ConfigError, match="no setting"):
        grid(Config(), jobs.choices(["optim.rate=1"]))
    with pytest.raises(ConfigError, match="has no values to try"):
        jobs.choices(["optim.lr="])
    with pytest.raises(ConfigError, match=r"'optim\.lr' stands twice in the grid"):
        jobs.choices(["optim.lr=0.1", "optim.lr=0.2"])


# What becomes of runs whose process or worker dies


def gone(store, run_id: str, **status) -> None:
    """As a run looks whose machine was restarted while a worker of ours trained it."""
    store.write_status(run_id, {"state": "running", "queued": 1.0, "worker": platform.node(), **status})


def test_runs_that_went_down_with_their_worker_are_queued_again_in_their_place(store, make_run, pretend):
    for run_id in ("mine", "foreign", "by-hand", "next"):
        make_run(run_id)
    gone(store, "mine")
    gone(store, "foreign", worker="another machine")
    store.write_status("by-hand", {"state": "running"})
    trained = pretend()
    assert work(store, linger_seconds=0.05) == 2
    assert trained == ["mine", "next"]
    assert [store.get(i).state for i in ("foreign", "by-hand")] == ["lost", "lost"]


def test_a_run_that_brings_its_machine_down_each_time_is_left_as_lost(store, make_run):
    make_run("a")
    for n in range(3):
        gone(store, "a", **({"adoptions": n, "adopted_epoch": 0} if n else {}))
        assert jobs.adopt(store, store.runs()) == ["a"]
    gone(store, "a", adoptions=store.get("a").status["adoptions"], adopted_epoch=0)
    assert jobs.adopt(store, store.runs()) == []
    gone(store, "a", adoptions=3, adopted_epoch=-1)  # an epoch has ended since
    assert jobs.adopt(store, store.runs()) == ["a"]


def test_a_worker_waits_for_the_runs_of_the_one_before_it(store, make_run, pretend):
    make_run("orphan")
    make_run("next")
    trained, order = pretend(), []
    with hold(store.root / "orphan" / "run.lock"):
        gone(store, "orphan")
        worker = threading.Thread(target=lambda: order.append(work(store, linger_seconds=1.0)))
        worker.start()
        time.sleep(0.6)
        assert trained == []
        store.write_status("orphan", {"state": "finished"})
    worker.join()
    assert (trained, order) == (["next"], [1])


@pytest.mark.parametrize(
    ("code", "said"),
    [(-9, "was killed (signal 9), as the system does when memory runs out"), (-11, "by signal 11"), (3, "with code 3")],
)
def test_a_process_that_dies_without_a_word_is_a_failed_run_with_its_cure(store, make_run, pretend, code, said):
    make_run("a")
    pretend(lambda run_id: gone(store, run_id), code=code)
    work(store, linger_seconds=0.05)
    assert store.get("a").state == "failed"
    assert said in store.get("a").status["error"]


def test_a_run_that_does_not_stop_is_killed(store, make_run, monkeypatch):
    run = make_run("a")
    monkeypatch.setattr(jobs, "_STOP_SECONDS", 0.5)
    (run.path / "stop").touch()
    began = time.monotonic()
    with open(os.devnull, "wb") as log:
        code = jobs._call([sys.executable, "-c", "import time; time.sleep(60)"], log, os.environ, run.path / "stop")
    assert code == -signal.SIGKILL
    assert time.monotonic() - began < 20
    gone(store, "a")
    jobs._after(store, "a", code)
    assert store.get("a").state == "stopped"
    assert "did not save within" in store.get("a").status["error"]


STUBBORN = """
import platform, sys, time
from fer.runs import RunStore, hold
store, run_id = RunStore(), sys.argv[-1]
with hold(store.folder(run_id) / "run.lock"):
    store.write_status(run_id, {"state": "running", "worker": platform.node()})
    time.sleep(120)
"""


@pytest.fixture
def stubborn(store):
    """`stubborn("id")`: the process of a worker that is gone, which trains this run and heeds no stop."""
    started = []

    def start(run_id: str, store=store) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "FER_RUNS_DIR": str(store.root)}
        process = subprocess.Popen([sys.executable, "-c", STUBBORN, "runs", "start", run_id], env=environment)
        started.append(process)
        wait_for(lambda: store.get(run_id).state == "running")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_an_adopted_run_that_does_not_stop_is_killed_and_the_next_one_starts(
    store, make_run, pretend, stubborn, monkeypatch, tmp_path
):
    """A run of the same id in another store is left alone."""
    monkeypatch.setattr(jobs, "_STOP_SECONDS", 0.5)
    make_run("a")
    shutil.copytree(store.root, tmp_path / "others")
    process, other = stubborn("a"), stubborn("a", RunStore(tmp_path / "others"))
    make_run("next")
    trained = pretend()
    worker = threading.Thread(target=lambda: work(store, linger_seconds=0.05))
    worker.start()
    time.sleep(1.0)
    assert (worker.is_alive(), process.poll(), trained) == (True, None, [])
    assert store.request_stop("a") == "stopping"
    assert process.wait(timeout=60) == -signal.SIGKILL
    worker.join()
    assert store.get("a").state == "stopped"
    assert "did not save within" in store.get("a").status["error"]
    assert trained == ["next"]
    assert other.poll() is None


def test_an_adopted_run_whose_process_cannot_be_found_is_left_alone(store, make_run, pretend, monkeypatch, capfd):
    monkeypatch.setattr(jobs, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "_DEATH_SECONDS", 0.1)
    make_run("a")
    gone(store, "a")
    with hold(store.root / "a" / "run.lock"):  # by this process, whose command is another one
        store.request_stop("a")
        time.sleep(0.2)
        assert work(store, linger_seconds=0.05) == 0
    assert "a does not stop, and its process was not found" in capfd.readouterr().out
    assert store.get("a").state == "lost"
    assert jobs.adoptable(store.runs()) == []  # it had been asked to stop


def test_stopping_a_run_whose_worker_is_gone_calls_another(store, make_run, monkeypatch):
    called = []
    monkeypatch.setattr(jobs, "ensure_worker", called.append)
    for run_id in ("by-hand", "orphan", "served", "waits"):
        make_run(run_id)
        if run_id != "waits":
            gone(store, run_id, **({"worker": None} if run_id == "by-hand" else {}))
    with contextlib.ExitStack() as locks:
        for run_id in ("by-hand", "orphan", "served"):
            locks.enter_context(hold(store.root / run_id / "run.lock"))
        assert (jobs.stop(store, "by-hand"), jobs.stop(store, "waits"), called) == ("stopping", "stopped", [])
        with hold(store.root / WORKER_LOCK):
            assert (jobs.stop(store, "served"), called) == ("stopping", [])
        assert (jobs.stop(store, "orphan"), called) == ("stopping", [store])


def test_the_last_run_of_a_dead_worker_starts_another(store, make_run, monkeypatch):
    called = []
    monkeypatch.setattr(jobs, "ensure_worker", called.append)
    jobs.carry_on(store)
    make_run("waits")
    jobs.carry_on(store)
    assert called == []  # not a run of a worker
    monkeypatch.setenv("FER_WORKER", platform.node())
    with hold(store.root / WORKER_LOCK):
        jobs.carry_on(store)
    assert called == []  # its worker lives
    jobs.carry_on(store)
    assert called == [store]


QUEUER = """
import sys
from fer.config import Config
from fer.runs import RunStore
for i in range(5):
    RunStore().create(Config(), recipe="baseline", data={"fingerprint": "f" * 32}, run_id=f"{sys.argv[1]}-{i}")
"""
STUB = r"""
import platform, sys, time
from fer.runs import RunStore, hold
store, run_id = RunStore(), sys.argv[1]
with hold(store.folder(run_id) / "run.lock"):
    if store.get(run_id).state != "queued":
        sys.exit(2)
    store.write_status(run_id, {"state": "running", "worker": platform.node()})
    with open(store.root / "order", "a") as file:
        file.write(run_id + "\n")
    time.sleep(0.1)
    store.write_status(run_id, {"state": "finished"})
"""
WORKER = """
import os, subprocess, sys, time
from fer import jobs
from fer.runs import RunStore
jobs._call = lambda command, log, env, stop: subprocess.call([sys.executable, sys.argv[1], command[-1]], env=env)
until = time.time() + 60
while time.time() < until and len(RunStore().ids()) < 20 or jobs.queue(RunStore()):
    jobs.work(RunStore(), linger_seconds=0.3)
    time.sleep(0.05)
"""


def test_twenty_runs_of_four_processes_and_two_workers_run_once_and_in_order_though_a_worker_is_killed(store, tmp_path):
    """The training is a stub that takes the run's lock and its state as the trainer does."""
    (tmp_path / "stub.py").write_text(STUB)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    start = [sys.executable, "-c", WORKER, str(tmp_path / "stub.py")]
    workers = [subprocess.Popen(start, env=environment) for _ in range(2)]
    queuers = [subprocess.Popen([sys.executable, "-c", QUEUER, f"q{i}"], env=environment) for i in range(4)]
    order = store.root / "order"
    try:
        assert [q.wait(timeout=60) for q in queuers] == [0] * 4
        wait_for(lambda: order.exists() and len(order.read_text().split()) >= 3)
        serving = next(p for p in map(psutil.Process, [w.pid for w in workers if w.poll() is None]) if p.children())
        serving.kill()
        wait_for(lambda: all(store.get(i).state == "finished" for i in store.ids()), 60)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    done = order.read_text().split()
    assert len(done) == len(set(done)) == 20
    for queuer in range(4):
        assert [i for i in done if i.startswith(f"q{queuer}-")] == [f"q{queuer}-{n}" for n in range(5)]
    turns = {r.id: r.created for r in store.runs()}
    late = [(a, b) for a, b in pairwise(done) if turns[a] > turns[b]]
    assert len(late) <= 4, late  # one that was queued while another one queued earlier was still being written


def test_a_worker_that_cannot_be_started_says_how_to_start_one(store, read_only, monkeypatch):
    monkeypatch.setattr(jobs, "WORKER_LOG", "no-such-folder/log")
    with pytest.raises(RunError, match="Start it yourself with: python -m fer worker"):
        jobs.ensure_worker(store)


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert jobs.free_bytes(tmp_path / "not" / "yet") == pytest.approx(jobs.free_bytes(tmp_path), rel=0.05)


# A real one


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_detached_worker_trains_a_run_to_its_end(store, tiny):
    (run,) = submit(store, [("baseline", tiny_config(train__epochs=1))])
    process = jobs._STARTED[-1]
    assert os.getsid(process.pid) == process.pid != os.getsid(0)  # outlives the session that started it
    wait_for(lambda: store.get(run.id).state not in ("queued", "running"))
    done = store.get(run.id)
    assert (done.state, len(done.metrics)) == ("finished", 1), done.log_tail()
    log = (done.path / "train.log").read_text()
    assert log.count("epoch 1/1") == 1
    assert log.splitlines()[-1].startswith("finished: best val top-1")
    wait_for(lambda: process.poll() is not None)
    assert not worker_alive(store)
    assert (store.root / ".worker.log").read_text() == "worker: 1 run trained\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_killed_while_it_trains_loses_neither_that_run_nor_the_next(store, tiny):
    first, second = submit(store, [("baseline", tiny_config(seed=s, train__epochs=20)) for s in (0, 1)])
    worker = jobs._STARTED[-1]
    wait_for(lambda: store.get(first.id).metrics)
    worker.kill()
    worker.wait()
    assert store.get(first.id).state == "running"
    wait_for(lambda: store.get(second.id).state == "finished", 200)
    assert store.get(first.id).state == "finished"
    assert store.get(second.id).created < store.get(second.id).status["started"]
    wait_for(lambda: not worker_alive(store))


def test_a_run_of_someone_else_is_not_started_twice(store, make_run, capsys):
    make_run("a")
    with hold(store.root / "a" / "run.lock"):
        assert main(["runs", "start", "a"]) == 2
    assert "in use by another process" in capsys.readouterr().err
    assert store.get("a").state == "queued"


def test_ctrl_c_on_the_worker_lets_the_training_save(store, make_run):
    """The whole process group hears Ctrl-C, as in a terminal; the run ends as stopped, not killed."""
    make_run("long", train__epochs=2000)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    worker = subprocess.Popen([sys.executable, "-m", "fer", "worker"], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not store.get("long").metrics and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(worker.pid, signal.SIGINT)
        worker.wait(timeout=30)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    assert store.get("long").state == "stopped"
    assert (store.folder("long") / "resume.pt").exists()


@pytest.mark.skipif(not hasattr(os, "nice"), reason="Windows has no nice")
def test_a_worker_leaves_the_cores_to_others():
    code = "import os; from fer.jobs import step_aside; step_aside(); print(os.nice(0))"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert int(said.stdout) == max(10, os.nice(0))
