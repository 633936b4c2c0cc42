"""What a page reads: the store once, no finished run a second time, and neither torch nor a network before it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fer import jobs, runs
from fer.errors import FerError
from fer.runs import RunStore
from fer.ui import train_preview

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("home", "data", "train", "runs", "compare", "evaluate", "predict")


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ensure_worker", lambda store: None)

    def busy(*arguments: str) -> None:
        raise FerError("This machine is busy.")

    monkeypatch.setattr(train_preview, "core_json_soon", busy)


@pytest.fixture
def three_old_runs(add_run: Callable[..., None], tiny: object) -> None:
    """Finished runs whose files were written an hour ago, so that no clock is too coarse to tell a change."""
    for name in ("a", "b", "c"):
        add_run(name, [0.3, 0.5, 0.4])
    before = time.time() - 3600
    for file in RunStore().root.rglob("*"):
        os.utime(file, (before, before))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """`count(owner, "name")`: a list that grows by one with each call of it."""

    def count_(owner: object, name: str) -> list[object]:
        real, calls = getattr(owner, name), []

        def counted(*arguments: object, **options: object) -> object:
            calls.append(arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return count_


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lists_the_store_once(page, open_page, three_old_runs, count) -> None:
    listed = count(RunStore, "runs")
    at = open_page(page)
    assert not at.exception
    assert len(listed) == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_second_look_reads_no_finished_run_again(page, open_page, three_old_runs, count) -> None:
    open_page(page)
    metrics, records, read = (count(runs, name) for name in ("_parse_metrics", "_parse_record", "_parse_json"))
    at = open_page(page)
    assert not at.exception
    assert (metrics, records, read) == ([], [], [])


def test_pages_import_no_torch(three_old_runs) -> None:
    """In an interpreter of its own, where nothing else has imported it; Evaluate and Predict before they are asked."""
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from fer.ui import train_preview\n"
        "from fer.errors import FerError\n"
        "def busy(*arguments): raise FerError('This machine is busy.')\n"
        "train_preview.core_json_soon = busy\n"
        f"for page in {PAGES}:\n"
        "    at = AppTest.from_file('streamlit_app.py', default_timeout=60)\n"
        "    at = at.run() if page == 'home' else at.switch_page(f'pages/{page}.py').run()\n"
        "    assert not at.exception and at.title, page\n"
        "    assert 'torch' not in sys.modules, page\n"
    )
    (RunStore().root / "a" / "best.safetensors").touch()  # Predict offers it, and does not read it before a photo comes
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
