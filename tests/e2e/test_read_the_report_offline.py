"""Story: a report is opened from disk with the network off, on a desktop and on a phone, and printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from fer.report import as_html, compare
from fer.runs import RunStore
from tests.e2e.conftest import ROOT
from tests.made_runs import write_run

EVIL = "</script><img src=x onerror='document.title=\"taken\"'>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's four, and a run whose name tries to run."""
    folder = tmp_path_factory.mktemp("report")
    shipped = RunStore(ROOT / "checkpoints")
    runs = [shipped.get(r) for r in ("baseline", "step-decay", "exponential-decay", "grouped-conv")]
    rows = [{"val_top1": t} for t in (0.4, 0.5, 0.52)]
    evil = write_run(
        RunStore(folder / "runs"), "evil", rows, recipe="dropout", notes={"name": EVIL}, fingerprint=runs[0].fingerprint
    )
    file = folder / "report.html"
    file.write_text(as_html(compare([*runs, evil])), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_charts_are_drawn_and_nothing_is_cut(browser: Browser, report: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(report.as_uri())
    expect(page.locator(".chart .main-svg").first).to_be_attached()
    page.wait_for_function("document.querySelectorAll('.chart.js-plotly-plot').length === 6")
    expect(page.get_by_role("heading", name="Which differences are real?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "FER Lab: comparison with baseline"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert said == []
    context.close()


def test_it_prints(browser: Browser, report: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelectorAll('.chart.js-plotly-plot').length === 6")
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert page.evaluate("document.querySelector('details').open")
    context.close()
