"""Which change helps, all else equal: every recipe of the study's list with one budget, several seeds of those that matter.

    FER_RUNS_DIR=ablations python benchmarks/ablations.py --data fer2013.zip --minutes 120

Every recipe that differs from the baseline by one remedy is trained with seed 0, then the study's four and the remedies of
MATTER with further seeds. The runs stay in the store that FER_RUNS_DIR names, so calling it again goes on where it was, in the middle
of an epoch where need be; what is finished is not trained again. Prints the table of what is there. Without --data the
built-in sample faces are used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine
from fer.config import Config, with_settings
from fer.data import dataset
from fer.data.read import import_path
from fer.jobs import create_run
from fer.recipes import RECIPES, STUDY, get_recipe
from fer.runs import RESUMABLE, Run, RunStore
from fer.train import Watcher, fit

MATTER = ("augment", "dropout", "batch-norm", "early-stopping", "weighted-loss")
NOT_ALONE = ("fast", "strong", "transfer-resnet18")  # recipes that change many things at once


def main() -> None:
    """Train what is missing, within the time given, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a zip as Kaggle hands it out; default: the sample faces")
    parser.add_argument("--epochs", type=int, default=25, help="of every run")
    parser.add_argument("--seeds", type=int, default=3, help="of the study's four and the remedies that matter most")
    parser.add_argument("--recipes", nargs="*", help="only these; default: all that change one thing")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop, saved, when they are over")
    arguments = parser.parse_args()
    data = _prepared(arguments.data)
    store, until = RunStore(), time.monotonic() + 60 * arguments.minutes
    planned = list(plan(arguments.recipes or alone(), arguments.seeds))
    for recipe, seed in planned:
        if time.monotonic() >= until:
            break
        config = with_settings(
            get_recipe(recipe).config(), {"data.name": data, "seed": seed, "train.epochs": arguments.epochs}
        )
        run = _train(store, recipe, config, until)
        print(f"{run.id}: {run.state}, best val top-1 {run.best['val_top1'] if run.best else 'none'}", file=sys.stderr)
    known = {_run_id(recipe, arguments.epochs, seed) for recipe, seed in planned}
    found = table([r for r in store.runs(archived=True) if r.id in known])
    print(json.dumps({"benchmark": "ablations", "data": data, "epochs": arguments.epochs, "rows": found, **machine.describe()}))  # fmt: skip


def alone() -> list[str]:
    """The recipes that change one thing from the baseline, the study's four first."""
    return [*STUDY, *(name for name in RECIPES if name not in (*STUDY, *NOT_ALONE))]


def plan(recipes: list[str], seeds: int) -> Iterator[tuple[str, int]]:
    """(recipe, seed) in the order of training: one seed of each, then more of those that matter."""
    yield from ((name, 0) for name in recipes)
    yield from ((name, seed) for seed in range(1, seeds) for name in recipes if name in (*STUDY, *MATTER))


def table(runs: list[Run]) -> list[dict[str, Any]]:
    """One row a recipe, best mean first: n, mean, std (None for one) and values of the best val top-1, minutes, parameters."""
    rows = []
    for name in {r.recipe: None for r in runs if r.state == "finished" and r.best}:
        same = sorted((r for r in runs if r.recipe == name and r.state == "finished"), key=lambda r: r.config.seed)
        best = [r.best["val_top1"] for r in same]
        rows.append(
            {
                "recipe": name,
                "n": len(best),
                "mean_top1": statistics.mean(best),
                "std_top1": statistics.stdev(best) if len(best) > 1 else None,
                "top1": best,
                "epochs": statistics.mean(len(r.metrics) for r in same),
                "minutes": statistics.mean(sum(row["epoch_seconds"] for row in r.metrics) / 60 for r in same),
                "num_params": same[0].model.get("num_params"),
            }
        )
    return sorted(rows, key=lambda row: -row["mean_top1"])


def _prepared(source: Path | None) -> str:
    if source is None:
        return dataset.SAMPLE
    if source.stem not in dataset.prepared():
        dataset.save(import_path(source, source.stem))
    return source.stem


def _run_id(recipe: str, epochs: int, seed: int) -> str:
    return f"{recipe}-e{epochs}-s{seed}"


def _train(store: RunStore, recipe: str, config: Config, until: float) -> Run:
    run_id = _run_id(recipe, config.train.epochs, config.seed)
    if run_id not in store.ids():
        create_run(store, config, recipe=recipe, run_id=run_id, reserved=True)
    run = store.get(run_id)
    if run.data_name != config.data.name:
        raise SystemExit(
            f"'{run_id}' in this store was trained on '{run.data_name}', not on '{config.data.name}'. Set FER_RUNS_DIR to another folder."
        )
    if run.state in RESUMABLE:
        run = store.requeue(run_id, reserved=True)
    if run.state != "queued":
        return run
    return fit(store, run_id, Watcher(should_stop=lambda: time.monotonic() >= until))


if __name__ == "__main__":
    main()
