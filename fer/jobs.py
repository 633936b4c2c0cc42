"""Runs that train in processes of their own: the queue, and the worker that drains it.

The queue is the set of run folders in state `queued`, oldest first. One detached worker a store drains it, at most
`max_runs()` at a time; it is started on demand, outlives the browser and the dashboard, and ends when nothing is left to
do. Each run is trained by a child process whose output goes to `train.log`, so that even its death leaves a trace.

A worker that dies takes no run with it: its children train on, and the one that ends first starts another worker, which
adopts the others: it counts them, and kills one that does not stop. What went down with the machine is queued again, in
its old place, by the next worker that serves the store there.

Runs may also go to a Ray cluster (`fer.cluster`): the worker hands them over and watches them, and trains none of them.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from fer import access, cluster
from fer.config import Config, differing, flatten, parse_assignments, unused, with_settings
from fer.data.dataset import load
from fer.errors import ConfigError, FerError, RunBusy, RunError
from fer.files import PROJECT_ROOT
from fer.machine import gpus, physical_cores
from fer.origins import Origin, beginnings, note, to_json
from fer.pretrained import check_weights
from fer.recipes import changes_from, get_recipe
from fer.runs import ACTIVE, MAX_ADOPTIONS, Run, RunStore, hold, is_locked

WORKER_LOCK = ".worker.lock"
WORKER_LOG = ".worker.log"
PAUSED = ".paused"
MAX_GRID = 200
_CORES_A_RUN = 8  # more gain little: the networks are small
_STOP_SECONDS = 60.0  # that a run has to save after a request to stop, before it is killed
_DEATH_SECONDS = 10.0  # within which a killed process lets go of its lock
_LOOK_SECONDS = 0.2
_NICE = 10  # of 19: about a tenth of a core that others want whole
_START = ("runs", "start")  # the command that trains one run, before the run's id
_IDLE_SECONDS = 1.0
_CLUSTER_SECONDS = 2.0  # between two looks at a Ray cluster
_STARTED: list[subprocess.Popen] = []  # kept so that a worker that ended is collected


def create_run(
    store: RunStore,
    config: Config,
    *,
    recipe: str | None,
    run_id: str | None = None,
    reserved: bool = False,
) -> Run:
    """Make a queued run of this config on its data set as it is now. Raises DataError, RunError, and CheckpointError
    where its first weights are not to be had.

    reserved: the caller trains it itself; the worker leaves it alone. Who leaves it to the worker calls `submit`.
    """
    access.require("making a run")
    check_weights(config.model, store)
    return store.create(config, recipe=recipe, data=_data_facts(config, store), run_id=run_id, reserved=reserved)


def submit(
    store: RunStore,
    configs: Sequence[tuple[str | None, Config]],
    on_ray: cluster.Ask | None = None,
    *,
    run_id: str | None = None,
) -> list[Run]:
    """Queue a run for each (recipe, config), in this order, and see that a worker serves them. Raises FerError.

    on_ray: what each asks a Ray cluster for, which must answer now; None: they train on this machine. run_id: of a run that is
    queued alone; None: made from recipe and seed.

    Each data set is read, and each file of first weights looked for, once and before anything is queued, so one that does
    not fit leaves no half submission. Several runs are one submission, which can be stopped as one; where the store fails
    at one of them, those before it are taken back.
    """
    access.require("queueing runs")
    _check_share(store, len(configs))
    max_runs()  # a number that is not allowed would end every worker
    places = _places([config for _, config in configs], on_ray)
    for model in dict.fromkeys(config.model for _, config in configs):
        check_weights(model, store)
    facts = {what: _data_facts(config, store) for what, config in {_judged(c): c for _, c in configs}.items()}
    submission = secrets.token_hex(6) if len(configs) > 1 else None
    runs: list[Run] = []
    try:
        for (recipe, config), place in zip(configs, places, strict=True):
            data = facts[_judged(config)]
            runs.append(store.create(config, recipe=recipe, data=data, run_id=run_id, submission=submission, **place))
        ensure_worker(store)
    except FerError:
        for run in runs:
            with contextlib.suppress(FerError):  # a worker may have begun it: it stays, whole
                store.delete(run.id)
        raise
    return runs


def submitted_together(run: Run, runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that were launched in one submission with this one, itself included."""
    return [r for r in runs if r.id == run.id or (run.submission and r.submission == run.submission)]


def stop_submission(store: RunStore, run_id: str) -> list[str]:
    """Ask all runs of this run's submission that wait or train to stop, the last in the queue first; returns their ids.

    Raises RunError where none of them waits or trains.
    """
    run = store.get(run_id)
    together = [r for r in submitted_together(run, store.runs(archived=True)) if r.state in ACTIVE]
    if not together:
        raise RunError(f"No run launched with '{run_id}' waits or trains, so there is nothing to stop.")
    stopped = []
    for each in sorted(together, key=_turn, reverse=True):  # so that no worker takes the next one meanwhile
        with contextlib.suppress(RunError):  # ended or deleted since
            stop(store, each.id)
            stopped.append(each.id)
    return stopped


def stop(store: RunStore, run_id: str) -> str:
    """Ask a run to stop, and see that a worker kills it if it does not; returns its new state. Raises RunError."""
    state = store.request_stop(run_id)
    if state == "stopping" and _trained_here(store.get(run_id)) and not worker_alive(store):
        with contextlib.suppress(RunError):  # it was asked, and nearly every run does stop
            ensure_worker(store)
    return state


def _check_share(store: RunStore, more: int) -> None:
    """Raises RunError where so many more runs that wait or train are more than whoever acts here may have at once."""
    who = access.visitor()
    if who.runs_each is None:
        return
    active = sum(r.state in ACTIVE and r.launched_by == who.address for r in store.runs(archived=True))
    if active + more > who.runs_each:
        raise RunError(
            f"{active} of your runs wait or train and {more} more would make {active + more}; everybody may have {who.runs_each} at "
            "once here. Launch fewer, or wait until some have ended."
        )


def _places(configs: Sequence[Config], on_ray: cluster.Ask | None) -> list[dict[str, Any]]:
    """What the runs' statuses say of where they train: nothing where that is here. Raises ConfigError, ClusterError."""
    if on_ray is None:
        return [{} for _ in configs]
    found = [{"ray": on_ray.of(config)} for config in configs]
    cluster.check(on_ray.address)
    return found


def _judged(config: Config) -> tuple[Any, ...]:
    """What the facts of a run's data depend on."""
    return config.data, config.model.from_run, config.model.weights


def _data_facts(config: Config, store: RunStore) -> dict[str, Any]:
    """What a run's record says of its data as they are now. Raises DataError where train or val has no pictures, and
    RunError where what it begins from learned from pictures that it would be judged on."""
    data = load(config.data.name).with_val_fraction(config.data.val_fraction)
    for split in ("train", "val"):
        data.indices(split)
    facts = {
        "fingerprint": data.fingerprint,
        "synthetic": data.synthetic,
        "fer2013": data.fer2013,
        "split_note": data.split_note,
    }
    origins = beginnings(store, config.model)
    if origins is not None:
        facts["start_note"] = _start_note(origins, config, data.fingerprint)
        facts["learned_from"] = to_json(origins)
    return facts


def _start_note(origins: Sequence[Origin], config: Config, fingerprint: str) -> str | None:
    """What must be said of a run's figures on its data, with this fingerprint, since its first weights come from these
    trainings; None: nothing. Raises RunError where one of them learned from another split or version of that data set."""
    name = config.data.name
    known = [o for o in origins if o.data == name and o.fingerprint not in ("", fingerprint)]
    if not known:
        return note(origins, name, fingerprint)
    file, first = config.model.weights, origins[0]
    who = f"The weights in {Path(file).name} are of run '{first.run}', which" if file else f"Run '{first.run}'"
    if known[0] != first:
        who += f" began from run '{known[0].run}', which"
    raise RunError(
        f"{who} learned from another split or version of '{name}', so what begins from it would be judged on pictures that it "
        f"knows. {_cure(origins, config)}"
    )


def _cure(origins: Sequence[Origin], config: Config) -> str:
    """What to do where one of these trainings learned from another split or version of a run's data set, in a sentence."""
    same = [o for o in origins if o.data == config.data.name and o.fingerprint]
    instead = "set model.weights to another file" if config.model.weights else "set model.from_run=none"
    if len({o.fingerprint for o in same}) > 1:  # whichever it took, it would be judged on what another knows
        return f"S{instead[1:]}."
    share = same[0].val_fraction
    if share == config.data.val_fraction:
        return f"Import the files that it learned from, or these under another name than '{config.data.name}', or {instead}."
    return f"Set data.val_fraction={'none' if share is None else share} as there, or {instead}."


def resume(store: RunStore, run_id: str, *, here: bool = False) -> Run:
    """Put a stopped, failed or lost run back into the queue and see that a worker serves it. Raises RunError.

    It goes on where it was: on its Ray cluster, which must answer now, or with `here` on this machine.
    """
    _check_share(store, 1)
    max_runs()  # a number that is not allowed would end every worker
    ray = None if here else cluster.again(store.get(run_id))
    if ray:
        cluster.check(ray["address"])
    run = store.requeue(run_id, **({"ray": ray} if ray else {}))
    ensure_worker(store)
    return run


def grid(config: Config, choices: Mapping[str, Sequence[Any]]) -> list[Config]:
    """One config for each combination of these settings' values, the last setting changing fastest.

    Raises ConfigError for a value that is not allowed, a setting that none of the runs uses, and more than 200 runs.
    """
    n = 1
    for values in choices.values():
        n *= len(values)
    if n > MAX_GRID:
        raise ConfigError(f"This grid has {n:,} runs. At most {MAX_GRID} can be launched at once; choose fewer values.")
    found: list[Config] = []
    for values in product(*choices.values()):
        made = with_settings(config, dict(zip(choices, values, strict=True)))
        if made not in found:  # 0.001 and 1e-3 are one value
            found.append(made)
    for path in choices:
        reasons = [unused(path, flatten(c)) for c in found]
        if reasons and all(reasons):
            raise ConfigError(f"These runs would all be the same. {reasons[0]}")
    return found


def choices(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """`["optim.lr=0.1,0.2"]` as what `grid` takes. Raises ConfigError."""
    found: dict[str, list[Any]] = {}
    for text in assignments:
        path, _, values = text.partition("=")
        parts = list(dict.fromkeys(v.strip() for v in values.split(",") if v.strip()))
        if not parts:
            raise ConfigError(f"'{text}' has no values to try. Write it as optim.lr=0.001,0.0003.")
        if path in found:
            raise ConfigError(f"'{path}' stands twice in the grid. Give all its values at once: {path}=0.1,0.2.")
        found[path] = [parse_assignments([f"{path}={part}"])[path] for part in parts]
    return found


def seconds_known(runs: Iterable[Run], configs: Sequence[Config]) -> float | None:
    """Estimated seconds of all these trainings here, from the epochs of runs on the same data with the same network, batch
    size and device settings; None where one of them has no such run."""
    known: dict[Any, list[float]] = {}
    for run in runs:
        if run.config and run.whole_epoch_seconds and not run.members:
            known.setdefault(_pace(run.config), []).append(run.whole_epoch_seconds)
    total = 0.0
    for config in configs:
        if _pace(config) not in known:
            return None
        total += statistics.median(known[_pace(config)]) * config.train.epochs
    return total / min(max_runs(), len(configs))


def _pace(config: Config) -> tuple[Any, ...]:
    """What the seconds of an epoch depend on."""
    model = config.model.model_copy(update={"pretrained": False, "weights": None, "from_run": None})
    is_frozen = config.frozen_epochs == config.train.epochs
    return config.data, model, config.augment, config.train.batch_size, config.optim.name, config.runtime, is_frozen


def queue(store: RunStore) -> list[Run]:
    """The queued runs, the one that is next first."""
    return in_turn(store.runs(archived=True))


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that wait for a worker, the next one first."""
    return sorted(waiting(runs), key=_turn)


def _turn(run: Run) -> tuple[float, str]:
    return float(run.status.get("turn", run.status.get("queued", run.created))), run.id


def run_next(store: RunStore, run_id: str) -> Run:
    """Let a queued run be the next one that is started. Raises RunError where it does not wait."""
    access.require("changing the queue")
    run = store.get(run_id)
    if not waiting([run]):
        raise RunError(f"Run '{run_id}' is {run.state}; only one that waits in the queue can be the next.")
    waits = queue(store)  # empty where a worker has just taken it, which set_turn says
    if waits and waits[0].id == run_id:
        return run
    return store.set_turn(run_id, (_turn(waits[0])[0] if waits else 0.0) - 1.0)


def pause(store: RunStore) -> None:
    """Start no further run; those that train go on. Raises RunError where the store cannot be written."""
    store.mark(PAUSED, True)


def unpause(store: RunStore) -> None:
    """Start runs again, and see that a worker does. Raises RunError."""
    store.mark(PAUSED, False)
    if queue(store) or cluster.open_runs(store.runs(archived=True)):
        ensure_worker(store)


def paused(store: RunStore) -> bool:
    """Whether the queue is paused."""
    return (store.root / PAUSED).exists()


def max_runs() -> int:
    """How many runs train at a time: `FER_MAX_RUNS`, else one a GPU, else one for each eight cores that this process may use, at least 1.

    Raises ConfigError for a value that is no whole number from 1 on.
    """
    wanted = os.environ.get("FER_MAX_RUNS")
    if wanted is None:
        return len(gpus()) or max(1, physical_cores() // _CORES_A_RUN)
    if not wanted.isdecimal() or not 1 <= int(wanted) <= 64:
        raise ConfigError(f"FER_MAX_RUNS cannot be {wanted!r}. Allowed: a whole number from 1 to 64.")
    return int(wanted)


def waiting(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that a worker has to train on its machine."""
    return [r for r in runs if r.state == "queued" and not r.status.get("reserved") and not r.on_ray]


def trained_by_worker(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that a worker's processes train at this moment, each in one of its `max_runs()` places."""
    return [r for r in runs if r.state in ("running", "stopping") and r.status.get("worker")]


def unserved(store: RunStore, runs: Iterable[Run]) -> bool:
    """Whether some of the runs need a worker, and none serves the store."""
    needy = list(runs)
    return bool(waiting(needy) or adoptable(needy) or cluster.open_runs(needy)) and not worker_alive(store)


def worker_alive(store: RunStore) -> bool:
    """Whether a worker serves this store."""
    return is_locked(store.root / WORKER_LOCK)


def ensure_worker(store: RunStore) -> None:
    """Start a detached worker; one that finds another at work ends by itself. Raises RunError."""
    access.require("starting a worker")
    environment = {**os.environ, "FER_RUNS_DIR": str(store.root.resolve()), "PYTHONPATH": _python_path()}
    if "FER_GPUS" in environment:
        environment["CUDA_VISIBLE_DEVICES"] = environment["FER_GPUS"]
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


def step_aside() -> None:
    """Let this process and those that it starts have what the others leave of the cores, so that the pages stay quick while
    something trains; a machine that does nothing else trains as fast as before.

    Linux shares its cores out among sessions first, so a session of one's own is made nice as a whole.
    """
    with contextlib.suppress(OSError, AttributeError):  # Windows has no nice
        os.nice(max(0, _NICE - os.nice(0)))  # a worker that a run of another worker starts is nice already
        if os.getsid(0) == os.getpid():  # not in somebody's terminal
            Path("/proc/self/autogroup").write_text(str(_NICE))


def work(store: RunStore, *, linger_seconds: float = 2.0) -> int:
    """Drain the queue as the store's only worker; returns the number of runs that it started.

    Ends when nothing could be started for `linger_seconds`. Returns 0 at once where another worker serves the store.
    """
    trained = 0
    # Runs that could not begin, and whose folder takes no word of it: they would be tried for ever.
    barred: set[str] = set()
    while True:
        try:
            with hold(store.root / WORKER_LOCK, timeout=0.5):
                trained += _drain(store, linger_seconds, barred)
        except RunBusy:
            return trained  # another worker serves
        waits = [] if paused(store) else [r for r in queue(store) if r.id not in barred]
        if not waits and not cluster.open_runs(store.runs(archived=True)):
            return trained  # else: queued between the last look and letting go of the lock


def adopt(store: RunStore, runs: Iterable[Run]) -> list[str]:
    """Queue those of the runs again, in their old places, that can be adopted; returns their ids."""
    adopted = []
    for run in adoptable(runs):
        with contextlib.suppress(RunError):  # somebody else resumes or deletes it
            store.requeue(run.id, turn=_turn(run)[0], adoptions=run.adoptions + 1, adopted_epoch=len(run.metrics))
            adopted.append(run.id)
    return adopted


def adoptable(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that a worker of this machine trained when both went down, and that may be tried again.

    A run that did so three times without ending an epoch between is left as lost: it may be what brings the machine down.
    So is one that had been asked to stop.
    """
    lost = [r for r in runs if r.state == "lost" and _trained_here(r) and not r.shipped]
    return [r for r in lost if r.adoptions < MAX_ADOPTIONS and not (r.path / "stop").exists()]


def _trained_here(run: Run) -> bool:
    """Whether a worker of this machine started its training."""
    return run.status.get("worker") == platform.node()


def _drain(store: RunStore, linger_seconds: float, barred: set[str]) -> int:
    slots = max_runs()
    started, idle_since = 0, time.monotonic()
    training: dict[Future[bool], tuple[str, int]] = {}
    adopted = [r.id for r in store.runs(archived=True) if _trained_here(r)]  # of the worker before, while they train
    watch = _ClusterWatch(store)
    # Ctrl-C reaches the children too, which then save and end: leaving the pool waits for them.
    with ThreadPoolExecutor(slots + 1) as pool:
        while watch.busy(pool) or training or adopted or time.monotonic() - idle_since < linger_seconds:
            for future in [f for f in training if f.done()]:
                run_id, _ = training.pop(future)
                if not future.result():  # a defect of ours stays loud
                    barred.add(run_id)
                idle_since = time.monotonic()
            mine = {run_id for run_id, _slot in training.values()}
            adopted = [i for i in adopted if i not in mine and _trains_on(store, i)]
            run = _startable(store, mine, slots, barred)
            if run is None:
                here = training or adopted
                idle = not here and time.monotonic() - idle_since >= linger_seconds  # a cluster alone keeps it here
                short = _LOOK_SECONDS if here or linger_seconds > _LOOK_SECONDS else linger_seconds / 4
                time.sleep(_IDLE_SECONDS if idle else short)
                continue
            slot = min(set(range(slots)) - {slot for _id, slot in training.values()})
            training[pool.submit(_train_in_child, store, run, slot, slots)] = (run.id, slot)
            started += 1
    return started


class _ClusterWatch:
    """The looks at Ray clusters, each in a thread of the worker's pool: a cluster that is slow to answer holds up no run here."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.watch = cluster.Watch(store, _STOP_SECONDS)
        self.open, self.next_look = False, 0.0
        self.looking: Future[bool] | None = None

    def busy(self, pool: ThreadPoolExecutor) -> bool:
        """Look again where it is time; whether a run or a job is open on a cluster."""
        if self.looking and self.looking.done():
            self.open, self.looking = self.looking.result(), None  # a defect of ours stays loud
            self.next_look = time.monotonic() + _CLUSTER_SECONDS
        if self.looking is None and time.monotonic() >= self.next_look:
            self.looking = pool.submit(self.watch.look, hand_over=not paused(self.store))
        return self.open or self.looking is not None


def _startable(store: RunStore, mine: set[str], slots: int, barred: set[str]) -> Run | None:
    """The next run of the queue, if there is a slot for it; runs that a worker before this one started take theirs."""
    if len(mine) >= slots or paused(store):
        return None
    runs = store.runs(archived=True)
    if adopt(store, [r for r in runs if r.id not in mine]):
        runs = store.runs(archived=True)
    waits = [r for r in in_turn(runs) if r.id not in mine | barred]
    adopted = [r for r in trained_by_worker(runs) if r.id not in mine]
    return waits[0] if waits and len(mine) + len(adopted) < slots else None


def _trains_on(store: RunStore, run_id: str) -> bool:
    """Whether a run that a worker before this one started still trains; one that does not stop is killed."""
    try:
        run = store.get(run_id)
    except RunError:
        return False  # deleted meanwhile
    if run.state != "stopping" or not _asked_long_ago(run.path / "stop"):
        return run.state in ("running", "stopping")
    if _kill_trainer(run):
        _after(store, run_id, -signal.SIGKILL)
    else:
        print(f"{run_id} does not stop, and its process was not found. End it yourself.", flush=True)
    return False


def _kill_trainer(run: Run) -> bool:
    """Kill the process that trains this run, found by its command and the lock that it has open; whether it is gone."""
    lock = (run.path / "run.lock").resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended meanwhile, or somebody else's
            if process.cmdline()[-3:] == [*_START, run.id] and str(lock) in {f.path for f in process.open_files()}:
                process.kill()
    deadline = time.monotonic() + _DEATH_SECONDS
    while is_locked(lock) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS / 4)
    return not is_locked(lock)


def carry_on(store: RunStore) -> None:
    """For a run of a worker when it ends: see that there is a worker for what waits, since its own may have died."""
    if os.environ.get("FER_WORKER") and not paused(store) and queue(store) and not worker_alive(store):
        ensure_worker(store)


def _train_in_child(store: RunStore, run: Run, slot: int = 0, slots: int = 1) -> bool:
    """Train it in a process of its own; False where it could not begin and its folder takes no word of it."""
    environment = {
        **os.environ,
        "FER_RUNS_DIR": str(store.root.resolve()),
        "PYTHONPATH": _python_path(),
        "PYTHONUNBUFFERED": "1",
        "FER_WORKER": platform.node(),
        "FER_SHARING": str(slots),
    }
    if names := gpus():
        environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        environment["FER_GPUS"] = ",".join(names)  # for a worker that this child may have to start
    try:
        with open(run.path / "train.log", "ab") as log:
            code = _call([sys.executable, "-m", "fer", *_START, run.id], log, environment, run.path / "stop")
    except FileNotFoundError:
        return True  # deleted before it began
    except OSError as error:
        reason = (
            f"Its log {run.path / 'train.log'} cannot be written: {error.strerror}. Put that right, then resume it."
        )
        return _say(store, run, {"state": "failed", "error": reason})
    return _after(store, run.id, code)


def _after(store: RunStore, run_id: str, code: int) -> bool:
    """Where a training process has ended without a word, say so in the run's status, so that nobody waits for it.

    False where the status cannot be written.
    """
    try:
        run = store.get(run_id)
    except RunError:
        return True  # deleted meanwhile
    asked = (run.path / "stop").exists()
    if run.state == "queued":  # it never began: a state that says so, else the queue would try it for ever
        said = {
            "state": "failed",
            "error": f"The training process ended with code {code} before it began. The log says more.",
        }
    elif run.state == "lost" and asked:
        said = {
            "state": "stopped",
            "error": f"It did not save within {_STOP_SECONDS:.0f} s of the request to stop and was killed. Resume goes on from the save before.",
        }
    elif run.state == "lost":
        said = {"state": "failed", "error": _killed(code)}
    else:
        return True
    return _say(store, run, said)


def _say(store: RunStore, run: Run, said: Mapping[str, Any]) -> bool:
    """Write a state and its reason into the run's status; False where it cannot be written, which the worker's log tells."""
    try:
        with hold(run.path / "run.lock"):
            store.write_status(run.id, {**run.status, **said, "finished": time.time()})
            (run.path / "stop").unlink(missing_ok=True)
    except RunBusy:
        return True  # somebody else has just started it
    except (RunError, OSError) as error:
        print(f"{run.id}: {said['error']} Its status could not be written either: {error}", flush=True)
        return False
    return True


def _killed(code: int) -> str:
    if code == -signal.SIGKILL:
        return "The training process was killed (signal 9), as the system does when memory runs out. Close other programs or clone it with a smaller train.batch_size; resume goes on from the last save."
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return f"The training process ended {how} without a word. The log may say more; resume goes on from the last save."


def _call(command: list[str], log: BinaryIO, environment: Mapping[str, str], stop: Path | None = None) -> int:
    """Run a command to its end, its output in `log`; returns its exit code.

    stop: the file that asks it to end; where it still runs long after, it is killed.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    while True:
        try:
            return child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            if stop is not None and _asked_long_ago(stop):
                child.kill()


def _asked_long_ago(stop: Path) -> bool:
    try:
        return time.time() - stop.stat().st_mtime > _STOP_SECONDS
    except OSError:
        return False


def _python_path() -> str:
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT_ROOT), *([known] if known else [])])


def command_lines(plan: Sequence[tuple[str | None, Config]], on_ray: cluster.Ask | None = None) -> list[str]:
    """The commands that launch the same as the Train page: one where the runs are seeds or a grid of one recipe, else one a run."""
    each = [{"data.name": config.data.name, **changes_from(recipe or "baseline", config)} for recipe, config in plan]
    axes = _axes(plan)
    if not axes:
        return [command_line(recipe, own, on_ray=on_ray) for (recipe, _), own in zip(plan, each, strict=True)]
    recipe = plan[0][0]
    values = axes.get("seed", [])
    if list(axes) == ["seed"] and values == list(range(values[0], values[0] + len(values))):
        return [command_line(recipe, each[0], [f"--seeds {len(values)}"], queued=False, on_ray=on_ray)]
    rest = {path: value for path, value in each[0].items() if path == "data.name" or path not in axes}
    try:
        with_settings(get_recipe(recipe or "baseline").config(), rest)
    except ConfigError:  # the others fit only beside a value of the grid
        rest = each[0]
    listed = {path: ",".join(map(_shell_value, values)) for path, values in axes.items()}
    grids = [f"--grid {shlex.quote(f'{path}={values}')}" for path, values in listed.items()]
    return [command_line(recipe, rest, grids, queued=False, on_ray=on_ray)]


def _axes(plan: Sequence[tuple[str | None, Config]]) -> dict[str, list[Any]]:
    """The settings and values whose combinations these runs are, the last setting changing fastest; empty where they are none."""
    found = differing([config for _, config in plan])
    paths = sorted(found, key=lambda path: sum(a != b for a, b in pairwise(found[path])))
    axes = {path: list(dict.fromkeys(found[path])) for path in paths}
    whole = list(product(*axes.values())) == list(zip(*(found[path] for path in paths), strict=True))
    sayable = not any("," in str(value) for values in axes.values() for value in values)
    return axes if whole and sayable and len({recipe for recipe, _ in plan}) == 1 else {}


def command_line(
    recipe: str | None,
    changes: Mapping[str, Any],
    several: Sequence[str] = (),
    *,
    queued: bool = True,
    on_ray: cluster.Ask | None = None,
) -> str:
    """The command that makes a run of recipe, data set, seed and what differs from the recipe, and where.

    several: the options that make more than one of it.
    """
    parts = ["python -m fer train", f"--recipe {recipe or 'baseline'}"]
    rest = dict(changes)
    if "data.name" in rest:
        parts.append(f"--dataset {rest.pop('data.name')}")
    if "seed" in rest:
        parts.append(f"--seed {rest.pop('seed')}")
    parts += [f"--set {shlex.quote(f'{path}={_shell_value(value)}')}" for path, value in rest.items()]
    parts += several
    if on_ray:
        asked = {"cpus": on_ray.cpus, "gpus": on_ray.gpus, "memory": on_ray.memory_gib}
        parts += ["--on ray", *(f"--{name} {value:g}" for name, value in asked.items() if value is not None)]
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
