"""Runs that train in processes of their own: the queue, and the worker that drains it.

The queue is the set of run folders in state `queued`, oldest first. One detached worker a store drains it; it is
started on demand, outlives the browser and the dashboard, and ends when nothing is left to do. Each run is trained by a
child process whose output goes to `train.log`, so that even its death leaves a trace.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

from fer.config import Config, with_settings
from fer.data.dataset import load
from fer.errors import ConfigError, RunBusy, RunError
from fer.files import PROJECT_ROOT
from fer.pretrained import check_weights
from fer.runs import Run, RunStore, hold, is_locked

WORKER_LOCK = ".worker.lock"
WORKER_LOG = ".worker.log"
MAX_GRID = 200
_STARTED: list[subprocess.Popen] = []  # kept so that a worker that ended is collected


def create_run(
    store: RunStore, config: Config, *, recipe: str | None, run_id: str | None = None, reserved: bool = False
) -> Run:
    """Make a queued run of this config on its data set as it is now. Raises DataError, RunError, and CheckpointError
    where its first weights are not to be had.

    reserved: the caller trains it itself; the worker leaves it alone.
    """
    check_weights(config.model)
    return store.create(config, recipe=recipe, data=_data_facts(config), run_id=run_id, reserved=reserved)


def submit(store: RunStore, configs: Sequence[tuple[str | None, Config]]) -> list[Run]:
    """Queue a run for each (recipe, config), in this order, and see that a worker serves them. Raises FerError.

    Each data set is read, and each file of first weights looked for, once and before anything is queued, so one that does
    not fit leaves no half submission.
    """
    for model in dict.fromkeys(config.model for _, config in configs):
        check_weights(model)
    facts = {data: _data_facts(config) for data, config in {c.data: c for _, c in configs}.items()}
    runs = [store.create(config, recipe=recipe, data=facts[config.data]) for recipe, config in configs]
    ensure_worker(store)
    return runs


def _data_facts(config: Config) -> dict[str, Any]:
    """What a run's record says of its data as they are now. Raises DataError where train or val has no pictures."""
    data = load(config.data.name).with_val_fraction(config.data.val_fraction)
    for split in ("train", "val"):
        data.indices(split)
    return {"fingerprint": data.fingerprint, "synthetic": data.synthetic, "split_note": data.split_note}


def resume(store: RunStore, run_id: str) -> Run:
    """Put a stopped, failed or lost run back into the queue and see that a worker serves it. Raises RunError."""
    run = store.requeue(run_id)
    ensure_worker(store)
    return run


def grid(config: Config, choices: Mapping[str, Sequence[Any]]) -> list[Config]:
    """One config for each combination of these settings' values, the last setting changing fastest.

    Raises ConfigError for a value that is not allowed and for more than 200 runs.
    """
    n = 1
    for values in choices.values():
        n *= len(values)
    if n > MAX_GRID:
        raise ConfigError(f"This grid has {n:,} runs. At most {MAX_GRID} can be launched at once; choose fewer values.")
    return [with_settings(config, dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def queue(store: RunStore) -> list[Run]:
    """The queued runs, the one that is next first."""
    return sorted(waiting(store.runs(archived=True)), key=lambda r: (r.status.get("queued", r.created), r.id))


def waiting(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that a worker has to train."""
    return [r for r in runs if r.state == "queued" and not r.status.get("reserved")]


def worker_alive(store: RunStore) -> bool:
    """Whether a worker serves this store."""
    return is_locked(store.root / WORKER_LOCK)


def ensure_worker(store: RunStore) -> None:
    """Start a detached worker; one that finds another at work ends by itself. Raises RunError."""
    environment = {**os.environ, "FER_RUNS_DIR": str(store.root.resolve()), "PYTHONPATH": _python_path()}
    try:
        with open(store.root / WORKER_LOG, "ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "fer", "worker"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise RunError(
            f"The worker could not be started: {error}. Start it yourself with: python -m fer worker"
        ) from error
    _STARTED[:] = [w for w in _STARTED if w.poll() is None] + [worker]


def work(store: RunStore, *, linger_seconds: float = 2.0) -> int:
    """Drain the queue as the store's only worker; returns the number of runs trained.

    Ends when nothing has been queued for `linger_seconds`. Returns 0 at once where another worker serves the store.
    """
    trained = 0
    while True:
        try:
            with hold(store.root / WORKER_LOCK, timeout=0.5):
                trained += _drain(store, linger_seconds)
        except RunBusy:
            return trained  # another worker serves
        if not queue(store):  # else: queued between the last look and letting go of the lock
            return trained


def _drain(store: RunStore, linger_seconds: float) -> int:
    trained, idle_since = 0, time.monotonic()
    while time.monotonic() - idle_since < linger_seconds:
        queued = queue(store)
        if not queued:
            time.sleep(0.2)
            continue
        _train_in_child(store, queued[0])
        trained, idle_since = trained + 1, time.monotonic()
    return trained


def _train_in_child(store: RunStore, run: Run) -> None:
    environment = {
        **os.environ,
        "FER_RUNS_DIR": str(store.root.resolve()),
        "PYTHONPATH": _python_path(),
        "PYTHONUNBUFFERED": "1",
    }
    try:
        with open(run.path / "train.log", "ab") as log:
            code = _call([sys.executable, "-m", "fer", "runs", "start", run.id], log, environment)
    except FileNotFoundError:
        return  # deleted before it began
    try:
        after = store.get(run.id)
    except RunError:
        return  # deleted meanwhile
    if after.state == "queued":  # it never began: a state that says so, else the queue would try it for ever
        reason = f"The training process ended with code {code} before it began. The log says more."
        failed = {**after.status, "state": "failed", "finished": time.time(), "error": reason}
        with contextlib.suppress(RunError), hold(run.path / "run.lock"):  # somebody else has just started it
            store.write_status(run.id, failed)


def _call(command: list[str], log: BinaryIO, environment: Mapping[str, str]) -> int:
    """Run a command to its end, its output in `log`; returns its exit code.

    Ctrl-C reaches the child too, which then saves and ends: it is waited for, where subprocess.call would kill it.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.wait()
        raise


def _python_path() -> str:
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT_ROOT), *([known] if known else [])])


def command_line(recipe: str | None, changes: Mapping[str, Any], *, queued: bool = True) -> str:
    """The command that does the same as the Train page: recipe, data set, seed, and what differs from the recipe."""
    parts = ["python -m fer train", f"--recipe {recipe or 'baseline'}"]
    rest = dict(changes)
    if "data.name" in rest:
        parts.append(f"--dataset {rest.pop('data.name')}")
    if "seed" in rest:
        parts.append(f"--seed {rest.pop('seed')}")
    parts += [f"--set {path}={_shell_value(value)}" for path, value in rest.items()]
    return " ".join(parts + (["--queue"] if queued else []))


def _shell_value(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of this folder, or of its nearest parent that exists."""
    import shutil

    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def seeds(config: Config, values: Iterable[int]) -> list[Config]:
    """The same experiment with each of these seeds. Raises ConfigError."""
    return [with_settings(config, {"seed": value}) for value in values]
