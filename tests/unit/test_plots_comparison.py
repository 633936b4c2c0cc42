"""Differences between groups, drawn with their intervals."""

from __future__ import annotations

import pytest

from fer.plots.comparison import differences, differences_in_words, numbers
from fer.verdicts import Verdict


def test_differences_on_test_say_so() -> None:
    on = {
        s: [Verdict("recipes", "a", "base", "s1.", difference=0.02, interval=(0.01, 0.03), split=s)]
        for s in ("val", "test")
    }
    titles = {split: differences(found, dark=False).layout.xaxis.title.text for split, found in on.items()}
    assert titles == {"val": "top-1 against base, points", "test": "top-1 on test against base, points"}
    assert differences_in_words(on["test"]).startswith("Differences in top-1 on test with 95 % intervals.")


def test_differences_show_what_is_real_by_more_than_colour() -> None:
    real = Verdict("recipes", "a<b>", "base", "s1.", difference=0.02, interval=(0.01, 0.03), is_real=True)
    noise = Verdict("networks", "c", "base", "s2.", difference=-0.01, interval=(-0.03, 0.01))
    figure = differences([real, noise, Verdict("refused", "d", "base", "s3.")], dark=False)
    assert [t.marker.symbol for t in figure.data] == ["circle-open", "circle"]
    first = figure.data[1]
    assert (first.x[0], first.error_x.array[0], first.error_x.arrayminus[0]) == pytest.approx((2, 1, 1))
    assert figure.layout.yaxis.ticktext == ("c", "a&lt;b&gt;")
    assert differences_in_words([real, noise]).endswith("s1. s2.")


def test_the_numbers_are_of_every_verdict_refused_ones_too() -> None:
    real = Verdict("recipes", "a", "base", "s1.", difference=0.02, interval=(0.01, 0.03), p=0.01, n=3, is_real=True)
    first, second = numbers([real, Verdict("refused", "d", "base", "No verdict.")])
    assert (first["difference"], first["low"], first["high"], first["n"]) == (0.02, 0.01, 0.03, 3)
    assert (second["kind"], second["difference"], second["low"]) == ("refused", None, None)
    assert second["sentence"] == "No verdict."
