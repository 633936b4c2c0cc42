"""Groups drawn: the mean through all seeds, the band behind it, and differences with intervals."""

from __future__ import annotations

import pytest

from fer.experiments import groups
from fer.plots.comparison import differences, differences_in_words, group_curves, mean_of
from fer.runs import RunStore
from fer.verdicts import Verdict
from tests.made_runs import write_run

TOPS = ([0.3, 0.5], [0.5, 0.6], [0.4])


def seeds(store: RunStore):
    made = [
        write_run(store, f"s{s}", [{"val_top1": t} for t in tops], seed=s, train__epochs=2)
        for s, tops in enumerate(TOPS)
    ]
    return groups(made)


def test_the_mean_is_over_the_seeds_that_reached_an_epoch(store: RunStore) -> None:
    mean = mean_of(seeds(store)[0])
    assert [r["val_top1"] for r in mean.metrics] == pytest.approx([0.4, 0.55])
    assert mean.name.endswith("(mean of 3 seeds)")


def test_the_band_lies_behind_the_mean(store: RunStore) -> None:
    figure = group_curves(seeds(store), "top1", dark=False, kind="range")
    shade, *lines = figure.data
    assert shade.fill == "toself"
    assert list(shade.y) == pytest.approx([50, 60, 50, 30])
    assert [line.name for line in lines].count("train") == 1
    assert list(next(t for t in lines if t.mode == "lines+markers").y) == pytest.approx([40, 55])


def test_one_run_has_no_band(store: RunStore) -> None:
    figure = group_curves(groups([write_run(store, "a", [{}, {}])]), "loss", dark=True)
    assert not any(t.fill for t in figure.data)


def test_differences_show_what_is_real_by_more_than_colour() -> None:
    real = Verdict("recipes", "a<b>", "base", "s1.", difference=0.02, interval=(0.01, 0.03), is_real=True)
    noise = Verdict("networks", "c", "base", "s2.", difference=-0.01, interval=(-0.03, 0.01))
    figure = differences([real, noise, Verdict("refused", "d", "base", "s3.")], dark=False)
    assert [t.marker.symbol for t in figure.data] == ["circle-open", "circle"]
    first = figure.data[1]
    assert (first.x[0], first.error_x.array[0], first.error_x.arrayminus[0]) == pytest.approx((2, 1, 1))
    assert figure.layout.yaxis.ticktext == ("c", "a&lt;b&gt;")
    assert differences_in_words([real, noise]).endswith("s1. s2.")
