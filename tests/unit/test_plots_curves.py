"""Curves: what is drawn, in which colour, and what the hover box and the legend say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fer.experiments import Group
from fer.plots import curves
from fer.plots.style import marks, recipe_colour
from fer.runs import RunStore
from tests.made_runs import write_run


def named(figure, name: str) -> list:
    return [t for t in figure.data if t.name == name]


def line(
    store: RunStore, name: str, seeds: dict[int, list[float]], *, recipe: str = "baseline", note: str = ""
) -> curves.Line:
    """A group of runs that differ by seed, or one run."""
    runs = [
        write_run(store, f"{name}-{s}", [{"val_top1": t, "val_loss": 2 - t} for t in tops], recipe=recipe, seed=s)
        for s, tops in seeds.items()
    ]
    group = Group(name, tuple(runs))
    return curves.Line(group, marks([(group.key, recipe)])[0], note)


def one(store: RunStore, name: str, tops: list[float], recipe: str = "baseline") -> curves.Line:
    """A single run whose losses and train figures follow from the epoch."""
    rows = [
        {"val_top1": top, "lr": 0.001 / e, "train_loss": 2 / e, "train_top1": 0.5 + e / 20, "val_loss": 1.0 + e / 10}
        for e, top in enumerate(tops, 1)
    ]
    run = write_run(store, f"r{len(store.ids())}", rows, recipe=recipe, notes={"name": name})
    return curves.Line(Group(name, (run,)), marks([(run.id, recipe)])[0])


def drawn(lines: list[curves.Line], metric: str, *, legend: bool = True):
    return curves.comparison(lines, metric, curves.View(), dark=False, legend=legend)


def test_val_is_solid_and_train_dashed_in_the_colour_of_the_recipe(store: RunStore) -> None:
    train, val, star = drawn([one(store, "mine", [0.2, 0.4, 0.3])], "top1").data
    assert train.line.dash == "dash" and val.line.dash is None
    assert train.line.color == val.line.color == star.marker.color == recipe_colour("baseline")
    assert list(val.y) == pytest.approx([20, 40, 30])
    assert list(train.y) == pytest.approx([55, 60, 65])


def test_star_marks_the_best_epoch_in_every_metric(store: RunStore) -> None:
    lines = [one(store, "mine", [0.2, 0.4, 0.4])]
    for metric, expected in (("top1", 40.0), ("loss", 1.2), ("macro_f1", 36.0)):
        star = drawn(lines, metric).data[-1]
        assert (star.x, star.marker.symbol) == ((2,), "star")
        assert star.y[0] == pytest.approx(expected)


def test_learning_rate_has_one_line_and_no_star(store: RunStore) -> None:
    figure = drawn([one(store, "mine", [0.2, 0.4])], "lr")
    (rate,) = figure.data
    assert list(rate.y) == pytest.approx([0.001, 0.0005])
    assert figure.layout.yaxis.rangemode == "tozero", "else a constant rate looks like none"


def test_hover_box_has_one_row_a_run_with_val_and_train(store: RunStore) -> None:
    figure = drawn([one(store, "a", [0.2]), one(store, "b", [0.3], "cosine")], "loss")
    assert figure.layout.hovermode == "x unified"
    rows = [t for t in figure.data if t.hoverinfo != "skip"]
    assert [t.meta for t in rows] == ["a", "b"]
    assert rows[0].customdata[0] == "1.100 (train 2.000)"


def test_run_without_an_epoch_is_left_out_and_the_others_keep_their_colour(store: RunStore) -> None:
    lines = [one(store, "waiting", []), one(store, "done", [0.2], "cosine")]
    figure = drawn(lines, "top1")
    assert {t.legendgroup for t in figure.data} == {"done"}
    assert figure.data[0].line.color == recipe_colour("cosine")


def test_long_name_is_cut_in_the_legend_and_whole_in_the_hover_box(store: RunStore) -> None:
    name = "a name that nobody would give to a run unless they wanted to see what breaks"
    (shown,) = [t for t in drawn([one(store, name, [0.2, 0.3])], "top1").data if t.showlegend]
    assert len(shown.name) == 28 and "…" in shown.name and shown.name.endswith(name[-9:])
    assert shown.meta.replace("<br>", " ") == name


def test_markup_in_a_name_is_text(store: RunStore) -> None:
    (shown,) = [t for t in drawn([one(store, "<b>x</b>", [0.2, 0.3])], "top1").data if t.showlegend]
    assert shown.name == shown.meta == "&lt;b&gt;x&lt;/b&gt;"


def test_legend_stands_below_the_plot_or_not_at_all(store: RunStore) -> None:
    lines = [one(store, "mine", [0.2, 0.3])]
    legend = drawn(lines, "top1").layout.legend
    assert legend.y < 0 and legend.yanchor == "top"
    assert drawn(lines, "top1", legend=False).layout.showlegend is False


def test_side_by_side_shares_axes_that_hold_every_value(store: RunStore) -> None:
    lines = [line(store, "low", {0: [0.1, 0.2]}), line(store, "high", {0: [0.5, 0.9]}, recipe="cosine")]
    lines.append(line(store, "waiting", {0: []}, recipe="plateau"))
    figures = curves.side_by_side(lines, ("loss", "top1"), curves.View(), dark=False)
    assert len(figures) == 3
    assert len({(f.layout.xaxis.range, f.layout.yaxis.range, f.layout.yaxis2.range) for f in figures}) == 1
    low, high = figures[0].layout.yaxis2.range
    assert low < 10 and high > 90
    assert not figures[2].data


def test_single_metric_makes_one_panel(store: RunStore) -> None:
    (figure,) = curves.side_by_side([line(store, "a", {0: [0.1, 0.2]})], ("lr",), curves.View(), dark=False)
    assert [t.name for t in figure.data] == ["val"]
    assert "yaxis2" not in figure.layout


def test_several_seeds_are_a_mean_with_a_band_and_the_runs_behind_it_on_request(store: RunStore) -> None:
    lines = [line(store, "three", {0: [0.1, 0.3], 1: [0.2, 0.5], 2: [0.3, 0.4, 0.6]})]
    figure = curves.comparison(lines, "macro_f1", curves.View(band="range", singles=True), dark=False)
    (band,), singles = named(figure, "band"), named(figure, "one run")
    (mean,) = [t for t in figure.data if t.hovertemplate]
    assert list(mean.y) == pytest.approx([16, 36, 56])
    assert list(band.x) == [1, 2, 2, 1], "the third epoch has one run and so no band"
    assert list(band.y) == pytest.approx([26, 46, 26, 6])
    assert len(singles) == 3 and list(singles[2].y) == pytest.approx([26, 36, 56])
    assert mean.customdata[0] == "16.00 % (6.00 % to 26.00 %, n = 3)" and mean.customdata[2] == "56.00 % (n = 1)"
    assert not named(curves.comparison(lines, "macro_f1", curves.View(band=None), dark=False), "band")


def test_smoothing_keeps_the_first_value_and_the_raw_line(store: RunStore) -> None:
    assert curves.smoothed([4.0, 0.0], 0.5) == pytest.approx([4, 4 / 3])
    assert curves.smoothed([1, 2, 3], 0) == [1, 2, 3]
    one = [line(store, "one", {0: [0.1, 0.3]})]
    figure = curves.comparison(one, "macro_f1", curves.View(smoothing=0.9), dark=False)
    (raw,) = named(figure, "raw")
    assert list(raw.y) == pytest.approx([6, 26]) and figure.data[1].y[1] < 26
    assert figure.data[1].customdata[1] == "26.00 %", "the hover box says what was measured"
    assert figure.data[-1].y == (pytest.approx(26),), "and the star stands on it"


def test_wall_time_takes_the_unit_that_fits_and_steps_those_of_the_status(store: RunStore) -> None:
    one = [line(store, "one", {0: [0.1, 0.3]})]  # 20 s an epoch, 10 steps
    seconds = curves.comparison(one, "lr", curves.View(axis="seconds"), dark=False)
    assert list(seconds.data[0].x) == [20, 40] and seconds.layout.xaxis.title.text == "s of training"
    long = [line(store, "long", {0: [0.1] * 20})]
    minutes = curves.comparison(long, "lr", curves.View(axis="seconds"), dark=False)
    assert minutes.data[0].x[-1] == pytest.approx(400 / 60) and minutes.layout.xaxis.title.text == "min of training"
    assert list(curves.comparison(one, "lr", curves.View(axis="step"), dark=False).data[0].x) == [10, 20]


def test_a_log_axis_never_sees_a_band_below_zero(store: RunStore) -> None:
    lines = [line(store, "three", {0: [0.05], 1: [0.06], 2: [0.9]})]
    figure = curves.comparison(lines, "top1", curves.View(log=True, band="std"), dark=False)
    assert figure.layout.yaxis.type == "log" and min(named(figure, "band")[0].y) > 0
    (panel,) = curves.side_by_side(lines, ("top1",), curves.View(log=True, band="std"), dark=False)
    assert panel.layout.yaxis.type == "log"


def test_the_gap_is_train_minus_val(store: RunStore) -> None:
    (gap, star) = curves.comparison([line(store, "a", {0: [0.1, 0.2]})], "gap", curves.View(), dark=False).data
    assert list(gap.y) == pytest.approx([25, 20]) and list(star.y) == pytest.approx([20])


def test_the_settings_that_set_a_run_apart_stand_in_the_hover_box_while_there_is_room(store: RunStore) -> None:
    lines = [line(store, f"r{i}", {0: [0.1]}, note=f"lr {i} <b>") for i in range(9)]
    few = curves.comparison(lines[:8], "lr", curves.View(), dark=False)
    assert curves.notes_fit(lines[:8]) and "lr 7 &lt;b&gt;" in few.data[-1].hovertemplate
    many = curves.comparison(lines, "lr", curves.View(), dark=False)
    assert not curves.notes_fit(lines) and "lr 5" not in many.data[5].hovertemplate
    long = [replace(x, note="a setting that differs, and its value, " * 3) for x in lines[:5]]
    assert curves.notes_fit(long[:4]) and not curves.notes_fit(long)
    assert "lr 5" in curves.side_by_side(lines, ("lr",), curves.View(), dark=False)[5].data[0].hovertemplate


def test_the_gap_has_no_logarithm(store: RunStore) -> None:
    lines = [line(store, "three", {0: [0.3], 1: [0.6], 2: [0.2]})]  # train top-1 is 35 %
    view = curves.View(log=True)
    figure = curves.comparison(lines, "gap", view, dark=False)
    assert figure.layout.yaxis.type != "log" and min(named(figure, "band")[0].y) < 0
    panels = curves.side_by_side(lines, ("loss", "gap"), view, dark=False)[0].layout
    assert (panels.yaxis.type, panels.yaxis2.type) == ("log", "linear") and panels.yaxis2.range[0] < 0


def test_an_ensemble_has_no_learning_rate(store: RunStore) -> None:
    run = write_run(store, "both", [{"val_top1": 0.7, "lr": 0.0}], members=["a", "b"])
    together = curves.Line(Group("both", (run,)), marks([(run.id, "ensemble")])[0])
    lines = [one(store, "a", [0.2]), together]
    assert [r["label"] for r in curves.numbers(lines, "lr", curves.View())] == ["a"]
    assert [r["label"] for r in curves.numbers(lines, "top1", curves.View())] == ["a", "both"]
    assert curves.has_curve(together.group, "top1") and not curves.has_curve(together.group, "lr")
    words = curves.comparison_in_words([together], "lr", curves.View())
    assert words == "Learning rate against epoch. Nothing to draw yet."


def test_an_ensemble_is_one_point_without_a_best_epoch(store: RunStore) -> None:
    run = write_run(store, "both", [{"val_top1": 0.7, "lr": 0.0}], members=["a", "b"])
    together = curves.Line(Group("both", (run,)), marks([(run.id, "ensemble")])[0])
    figure = drawn([one(store, "a", [0.2]), together], "top1")
    assert len(named(figure, "best epoch")) == 1, "the trained one's"
    (point,) = named(figure, "both")
    assert list(point.x) == [1] and "2 networks together" in point.hovertemplate
    words = curves.comparison_in_words([together], "top1", curves.View())
    assert words.endswith("both: 70.00 % (train 35.00 %), 2 networks together.")


def test_the_numbers_are_those_of_metrics_jsonl_and_the_mean(store: RunStore) -> None:
    lines = [line(store, "three", {0: [0.1, 0.3], 1: [0.2, 0.5]}), line(store, "b", {0: [0.4]}, recipe="cosine")]
    rows = curves.numbers(lines, "top1", curves.View())
    assert [r["val_top1"] for r in rows if r["run"] == "three-1"] == [0.2, 0.5]
    assert {"epoch": 2, "step": 20, "seconds": 40}.items() <= rows[1].items()
    means = [r for r in rows if r["label"] == "three" and not r["run"]]
    assert [r["val_top1"] for r in means] == pytest.approx([0.15, 0.4]) and [r["n"] for r in means] == [2, 2]
    assert [r["run"] for r in rows if r["label"] == "b"] == ["b-0"]


def test_the_comparison_in_words_says_band_and_best(store: RunStore) -> None:
    lines = [line(store, "pair", {0: [0.1, 0.3], 1: [0.2, 0.5]}), line(store, "none", {0: []}, recipe="cosine")]
    text = curves.comparison_in_words(lines, "macro_f1", curves.View(axis="step", band="range"))
    assert (
        text
        == "Macro F1 on val, % against optimizer step. pair: 11.00 % (6.00 % to 16.00 %, n = 2) first, 36.00 % (26.00 % to 46.00 %, n = 2) last, 36.00 % where its mean val top-1 is highest."
    )
    text = curves.comparison_in_words([line(store, "one", {0: [0.3, 0.1]})], "top1", curves.View())
    assert text.endswith("30.00 % in its best epoch.")


def test_run_curves_shows_loss_and_top1_and_keeps_its_zoom(store: RunStore) -> None:
    early = curves.run_curves(one(store, "live", [0.1]).group.runs[0], False)
    later = curves.run_curves(one(store, "live", [0.1, 0.2, 0.5]).group.runs[0], False)
    assert early.layout.uirevision == later.layout.uirevision is not None
    assert early.layout.xaxis.range is None and later.layout.yaxis.range is None
    assert [t.name for t in later.data if t.showlegend] == ["train", "val", "best epoch"]
    assert list(named(later, "val")[0].y) == pytest.approx([1.1, 1.2, 1.3])
    assert list(named(later, "val")[1].y) == pytest.approx([10, 20, 50])


def test_run_without_an_epoch_gives_empty_axes(store: RunStore) -> None:
    assert not curves.run_curves(one(store, "waiting", []).group.runs[0], True).data


def test_one_epoch_can_be_seen(store: RunStore) -> None:
    train, val, _star = drawn([one(store, "mine", [0.2])], "loss").data
    assert "markers" in train.mode and "markers" in val.mode
