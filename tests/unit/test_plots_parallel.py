"""Parallel coordinates: an axis for each setting that differs, the result last, nothing where there is nothing to see."""

import pytest

from fer.plots.parallel import RESULT, parallel_coordinates

TOPS = [0.5, 0.51, 0.52, 0.53, 0.54, 0.55]


def test_settings_that_differ_have_an_axis_and_the_result_stands_last() -> None:
    settings = {
        "lr": [0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
        "schedule": ["step", None, "step", None, "step", None],
        "same": [1] * 6,
    }
    figure = parallel_coordinates(settings, TOPS, dark=False)
    axes = figure.data[0].dimensions
    assert [a.label for a in axes] == ["lr", "schedule", RESULT], "what the result goes with most comes first"
    assert list(axes[0].ticktext) == ["0.01", "0.1"] and list(axes[1].ticktext) == ["None", "step"]
    assert list(axes[1].values) == [1, 0, 1, 0, 1, 0]
    assert list(axes[2].values) == pytest.approx([50, 51, 52, 53, 54, 55])


def test_a_run_without_a_figure_is_left_out_and_too_few_give_no_figure() -> None:
    settings = {"lr": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]}
    figure = parallel_coordinates(settings, [*TOPS, None], dark=True)
    assert len(figure.data[0].dimensions[0].values) == 6
    assert parallel_coordinates(settings, [*TOPS[:5], None, None], dark=True) is None
    assert parallel_coordinates({"lr": [1.0] * 6}, TOPS, dark=True) is None
