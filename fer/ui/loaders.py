"""Cached access to what the pages show: runs, data sets, and facts that a short process of its own works out.

Torch is never imported for Home, Data, Runs, Train and Compare; `core_json` asks the command line instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import streamlit as st

from fer.data import dataset
from fer.errors import FerError
from fer.files import PROJECT_ROOT
from fer.runs import Run, RunStore

_CORE_SECONDS = 120


def all_runs(store: RunStore, *, archived: bool = False) -> list[Run]:
    """The runs, newest first. Unchanged files are not read again (see `fer.runs`)."""
    return store.runs(archived=archived)


def load_dataset(name: str) -> dataset.Dataset:
    """A prepared data set, read once for all sessions and again when its file changes. Raises DataError."""
    path = dataset.dataset_path(name)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    first = name == dataset.SAMPLE and not stamp
    with st.spinner("Drawing the sample faces, once; it takes some seconds" if first else "Reading the data set"):
        return _load_dataset(name, stamp, str(path))


@st.cache_resource(max_entries=4, show_spinner=False)
def _load_dataset(name: str, stamp: int, path: str) -> dataset.Dataset:
    return dataset.load(name)


def core_json(*arguments: str) -> Any:
    """The answer of `python -m fer ARGUMENTS --json`, worked out once. Raises FerError with that command's sentence."""
    files = sorted(dataset.data_root().glob("*.npz"))
    return _core_json(arguments, tuple((str(f), f.stat().st_mtime_ns) for f in files))


@st.cache_data(max_entries=200, ttl=3600, show_spinner=False)
def _core_json(arguments: tuple[str, ...], data_files: tuple[tuple[str, int], ...]) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fer", *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=_CORE_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FerError(
            f"This machine took more than {_CORE_SECONDS} s for an estimate. It is probably busy; try again later."
        ) from error
    if done.returncode == 2:
        raise FerError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "The estimate failed.")
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)
