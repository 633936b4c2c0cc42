"""Story: ten people look around at once while a network trains, two of them in real browsers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load import measure
from tests.e2e.install_browser import find_browser

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


def test_many_visitors_meet_no_exception_while_a_network_trains(tmp_path: Path) -> None:
    """Seconds and memory belong to the benchmark, which has the machine to itself."""
    found = measure(tmp_path, sessions=10, browsers=2 if find_browser() else 0, seconds=30, runs=60)
    assert (found["exceptions"], found["left"], found["log"]) == ([], [], [])
    assert found["scripts"] >= 10
    assert found["browser_clicks"] or not find_browser()
    assert (found["training_state"], found["training_steps"] > 0) == ("running", True)
