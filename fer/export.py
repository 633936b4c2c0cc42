"""Runs handed to other tools: CSV for a spreadsheet, TensorBoard, MLflow. A zip for another FER Lab is in `fer.archive`.

Settings keep their dotted paths and metrics their names, so that what one reads there is what one reads here.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fer.archive import pack, require_outside
from fer.config import flatten
from fer.errors import FerError, RunError
from fer.files import write_bytes_atomic
from fer.results import harmless
from fer.runs import Run, RunStore

METRICS = ("lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_macro_f1", "epoch_seconds")
KINDS = ("zip", "csv", "tensorboard", "mlflow")
_NEEDS = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
_DATABASE = "mlflow.db"


def export(store: RunStore, run_ids: Sequence[str], kind: str, out: Path) -> list[Path]:
    """Write these runs for another tool below `out` (for a zip: as `out`); returns what was written.

    Raises RunError for an unknown kind, a run that is not there or cannot be read, and a package that is missing, and
    NotAllowed for a place inside the store or the data folder where nothing may be changed.
    """
    if kind not in KINDS:
        raise RunError(f"Runs cannot be exported to {kind!r}. Allowed: {', '.join(KINDS)}.")
    require(kind)
    require_outside(out)
    runs = [store.get(run_id) for run_id in dict.fromkeys(run_ids)]
    for run in runs:
        if run.config is None:
            raise RunError(
                f"Run '{run.id}' cannot be read: {'; '.join(run.problems)}. Leave it out, or try: python -m fer runs check --repair"
            )
    if kind == "zip":
        pack(store, run_ids, out)
        return [out]
    write: dict[str, Callable[[Sequence[Run], Path], list[Path]]] = {
        "csv": to_csv,
        "tensorboard": to_tensorboard,
        "mlflow": to_mlflow,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        return write[kind](runs, out)
    except OSError as error:
        raise RunError(f"{out} could not be written: {error.strerror}. Choose another place with --out.") from error


def viewer(kind: str, out: Path) -> str:
    """The command that shows what was exported to `out`; '' where that is a file to open or to import."""
    commands = {
        "tensorboard": f"tensorboard --logdir {shlex.quote(str(out))}",
        "mlflow": f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{out / _DATABASE}')}",
    }
    return commands.get(kind, "")


def require(kind: str) -> None:
    """Raises RunError that names the optional package where this kind of export needs one that is missing."""
    package = _NEEDS.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise RunError(
            f"Exporting to {kind} needs the package '{package}', which is not installed. Install it with: python -m pip install -r requirements-export.txt"
        )


def to_csv(runs: Sequence[Run], out: Path) -> list[Path]:
    """`runs.csv`, a line a run with its settings and best figures, and `epochs.csv`, a line an epoch. Fractions are 0 to 1."""
    lines = [{**_facts(r), **_settings(r)} for r in runs]
    epochs = [{"run": r.id, "name": r.name, **dict(row)} for r in runs for row in r.metrics]
    return [_table(out / "runs.csv", lines), _table(out / "epochs.csv", epochs)]


def to_tensorboard(runs: Sequence[Run], out: Path) -> list[Path]:
    """One folder of events a run: a scalar a metric by epoch, and the settings as hyperparameters with the best figures."""
    from torch.utils.tensorboard import SummaryWriter

    folders = []
    for run in runs:
        folder = out / run.id
        with SummaryWriter(str(folder)) as writer:
            for row in run.metrics:
                for name in _numbers(row):
                    writer.add_scalar(name, row[name], row["epoch"])
            best = {f"best/{k}": float(v) for k, v in _best(run).items() if v is not None}
            settings = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in _settings(run).items()}
            if best:
                writer.add_hparams(settings, best, run_name=".")
            writer.add_text("run", "\n\n".join(f"{k}: {v}" for k, v in _facts(run).items()))
        folders.append(folder)
    return folders


def to_mlflow(runs: Sequence[Run], out: Path) -> list[Path]:
    """A tracking database `mlflow.db` with one MLflow run a run: settings as parameters, metrics by epoch, facts as tags."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    database = out / _DATABASE
    client = MlflowClient(tracking_uri=f"sqlite:///{database.resolve()}")
    found = client.get_experiment_by_name("FER Lab")
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment("FER Lab", artifact_location=str((out / "artifacts").resolve()))
    )
    states = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
    for run in runs:
        start = int(1000 * run.created)
        made = client.create_run(experiment, start_time=start, run_name=run.name).info.run_id
        stamps = {row["epoch"]: start + i for i, row in enumerate(run.metrics)}
        metrics = [
            Metric(n, float(row[n]), stamps[row["epoch"]], row["epoch"]) for row in run.metrics for n in _numbers(row)
        ]
        client.log_batch(
            made,
            params=[Param(k, str(v)) for k, v in _settings(run).items()],
            tags=[RunTag(f"fer.{k}", str(v)) for k, v in _facts(run).items()],
        )
        for first in range(0, len(metrics), 1000):
            client.log_batch(made, metrics=metrics[first : first + 1000])
        ended = run.status.get("finished") if run.state in states else None
        end = int(1000 * ended) if isinstance(ended, int | float) else None
        client.set_terminated(made, states.get(run.state, "KILLED"), end_time=end)
    return [database]


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "name": run.name,
        "state": run.state,
        "recipe": run.recipe,
        "data": run.data_name,
        "fingerprint": run.fingerprint,
        "synthetic": run.synthetic,
        "note": run.notes.note,
        "tags": ", ".join(run.notes.tags),
        **{f"best_{k}": v for k, v in _best(run).items()},
    }


def _best(run: Run) -> dict[str, Any]:
    best = run.best or {}
    return {k: best.get(k) for k in ("epoch", "val_top1", "val_loss", "val_macro_f1")}


def _settings(run: Run) -> dict[str, Any]:
    if run.config is None:
        raise FerError(f"Run '{run.id}' has no settings that can be read.")
    return flatten(run.config)


def _numbers(row: Any) -> list[str]:
    return [k for k, v in row.items() if k != "epoch" and isinstance(v, int | float)]


def _table(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    listed = list(rows)
    columns = list(dict.fromkeys(k for row in listed for k in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({harmless(k): harmless(v) for k, v in row.items()} for row in listed)
    write_bytes_atomic(path, text.getvalue().encode("utf-8-sig"), outside=True)
    return path
