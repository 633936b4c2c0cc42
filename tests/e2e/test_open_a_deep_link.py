"""Story: a link to a page is the very first request that a new server sees."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server


def test_compare_link_opens_cold_with_the_chosen_runs(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/compare?run=baseline&run=step-decay")
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    expect(page.get_by_text("grouped-conv", exact=True)).to_have_count(0)
    assert "run=baseline" in page.url and "run=step-decay" in page.url


@pytest.mark.parametrize("path", ["data", "train", "runs", "compare", "evaluate", "predict"])
def test_every_page_opens_with_our_menu_and_no_error(server: Server, page: Page, path: str) -> None:
    page.goto(f"{server.url}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(path.capitalize())
    expect(page.get_by_test_id("stSidebar").get_by_text("Predict")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)


@pytest.mark.parametrize("path", ["", "data", "train", "runs", "compare", "evaluate", "predict"])
def test_nothing_is_cut_on_a_phone(server: Server, page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{server.url}/{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.wait_for_timeout(1500)
    wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert wide <= 391, f"the page is {wide} pixels wide on a screen of 390"


def test_a_link_on_a_page_opens_its_run_after_others_were_looked_at(server: Server, page: Page) -> None:
    (server.store / ".paused").touch()  # so that what is launched only waits
    page.goto(f"{server.url}/runs?run=baseline")
    expect(page.get_by_role("heading", name="baseline", exact=True)).to_be_visible()
    page.get_by_label("Details of").click()
    page.get_by_role("option", name=re.compile("^step-decay")).click()
    expect(page.get_by_role("heading", name="step-decay", exact=True)).to_be_visible()
    expect(page).to_have_url(f"{server.url}/runs?run=step-decay")
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_role("button", name=re.compile("Launch 1 run")).click()
    link = page.get_by_role("link", name=re.compile("Watch"))
    run_id = link.inner_text().split()[-1]
    link.click()
    expect(page.get_by_role("heading", name=run_id, exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="step-decay", exact=True)).to_be_visible()
