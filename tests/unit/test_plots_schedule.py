"""The learning-rate curves say what the schedule says."""

import pytest

from fer.config import Config, with_settings
from fer.plots.schedule import curve, lr_curves
from fer.recipes import RECIPES
from fer.schedules import lr_at

STEPS = 7


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_point_is_the_rate_of_its_step(recipe):
    config = RECIPES[recipe].config()
    epochs, rates = curve(config, STEPS)
    assert epochs[0] == 0 and epochs[-1] == config.train.epochs
    assert epochs == sorted(epochs)
    for epoch, rate in list(zip(epochs, rates, strict=True))[:-1]:
        assert rate == lr_at(config, round(epoch * STEPS), STEPS)


def test_a_cut_is_drawn_within_one_step():
    config = RECIPES["step-decay"].config()
    epochs, rates = curve(config, 400)
    before, after = epochs.index(5 - 1 / 400), epochs.index(5.0)
    assert (rates[before], rates[after]) == (0.001, 0.0005)


def test_a_long_run_stays_light():
    config = with_settings(Config(), {"train.epochs": 10_000, "schedule.name": "cosine"})
    assert len(curve(config, 449)[0]) < 1500


def test_one_curve_needs_no_legend_and_several_do():
    one = {"Baseline CNN": ("baseline", RECIPES["baseline"].config())}
    two = {**one, "Plateau": ("plateau", RECIPES["plateau"].config())}
    steps = dict.fromkeys(two, STEPS)
    assert lr_curves(one, steps, dark=False).layout.showlegend is False
    figure = lr_curves(two, steps, dark=True)
    assert figure.layout.showlegend is True
    assert [trace.name for trace in figure.data] == ["Baseline CNN", "Plateau"]
    assert figure.data[1].line.dash == "dash"
