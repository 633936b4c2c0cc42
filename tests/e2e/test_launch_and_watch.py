"""Story: launch three epochs on the sample faces, watch them, compare the result with a run that came with the project."""

import re

from playwright.sync_api import Page, expect

from fer.runs import RunStore
from tests.e2e.conftest import Server


def test_launch_watch_and_compare(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/train?recipe=step-decay")
    _choose(page, "Data set", "sample")
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill("3")
    epochs.press("Enter")
    expect(page.get_by_text("--set train.epochs=3")).to_be_visible()
    page.get_by_role("button", name=re.compile("^.*Launch 1 run")).click()

    store = RunStore(server.store)
    page.wait_for_timeout(2000)
    (run_id,) = [i for i in store.ids() if i not in store.shipped()]
    page.goto(f"{server.url}/runs?run={run_id}")
    expect(page.get_by_text(re.compile(r"Epoch \d of 3, step|Waiting for its turn"))).to_be_visible(timeout=60_000)
    expect(page.locator(".stMarkdownBadge", has_text="running")).to_be_visible(timeout=60_000)
    expect(page.locator(".stMarkdownBadge", has_text="finished")).to_be_visible(timeout=180_000)

    metrics = store.get(run_id).metrics
    assert [m["epoch"] for m in metrics] == [1, 2, 3]
    best = max(m["val_top1"] for m in metrics)
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{100 * best:.2f} %")

    page.goto(f"{server.url}/compare?run={run_id}&run=baseline")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    expect(page.get_by_text("Synthetic", exact=False).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def _choose(page: Page, label: str, option: str) -> None:
    """Choose from a select box by what the option begins with."""
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=re.compile(f"^{option}")).click()
