"""Opening a page as Streamlit does: through the entry point, then by its script, with query parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from fer.config import Config, with_settings
from fer.runs import Run, RunStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """`open_page("compare", run=["a", "b"])`: the page after its first run."""

    def open_(name: str, **query: str | list[str]) -> AppTest:
        at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
        if name != "home":
            at.switch_page(f"pages/{name}.py")
        for key, value in query.items():
            at.query_params[key] = value
        return at.run()

    return open_


def metrics_row(epoch: int, val_top1: float) -> dict[str, float]:
    """One line of metrics.jsonl."""
    return {
        "epoch": epoch,
        "lr": 0.001,
        "train_loss": 0.2,
        "train_top1": 0.9,
        "val_loss": 1.5,
        "val_top1": val_top1,
        "val_macro_f1": val_top1 - 0.05,
        "epoch_seconds": 10.0,
    }


@pytest.fixture
def add_run() -> Callable[..., None]:
    """`add_run("id", [0.4, 0.5])`: a run folder with these validation top-1 values, and no weights."""

    def add(
        run_id: str,
        tops: list[float],
        *,
        synthetic: bool = False,
        state: str = "finished",
        recipe: str = "baseline",
        epochs: int | None = None,
    ) -> None:
        store = RunStore()
        config = with_settings(Config(), {"train.epochs": epochs or max(len(tops), 1)})
        store.create(config, recipe=recipe, data={"fingerprint": "f" * 32, "synthetic": synthetic}, run_id=run_id)
        for epoch, top in enumerate(tops, 1):
            store.append_metrics(run_id, metrics_row(epoch, top))
        store.write_status(run_id, {"state": state, "epoch": len(tops), "steps_per_epoch": 10})

    return add


def said(at: AppTest) -> str:
    """All that the page says in words, markup characters unescaped."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success")
    return " ".join(e.value for kind in kinds for e in getattr(at, kind)).replace("\\", "")


def set_record(run: Run, **data: Any) -> None:
    """Change what the run's record says of its data."""
    path = run.path / "config.json"
    record = json.loads(path.read_text())
    record["data"].update(data)
    path.write_text(json.dumps(record))
