"""The queue and its worker: in order, one at a time, and nothing that happens to one run stops the next."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from fer import jobs
from fer.cli import main
from fer.config import Config, differing, parse_assignments, with_settings
from fer.data import dataset
from fer.errors import ConfigError, DataError, RunError
from fer.files import PROJECT_ROOT
from fer.jobs import WORKER_LOCK, command_line, create_run, grid, queue, seeds, submit, work, worker_alive
from fer.recipes import get_recipe
from fer.runs import hold
from tests.conftest import tiny_config

# Configs for many runs


def test_a_grid_has_every_combination_the_last_setting_changing_fastest():
    configs = grid(Config(), {"optim.lr": [0.1, 0.2], "seed": [0, 1, 2]})
    assert [(c.optim.lr, c.seed) for c in configs] == [(0.1, 0), (0.1, 1), (0.1, 2), (0.2, 0), (0.2, 1), (0.2, 2)]
    assert grid(Config(), {}) == [Config()]


def test_a_grid_that_is_too_large_or_wrong_is_refused():
    with pytest.raises(ConfigError, match="has 1,000,000 runs. At most 200"):
        grid(Config(), {"seed": range(1000), "train.epochs": range(1, 1001)})
    with pytest.raises(ConfigError, match=r"optim\.lr cannot be -1"):
        grid(Config(), {"optim.lr": [0.1, -1]})
    with pytest.raises(ConfigError, match="no setting 'optim.rate'"):
        grid(Config(), {"optim.rate": [1]})


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


def test_the_command_line_without_a_queue_trains_in_the_foreground():
    assert command_line("cosine", {}, queued=False) == "python -m fer train --recipe cosine"


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
    store.annotate("archived", archived=True)
    store.request_stop("a")
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

        def call(command, _log, _environment) -> int:
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

    def too_late(store_, run) -> None:
        if run.id == "a":
            store.delete("a")
        real(store_, run)

    monkeypatch.setattr(jobs, "_train_in_child", too_late)
    work(store, linger_seconds=0.05)
    assert trained == ["b"]
    assert store.ids() == ["b"]


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
