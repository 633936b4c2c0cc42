"""Runs in other tools: CSV here; TensorBoard and MLflow are opened by the real packages in `make test-slow`."""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from fer import export as exporting
from fer.cli import main
from fer.config import flatten
from fer.errors import RunError
from fer.export import export, harmless


def read(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_csv_holds_settings_and_curves_and_no_formula(store, finished_run, make_run, tmp_path):
    make_run("second")
    store.annotate("done", name="=HYPERLINK(1)", note=" +1", tags=["@x"])
    export(store, ["done", "second"], "csv", tmp_path / "out")
    first, second = read(tmp_path / "out" / "runs.csv")
    assert (first["name"], first["note"], first["tags"]) == ("'=HYPERLINK(1)", "' +1", "'@x")
    assert (first["run"], second["state"]) == ("done", "queued")
    assert {k: first[k] for k in flatten(finished_run.config)} == {
        k: "" if v is None else str(v) for k, v in flatten(finished_run.config).items()
    }
    epochs = read(tmp_path / "out" / "epochs.csv")
    assert [(e["run"], float(e["val_top1"])) for e in epochs] == [("done", m["val_top1"]) for m in finished_run.metrics]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", " =1", "\t=1", "\r=1", "\uff1d1"])
def test_formula_beginnings_are_made_harmless(text):
    assert harmless(text) == "'" + text
    assert (harmless(-1.5), harmless("a=1")) == (-1.5, "a=1")


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    store, finished_run, tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(
        RunError, match=rf"needs the package '{kind}'.*: python -m pip install -r requirements-export\.txt"
    ):
        export(store, ["done"], kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused(store, finished_run, tmp_path):
    with pytest.raises(RunError, match="Allowed: zip, csv, tensorboard, mlflow"):
        export(store, ["done"], "excel", tmp_path)
    with pytest.raises(RunError, match="There is no run"):
        export(store, ["gone"], "csv", tmp_path)
    (finished_run.path / "config.json").write_text("{")
    with pytest.raises(RunError, match="runs check --repair"):
        export(store, ["done"], "csv", tmp_path)


def need(package: str) -> None:
    """Skip where the optional package is missing; where `make test-slow` has installed it, fail."""
    if importlib.util.find_spec(package) is None:
        missing = f"{package} is missing; see requirements-export.txt"
        pytest.fail(missing) if os.environ.get("FER_REQUIRE_EXPORT") else pytest.skip(missing)


def test_mlflow_is_told_when_a_run_ended(store, finished_run, make_run, tmp_path, monkeypatch):
    """By a stand-in for the package, which need not be there."""
    make_run("waits")
    client, entities = MagicMock(), MagicMock()
    monkeypatch.setattr(exporting, "require", lambda _kind: None)
    monkeypatch.setitem(sys.modules, "mlflow", MagicMock(MlflowClient=lambda **_k: client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    export(store, ["done", "waits"], "mlflow", tmp_path / "ml")
    ends = [call.kwargs["end_time"] for call in client.set_terminated.call_args_list]
    assert ends == [int(1000 * finished_run.status["finished"]), None]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("tensorboard", "tensorboard --logdir 'my runs'"),
        ("mlflow", "mlflow ui --backend-store-uri 'sqlite:///my runs/mlflow.db'"),
    ],
)
def test_the_command_that_shows_an_export_is_printed(store, finished_run, tmp_path, monkeypatch, capsys, kind, shown):
    monkeypatch.setattr(exporting, "require", lambda _kind: None)
    monkeypatch.setattr(exporting, f"to_{kind}", lambda _runs, out: [out / "x"])
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "export", "done", "--to", kind, "--out", "my runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {Path('my runs', 'x')}", f"look at it with: {shown}"]
    assert exporting.viewer("mlflow", tmp_path) == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"


def test_a_file_that_any_program_opens_needs_no_command(store, finished_run, tmp_path, capsys):
    assert main(["runs", "export", "done", "--to", "csv", "--out", str(tmp_path / "out")]) == 0
    assert "look at it" not in capsys.readouterr().out
    assert main(["runs", "export", "--help"]) == 0
    assert "Default: fer-export.zip or fer-export, in the current folder." in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_tensorboard_opens_curves_and_settings(store, finished_run, tmp_path):
    need("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    (folder,) = export(store, ["done"], "tensorboard", tmp_path / "tb")
    events = EventAccumulator(str(folder)).Reload()
    for name in exporting.METRICS:
        assert [(e.step, pytest.approx(e.value)) for e in events.Scalars(name)] == [
            (m["epoch"], m[name]) for m in finished_run.metrics
        ]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["optim.lr"].number_value == finished_run.config.optim.lr
    assert settings["model.name"].string_value == "baseline"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_opens_curves_and_settings(store, finished_run, tmp_path):
    need("mlflow")
    from mlflow import MlflowClient

    store.annotate("done", name="The good one")
    (database,) = export(store, ["done"], "mlflow", tmp_path / "ml")
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("FER Lab")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("The good one", "FINISHED")
    assert run.info.end_time == int(1000 * finished_run.status["finished"])
    assert run.data.params == {k: str(v) for k, v in flatten(finished_run.config).items()}
    for name in exporting.METRICS:
        points = client.get_metric_history(run.info.run_id, name)
        assert [(p.step, p.value) for p in points] == [(m["epoch"], m[name]) for m in finished_run.metrics]
    assert run.data.tags["fer.run"] == "done"
