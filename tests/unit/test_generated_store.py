"""The benchmarks' generated store: whole runs, as a trainer leaves them, and the growth worked out from sizes."""

from __future__ import annotations

import pytest

from benchmarks.generated_store import write_store
from benchmarks.scaling import exponent
from fer.runs import Metrics, RunStore


def test_generated_runs_are_whole(store: RunStore) -> None:
    ids = write_store(store.root, 30, 4)
    runs = store.runs(archived=True)
    assert {r.id for r in runs} == set(ids)
    assert [(r.state, r.problems) for r in runs] == [("finished", ())] * 30
    assert all(isinstance(r.metrics, Metrics) and len(r.metrics) == 4 for r in runs)
    assert all(r.best and r.has_weights and r.report() and r.model["num_params"] for r in runs)
    assert len({r.best["val_top1"] for r in runs if r.best}) == 30


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_the_slope_of_the_logarithms(power: float) -> None:
    sizes = (10, 100, 1000)
    assert exponent(sizes, [3.0 * n**power for n in sizes]) == pytest.approx(power)
