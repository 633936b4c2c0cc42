"""Runs on a real Ray cluster of two nodes on this machine: spread, watched, stopped, resumed, and a node killed under them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from fer import cluster, jobs
from fer.config import Config, with_settings
from fer.data.dataset import load
from fer.errors import ClusterError
from fer.files import PROJECT_ROOT
from fer.runs import RunStore
from fer.train import fit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_HERE = ("127.0.0.1", "::ffff:127.0.0.1", "::1")


@dataclass
class TwoNodes:
    """The cluster of `tests.two_nodes`. second: the id of the node that can be killed."""

    process: subprocess.Popen[str]
    address: str
    second: str

    def say(self, word: str) -> str:
        print(word, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def node_of(self, run) -> str | None:
        """The node that trains a run, None while it waits."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.address).get_job_info(run.on_ray["job"]).driver_node_id


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    """Two nodes with one CPU each; ended with all its processes."""
    if importlib.util.find_spec("ray") is None:
        missing = "ray is missing; see requirements-ray.txt"
        pytest.fail(missing) if os.environ.get("FER_REQUIRE_RAY") else pytest.skip(missing)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.two_nodes", "1"],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, f"the cluster did not start; it ended with code {process.wait()}"
        up = json.loads(line)
        yield TwoNodes(process, up["address"], up["second"])
    finally:
        left = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        for one in psutil.wait_procs(left, timeout=30)[1]:
            one.kill()


@pytest.fixture(scope="module")
def sample_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample faces as a file: drawing them takes seconds, which every process would spend anew."""
    folder = tmp_path_factory.mktemp("faces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_DATA_DIR", str(folder))
        load("sample")
    return folder


@pytest.fixture
def launch(two_nodes, store, sample_faces, monkeypatch) -> Iterator[Callable[..., list]]:
    """`launch(n, epochs)`: n seeds on the sample faces, one CPU each, handed to the cluster. Its worker ends with the test."""
    monkeypatch.setenv("FER_RAY_ADDRESS", two_nodes.address)
    monkeypatch.setenv("FER_DATA_DIR", str(sample_faces))

    def submit(n: int, epochs: int) -> list:
        configs = jobs.seeds(sample_config(epochs), range(n))
        return jobs.submit(store, [("baseline", c) for c in configs], cluster.ask(cpus=1, memory_gib=0.5))

    yield submit
    try:
        for run in store.runs(archived=True):
            if run.state in ("queued", "running"):
                store.request_stop(run.id)
        wait_for(lambda: not jobs.worker_alive(store), 90)
    finally:
        for worker in jobs._STARTED:
            worker.kill()
            worker.wait()


def sample_config(epochs: int) -> Config:
    """A small network on the sample faces in fp32 on one thread."""
    runtime = {"runtime.device": "cpu", "runtime.precision": "fp32", "runtime.threads": 1}
    return with_settings(Config(), {"data.name": "sample", "train.epochs": epochs, "model.name": "compact", **runtime})


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def states(store: RunStore, runs) -> list[str]:
    return [store.get(r.id).state for r in runs]


def test_no_port_of_the_cluster_is_open_to_the_network(two_nodes):
    listening = [c for p in two_nodes.processes() for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listening) > 5
    assert {c.laddr.ip for c in listening} <= set(_HERE)


def test_a_run_is_stopped_with_a_save_and_resumed_to_the_end_of_an_undisturbed_one(two_nodes, store, launch):
    (run,) = launch(1, 3)
    wait_for(lambda: "epoch 1/3" in store.get(run.id).log_tail())
    seen = store.get(run.id)
    assert (seen.state, seen.status["threads"], len(seen.metrics) > 0) == ("running", 1, True)
    store.request_stop(run.id)
    wait_for(lambda: store.get(run.id).state == "stopped")
    assert store.get(run.id).status["error"] is None
    again = jobs.resume(store, run.id)
    assert again.on_ray["job"] != run.on_ray["job"]
    wait_for(lambda: store.get(run.id).state == "finished")
    here = jobs.create_run(store, sample_config(3), recipe="baseline", reserved=True)
    figures = [
        [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in r.metrics]
        for r in (store.get(run.id), fit(store, here.id))
    ]
    assert figures[0] == figures[1]
    assert (run.path / "best.safetensors").exists()


def test_a_run_that_waits_for_room_is_taken_back(two_nodes, store, launch):
    runs = launch(3, 200)
    wait_for(lambda: sum(s == "running" for s in states(store, runs)) == 2)
    (waits,) = [r for r in runs if store.get(r.id).state == "queued"]
    assert two_nodes.node_of(waits) is None
    assert store.request_stop(waits.id) == "stopped"
    assert jobs.stop_submission(store, runs[0].id)
    wait_for(lambda: states(store, runs) == ["stopped"] * 3)
    connected = cluster.connect(two_nodes.address)
    wait_for(lambda: connected.jobs()[waits.on_ray["job"]].over)
    assert not (waits.path / "metrics.jsonl").exists()


def test_four_runs_on_two_nodes_survive_the_death_of_one(two_nodes, store, launch):
    runs = launch(4, 3)
    wait_for(lambda: sum(bool(store.get(r.id).metrics) for r in runs) == 2)
    first = [r for r in runs if store.get(r.id).state == "running"]
    nodes = {two_nodes.node_of(r): r for r in first}
    assert len(nodes) == 2, "both trained on one node"
    victim = nodes[two_nodes.second]
    assert two_nodes.say("kill") == "killed"
    wait_for(lambda: store.get(victim.id).on_ray["job"] != victim.on_ray["job"])
    assert "node of the Ray cluster that it was on went away" in store.get(victim.id).on_ray["said"]
    wait_for(lambda: states(store, runs) == ["finished"] * 4, 300)
    assert [len(store.get(r.id).metrics) for r in runs] == [3] * 4
    begun = [line for line in store.get(victim.id).log_tail().splitlines() if line.startswith("run ")]
    assert len(begun) == 2
    assert begun[0].endswith("from the start")
    assert ", from epoch " in begun[1]


def test_a_cluster_that_is_gone_is_said_and_takes_nothing_with_it(two_nodes, store, launch, monkeypatch):
    monkeypatch.setattr("fer.runs._SILENT_SECONDS", 10.0)
    (run,) = launch(1, 200)
    wait_for(lambda: store.get(run.id).metrics)
    left = two_nodes.processes()
    two_nodes.process.stdin.close()
    two_nodes.process.wait(timeout=60)
    psutil.wait_procs(left, timeout=30)
    with pytest.raises(ClusterError, match="does not answer"):
        launch(1, 1)
    wait_for(lambda: "does not answer" in (store.root / jobs.WORKER_LOG).read_text())
    assert store.get(run.id).status["state"] == "running"
    wait_for(lambda: store.get(run.id).state == "lost", 90)
    here = jobs.resume(store, run.id, here=True)
    assert here.on_ray is None
    wait_for(lambda: store.get(run.id).state == "running")
    wait_for(lambda: "from epoch" in store.get(run.id).log_tail())
    store.request_stop(run.id)
    wait_for(lambda: store.get(run.id).state == "stopped")
