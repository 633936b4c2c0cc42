"""A server of our own and a browser for each story. The store holds copies of the shipped runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from fer.data import dataset
from tests.e2e.install_browser import find_browser

ROOT = Path(__file__).resolve().parents[2]
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=60_000)


@dataclass
class Server:
    """A running dashboard: its address, its store, and its process."""

    url: str
    store: Path
    data: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """kill -9: no chance to clean up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)


def start_server(store: Path, data: Path, log: Path) -> Server:
    """Start the dashboard on a free port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "FER_RUNS_DIR": str(store), "FER_DATA_DIR": str(data)}
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return Server(url, store, data, process)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                process.wait()
                pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)


@pytest.fixture(scope="session")
def sample_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the sample faces are drawn already."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_DATA_DIR", str(folder))
        dataset.load("sample")
    return folder


@pytest.fixture
def folders(tmp_path: Path, sample_faces: Path) -> tuple[Path, Path]:
    """A store with copies of the shipped runs, and a data folder with the sample faces."""
    store, data = tmp_path / "store", sample_faces
    store.mkdir()
    for folder in (ROOT / "checkpoints").iterdir():
        if (folder / "config.json").exists() and folder.name in (
            "baseline",
            "step-decay",
            "exponential-decay",
            "grouped-conv",
        ):
            shutil.copytree(folder, store / folder.name, ignore=shutil.ignore_patterns("*.lock", "notes.json"))
    shutil.copy(ROOT / "checkpoints" / "shipped.json", store)
    return store, data


@pytest.fixture
def server(folders: tuple[Path, Path], tmp_path: Path) -> Iterator[Server]:
    """The dashboard over the shipped runs. A Python exception in its log fails the story."""
    log = tmp_path / "server.log"
    running = start_server(*folders, log)
    yield running
    running.process.terminate()
    running.process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if not path:
        if os.environ.get("FER_REQUIRE_BROWSER"):
            pytest.fail("there is no browser, and FER_REQUIRE_BROWSER is set")
        pytest.skip("there is no browser; see tests/e2e/install_browser.py")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1440x900 in a session of its own."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(90_000)
    yield context.new_page()
    context.close()
