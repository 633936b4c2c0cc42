"""Runs on a Ray cluster: one Ray job a run, and what Ray says became of it.

A job runs the command that the worker runs here, on a node with the CPUs, GPUs and memory that were asked for; the store,
the data and the project lie on storage that all nodes share, so progress, log and stop go through the run's folder as
ever. Which node trains which run, and when, is Ray's business alone.

The worker looks at the cluster every few seconds. A run's status names its job before Ray has heard of it, and Ray takes a
job's name once, so a run that waits and whose job Ray does not know is handed over, however often that goes wrong between.
A cluster that does not answer changes nothing. Ray is imported where it is talked to, and by nobody else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fer.config import Config
from fer.data.dataset import data_root
from fer.errors import ClusterError, ConfigError, FerError, RunError
from fer.files import PROJECT_ROOT
from fer.runs import MAX_ADOPTIONS, Run, RunStore, hold

PLACES = ("machine", "ray")
DEFAULT_CPUS, DEFAULT_MEMORY_GIB = 2, 2.0
MAX_CPUS, MAX_MEMORY_GIB = 1024, 4096
_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_GONE = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
_NO_ROOM = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
_CONNECT_SECONDS, _ANSWER_SECONDS = 2.0, 15.0
_END_SECONDS = 10.0  # that a job whose run has ended gets to end by itself
_SAVE_SECONDS = 20  # that a job gets to save when somebody stops it from Ray's side


@dataclass(frozen=True)
class Ask:
    """What each run of a launch asks a cluster for; None: what suits the run's settings.

    address: of Ray Jobs; cpus: 1 to 1,024; gpus: 0 to 1, a part of one is shared; memory_gib: 0.25 to 4,096.
    """

    address: str
    cpus: int | None = None
    gpus: float | None = None
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        if self.cpus is not None and not (isinstance(self.cpus, int) and 1 <= self.cpus <= MAX_CPUS):
            raise ConfigError(f"CPUs cannot be {self.cpus}. Allowed: a whole number from 1 to {MAX_CPUS:,}.")
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise ConfigError(
                f"GPUs cannot be {self.gpus:g}. Allowed: 0 to 1; a run uses one GPU, and with 0.5 two runs share one."
            )
        if self.memory_gib is not None and not 0.25 <= self.memory_gib <= MAX_MEMORY_GIB:
            raise ConfigError(f"Memory cannot be {self.memory_gib:g} GiB. Allowed: 0.25 to {MAX_MEMORY_GIB:,}.")

    def defaults(self, config: Config) -> dict[str, Any]:
        """CPUs, GPUs and memory for a run of this config, what is not said filled in."""
        runtime = config.runtime
        return {
            "cpus": self.cpus or runtime.threads or DEFAULT_CPUS,
            "gpus": self.gpus if self.gpus is not None else float(runtime.device == "cuda"),
            "memory_gib": self.memory_gib or DEFAULT_MEMORY_GIB,
        }

    def of(self, config: Config) -> dict[str, Any]:
        """What a run of this config notes in its status, with the name of a job of its own. Raises ConfigError."""
        runtime, asked = config.runtime, self.defaults(config)
        cpus, gpus = asked["cpus"], asked["gpus"]
        if runtime.threads and runtime.threads > cpus:
            raise ConfigError(
                f"The run computes with {runtime.threads} threads (runtime.threads) and asks for {cpus} CPUs. Ask for as many CPUs, or set fewer threads."
            )
        if runtime.device == "cuda" and not gpus:
            raise ConfigError("The run computes on a GPU (runtime.device=cuda) and asks for none. Ask for 1 GPU.")
        return {"address": self.address, "job": _new_job(), **asked}


def address() -> str | None:
    """Where Ray Jobs listens: `FER_RAY_ADDRESS`, or None where it is not set. Raises ConfigError for what is no address."""
    given = os.environ.get("FER_RAY_ADDRESS", "").strip().rstrip("/")
    if not given:
        return None
    wrong = ConfigError(
        f"FER_RAY_ADDRESS cannot be {given!r}. Write the address of Ray Jobs, as in http://127.0.0.1:8265 (not ray:// or the GCS address)."
    )
    try:
        parts = urlsplit(given)
        _port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise wrong
    return given


def ask(cpus: int | None = None, gpus: float | None = None, memory_gib: float | None = None) -> Ask:
    """What to launch on the cluster of `FER_RAY_ADDRESS` with. Raises ConfigError."""
    where = address()
    if where is None:
        raise ConfigError(
            "There is no Ray cluster to launch on: FER_RAY_ADDRESS is not set. Set it to the address of Ray Jobs, as in http://127.0.0.1:8265."
        )
    return Ask(where, cpus, gpus, memory_gib)


def name_of(where: str) -> str:
    """A cluster's address as people say it: host and port."""
    return urlsplit(where).netloc or where


def again(run: Run) -> dict[str, Any] | None:
    """What a run that was on a cluster notes when it goes there again; None for one that was not.

    `FER_RAY_ADDRESS` where it is set: the cluster may have moved since.
    """
    if not run.on_ray:
        return None
    kept = {k: v for k, v in run.on_ray.items() if k != "said"}
    return {**kept, "address": address() or kept["address"], "job": _new_job()}


def asks_for(ray: Mapping[str, Any]) -> str:
    """'2 CPUs, 1 GPU and 2 GiB', of a run's note in its status."""
    cpus, gpus = ray["cpus"], ray["gpus"]
    return f"{cpus} CPU{'s' if cpus != 1 else ''}, {f'{gpus:g}' if gpus else 'no'} GPU and {ray['memory_gib']:g} GiB"


def check(where: str) -> None:
    """Raises ClusterError where Ray is not installed or the cluster does not answer; asks in 2 seconds at most."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(
            "Launching on a Ray cluster needs the package 'ray', which is not installed. Install it with: python -m pip install -r requirements-ray.txt"
        )
    try:
        urllib.request.urlopen(f"{where}/api/version", timeout=_CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; what it thinks of us is heard from Ray's own client
    except (OSError, ValueError) as error:
        raise _silent(where, error) from error


def problem(where: str) -> str:
    """What is wrong with launching on this cluster now; '' where nothing is."""
    try:
        check(where)
    except ClusterError as error:
        return str(error)
    return ""


def addresses(runs: Iterable[Run]) -> list[str]:
    """The clusters that have some of the runs, sorted."""
    return sorted({(r.on_ray or {})["address"] for r in open_runs(runs)})


def open_runs(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that a cluster has, or shall have, and that have not ended by their own word."""
    return [r for r in runs if r.on_ray and r.config and r.status.get("state") in ("queued", "running")]


# --- Ray -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A job as Ray tells of it. status, error_type: Ray's words; exit_code: None where it has not ended by itself;
    store: the run store that it writes to, '' for somebody else's job."""

    status: str
    error_type: str = ""
    exit_code: int | None = None
    message: str = ""
    store: str = ""

    @property
    def over(self) -> bool:
        return self.status in _OVER


class Cluster(Protocol):
    """What is asked of a cluster. Each raises ClusterError where it does not answer."""

    def jobs(self) -> dict[str, Job]:
        """All jobs that it knows, by name."""

    def submit(self, name: str, command: str, environment: Mapping[str, str], run: Run) -> None:
        """Hand over a job that is not known yet; raises RunError where Ray does not take it."""

    def stop(self, name: str) -> None:
        """Ask a job to end, and kill it where it does not."""


def connect(where: str) -> Cluster:
    """A cluster by Ray's own client. Raises ClusterError."""
    check(where)
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:  # Ray's own waits for ever
            return super()._do_request(*arguments, timeout=_ANSWER_SECONDS, **options)

    with _talking(where):
        return _RayJobs(where, Client(where))


@dataclass
class _RayJobs:
    where: str
    client: Any

    def jobs(self) -> dict[str, Job]:
        with _talking(self.where):
            listed = self.client.list_jobs()
        return {
            job.submission_id: Job(
                job.status.value,
                job.error_type or "",
                job.driver_exit_code,
                job.message or "",
                (job.metadata or {}).get("fer.store", ""),
            )
            for job in listed
            if job.submission_id
        }

    def submit(self, name: str, command: str, environment: Mapping[str, str], run: Run) -> None:
        ray = run.on_ray or {}
        try:
            with _talking(self.where):
                self.client.submit_job(
                    entrypoint=command,
                    submission_id=name,
                    runtime_env={"env_vars": dict(environment)},
                    metadata={"fer.run": run.id, "fer.store": environment["FER_RUNS_DIR"]},
                    entrypoint_num_cpus=ray["cpus"],
                    entrypoint_num_gpus=ray["gpus"] or None,
                    entrypoint_memory=int(ray["memory_gib"] * 2**30),
                )
        except _Refused as refused:
            if "already exists" not in refused.answer:  # else: handed over before, by a worker that died of it
                raise RunError(str(refused)) from refused

    def stop(self, name: str) -> None:
        with contextlib.suppress(_Refused), _talking(self.where):  # it has just gone
            self.client.stop_job(name)


class _Refused(ClusterError):
    """The cluster answered, and said no. answer: all that it said."""

    def __init__(self, where: str, answer: str) -> None:
        self.answer = answer
        super().__init__(
            f"The Ray cluster at {name_of(where)} refused: {_last_line(answer) or 'it gave no reason'}. Its dashboard may say more."
        )


@contextlib.contextmanager
def _talking(where: str) -> Iterator[None]:
    from ray.exceptions import RayError

    try:
        yield
    except OSError as error:  # requests' errors are such
        raise _silent(where, error) from error
    except (RuntimeError, ValueError, RayError) as error:
        raise _Refused(where, str(error)) from error


def _silent(where: str, error: Exception) -> ClusterError:
    why: BaseException = error
    while isinstance(inner := getattr(why, "reason", None) or next(iter(why.args), None), BaseException):
        why = inner  # what a connection's error wraps
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(why).rpartition(": ")[2])
    return ClusterError(
        f"The Ray cluster at {name_of(where)} does not answer ({_last_line(said)[:120]}). See that it is up (ray status) and that FER_RAY_ADDRESS is the address of its dashboard."
    )


# --- the worker's look ---------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """A worker's look at the clusters that the store's runs are on. stop_seconds: that a run has to save after a request to stop."""

    store: RunStore
    stop_seconds: float
    connect: Callable[[str], Cluster] = connect
    known: dict[str, Cluster | None] = field(default_factory=dict)
    unwanted: dict[str, float] = field(default_factory=dict)  # jobs without a run, and since when
    told: set[str] = field(default_factory=set)  # those of them that were asked to end
    said: dict[str, str] = field(default_factory=dict)

    def look(self, *, hand_over: bool = True) -> bool:
        """Hand over what waits, write down what became of the rest, end jobs whose run is gone; whether there is more to come.

        hand_over: False while the queue is paused. Where a cluster does not answer, all stays as it is until the next look.
        """
        for where in addresses(self.store.runs(archived=True)):
            self.known.setdefault(where)
        for where in list(self.known):
            try:
                self.known[where] = self.known[where] or self.connect(where)
                self._look_at(where, self.known[where], hand_over)
                self.said.pop(where, None)
            except ClusterError as error:
                self.known[where] = None
                if self.said.get(where) != str(error):
                    print(f"worker: {error}", flush=True)
                    self.said[where] = str(error)
        return bool(open_runs(self.store.runs(archived=True)) or set(self.unwanted) - self.told)

    def _look_at(self, where: str, cluster: Cluster, hand_over: bool) -> None:
        jobs = cluster.jobs()
        # The runs after the jobs: what a job has written before it ended is then there.
        runs = [r for r in open_runs(self.store.runs(archived=True)) if (r.on_ray or {})["address"] == where]
        for run in runs:
            name = (run.on_ray or {})["job"]
            job = jobs.get(name)
            if job is None and run.status["state"] == "queued":
                if hand_over:
                    self._hand_over(cluster, run, name)
            elif job is None or job.over:
                self._settle(run, job)
            elif _asked(run.path / "stop", self.stop_seconds):
                cluster.stop(name)
        self._end_unwanted(cluster, jobs, {(r.on_ray or {})["job"] for r in runs})

    def _hand_over(self, cluster: Cluster, run: Run, name: str) -> None:
        command = [sys.executable, "-m", "fer", "runs", "start", run.id]
        log = run.path.resolve() / "train.log"
        line = f"exec {shlex.join(command)} >> {shlex.quote(str(log))} 2>&1"
        try:
            cluster.submit(name, line, _environment(self.store, run), run)
        except RunError as error:
            self._end(run, "failed", str(error))

    def _settle(self, run: Run, job: Job | None) -> None:
        """Say what became of a run whose job is over though the run never said so itself."""
        if (run.path / "stop").exists() or (job and job.status == "STOPPED"):
            text = "Its Ray job was ended before it could save. Resume goes on from the save before."
            self._end(run, "stopped", text if run.metrics or run.status["state"] == "running" else None)
        elif job and job.error_type == _NO_ROOM:
            ray = run.on_ray or {}
            text = f"Ray found no node with {asks_for(ray)} free in the time that it waits for one; the run was handed to it again. Where no node is that large, stop it and ask for less."
            self._end(run, "queued", None, ray={**ray, "job": _new_job(), "said": text})
        elif job is None or job.error_type in _GONE:
            self._adopt(run, _why_gone(job))
        else:
            self._end(run, "failed", _why_ended(run, job))

    def _adopt(self, run: Run, why: str) -> None:
        """Hand a run to Ray again whose node went away, unless it has taken several down."""
        if not self._end(run, "failed", f"{why} Resume goes on from the last save.") or run.adoptions >= MAX_ADOPTIONS:
            return
        epoch = f"after epoch {len(run.metrics)}" if run.metrics else "before its first epoch ended"
        ray = {**(run.on_ray or {}), "job": _new_job(), "said": f"{why} That was {epoch}; it was handed to Ray again."}
        with contextlib.suppress(RunError):  # somebody else resumes or deletes it
            self.store.requeue(run.id, ray=ray, adoptions=run.adoptions + 1, adopted_epoch=len(run.metrics))

    def _end(self, run: Run, state: str, error: str | None, **more: Any) -> bool:
        """Write a run's state unless somebody trains it, or its status has changed since it was looked at."""
        try:
            with hold(run.path / "run.lock", timeout=0.2):
                now = self.store.get(run.id).status
                if now.get("state") != run.status["state"] or now.get("ray") != run.status["ray"]:
                    return False
                ended = {} if state == "queued" else {"finished": time.time()}
                self.store.write_status(run.id, {**now, "state": state, "error": error, **ended, **more})
                if ended:
                    (run.path / "stop").unlink(missing_ok=True)
        except FerError:
            return False
        return True

    def _end_unwanted(self, cluster: Cluster, jobs: Mapping[str, Job], wanted: set[str]) -> None:
        """End jobs of this store whose run was stopped while it waited, or deleted; each is told once."""
        root = str(self.store.root.resolve())
        for name, job in jobs.items():
            if job.store != root or job.over or name in wanted:
                self.unwanted.pop(name, None)
                continue
            since = self.unwanted.setdefault(name, time.monotonic())
            # A process whose run has just ended goes by itself.
            if name not in self.told and (job.status == "PENDING" or time.monotonic() - since > _END_SECONDS):
                cluster.stop(name)
                self.told.add(name)


def _environment(store: RunStore, run: Run) -> dict[str, str]:
    """What a job's process finds in its environment beside what its node gives it."""
    ray = run.on_ray or {}
    environment = {
        "FER_RUNS_DIR": str(store.root.resolve()),
        "FER_DATA_DIR": str(data_root().resolve()),
        "PYTHONPATH": str(PROJECT_ROOT),
        "FER_CPUS": str(ray["cpus"]),
        "FER_RAY_JOB": ray["job"],
        "RAY_JOB_STOP_WAIT_TIME_S": str(_SAVE_SECONDS),
    }
    if not ray["gpus"]:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # a node's GPUs are those of the runs that asked
    if "TORCH_HOME" in os.environ:
        environment["TORCH_HOME"] = os.environ["TORCH_HOME"]
    return environment


def _why_gone(job: Job | None) -> str:
    if job is None:
        return "The Ray cluster was started anew and no longer knows its job."
    if "memory" in job.message.lower():
        return "Ray ended it since its node ran out of memory; ask for more memory, so that fewer runs share a node."
    return "The node of the Ray cluster that it was on went away."


def _why_ended(run: Run, job: Job) -> str:
    if job.exit_code is None:
        return f"Ray could not run it: {_last_line(job.message) or job.error_type or job.status}. Put that right on the cluster, then resume it."
    if run.status["state"] == "queued":
        return (
            f"Its Ray job ended with code {job.exit_code} before the run began. The log may say more: {_last_line(job.message) or 'nothing was printed'}. "
            "Store, data and project must lie at the same paths on every node."
        )
    return f"Its process on the Ray cluster ended with code {job.exit_code} without a word, as when memory runs out. The log may say more; resume goes on from the last save."


def _last_line(text: str) -> str:
    """The last line that says something, without its full stop."""
    lines = [line.strip().rstrip(".") for line in text.splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")


def _asked(stop: Path, seconds: float) -> bool:
    try:
        return time.time() - stop.stat().st_mtime > seconds
    except OSError:
        return False


def _new_job() -> str:
    return f"fer-{secrets.token_hex(8)}"
