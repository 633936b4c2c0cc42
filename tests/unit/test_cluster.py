"""Runs on a Ray cluster, with a stand-in for Ray: what is asked for, what is handed over, and what becomes of runs whose job ends.

A real cluster of two nodes is in `test_ray.py`.
"""

from __future__ import annotations

import shlex
import socket
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fer import cluster, jobs
from fer.cli import main
from fer.cluster import Ask, Job, Watch
from fer.errors import ClusterError, ConfigError, RunBusy, RunError
from fer.files import PROJECT_ROOT
from fer.repair import check_store
from fer.runs import hold
from fer.train import fit
from tests.conftest import tiny_config

WHERE = "http://127.0.0.1:1"


class Fake:
    """A cluster that runs nothing; a test says what becomes of its jobs."""

    def __init__(self) -> None:
        self.known: dict[str, Job] = {}
        self.submitted: dict[str, tuple[str, dict[str, str], str]] = {}
        self.stopped: list[str] = []
        self.up = True

    def jobs(self) -> dict[str, Job]:
        if not self.up:
            raise ClusterError("The Ray cluster at 127.0.0.1:1 does not answer.")
        return dict(self.known)

    def submit(self, name, command, environment, run) -> None:
        assert name not in self.known, "handed over twice"
        self.known[name] = Job("PENDING", store=environment["FER_RUNS_DIR"])
        self.submitted[name] = (command, dict(environment), run.id)

    def stop(self, name) -> None:
        self.stopped.append(name)

    def turn(self, run, status: str, **facts) -> None:
        """Let a run's job become this."""
        self.known[run.on_ray["job"]] = replace(self.known[run.on_ray["job"]], status=status, **facts)


@pytest.fixture
def ray() -> Fake:
    return Fake()


@pytest.fixture
def watch(store, ray) -> Watch:
    return Watch(store, 60.0, connect=lambda _where: ray)


@pytest.fixture
def queued(store, tiny, monkeypatch):
    """`queued()`: a run that waits for the cluster."""
    monkeypatch.setattr(cluster, "check", lambda _where: None)

    def make(run_id: str = "a", ask: Ask | None = None, **changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "ensure_worker", lambda _store: None)
            plan = [("baseline", tiny_config(**changes))]
            (run,) = jobs.submit(store, plan, ask or Ask(WHERE, memory_gib=1), run_id=run_id)
        return run

    return make


@pytest.fixture
def running(store, queued, watch, ray):
    """`running()`: a run whose job Ray has started and that has said so, though nobody holds its lock."""

    def make(run_id: str = "a", **status):
        run = queued(run_id)
        watch.look()
        ray.turn(run, "RUNNING")
        store.write_status(run_id, {**run.status, "state": "running", "started": time.time(), **status})
        return store.get(run_id)

    return make


# What is asked for


def test_what_is_not_said_follows_from_the_run():
    asked = Ask(WHERE).of(tiny_config(runtime__threads=None))
    assert (asked["cpus"], asked["gpus"], asked["memory_gib"]) == (2, 0.0, 2.0)
    assert Ask(WHERE).of(tiny_config(runtime__threads=5))["cpus"] == 5
    assert Ask(WHERE).of(tiny_config(runtime__device="cuda"))["gpus"] == 1.0
    own = Ask(WHERE, 8, 0.5, 3.5).of(tiny_config())
    assert (own["cpus"], own["gpus"], own["memory_gib"]) == (8, 0.5, 3.5)
    assert own["job"] != Ask(WHERE).of(tiny_config())["job"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpus": 0}, "CPUs cannot be 0. Allowed: a whole number from 1 to 1,024"),
        ({"cpus": 2000}, "CPUs cannot be 2000"),
        ({"gpus": 2}, "GPUs cannot be 2. Allowed: 0 to 1"),
        ({"gpus": -1}, "GPUs cannot be -1"),
        ({"memory_gib": 0.1}, "Memory cannot be 0.1 GiB. Allowed: 0.25 to 4,096"),
        ({"memory_gib": float("nan")}, "Memory cannot be nan"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked, said):
    with pytest.raises(ConfigError, match=said):
        Ask(WHERE, **asked)


def test_what_does_not_fit_the_run_is_refused():
    with pytest.raises(ConfigError, match=r"4 threads \(runtime.threads\) and asks for 2 CPUs"):
        Ask(WHERE, cpus=2).of(tiny_config(runtime__threads=4))
    with pytest.raises(ConfigError, match=r"\(runtime.device=cuda\) and asks for none"):
        Ask(WHERE, gpus=0).of(tiny_config(runtime__device="cuda"))


@pytest.mark.parametrize(
    "given", ["ray://x:10001", "127.0.0.1:8265", "auto", "http://", "http://u:p@x:1", "http://x:a"]
)
def test_an_address_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("FER_RAY_ADDRESS", given)
    with pytest.raises(ConfigError, match="FER_RAY_ADDRESS cannot be"):
        cluster.address()


def test_an_address(monkeypatch):
    monkeypatch.setenv("FER_RAY_ADDRESS", " http://head:8265/ ")
    assert cluster.ask(cpus=3) == Ask("http://head:8265", 3)
    assert cluster.name_of("http://head:8265") == "head:8265"
    monkeypatch.setenv("FER_RAY_ADDRESS", "")
    assert cluster.address() is None
    with pytest.raises(ConfigError, match="FER_RAY_ADDRESS is not set"):
        cluster.ask()


def test_without_ray_it_says_how_to_install_it_and_nothing_is_queued(store, tiny, monkeypatch, capsys):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("FER_RAY_ADDRESS", WHERE)
    assert main(["train", "--dataset", "tiny", "--on", "ray"]) == 2
    assert "Install it with: python -m pip install -r requirements-ray.txt" in capsys.readouterr().err
    assert store.ids() == []


def test_a_cluster_that_does_not_answer_is_said_and_nothing_is_queued(store, tiny, monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _name: object())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        where = f"http://127.0.0.1:{port}"
        with pytest.raises(ClusterError, match=rf"127.0.0.1:{port} does not answer \(.*refused\)\. See that it is up"):
            jobs.submit(store, [(None, tiny_config())], Ask(where))
        unused.listen()  # from here on a connection is made, and nobody speaks
        began = time.monotonic()
        assert "does not answer (timed out)" in cluster.problem(where)
        assert time.monotonic() - began < 10
    assert store.ids() == []


def test_a_cluster_that_answers_anything_is_up(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _name: object())

    class No(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_arguments) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), No) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert cluster.problem(f"http://127.0.0.1:{server.server_port}") == ""
        thread.join()


# Handing over


def test_a_run_is_handed_over_once_as_the_command_of_a_worker(store, queued, watch, ray, tmp_path):
    run = queued()
    assert watch.look()
    assert watch.look()
    (command, environment, run_id), *more = ray.submitted.values()
    assert (run_id, more) == ("a", [])
    words = shlex.split(command)
    assert words[:7] == ["exec", sys.executable, "-m", "fer", "runs", "start", "a"]
    assert words[7:] == [">>", str(run.path / "train.log"), "2>&1"]
    assert environment["FER_RUNS_DIR"] == str(tmp_path / "runs")
    assert environment["FER_DATA_DIR"] == str(tmp_path / "data")
    assert environment["PYTHONPATH"] == str(PROJECT_ROOT)
    assert (environment["FER_CPUS"], environment["CUDA_VISIBLE_DEVICES"]) == ("1", "")  # runtime.threads is 1
    assert environment["FER_RAY_JOB"] == run.on_ray["job"] in ray.submitted


def test_a_run_that_asks_for_a_gpu_keeps_what_ray_gives_it(queued, watch, ray):
    queued(ask=Ask(WHERE, gpus=0.5))
    watch.look()
    ((_command, environment, _id),) = ray.submitted.values()
    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_a_paused_queue_hands_nothing_over(store, queued, watch, ray):
    queued()
    assert watch.look(hand_over=False)
    assert ray.submitted == {}
    watch.look()
    assert len(ray.submitted) == 1


def test_the_worker_hands_over_and_trains_none_of_them(store, queued, ray, monkeypatch):
    run = queued()
    monkeypatch.setattr(cluster.Watch, "__init__", _with(ray))
    monkeypatch.setattr(jobs, "_call", lambda *_a: pytest.fail("trained here"))
    monkeypatch.setattr(jobs, "_CLUSTER_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "_IDLE_SECONDS", 0.05)
    assert (jobs.queue(store), jobs.waiting([run])) == ([], [])
    assert jobs.unserved(store, [run])
    worker = threading.Thread(target=lambda: jobs.work(store, linger_seconds=0.05))
    worker.start()
    deadline = time.monotonic() + 20
    while not ray.submitted and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    assert worker.is_alive(), "it watches until the run has ended"
    store.write_status("a", {**run.status, "state": "finished"})
    worker.join(timeout=20)
    assert not worker.is_alive()
    assert [i for _c, _e, i in ray.submitted.values()] == ["a"]


def _with(ray: Fake):
    real = cluster.Watch.__init__
    return lambda self, store, seconds: real(self, store, seconds, connect=lambda _where: ray)


def test_a_run_that_ray_does_not_take_has_failed_with_the_reason(store, queued, watch, ray, monkeypatch):
    queued()

    def refuse(*_arguments) -> None:
        raise RunError("The Ray cluster at 127.0.0.1:1 refused: no such thing.")

    monkeypatch.setattr(ray, "submit", refuse)
    assert not watch.look()
    run = store.get("a")
    assert (run.state, run.status["error"]) == ("failed", "The Ray cluster at 127.0.0.1:1 refused: no such thing.")


def test_a_cluster_that_falls_silent_changes_nothing(store, running, queued, watch, ray, capsys):
    running("a")
    queued("b")
    before = [store.get(i).status for i in ("a", "b")]
    ray.up = False
    assert watch.look()
    assert watch.look()
    assert [store.get(i).status for i in ("a", "b")] == before
    assert capsys.readouterr().out.count("does not answer") == 1
    ray.up = True
    watch.look()
    assert [i for _c, _e, i in ray.submitted.values()] == ["a", "b"]


# What becomes of a run


def test_a_run_is_running_while_it_is_heard_of_and_lost_a_minute_after(store, running, watch):
    run = running()
    assert (run.state, watch.look()) == ("running", True)
    (run.path / "stop").touch()
    assert store.get("a").state == "stopping"
    (run.path / "stop").unlink()
    long_ago = time.time() - 61
    store.write_status("a", {**run.status, "started": long_ago, "updated": long_ago})
    assert store.get("a").state == "lost"
    store.write_status("a", {**run.status, "started": long_ago, "updated": time.time()})
    assert store.get("a").state == "running"
    here = {k: v for k, v in run.status.items() if k != "ray"}
    store.write_status("a", here)
    assert store.get("a").state == "lost"  # on this machine the lock alone decides


def test_a_run_whose_node_went_away_is_handed_over_again(store, running, watch, ray):
    run = running()
    ray.turn(run, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED", message="its node has died")
    watch.look()
    again = store.get("a")
    assert (again.state, again.adoptions) == ("queued", 1)
    assert again.on_ray["job"] != run.on_ray["job"]
    assert "The node of the Ray cluster that it was on went away" in again.on_ray["said"]
    assert {k: again.on_ray[k] for k in ("cpus", "gpus", "memory_gib")} == {"cpus": 1, "gpus": 0.0, "memory_gib": 1}
    watch.look()
    assert again.on_ray["job"] in ray.submitted


def test_a_cluster_started_anew_gets_its_runs_again(store, running, watch, ray):
    run = running()
    ray.known.clear()
    watch.look()
    assert "started anew" in store.get("a").on_ray["said"]
    watch.look()
    assert list(ray.known) == [store.get("a").on_ray["job"]] != [run.on_ray["job"]]


def test_a_run_that_takes_every_node_down_is_left_as_failed(store, running, watch, ray):
    for n in range(4):
        run = running("a") if n == 0 else store.get("a")
        store.write_status("a", {**run.status, "state": "running", "started": time.time()})
        watch.look()
        ray.turn(run, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED", message="the node was low on memory")
        watch.look()
        assert store.get("a").state == ("queued" if n < 3 else "failed"), n
        watch.look()
    assert "ran out of memory; ask for more" in store.get("a").status["error"]


def test_what_waits_longer_than_ray_does_is_handed_over_again(store, queued, watch, ray):
    run = queued()
    watch.look()
    ray.turn(run, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
    assert watch.look()
    again = store.get("a")
    assert (again.state, again.adoptions) == ("queued", 0)
    assert "found no node with 1 CPU, no GPU and 1 GiB free" in again.on_ray["said"]
    watch.look()
    assert again.on_ray["job"] in ray.submitted


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"exit_code": 137}, "ended with code 137 without a word, as when memory runs out"),
        (
            {"error_type": "RUNTIME_ENV_SETUP_FAILURE", "message": "a\nno pip here.\n"},
            "could not run it: no pip here. Put",
        ),
    ],
)
def test_a_process_that_ends_without_a_word_is_a_failed_run_with_its_cure(store, running, watch, ray, facts, said):
    ray.turn(running(), "FAILED", **facts)
    assert not watch.look()
    run = store.get("a")
    assert run.state == "failed"
    assert said in run.status["error"]


def test_a_node_without_the_store_is_a_failed_run_that_says_what_nodes_need(store, queued, watch, ray):
    run = queued()
    watch.look()
    ray.turn(run, "FAILED", exit_code=2, message="logs:\nsh: 1: cannot create x/train.log: Directory nonexistent\n")
    watch.look()
    error = store.get("a").status["error"]
    assert "ended with code 2 before the run began" in error
    assert "Directory nonexistent" in error
    assert "must lie at the same paths on every node" in error


def test_a_run_that_said_how_it_ended_is_left_as_it_is(store, running, watch, ray):
    run = running()
    store.write_status("a", {**run.status, "state": "finished"})
    ray.turn(run, "FAILED", exit_code=1)
    assert not watch.look()
    assert store.get("a").status["state"] == "finished"


def test_a_run_that_somebody_trains_is_left_alone_whatever_ray_says(store, running, watch, ray):
    run = running()
    ray.turn(run, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED")
    with hold(run.path / "run.lock"):
        assert watch.look()
        assert store.get("a").status == run.status
    watch.look()
    assert store.get("a").state == "queued"


def test_a_run_that_trains_elsewhere_is_neither_deleted_nor_mended(store, running):
    run = running()
    (run.path / "metrics.jsonl").write_text('{"epoch": 1')
    with pytest.raises(RunBusy, match="trains on a Ray cluster. Stop it first"):
        store.delete("a")
    assert check_store(store, repair=True) == []
    store.write_status("a", {**run.status, "started": 1.0})  # nothing was heard of it for long
    assert {f.file for f in check_store(store)} == {"metrics.jsonl", "status.json"}
    store.delete("a")


# Stopping and resuming


def test_a_run_stopped_while_it_waits_is_taken_back_from_ray(store, queued, watch, ray):
    run = queued()
    watch.look()
    assert store.request_stop("a") == "stopped"
    assert not watch.look()
    watch.look()
    assert ray.stopped == [run.on_ray["job"]]


def test_a_run_that_does_not_stop_is_killed_through_ray(store, running, ray):
    run = running()
    store.request_stop("a")
    patient, hasty = (Watch(store, s, connect=lambda _where: ray) for s in (60.0, -1.0))
    patient.look()
    assert ray.stopped == []
    hasty.look()
    assert ray.stopped == [run.on_ray["job"]]
    ray.turn(run, "STOPPED")
    hasty.look()
    assert store.get("a").state == "stopped"
    assert "before it could save" in store.get("a").status["error"]
    assert not (run.path / "stop").exists()


def test_a_job_whose_run_was_deleted_ends_and_those_of_others_go_on(store, queued, watch, ray, monkeypatch):
    run = queued()
    watch.look()
    ray.turn(run, "RUNNING")  # its process has not said so yet
    ray.known["others"] = Job("RUNNING", store="/elsewhere")
    ray.known["nobody's"] = Job("RUNNING")
    store.delete("a")
    assert watch.look()
    assert ray.stopped == []  # it may be about to end by itself
    monkeypatch.setattr(cluster, "_END_SECONDS", 0.0)
    assert not watch.look()
    watch.look()
    assert ray.stopped == [run.on_ray["job"]]


def test_resume_goes_where_the_run_was_or_here(store, queued, watch, monkeypatch, capsys):
    run = queued()
    store.request_stop("a")
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)
    again = jobs.resume(store, "a")
    assert again.on_ray["address"] == WHERE
    assert again.on_ray["job"] != run.on_ray["job"]
    store.request_stop("a")
    monkeypatch.setenv("FER_RAY_ADDRESS", "http://moved:8265")
    assert main(["runs", "resume", "a"]) == 0
    assert "for the Ray cluster at moved:8265, 1 CPU, no GPU and 1 GiB" in capsys.readouterr().out
    store.request_stop("a")
    assert jobs.resume(store, "a", here=True).on_ray is None
    assert [r.id for r in jobs.queue(store)] == ["a"]


def test_a_job_made_before_the_run_was_queued_anew_does_not_train_it(store, queued, monkeypatch):
    old = queued().on_ray["job"]
    store.request_stop("a")
    store.requeue("a", ray=cluster.again(store.get("a")))
    monkeypatch.setenv("FER_RAY_JOB", old)
    with pytest.raises(RunError, match="queued anew since this Ray job was made"):
        fit(store, "a")
    assert store.get("a").state == "queued"


def test_a_run_keeps_its_place_and_computes_with_the_cpus_it_was_given(store, tiny, queued, monkeypatch):
    run = queued(runtime__threads=None, train__epochs=1)
    monkeypatch.setenv("FER_RAY_JOB", run.on_ray["job"])
    monkeypatch.setenv("FER_CPUS", "1")
    monkeypatch.setattr("fer.device.physical_cores", lambda: 64)
    done = fit(store, "a")
    assert (done.state, done.status["threads"], done.on_ray) == ("finished", 1, run.on_ray)


def test_a_damaged_note_of_where_it_runs_is_named_and_ignored(store, queued):
    run = queued()
    for damaged in ({**run.on_ray, "cpus": "two"}, {}, [], "x", None):
        store.write_status("a", {**run.status, "ray": damaged})
        found = store.get("a")
        assert (found.on_ray, found.state) == (None, "queued")
        assert any("ray left out" in p for p in found.problems)


# The command line


@pytest.fixture
def on_ray(store, tiny, monkeypatch):
    monkeypatch.setenv("FER_RAY_ADDRESS", WHERE)
    monkeypatch.setattr(cluster, "check", lambda _where: None)
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)


def test_train_on_ray_queues_and_returns(store, on_ray, capsys):
    words = ["train", "--dataset", "tiny", "--on", "ray", "--cpus", "3", "--memory", "1.5", "--run-id", "a"]
    assert main(words) == 0
    assert "queued a for the Ray cluster at 127.0.0.1:1, 3 CPUs, no GPU and 1.5 GiB" in capsys.readouterr().out
    assert main(["train", "--dataset", "tiny", "--on", "ray", "--seeds", "3"]) == 0
    assert "3 runs, 75 epochs in all; spread over the cluster by Ray" in capsys.readouterr().out
    assert len(store.runs()) == 4
    assert all(r.on_ray and r.state == "queued" for r in store.runs())
    assert main(["queue", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == "a: waits for the Ray cluster at 127.0.0.1:1, 3 CPUs, no GPU and 1.5 GiB"
    assert listed[-1] == "The Ray cluster at 127.0.0.1:1 answers."
    assert main(["runs", "show", "a"]) == 0
    assert "launched for the Ray cluster at 127.0.0.1:1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "mars"], "on 'mars'. Allowed: machine, ray"),
        (["--cpus", "2"], "Add --on ray"),
        (["--on", "ray", "--gpus", "3"], "GPUs cannot be 3"),
    ],
)
def test_what_train_does_not_understand_is_said(store, on_ray, capsys, words, said):
    assert main(["train", "--dataset", "tiny", *words]) == 2
    assert said in capsys.readouterr().err
    assert store.ids() == []


def test_the_command_line_says_where():
    line = jobs.command_line("baseline", {}, on_ray=Ask(WHERE, 4, None, 1.5))
    assert line == "python -m fer train --recipe baseline --on ray --cpus 4 --memory 1.5 --queue"
