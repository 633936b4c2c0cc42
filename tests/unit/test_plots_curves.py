"""Curves: what is drawn, in which colour, and what the hover box and the legend say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fer.plots import curves
from fer.plots.style import recipe_colour


@dataclass(frozen=True)
class Record:
    """A run as the figures see it."""

    name: str
    recipe: str
    metrics: tuple[dict[str, float], ...]


def record(name: str, tops: list[float], recipe: str = "baseline") -> Record:
    rows = [
        {
            "epoch": e,
            "lr": 0.001 / e,
            "train_loss": 2 / e,
            "train_top1": 0.5 + e / 20,
            "val_loss": 1.0 + e / 10,
            "val_top1": top,
            "val_macro_f1": top - 0.1,
        }
        for e, top in enumerate(tops, 1)
    ]
    return Record(name, recipe, tuple(rows))


def named(figure, name: str) -> list:
    return [t for t in figure.data if t.name == name]


def test_val_is_solid_and_train_dashed_in_the_colour_of_the_recipe() -> None:
    figure = curves.metric_curves([record("mine", [0.2, 0.4, 0.3])], "top1", dark=False)
    train, val, star = figure.data
    assert train.line.dash == "dash" and val.line.dash is None
    assert train.line.color == val.line.color == star.marker.color == recipe_colour("baseline")
    assert list(val.y) == pytest.approx([20, 40, 30])
    assert list(train.y) == pytest.approx([55, 60, 65])


def test_star_marks_the_best_epoch_in_every_metric() -> None:
    run = record("mine", [0.2, 0.4, 0.4])
    for metric, expected in (("top1", 40.0), ("loss", 1.2), ("macro_f1", 30.0)):
        star = curves.metric_curves([run], metric, dark=True).data[-1]
        assert (star.x, star.marker.symbol) == ((2,), "star")
        assert star.y[0] == pytest.approx(expected)


def test_learning_rate_has_one_line_and_no_star() -> None:
    (line,) = curves.metric_curves([record("mine", [0.2, 0.4])], "lr", dark=False).data
    assert list(line.y) == pytest.approx([0.001, 0.0005])


def test_hover_box_has_one_row_a_run_with_val_and_train() -> None:
    figure = curves.metric_curves([record("a", [0.2]), record("b", [0.3], "cosine")], "loss", dark=False)
    assert figure.layout.hovermode == "x unified"
    rows = [t for t in figure.data if t.hoverinfo != "skip"]
    assert [t.meta for t in rows] == ["a", "b"]
    assert all("train %{customdata" in t.hovertemplate for t in rows)
    assert rows[0].customdata[0] == 2.0


def test_second_run_of_a_recipe_is_lighter_and_has_another_symbol() -> None:
    first, other, second = curves.marks([record("a", []), record("b", [], "cosine"), record("c", [])])
    assert first.colour == recipe_colour("baseline") and other.colour == recipe_colour("cosine")
    assert int(second.colour[1:3], 16) > int(first.colour[1:3], 16)
    assert first.symbol == other.symbol == "circle" != second.symbol


def test_run_without_an_epoch_is_left_out_and_the_others_keep_their_colour() -> None:
    runs = [record("waiting", []), record("done", [0.2])]
    figure = curves.metric_curves(runs, "top1", dark=False)
    assert {t.legendgroup for t in figure.data} == {"done"}
    assert figure.data[0].line.color == curves.marks(runs)[1].colour


def test_long_name_is_cut_in_the_legend_and_whole_in_the_hover_box() -> None:
    name = "a name that nobody would give to a run unless they wanted to see what breaks"
    figure = curves.metric_curves([record(name, [0.2, 0.3])], "top1", dark=False)
    (shown,) = [t for t in figure.data if t.showlegend]
    assert len(shown.name) == 28 and "…" in shown.name and shown.name.endswith(name[-9:])
    assert shown.meta.replace("<br>", " ") == name


def test_markup_in_a_name_is_text() -> None:
    figure = curves.metric_curves([record("<b>x</b>", [0.2, 0.3])], "top1", dark=False)
    (shown,) = [t for t in figure.data if t.showlegend]
    assert shown.name == shown.meta == "&lt;b&gt;x&lt;/b&gt;"


def test_legend_stands_below_the_plot_or_not_at_all() -> None:
    run = record("mine", [0.2, 0.3])
    legend = curves.metric_curves([run], "top1", dark=False).layout.legend
    assert legend.y < 0 and legend.yanchor == "top"
    assert curves.metric_curves([run], "top1", dark=False, legend=False).layout.showlegend is False


def test_small_multiples_share_axes_that_hold_every_value() -> None:
    runs = [record("low", [0.1, 0.2]), record("high", [0.5, 0.9], "cosine"), record("waiting", [])]
    figures = curves.small_multiples(runs, ("loss", "top1"), dark=False)
    assert len(figures) == 3
    assert len({(f.layout.xaxis.range, f.layout.yaxis.range, f.layout.yaxis2.range) for f in figures}) == 1
    low, high = figures[0].layout.yaxis2.range
    assert low < 10 and high > 90
    assert not figures[2].data


def test_single_metric_makes_one_panel() -> None:
    (figure,) = curves.small_multiples([record("a", [0.1, 0.2])], ("lr",), dark=False)
    assert [t.name for t in figure.data] == ["val"]
    assert "yaxis2" not in figure.layout


def test_run_curves_shows_loss_and_top1_and_keeps_its_zoom() -> None:
    early = curves.run_curves(record("live", [0.1]), False)
    later = curves.run_curves(record("live", [0.1, 0.2, 0.5]), False)
    assert early.layout.uirevision == later.layout.uirevision is not None
    assert early.layout.xaxis.range is None and later.layout.yaxis.range is None
    assert [t.name for t in later.data if t.showlegend] == ["train", "val", "best epoch"]
    assert list(named(later, "val")[0].y) == pytest.approx([1.1, 1.2, 1.3])
    assert list(named(later, "val")[1].y) == pytest.approx([10, 20, 50])


def test_run_without_an_epoch_gives_empty_axes() -> None:
    assert not curves.run_curves(record("waiting", []), True).data


def test_one_epoch_can_be_seen() -> None:
    train, val, _star = curves.metric_curves([record("mine", [0.2])], "loss", dark=False).data
    assert "markers" in train.mode and "markers" in val.mode


def test_in_words_says_where_each_curve_begins_peaks_and_ends() -> None:
    text = curves.in_words([record("mine", [0.2, 0.4, 0.3]), record("waiting", [])], "top1")
    assert "mine: 20.00 % in epoch 1, 30.00 % in epoch 3, 40.00 % in its best epoch 2, train 65.00 % at the end" in text
    assert "waiting" not in text
