"""Story: the dashboard is killed while a run trains; the run goes on, and a new dashboard shows it live."""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from fer.runs import RunStore
from tests.e2e.conftest import Server, start_server


def test_a_run_outlives_the_server(server: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"{server.url}/train?recipe=baseline")
    _choose_sample(page)
    page.get_by_role("button", name=re.compile("^.*Launch 1 run")).click()
    page.wait_for_timeout(2000)
    store = RunStore(server.store)
    (run_id,) = [i for i in store.ids() if i not in store.shipped()]
    page.goto(f"{server.url}/runs?run={run_id}")
    expect(page.locator(".stMarkdownBadge", has_text="running")).to_be_visible(timeout=60_000)

    server.kill()
    steps = _steps(store, run_id)
    again = start_server(server.store, server.data, tmp_path / "second.log")
    try:
        page.goto(f"{again.url}/runs?run={run_id}")
        expect(page.get_by_text(re.compile(r"Epoch \d+ of 25, step"))).to_be_visible(timeout=60_000)
        for _ in range(60):
            if _steps(store, run_id) > steps:
                break
            page.wait_for_timeout(500)
        assert _steps(store, run_id) > steps
        assert store.get(run_id).state == "running"

        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".stMarkdownBadge", has_text="stopped")).to_be_visible(timeout=60_000)
        assert store.get(run_id).state == "stopped"
    finally:
        if store.get(run_id).state == "running":
            subprocess.run(
                [sys.executable, "-m", "fer", "runs", "stop", run_id],
                env={"FER_RUNS_DIR": str(server.store)},
                check=False,
            )
        again.process.terminate()
        again.process.wait(timeout=20)


def _steps(store: RunStore, run_id: str) -> int:
    status = store.get(run_id).status
    return status.get("epoch", 0) * status.get("steps_per_epoch", 0) + status.get("step", 0)


def _choose_sample(page: Page) -> None:
    page.get_by_label("Data set", exact=True).first.click()
    page.get_by_role("option", name=re.compile("^sample")).click()
