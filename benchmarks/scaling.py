"""How cost grows: seconds and memory against the number of pictures, 3,000 to 300,000, and of runs, 10 to 10,000.

    python benchmarks/scaling.py            # --quick stops at 30,000 pictures and 1,000 runs

Each size is measured in a process of its own. Pictures are random: saving them, loading them (the median of three) and
one epoch of the real engine over all of them, validation of a tenth as many included. Runs have 100 epochs each: listing
them in a fresh process and once more, with what a table shows of each, and the memory that Python then holds for them.
An exponent is the slope of log cost against log size by least squares: 1 is linear. Imports are not in the seconds, but
they are in the peak memory of training, so its exponent says little.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.generated_store import random_pictures, write_store
from benchmarks.turn import turn
from fer.runs import RunStore

PICTURES = (3_000, 10_000, 30_000, 100_000, 300_000)
RUNS = (10, 100, 1_000, 10_000)
_EPOCHS = 100
_LINEAR = 1.1  # an exponent up to this counts as linear
_NETWORK = "depthwise-conv"  # the smallest of the networks, so that 300,000 pictures take minutes and not an hour


def main() -> None:
    """Measure each size and print the figures and how they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version: up to 30,000 pictures and 1,000 runs")
    parser.add_argument("--pictures", type=int, nargs="+", help=f"default: {' '.join(map(str, PICTURES))}")
    parser.add_argument("--runs", type=int, nargs="+", help=f"default: {' '.join(map(str, RUNS))}")
    parser.add_argument("--network", default=_NETWORK, help=f"the network that is trained; default: {_NETWORK}")
    parser.add_argument("--size-of", choices=("save", "train", "runs", "held"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size_of:
        measure = {"save": _save, "train": _train, "runs": _list, "held": _held}[arguments.size_of]
        print(json.dumps(measure(arguments)))
        return
    print(json.dumps(_measure(arguments), indent=1))


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    pictures = arguments.pictures or (PICTURES[:3] if arguments.quick else PICTURES)
    runs = arguments.runs or (RUNS[:3] if arguments.quick else RUNS)
    of_pictures = [_pictures(n, arguments.network) for n in pictures]
    of_runs = [_runs(n) for n in runs]
    from benchmarks import machine

    figures: dict[str, Any] = {"benchmark": "scaling", "network": arguments.network, "epochs_a_run": _EPOCHS}
    for name, sizes, rows in (("pictures", pictures, of_pictures), ("runs", runs, of_runs)):
        for size, row in zip(sizes, rows, strict=True):
            figures |= {f"{name}_{size}_{key}": value for key, value in row.items()}
        exponents = {key: exponent(sizes, [row[key] for row in rows]) for key in rows[0]}
        figures |= {f"{name}_{key}_exponent": value for key, value in exponents.items()}
    figures["pictures_exponent"] = figures["pictures_seconds_exponent"]
    figures["runs_exponent"] = max(value for key, value in figures.items() if key.startswith("runs_") and "exp" in key)
    figures |= {f"{name}_at_most_linear": figures[f"{name}_exponent"] <= _LINEAR for name in ("pictures", "runs")}
    return {**figures, **machine.describe()}


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The slope of log cost against log size by least squares; 1 where cost doubles with size."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


def _pictures(n: int, network: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        figures = _turn("save", folder, "--pictures", str(n))
        figures |= _turn("train", folder, "--pictures", str(n), "--network", network)
    figures["seconds"] = sum(value for key, value in figures.items() if key.endswith("_seconds"))
    print(f"{n:,} pictures: {figures}", file=sys.stderr, flush=True)
    return figures


def _runs(n: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "runs", n, _EPOCHS, weights=False)
        figures = _turn("runs", folder) | _turn("held", folder)
    print(f"{n:,} runs: {figures}", file=sys.stderr, flush=True)
    return figures


def _turn(what: str, folder: str, *arguments: str) -> dict[str, float]:
    environment = {"FER_DATA_DIR": f"{folder}/data", "FER_RUNS_DIR": f"{folder}/runs"}
    return turn(__file__, "--size-of", what, *arguments, environment=environment)


# --- each in a process of its own --------------------------------------------------------------------------------------


def _save(arguments: argparse.Namespace) -> dict[str, float]:
    from fer.data import dataset

    n = arguments.pictures[0]
    data = random_pictures("random", train=n, val=n // 10)
    return {"save_seconds": _seconds(lambda: dataset.save(data))}


def _train(arguments: argparse.Namespace) -> dict[str, float]:
    import torch  # noqa: F401 - before the clock starts

    from benchmarks import machine
    from fer.config import Config, with_settings
    from fer.data import dataset
    from fer.train import fit

    load_seconds = statistics.median(_seconds(lambda: dataset.load("random")) for _ in range(3))
    fingerprint = dataset.load_head("random")["fingerprint"]
    settings = {"data.name": "random", "model.name": arguments.network, "train.epochs": 1}
    store = RunStore()
    store.create(with_settings(Config(), settings), recipe=None, data={"fingerprint": fingerprint}, run_id="turn")
    run = fit(store, "turn")
    return {
        "load_seconds": load_seconds,
        "epoch_seconds": run.metrics[0]["epoch_seconds"],
        "memory_mb": machine.peak_memory_mb(),
    }


def _list(arguments: argparse.Namespace) -> dict[str, float]:
    time.sleep(2.5)  # a file that has only just been written is read once more, since its clock may be coarse
    return {"cold_seconds": _seconds(_table), "warm_seconds": statistics.median(_seconds(_table) for _ in range(5))}


def _held(arguments: argparse.Namespace) -> dict[str, float]:
    tracemalloc.start()
    held = _table()
    return {"memory_mb": tracemalloc.get_traced_memory()[0] / 1e6} if held else {}


def _table() -> list[object]:
    """What a table shows of each run."""
    return [(r.name, r.state, r.progress, r.best, r.last, r.changes) for r in RunStore().runs(archived=True)]


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
