"""A teacher shows a class the runs, and nobody may start anything; a lab asks for a login first."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECRETS = """
[auth]
redirect_uri = "http://127.0.0.1:8501/oauth2callback"
cookie_secret = "a-secret-of-this-test-that-is-long-enough"
client_id = "fer"
client_secret = "none"
server_metadata_url = "http://127.0.0.1:9/.well-known/openid-configuration"
[fer]
may_launch = ["ana@example.org"]
"""


@pytest.fixture
def serve(folders, tmp_path):
    """`serve()`: a dashboard with the environment of the moment; ended after the test, its log looked at."""
    started = []

    def start(log: str = "server.log"):
        started.append((start_server(*folders, tmp_path / log), tmp_path / log))
        return started[-1][0]

    yield start
    for server, log in started:
        server.process.terminate()
        server.process.wait(timeout=20)
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


def test_read_only_shows_runs_and_offers_no_change(serve, page: Page, monkeypatch) -> None:
    monkeypatch.setenv("FER_READ_ONLY", "1")
    server = serve()
    before = sorted(p for p in server.store.rglob("*"))
    page.goto(f"{server.url}/runs?run=baseline")
    expect(page.get_by_test_id("stMetric").first).to_be_visible()
    expect(page.get_by_text("Only looking.").first).to_be_visible()
    for label in ("Archive", "More", "Delete", "Resume", "Clone"):
        expect(page.get_by_text(label, exact=True)).to_have_count(0)
    page.goto(f"{server.url}/compare")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    expect(page.get_by_text("Rename, tag, pin, delete", exact=True)).to_have_count(0)
    assert sorted(p for p in server.store.rglob("*")) == before


def test_a_deep_link_to_train_into_a_cold_server_that_is_read_only_launches_nothing(
    serve, page: Page, monkeypatch
) -> None:
    monkeypatch.setenv("FER_READ_ONLY", "1")
    server = serve()
    page.goto(f"{server.url}/train?clone=baseline&set=train.epochs=1")
    expect(page.get_by_text("Nothing can be launched from here.").first).to_be_visible()
    expect(page.get_by_role("button", name="Launch")).to_have_count(0)
    assert not (server.store / ".worker.log").exists()


@pytest.mark.parametrize(
    "link", ["compare?run=baseline&run=step-decay", "train?clone=baseline", "predict?run=baseline"]
)
def test_a_deep_link_into_a_cold_server_meets_the_login_first(
    serve, page: Page, tmp_path, monkeypatch, link: str
) -> None:
    (tmp_path / "secrets.toml").write_text(SECRETS)
    monkeypatch.setenv("STREAMLIT_SECRETS_FILES", str(tmp_path / "secrets.toml"))
    server = serve()
    page.goto(f"{server.url}/{link}")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_text("baseline")).to_have_count(0)
    expect(page.get_by_text("Predict", exact=True)).to_have_count(0)
