"""A run store of any size, made without training: what the dashboard and the growth of costs are measured on.

Every folder has what a finished run has: config, status, layer table, an epoch a line, a report, and weights, which all
runs share through hard links. Figures follow curves that rise and overfit, and differ from run to run.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer.config import Config, with_settings
from fer.data.dataset import CLASSES, SAMPLE, Dataset
from fer.files import PROJECT_ROOT
from fer.recipes import RECIPES
from fer.runs import RunStore

DATA_SETS = ("fer2013", "faces-b", SAMPLE)
_SEEDS = 5
_STEPS = 449
_YEAR = 365 * 86400.0
_SHIPPED = PROJECT_ROOT / "checkpoints" / "baseline"


def write_store(root: Path, runs: int, epochs: int, *, weights: bool = True) -> list[str]:
    """Write that many finished runs of that many epochs below `root`; returns their ids, oldest first."""
    root.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    shared = None
    if weights:  # a name that cannot be a run's, so that the store passes over it
        shared = root / ".weights"
        shutil.copy(_SHIPPED / "best.safetensors", shared)
    model = (_SHIPPED / "model.json").read_text()
    report = next(iter(json.loads((_SHIPPED / "report.json").read_text())["reports"].values()))["val"]
    recipes, began = list(RECIPES), time.time() - _YEAR
    ids = []
    for number in range(runs):
        recipe = recipes[number % len(recipes)]
        data = DATA_SETS[(number // len(recipes)) % len(DATA_SETS)]
        changes = {"data.name": data, "train.epochs": epochs, "seed": number % _SEEDS}
        if number % 7 == 3:
            changes["train.batch_size"] = 128
        config = with_settings(RECIPES[recipe].config(), changes)
        created = began + number * _YEAR / runs
        state = "failed" if number % 100 == 99 else "stopped" if number % 50 == 49 else "finished"
        ids.append(f"{recipe}-s{config.seed}-{number:05d}")
        folder = root / ids[-1]
        folder.mkdir()
        _write(folder / "config.json", config_record(config, recipe, created))
        rows = [epoch_row(rng, epoch, number) for epoch in range(1, epochs + 1)]
        _write(folder / "status.json", status(state, created, rows))
        (folder / "model.json").write_text(model)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        best = max(rows, key=lambda row: row["val_top1"])
        own = {"run": ids[-1], "dataset": data, "fingerprint": _fingerprint(data), "split_note": None}
        split = {**report, **own, "epoch": best["epoch"], "top1": best["val_top1"]}
        _write(folder / "report.json", {"schema": 1, "reports": {_fingerprint(data): {"val": split}}})
        (folder / "train.log").write_text("".join(f"epoch {row['epoch']}: {row['val_top1']:.4f}\n" for row in rows))
        if number % 25 == 24:
            _write(folder / "notes.json", {"schema": 1, "name": f"Try {number}", "archived": number % 50 == 24})
        if shared:
            os.link(shared, folder / "best.safetensors")
    return ids


def config_record(config: Config, recipe: str, created: float) -> dict[str, Any]:
    """The content of `config.json`."""
    name = config.data.name
    return {
        "schema": 1,
        "kind": "run",
        "recipe": recipe,
        "data": {"fingerprint": _fingerprint(name), "synthetic": name == SAMPLE, "split_note": None},
        "created": created,
        "experiment": config.experiment,
        "config": config.model_dump(mode="json"),
    }


def status(state: str, created: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of `status.json` after these epochs."""
    seconds = sum(row["epoch_seconds"] for row in rows)
    return {
        "schema": 1,
        "state": state,
        "queued": created,
        "started": created + 1,
        "error": "The disk is full." if state == "failed" else None,
        "device": "cpu",
        "device_name": "generated",
        "threads": 2,
        "precision": "fp32",
        "versions": {"fer": "0.1.0", "python": "3.11.7", "torch": "2.15.0"},
        "git_commit": "0" * 12,
        "epoch": len(rows),
        "step": 0,
        "steps_per_epoch": _STEPS,
        "updated": created + seconds,
        "images_per_sec": 2000.0,
        "running_loss": rows[-1]["train_loss"],
        "running_top1": rows[-1]["train_top1"],
        "finished": created + seconds,
    }


def epoch_row(rng: random.Random, epoch: int, number: int) -> dict[str, Any]:
    """One line of `metrics.jsonl`: train goes on rising, val turns after some epochs."""
    peak = 8 + number % 9
    rise, late = 1 - math.exp(-epoch / 4), max(0, epoch - peak)
    val_top1 = 0.2 + 0.34 * rise - 0.0002 * late + rng.gauss(0, 0.004)
    return {
        "epoch": epoch,
        "lr": 0.001 * 0.99**epoch,
        "train_loss": 1.8 * math.exp(-epoch / 12) + abs(rng.gauss(0, 0.01)),
        "train_top1": min(0.999, 0.25 + 0.74 * (1 - math.exp(-epoch / 12)) + rng.gauss(0, 0.002)),
        "val_loss": 1.3 + 0.5 * math.exp(-epoch / 3) + 0.02 * late + rng.gauss(0, 0.01),
        "val_top1": val_top1,
        "val_macro_f1": val_top1 - 0.05 + rng.gauss(0, 0.002),
        "epoch_seconds": 20 + rng.gauss(0, 0.5),
    }


def write_live_run(store: RunStore, run_id: str, epochs: int) -> None:
    """A queued run of the baseline, for `move` to keep in motion."""
    config = with_settings(Config(), {"data.name": DATA_SETS[0], "train.epochs": epochs})
    store.create(config, recipe="baseline", data={"fingerprint": _fingerprint(DATA_SETS[0])}, run_id=run_id)


def random_pictures(name: str, train: int, val: int) -> Dataset:
    """A data set of random pictures with random labels."""
    rng, n = np.random.default_rng(0), train + val
    return Dataset(
        name=name,
        images=rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        labels=rng.integers(0, len(CLASSES), n),
        splits=np.repeat([0, 1], [train, val]).astype(np.uint8),
        sources=np.array([f"{i}.png" for i in range(n)]),
    )


def _fingerprint(data: str) -> str:
    return data.encode().hex().ljust(32, "0")[:32]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))
