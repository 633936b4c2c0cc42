"""Story: compare the study's four by a link, pin the baseline, group seeds, read the verdict, take numbers and report away."""

import csv
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fer.experiments import best_top1, groups
from fer.files import write_json_atomic
from fer.runs import RunStore, hold
from fer.verdicts import verdicts
from tests.e2e.conftest import Server
from tests.made_runs import write_run

STUDY = ("baseline", "step-decay", "exponential-decay", "grouped-conv")
LINK = "&".join(f"run={name}" for name in STUDY)


def settled(page: Page) -> None:
    page.wait_for_selector('.stApp[data-test-script-state="notRunning"]')
    page.wait_for_timeout(500)


def test_a_link_opens_the_four_and_the_baseline_is_pinned_in_the_address(server: Server, page: Page) -> None:
    four = groups([RunStore(server.store).get(name) for name in STUDY])
    best = max(four, key=lambda g: best_top1(g) or 0)

    def said_against(baseline: str) -> str:
        """The verdict on step decay."""
        found = verdicts(next(g for g in four if g.key == baseline), four)
        return next(v.sentence for v in found if v.name == "step-decay")

    page.goto(f"{server.url}/compare?{LINK}")
    expect(
        page.get_by_text(f"{best.label} reaches the highest val top-1: {100 * (best_top1(best) or 0):.2f} %")
    ).to_be_visible()
    expect(page.get_by_text(said_against("baseline"))).to_be_visible()
    page.get_by_label("Baseline", exact=True).first.click()
    page.get_by_role("option", name="grouped-conv").click()
    expect(page).to_have_url(re.compile("baseline=grouped-conv"))
    expect(page.get_by_text(said_against("grouped-conv"))).to_be_visible()
    settled(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_text(said_against("grouped-conv"))).to_be_visible()
    page.go_back()
    expect(page).to_have_url(re.compile("baseline=baseline"))
    expect(page.get_by_text(said_against("baseline"))).to_be_visible()
    settled(page)
    expect(page).to_have_url(re.compile("baseline=baseline"))


def test_what_the_page_opens_on_is_one_entry_of_the_history(server: Server, page: Page) -> None:
    page.goto(server.url)
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    settled(page)
    entries = page.evaluate("history.length")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Compare").click()
    expect(page).to_have_url(re.compile("/compare\\?run=.*&baseline=baseline"))
    settled(page)
    assert page.evaluate("history.length") == entries + 2, "the page, and what it shows"
    page.go_back()
    settled(page)
    page.go_back()
    expect(page).to_have_url(re.compile(f"{server.url}/?$"))


def test_coming_back_shows_what_was_compared_before(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/compare?run=step-decay&run=grouped-conv&baseline=step-decay&part=What+the+curves+say")
    settled(page)
    menu, runs = page.get_by_test_id("stSidebar"), page.get_by_test_id("stMultiSelect").first
    shown = re.compile("/compare\\?(?!.*(clone|set=|exponential)).*run=step-decay&run=grouped-conv")
    page.get_by_role("link", name=re.compile("^Try: ")).first.click()
    expect(page).to_have_url(re.compile("/train"))
    settled(page)
    page.go_back()
    expect(page).to_have_url(shown)
    settled(page)
    expect(page).to_have_url(shown)
    expect(page.get_by_role("tab", name="What the curves say")).to_have_attribute("aria-selected", "true")
    menu.get_by_role("link", name="Evaluate").click()
    expect(page).to_have_url(re.compile("/evaluate"))
    settled(page)
    menu.get_by_role("link", name="Compare").click()
    expect(page).to_have_url(shown)
    settled(page)
    for name in ("step-decay", "grouped-conv"):
        expect(runs.get_by_text(name, exact=True)).to_be_visible()


def test_the_csv_holds_what_metrics_jsonl_holds(server: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"{server.url}/compare?{LINK}")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Top-1 as CSV").click()
    download.value.save_as(tmp_path / "top1.csv")
    rows = list(csv.DictReader((tmp_path / "top1.csv").read_text("utf-8-sig").splitlines()))
    for name in STUDY:
        metrics = [json.loads(line) for line in (server.store / name / "metrics.jsonl").read_text().splitlines()]
        mine = [r for r in rows if r["run"] == name]
        assert [float(r["val_top1"]) for r in mine] == [m["val_top1"] for m in metrics]
        assert [float(r["train_top1"]) for r in mine] == [m["train_top1"] for m in metrics]


def test_the_report_is_downloaded_and_opens_from_disk_without_a_network(
    server: Server, page: Page, browser: Browser, tmp_path: Path
) -> None:
    page.goto(f"{server.url}/compare?{LINK}&baseline=grouped-conv")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML report").click()
    assert download.value.suggested_filename == "fer-lab-report.html"
    download.value.save_as(tmp_path / "report.html")
    context = browser.new_context(offline=True)
    report, asked, said = context.new_page(), [], []
    report.on("request", lambda r: asked.append(r.url))
    report.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    report.on("pageerror", lambda e: said.append(str(e)))
    report.goto((tmp_path / "report.html").as_uri())
    expect(report.get_by_role("heading", name="Comparison with grouped-conv")).to_be_visible()
    report.wait_for_function("document.querySelectorAll('.chart.js-plotly-plot').length === 6")
    drawn = "g => g.data.filter(t => t.mode === 'lines+markers').map(t => [t.name, Math.max(...t.y)])"
    tops = dict(report.locator("#chart-top1").evaluate(drawn))
    for name in STUDY:
        lines = (server.store / name / "metrics.jsonl").read_text().splitlines()
        assert tops[name] == pytest.approx(100 * max(json.loads(line)["val_top1"] for line in lines))
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert said == []
    context.close()


def test_the_table_of_figures_is_that_of_metrics_jsonl(server: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"{server.url}/compare?{LINK}")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV", exact=True).click()
    download.value.save_as(tmp_path / "figures.csv")
    rows = {r["id"]: r for r in csv.DictReader((tmp_path / "figures.csv").read_text("utf-8-sig").splitlines())}
    assert list(rows) == list(STUDY)
    for name, row in rows.items():
        metrics = [json.loads(line) for line in (server.store / name / "metrics.jsonl").read_text().splitlines()]
        best = max(metrics, key=lambda m: m["val_top1"])
        assert (float(row["best_val_top1"]), int(row["best_epoch"])) == (best["val_top1"], best["epoch"])
        assert float(row["last_val_top1"]) == metrics[-1]["val_top1"]
        assert float(row["gap_at_best"]) == best["train_top1"] - best["val_top1"]


@pytest.fixture
def seeds(server: Server) -> str:
    """Three seeds each of two recipes, one of them better; the link to them."""
    store, ids = RunStore(server.store), []
    for recipe, lift in (("plateau", 0.0), ("cosine", 0.05)):
        for seed in range(3):
            ids.append(f"{recipe}-s{seed}")
            top = 0.5 + lift + 0.002 * seed
            write_run(store, ids[-1], [{"val_top1": top - 0.1}, {"val_top1": top}], recipe=recipe, seed=seed)
    return "&".join(f"run={i}" for i in ids)


def test_seeds_together_give_a_verdict_on_the_recipes(server: Server, page: Page, seeds: str) -> None:
    page.goto(f"{server.url}/compare?{seeds}&rows=Single+runs")
    expect(page.get_by_text(re.compile("cosine-s2 reaches the highest")).first).to_be_visible()
    page.get_by_role("radio", name="Seeds together").or_(
        page.get_by_test_id("stBaseButton-segmented_control").filter(has_text="Seeds together")
    ).first.click()
    expect(page.get_by_text("cosine reaches the highest val top-1: 55.20 % (mean of 3 seeds)")).to_be_visible()
    expect(page.get_by_text(re.compile("cosine beats plateau by 5.00 points.*more than noise"))).to_be_visible()


def test_the_address_holds_every_choice_of_the_view(server: Server, page: Page, seeds: str) -> None:
    page.goto(f"{server.url}/compare?{seeds}")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    settled(page)
    for choice in ("Macro F1", "Axes and smoothing", "Wall time", "Log", "Min to max"):
        page.get_by_role("button", name=choice, exact=True).or_(
            page.get_by_role("radio", name=choice, exact=True)
        ).first.click()
        settled(page)
    page.get_by_text("Show the single runs behind the mean").click()
    settled(page)
    page.get_by_role("slider").press("ArrowRight")
    settled(page)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Settings").click()
    page.get_by_text("Show all settings").click()
    settled(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_test_id("stPlotlyChart").first).to_be_visible()
    settled(other)
    drawn = """() => { const g = document.querySelector('.js-plotly-plot');
        return [g.layout.title.text, g.layout.yaxis.type, g.layout.xaxis.title.text, g.data.map(t => t.name)]; }"""
    title, scale, against, traces = other.evaluate(drawn)
    assert (title, scale, against) == ("Macro F1 on val, %", "log", "s of training")
    assert {name: traces.count(name) for name in ("band", "one run", "raw")} == {"band": 2, "one run": 6, "raw": 2}
    assert other.evaluate(drawn) == page.evaluate(drawn)
    expect(other.get_by_role("tab", name="Settings")).to_have_attribute("aria-selected", "true")
    expect(other.get_by_role("switch", name="Show all settings")).to_be_checked()


def test_a_live_curve_moves_and_its_zoom_stays(server: Server, page: Page) -> None:
    store = RunStore(server.store)
    write_run(store, "live", [{"val_top1": 0.3}, {"val_top1": 0.4}], state="queued", train__epochs=9)
    with hold(store.folder("live") / "run.lock"):
        store.write_status("live", {"state": "running", "epoch": 2, "steps_per_epoch": 10})
        page.goto(f"{server.url}/compare?run=live&run=baseline&curves=Macro+F1")
        expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
        settled(page)
        graph = "document.querySelector('.js-plotly-plot')"
        page.evaluate(f"window.Plotly.relayout({graph}, {{'xaxis.range': [1, 4], 'yaxis.range': [20, 60]}})")
        page.evaluate(f"{graph}.dataset.mine = 'the same element'")
        row = {"epoch": 3, "lr": 0.001, "train_loss": 1, "train_top1": 0.5, "val_loss": 1.3, "val_top1": 0.55}
        store.append_metrics("live", {**row, "val_macro_f1": 0.51, "epoch_seconds": 20.0})
        page.wait_for_function(f"{graph}.data.some(t => t.y.some(y => Math.abs(y - 51) < 1e-6))", timeout=30_000)
        settled(page)
        state = page.evaluate(f"[{graph}.layout.xaxis.range, {graph}.layout.yaxis.range, {graph}.dataset.mine]")
        assert state == [[1, 4], [20, 60], "the same element"]
        write_json_atomic(store.folder("live") / "status.json", {"schema": 1, "state": "finished", "epoch": 3})
