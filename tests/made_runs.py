"""Run folders written without training, a trainer's files with figures that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer.config import with_settings
from fer.recipes import get_recipe
from fer.runs import Run, RunStore

FINGERPRINT = "f" * 32


def write_run(
    store: RunStore,
    run_id: str,
    rows: Sequence[Mapping[str, float]],
    *,
    recipe: str = "baseline",
    seed: int = 0,
    state: str = "finished",
    fingerprint: str = FINGERPRINT,
    created: float = 1e9,
    logits: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    hashes: np.ndarray | None = None,
    report: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    members: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """A whole run. rows: one an epoch, what is not given filled in; settings: by dotted path, `__` for the dot."""
    changes = {"data.name": "fer2013", "seed": seed, "train.epochs": max(len(rows), 1)}
    config = with_settings(
        get_recipe(recipe).config(), {**changes, **{k.replace("__", "."): v for k, v in settings.items()}}
    )
    folder = store.root / run_id
    folder.mkdir(parents=True)
    record = {
        "schema": 1,
        "kind": "ensemble" if members else "run",
        "members": list(members),
        "recipe": recipe,
        "data": {"fingerprint": fingerprint, "synthetic": False, "split_note": None},
        "created": created,
        "config": config.model_dump(mode="json"),
    }
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "status.json").write_text(
        json.dumps({"schema": 1, "state": state, "epoch": len(rows), "steps_per_epoch": 10})
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(_row(e, r)) + "\n" for e, r in enumerate(rows, start=1)))
    if report:
        (folder / "report.json").write_text(json.dumps({"schema": 1, "reports": {fingerprint: {"val": report}}}))
    if model:
        (folder / "model.json").write_text(json.dumps(model))
    if notes:
        (folder / "notes.json").write_text(json.dumps({"schema": 1, **notes}))
    if logits is not None and labels is not None:
        hashes = np.arange(len(labels), dtype=np.uint64) if hashes is None else hashes
        np.savez(folder / "logits-val.npz", logits=logits.astype(np.float32), labels=labels, hashes=hashes)
    return store.get(run_id)


def _row(epoch: int, given: Mapping[str, float]) -> dict[str, float]:
    """In the trainer's order, so that the store reads it the fast way."""
    val_top1 = given.get("val_top1", 0.4)
    usual = {
        "epoch": epoch,
        "lr": 0.001,
        "train_loss": 1.7 / epoch,
        "train_top1": min(0.99, 0.3 + 0.05 * epoch),
        "val_loss": 1.4,
        "val_top1": val_top1,
        "val_macro_f1": val_top1 - 0.04,
        "epoch_seconds": 20.0,
    }
    return {key: given.get(key, value) for key, value in usual.items()}


def logits_of(right: np.ndarray, labels: np.ndarray, classes: int = 7) -> np.ndarray:
    """(N, classes) logits whose highest is the true class where `right` says so, and the next class elsewhere."""
    said = np.where(right, labels, (labels + 1) % classes)
    return 3.0 * np.eye(classes)[said]
