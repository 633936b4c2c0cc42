"""The curves of the Compare page: which metric, against what, how they are drawn, and the numbers behind them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import streamlit as st

from fer.experiments import Axis, BandKind, Group, best_top1, settings_notes, several
from fer.plots import curves
from fer.plots.curves import METRICS, Line, View
from fer.plots.style import Mark, marks
from fer.ui.frame import dark, plain
from fer.ui.live_figure import LiveFigures
from fer.ui.loaders import remembered, run_key
from fer.ui.parts import csv_button, percent

SIDE_BY_SIDE = "Side by side"
_WHAT = {
    "Loss and top-1": ("loss", "top1"),
    "Macro F1": ("macro_f1",),
    "Learning rate": ("lr",),
    "Generalisation gap": ("gap",),
}
_AXES: dict[str, Axis] = {"Epoch": "epoch", "Step": "step", "Wall time": "seconds"}
_BANDS: dict[str, BandKind | None] = {
    "Standard deviation": "std",
    "95 % interval": "interval",
    "Min to max": "range",
    "None": None,
}
_ONE_POINT: dict[Axis, str] = {
    "epoch": "at epoch 1",
    "step": "at the first step",
    "seconds": "where its members' trainings, one after the other, end",
}
_MARKS = "compare-marks"
_SYMBOL_SIGNS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "cross": "✚",
    "x": "✖",
    "triangle-up": "▲",
    "star": "★",
    "hexagon": "⬢",
}


@dataclass(frozen=True)
class Options:
    """What the reader chose: the metrics (keys of `METRICS`), side by side or overlaid, and how they are drawn."""

    metrics: tuple[str, ...]
    side_by_side: bool
    view: View


def show(groups: Sequence[Group], *, live: bool) -> None:
    """The options and the curves of these runs or groups of seeds; the view is in the URL."""
    options = _options(groups)
    lines = _lines(groups)
    if options.metrics == ("lr",):
        lines = _trained(lines)
        if not lines:
            return
    drawn = LiveFigures(live, (options, tuple((line.group.key, line.mark, line.note) for line in lines), dark()))
    (_side_by_side if options.side_by_side else _overlaid)(lines, options, drawn)
    drawn.send()
    for remark in _remarks(lines, options):
        st.caption(f":material/info: {remark}")


def _trained(lines: Sequence[Line]) -> list[Line]:
    """Those with a learning rate; says which have none."""
    names = [plain(line.group.label) for line in lines if line.group.members]
    if len(names) == len(lines):
        st.info(
            "An ensemble is made of networks that were trained before, so it has no learning rate to draw. Choose a run that was trained, or other curves.",
            icon=":material/group_work:",
        )
    elif names:
        st.caption(f":material/group_work: Not drawn, since an ensemble has no learning rate: {', '.join(names)}.")
    return [line for line in lines if not line.group.members]


def _remarks(lines: Sequence[Line], options: Options) -> list[str]:
    """What must be known to read the curves."""
    found = []
    if any(METRICS[m].starred for m in options.metrics) and any(len(x.group.measured) > 1 for x in lines):
        found.append(
            "Of several seeds a star stands where their mean val top-1 is highest; the figure beside a name is the mean of their best epochs."
        )
    if any(line.group.members and line.group.measured for line in lines):
        found.append(f"An ensemble has no epochs, so it is one point, drawn {_ONE_POINT[options.view.axis]}.")
    if options.view.log and any(METRICS[m].signed for m in options.metrics):
        found.append("The gap keeps a linear scale, since it can be zero or below, which has no logarithm.")
    if not options.side_by_side and not curves.notes_fit(lines) and any(line.note for line in lines):
        found.append(
            "The box that follows the pointer has no room for the settings of so many runs; they are under *Settings* below."
        )
    return found


def _options(groups: Sequence[Group]) -> Options:
    with st.container(horizontal=True, vertical_alignment="center"):
        what = _segments("Curves", list(_WHAT), "curves")
        layout = _segments("Layout", ["Overlaid", SIDE_BY_SIDE], "view")
        with st.popover("Axes and smoothing", icon=":material/tune:"):
            axis = _segments("Against", list(_AXES), "x", label="visible")
            scale = _segments("Scale", ["Linear", "Log"], "scale", label="visible")
            smoothing = st.slider(
                "Smoothing",
                0.0,
                0.95,
                0.0,
                0.05,
                key="smooth",
                bind="query-params",
                help="Exponential moving average: the weight of what came before. The raw line stays, faint; stars and the hover box show what was measured.",
            )
            band, singles = "Standard deviation", False
            if any(g.n > 1 for g in groups):
                band = _segments("Band over seeds", list(_BANDS), "band", label="visible")
                singles = st.toggle("Show the single runs behind the mean", key="singles", bind="query-params")
    view = View(_AXES[axis], scale == "Log", smoothing, _BANDS[band], bool(singles))
    return Options(_WHAT[what], layout == SIDE_BY_SIDE, view)


def _segments(name: str, options: list[str], key: str, *, label: str = "collapsed") -> str:
    chosen = st.segmented_control(
        name,
        options,
        default=options[0],
        required=True,
        key=key,
        bind="query-params",
        label_visibility=cast(Any, label),
    )
    return chosen or options[0]


def _lines(groups: Sequence[Group]) -> list[Line]:
    """Each with a mark that it keeps for the session, and what sets it apart from the others."""
    kept: dict[str, Mark] = st.session_state.setdefault(_MARKS, {})
    found = marks([(g.key, g.recipe) for g in groups], kept)
    kept.update({g.key: mark for g, mark in zip(groups, found, strict=True)})
    key = ("notes", tuple(run_key(g.runs[0]) for g in groups))
    notes = remembered(key, lambda: settings_notes(groups))
    return [Line(g, mark, notes[g.key]) for g, mark in zip(groups, found, strict=True)]


def _line_keys(lines: Sequence[Line]) -> tuple[Any, ...]:
    return tuple((x.group.label, x.mark, x.note, tuple(map(run_key, x.group.runs))) for x in lines)


def _overlaid(lines: Sequence[Line], options: Options, drawn: LiveFigures) -> None:
    st.html(f'<div class="fer-legend">{"".join(map(_entry, lines))}{_key(lines, options)}</div>{_CSS}')
    for column, metric in zip(st.columns(len(options.metrics)), options.metrics, strict=True):
        with column:
            key = (_line_keys(lines), metric, options.view, dark())

            def work(metric: str = metric) -> tuple[Any, str]:
                figure = curves.comparison(lines, metric, options.view, dark=dark())
                return figure, curves.comparison_in_words(lines, metric, options.view)

            figure, alt = remembered(("curves", key), work)
            drawn.draw(figure, key=f"curves-{metric}", alt=alt)
            _numbers(lines, metric, options.view)


def _side_by_side(lines: Sequence[Line], options: Options, drawn: LiveFigures) -> None:
    key = ("small", _line_keys(lines), options.metrics, options.view, dark())
    figures_ = remembered(key, lambda: curves.side_by_side(lines, options.metrics, options.view, dark=dark()))
    panels = [(x, f) for x, f in zip(lines, figures_, strict=True) if x.group.measured]
    st.html(f'<div class="fer-legend">{_key(lines, options)}</div>{_CSS}')
    a_row = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3}.get(len(panels), 4)
    for start in range(0, len(panels), a_row):
        for column, (line, figure) in zip(st.columns(a_row), panels[start : start + a_row], strict=False):
            with column:
                st.html(f'<div class="fer-legend fer-above">{_entry(line)}</div>{_CSS}')
                alt = " ".join(curves.comparison_in_words([line], m, options.view) for m in options.metrics)
                drawn.draw(figure, key=f"small-{'-'.join(options.metrics)}-{line.group.key}", alt=alt)
    with st.container(horizontal=True):
        for metric in options.metrics:
            _numbers(lines, metric, options.view)


def _numbers(lines: Sequence[Line], metric: str, view: View) -> None:
    """The numbers of a chart as CSV, made when it is asked for."""
    csv_button(
        lambda: curves.numbers(lines, metric, view),
        f"fer-lab-{metric}",
        key=f"csv-{metric}",
        label=f"{METRICS[metric].panel.split(',')[0]} as CSV",
        help="Every run and epoch as it was measured, fractions from 0 to 1; of seeds their mean and band too.",
    )


def _key(lines: Sequence[Line], options: Options) -> str:
    """What is solid, dashed and starred."""
    drawn = [METRICS[m] for m in options.metrics]
    kinds = (
        '<span><i class="fer-line"></i>val</span><span><i class="fer-line fer-dash"></i>train</span>'
        if any(m.train for m in drawn)
        else ""
    )
    means = {len(line.group.measured) > 1 for line in lines if line.group.measured and not line.group.members}
    words = " or ".join(["best epoch"] * (False in means) + ["highest mean"] * (True in means))
    star = f"<span>☆ {words}</span>" if words and any(m.starred for m in drawn) else ""
    return f'<span class="fer-key">{kinds}{star}</span>'


def _entry(line: Line) -> str:
    """A name with its colour, symbol and best figure; cut by the browser where it is long, whole in the tooltip."""
    group, name = line.group, html.escape(line.group.label, quote=True)
    best = group.measured[0].best if group.measured else None
    if best is None:
        return ""
    figure = f"<b>{percent(best_top1(group))}</b> " + (several(group) or f"in epoch {best['epoch']}")
    sign = _SYMBOL_SIGNS[line.mark.symbol]
    return f'<span class="fer-run" title="{name}"><i style="color:{line.mark.colour}">{sign}</i><span class="fer-name">{name}</span>{figure}</span>'


_CSS = """<style>
.fer-legend {display: flex; flex-wrap: wrap; gap: 0.3rem 1.3rem; font-size: 0.92rem; line-height: 1.5;}
.fer-legend span {display: inline-flex; align-items: center; gap: 0.4rem; white-space: nowrap; max-width: 100%;}
.fer-legend b {font-variant-numeric: tabular-nums; font-weight: 600;}
.fer-legend i {font-style: normal; font-size: 1.1rem;}
.fer-legend .fer-name {display: block; overflow: hidden; text-overflow: ellipsis; max-width: 15rem;}
.fer-above .fer-run {flex-wrap: wrap; row-gap: 0; white-space: normal;}
.fer-above .fer-name {flex-basis: calc(100% - 1.6rem); max-width: calc(100% - 1.6rem);}
.fer-legend .fer-key {opacity: 0.85; gap: 1rem;}
.fer-legend .fer-line {display: inline-block; width: 1.7rem; border-top: 2.4px solid currentColor;}
.fer-legend .fer-dash {border-top: 2px dashed currentColor;}
</style>"""
