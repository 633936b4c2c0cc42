"""The benchmark that kills: a short one, and that it would see a difference and a damaged file."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.kill_resume import damage, differences, measure
from tests.conftest import tiny_config


@pytest.mark.timeout(480)
def test_runs_killed_at_random_moments_end_as_the_undisturbed_one(store, tiny):
    config = tiny_config(model__name="compact", model__width=0.25, train__ema_decay=0.9, augment__flip=True)
    found = measure(store, config, kills=3, seed=1)
    assert found["kills"] == 3
    assert sum(found["killed_when"].values()) == 3
    assert (found["damaged"], found["different"]) == ([], [])


def test_a_damaged_file_and_a_different_run_are_seen(store, finished_run):
    assert damage(finished_run) == []
    assert differences(finished_run, finished_run) == []
    shutil.copytree(finished_run.path, store.root / "other")
    (store.root / "other" / "resume.pt").write_bytes(b"PK")
    lines = (store.root / "other" / "metrics.jsonl").read_text().splitlines()
    (store.root / "other" / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])
    other = store.get("other")
    (problem,) = damage(other)
    assert problem.startswith("other: resume.pt: ")
    assert differences(other, finished_run) == ["other: metrics"]
