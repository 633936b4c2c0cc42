"""Compare's form for ensembles: what it asks for, what it makes, and what it says when it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from fer.errors import FerError
from fer.runs import RunStore
from fer.ui import ensemble


@pytest.fixture
def page(open_page, add_run) -> AppTest:
    for run_id, top in (("a", 0.4), ("b", 0.5), ("c", 0.3)):
        add_run(run_id, [top])
        if run_id != "c":
            (RunStore().folder(run_id) / "best.safetensors").write_bytes(b"weights")
    return open_page("compare", run=["a", "b", "c"])


def test_the_chosen_runs_with_weights_become_a_run(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def answer(*arguments: str, seconds: float) -> dict[str, Any]:
        asked.append(arguments)
        return {"run": "<both>", "val_top1": 0.612}

    monkeypatch.setattr(ensemble, "core_do", answer)
    page.text_input(key="ensemble-id").set_value("both")
    assert page.button(key="ensemble-make").label == "Make an ensemble of 2"
    page.button(key="ensemble-make").click().run()
    assert not page.exception
    assert [sorted(words) for words in asked] == [["--run-id=both", "a", "b", "ensemble"]]
    assert any("val top-1 61.20 %" in s.value and "<both>" not in s.value for s in page.success)


def test_what_goes_wrong_is_said(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: str, seconds: float) -> None:
        raise FerError("There is a run 'both' already.")

    monkeypatch.setattr(ensemble, "core_do", fails)
    page.button(key="ensemble-make").click().run()
    assert any("There is a run" in e.value and "already" in e.value for e in page.error)
    assert not page.success


def test_one_run_with_weights_is_not_enough(page: AppTest, open_page) -> None:
    alone = open_page("compare", run=["a", "c"])
    assert any("at least two runs with weights" in c.value for c in alone.caption)
    assert "ensemble-make" not in [b.key for b in alone.button]
