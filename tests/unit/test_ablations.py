"""The ablation benchmark: what it would train, in which order, and what it makes of runs that are there."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import ablations
from benchmarks.ablations import MATTER, NOT_ALONE, alone, plan, table
from fer.recipes import RECIPES, STUDY
from tests.conftest import tiny_config


def test_every_recipe_is_either_trained_alone_or_named_as_a_mixture():
    assert set(alone()) | set(NOT_ALONE) == set(RECIPES)
    assert set(alone()).isdisjoint(NOT_ALONE)
    assert tuple(alone()[:4]) == STUDY
    assert set(MATTER) < set(alone())


def test_one_seed_of_each_comes_before_more_of_those_that_matter():
    planned = list(plan(alone(), 3))
    assert planned[: len(alone())] == [(name, 0) for name in alone()]
    assert len(planned) == len(alone()) + 2 * 9
    assert {name for name, seed in planned if seed == 2} == {*STUDY, *MATTER}
    assert list(plan(["dropout"], 1)) == [("dropout", 0)]


def test_the_table_has_a_row_for_each_recipe_with_mean_and_spread(finished_run):
    rows = [dict(row, val_top1=0.7, epoch_seconds=60.0) for row in finished_run.metrics]
    second = dataclasses.replace(finished_run, id="second", metrics=tuple(rows))
    other = dataclasses.replace(second, id="other", record={**second.record, "recipe": "dropout"})
    waits = dataclasses.replace(second, id="waits", state="stopped")
    found = {row["recipe"]: row for row in table([finished_run, second, other, waits])}
    first = finished_run.best["val_top1"]
    assert found["baseline"]["n"] == 2
    assert found["baseline"]["mean_top1"] == pytest.approx((first + 0.7) / 2)
    assert found["baseline"]["std_top1"] == pytest.approx(abs(first - 0.7) / 2**0.5)
    assert (found["dropout"]["n"], found["dropout"]["std_top1"], found["dropout"]["minutes"]) == (1, None, 3.0)
    assert found["dropout"]["num_params"] == 423_751


def test_a_store_of_other_data_is_not_taken_for_what_was_asked(store, make_run, monkeypatch):
    make_run("baseline-e3-s0", data__name="tiny")
    with pytest.raises(SystemExit, match="was trained on 'tiny', not on 'sample'"):
        ablations._train(store, "baseline", tiny_config(data__name="sample"), until=0.0)
