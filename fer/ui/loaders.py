"""Cached access to what the pages show: runs, data sets, figures, and facts that a short process of its own works out.

Torch is never imported for Home, Data, Runs, Train and Compare; `core_json` asks the command line instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from typing import Any

import streamlit as st

from fer import cluster
from fer.data import dataset
from fer.errors import FerError
from fer.files import PROJECT_ROOT
from fer.runs import Metrics, Run

_CORE_SECONDS = 120
_ASK_AGAIN_SECONDS = 0.5
_STARTED: dict[tuple[str, ...], Future[Any]] = {}
_STARTED_LOCK = threading.Lock()


def shown(runs: Iterable[Run], *, archived: bool = False) -> list[Run]:
    """The runs that are not archived, or all, in their order."""
    return [r for r in runs if archived or not r.notes.archived]


_REMEMBERED: OrderedDict[Hashable, Any] = OrderedDict()
_REMEMBERED_LOCK = threading.Lock()
_MOST_REMEMBERED = 200


def remembered(key: Hashable, work: Callable[[], Any]) -> Any:
    """`work()`, done once for a key that says all that it depends on; for all sessions. Change nothing in what it returns."""
    with _REMEMBERED_LOCK:
        if key in _REMEMBERED:
            _REMEMBERED.move_to_end(key)
            return _REMEMBERED[key]
    value = work()
    with _REMEMBERED_LOCK:
        _REMEMBERED[key] = value
        while len(_REMEMBERED) > _MOST_REMEMBERED:
            _REMEMBERED.popitem(last=False)
    return value


def run_key(run: Run) -> Hashable:
    """What a figure of a run depends on: its name, settings and metrics, and whether it goes on."""
    metrics = run.metrics if isinstance(run.metrics, Metrics) else repr(run.metrics)
    config = run.config.model_dump_json() if run.config else ""
    return run.path, run.name, run.state, config, metrics, run.status.get("steps_per_epoch")


def load_dataset(name: str) -> dataset.Dataset:
    """A prepared data set, read once for all sessions and again when its file changes. Raises DataError."""
    path = dataset.dataset_path(name)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    first = name == dataset.SAMPLE and not stamp
    with st.spinner("Drawing the sample faces, once; it takes some seconds" if first else "Reading the data set"):
        return _load_dataset(name, stamp, str(path))


@st.cache_resource(max_entries=2, show_spinner=False)  # FER2013 takes 85 MB
def _load_dataset(name: str, stamp: int, path: str) -> dataset.Dataset:
    return dataset.load(name)


@st.cache_data(max_entries=20, ttl=10, show_spinner=False)  # one that does not answer is waited for
def cluster_problem(where: str) -> str:
    """`fer.cluster.problem`, asked every ten seconds at most."""
    return cluster.problem(where)


def core_json(*arguments: str) -> Any:
    """The answer of `python -m fer ARGUMENTS --json`, worked out once. Raises FerError with that command's sentence."""
    files = sorted(dataset.data_root().glob("*.npz"))
    return _core_json(arguments, tuple((str(f), f.stat().st_mtime_ns) for f in files))


def core_json_soon(*arguments: str, patience: float = 0.1) -> Any:
    """`core_json`, or None after `patience` seconds while it is still worked out: ask again when `core_json_ready`.

    Raises FerError.
    """
    with _STARTED_LOCK:
        answer = _STARTED.get(arguments)
        if answer is None:
            answer = _STARTED[arguments] = Future()
            threading.Thread(target=_answer, args=(answer, arguments), daemon=True).start()
    try:
        return answer.result(timeout=patience)
    except TimeoutError:
        return None
    finally:
        if answer.done():
            with _STARTED_LOCK:
                _STARTED.pop(arguments, None)


def core_json_ready(*arguments: str) -> bool:
    """Whether `core_json_soon` would answer at once, or raise at once."""
    with _STARTED_LOCK:
        answer = _STARTED.get(arguments)
    return answer is None or answer.done()


@st.fragment(run_every=_ASK_AGAIN_SECONDS)
def await_core_json(doing: str, *arguments: str) -> None:
    """Says what is being worked out, and runs the page again when `core_json_soon` has the answer."""
    st.caption(f":material/hourglass_top: {doing}")
    if core_json_ready(*arguments):
        st.rerun()


def _answer(answer: Future[Any], arguments: tuple[str, ...]) -> None:
    try:
        answer.set_result(core_json(*arguments))
    except BaseException as error:  # whoever asks for the answer gets it
        answer.set_exception(error)


@st.cache_data(max_entries=200, ttl=3600, show_spinner=False)
def _core_json(arguments: tuple[str, ...], data_files: tuple[tuple[str, int], ...]) -> Any:
    return core_do(*arguments, seconds=_CORE_SECONDS)


def core_do(*arguments: str, seconds: float) -> Any:
    """What `python -m fer ARGUMENTS --json` answers, done anew at each call. Raises FerError with that command's sentence."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fer", *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FerError(
            f"This machine took more than {seconds:g} s for an answer. It is probably busy; try again later."
        ) from error
    if done.returncode == 2:
        raise FerError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "The command failed.")
    if done.returncode < 0:
        raise FerError(
            f"The process that was asked ended by signal {-done.returncode}, as when memory runs out. Close other programs, or ask for less."
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)
