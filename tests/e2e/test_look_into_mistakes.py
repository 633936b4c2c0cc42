"""Story: click a cell of the confusion matrix and see its pictures; look at the surest mistakes and the calibration."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from fer.data import dataset
from fer.data.dataset import picture_hashes
from fer.metrics import summarise
from fer.runs import RunStore
from tests.e2e.conftest import Server
from tests.made_runs import logits_of, write_run


@pytest.fixture
def evaluated(server: Server, monkeypatch: pytest.MonkeyPatch) -> int:
    """A run on the sample faces that takes every third picture for the next class; how many angry ones."""
    monkeypatch.setenv("FER_DATA_DIR", str(server.data))
    data = dataset.load("sample")
    images, labels = data.subset("val")
    right = np.arange(len(labels)) % 3 != 0
    logits = logits_of(right, labels)
    report = {**summarise(logits, labels, data.classes), "epoch": 1, "fingerprint": data.fingerprint}
    write_run(
        RunStore(server.store),
        "drawn",
        [{"val_top1": float(right.mean())}],
        fingerprint=data.fingerprint,
        logits=logits,
        labels=labels,
        hashes=picture_hashes(images),
        report=report,
        data__name="sample",
    )
    return int((~right & (labels == 0)).sum())


def test_a_click_on_a_cell_shows_its_pictures(server: Server, page: Page, evaluated: int) -> None:
    page.goto(f"{server.url}/evaluate?run=drawn")
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible()
    page.wait_for_selector('.stApp[data-test-script-state="notRunning"]')
    page.wait_for_timeout(1500)
    cell = page.evaluate(
        """() => { const g = document.querySelector('.js-plotly-plot'), box = g.getBoundingClientRect(), l = g._fullLayout;
        return [box.x + l.xaxis._offset + l.xaxis.l2p(1), box.y + l.yaxis._offset + l.yaxis.l2p(0)]; }"""
    )
    page.mouse.move(*cell)
    page.mouse.click(*cell)
    gallery = page.locator(".fer-gallery figure")
    expect(gallery).to_have_count(min(evaluated, 24))
    expect(gallery.first).to_contain_text("disgust")
    expect(gallery.first).to_contain_text("label: angry")
    assert gallery.first.locator("img").evaluate("i => i.complete && i.naturalWidth") == 48

    page.get_by_role("radio", name="By row").or_(page.get_by_role("button", name="By row")).first.click()
    expect(page.get_by_text(re.compile("\\d\u00a0%$")).first).to_be_visible()
    page.wait_for_selector('.stApp[data-test-script-state="notRunning"]')
    expect(gallery).to_have_count(min(evaluated, 24))
    expect(page).to_have_url(re.compile("cell=angry"))

    page.get_by_role("tab", name="Surest mistakes").click()
    expect(page.get_by_text("at least 90 % sure of itself").first).to_be_visible()
    page.get_by_role("tab", name="Calibration").click()
    expect(page.get_by_text("After temperature scaling", exact=True).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
