"""Ensembles: chosen runs that answer together, with the mean of their calibrated probabilities.

An ensemble is a run folder of `kind: ensemble` that names its members; the weights stay in theirs. Its one line of metrics
says how it does on train and val as they are; its seconds are those of its members' trainings together, and of the trainings
that those began from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fer.data.dataset import Dataset, load
from fer.device import versions
from fer.errors import DataError, RunError
from fer.evaluate import report_of
from fer.files import sha256, write_json_atomic
from fer.origins import learned_from, note, to_json
from fer.runs import ACTIVE, SCHEMA, Run, RunStore, hold


def create_ensemble(store: RunStore, members: Sequence[str], run_id: str | None = None, *, device: str = "auto") -> Run:
    """Make and evaluate an ensemble of two or more runs with weights that were trained on one data set.

    Of an ensemble among them, its members are taken. Raises RunError for members that do not fit together, DataError
    where their data set is not on this machine.
    """
    runs = _members(store, members)
    data = _data(runs[0])
    for run in runs:
        if "calibration" not in (run.report("val") or {}):
            store.save_report(run.id, data.fingerprint, "val", report_of(run, data, "val", device=device))
    first = runs[0].config
    assert first  # _members has looked
    train = first.train.model_copy(update={"epochs": 1})
    schedule = first.schedule.model_copy(update={"warmup_epochs": 0.0})
    config = first.model_copy(update={"train": train, "schedule": schedule})
    origins = list(dict.fromkeys(o for run in runs for o in learned_from(store, run)))
    made = store.create(
        config,
        recipe=None,
        data={
            **runs[0].record["data"],
            "start_note": note(origins, data.name, data.fingerprint) or "",
            "learned_from": to_json(o for o in origins if o.run not in [r.id for r in runs]),
        },
        run_id=run_id,
        kind="ensemble",
        members=[r.id for r in runs],
        reserved=True,
    )
    try:
        with hold(made.path / "run.lock"):
            _fill(store, made, runs, data, device)
    except BaseException:
        store.delete(made.id)
        raise
    return store.get(made.id)


def _members(store: RunStore, names: Sequence[str]) -> list[Run]:
    found: dict[str, Run] = {}
    for name in names:
        run = store.get(name)
        for inner in run.members or (name,):
            found[inner] = store.get(inner)
    runs = list(found.values())
    if len(runs) < 2:
        raise RunError(f"An ensemble needs at least two different runs; this names {len(runs)}.")
    for run in runs:
        if not run.has_weights:
            raise RunError(
                f"Run '{run.id}' has no weights and cannot be a member. Take a run that trained at least one epoch."
            )
        if run.state in ACTIVE:
            raise RunError(
                f"Run '{run.id}' is {run.state}, so its weights will change. Wait until it has ended, or stop it."
            )
        if run.fingerprint != runs[0].fingerprint:
            raise RunError(
                f"Run '{run.id}' was trained on other data or another split than '{runs[0].id}'. Members must share both, "
                "or what one learned from would be what another is judged on."
            )
    return runs


def _data(run: Run) -> Dataset:
    data = load(run.data_name).with_val_fraction(run.config.data.val_fraction if run.config else None)
    if data.fingerprint != run.fingerprint:
        raise DataError(
            f"The data set '{data.name}' is not the one that '{run.id}' was trained on. Import that one again to judge an ensemble on it."
        )
    return data


def _fill(store: RunStore, made: Run, runs: Sequence[Run], data: Dataset, device: str) -> None:
    write_json_atomic(made.path / "model.json", {"schema": SCHEMA, **_model(runs, len(data.classes))})
    trained, missing = store.with_origins(runs)
    on_train, on_val = (report_of(made, data, split, device=device) for split in ("train", "val"))
    row = {
        "epoch": 1,
        "lr": 0.0,
        "train_loss": on_train["loss"],
        "train_top1": on_train["top1"],
        "val_loss": on_val["loss"],
        "val_top1": on_val["top1"],
        "val_macro_f1": on_val["macro_f1"],
        "epoch_seconds": round(sum(float(row["epoch_seconds"]) for run in trained for row in run.metrics), 3),
    }
    (made.path / "logits-train.npz").unlink(missing_ok=True)
    store.append_metrics(made.id, row)
    store.save_report(made.id, data.fingerprint, "val", on_val)
    status = {**made.status, **versions(), "state": "finished", "finished": time.time(), "epoch": 1}
    if origins := {**{run.id: True for run in trained if run.id not in made.members}, **dict.fromkeys(missing, False)}:
        status["origins"] = origins
    store.write_status(made.id, {k: v for k, v in status.items() if k not in ("reserved", "schema")})


def _model(runs: Sequence[Run], num_classes: int) -> dict[str, Any]:
    """A row for each member where a network has its layers."""
    layers = [
        {
            "name": run.id,
            "kind": "Network",
            "detail": run.config.model.name if run.config else "",
            "output_shape": [num_classes],
            "num_params": run.model.get("num_params", 0),
            "multiply_adds": run.model.get("multiply_adds", 0),
            "weights": sha256(run.path / "best.safetensors"),  # see Run.made_of
        }
        for run in runs
    ]
    sums = {key: sum(layer[key] for layer in layers) for key in ("num_params", "multiply_adds")}
    return {"name": "ensemble", "input_shape": runs[0].model.get("input_shape", [1, 48, 48]), **sums, "layers": layers}
