"""Metrics over the course of training: runs and groups of seeds in one figure, one small figure each, and one run by itself.

Validation is drawn solid and training dashed, both in the run's colour; a star marks the epoch with the highest
validation top-1. Of several seeds the mean is drawn, with a band, and the star stands where the mean is highest;
smoothing leaves the raw line, faint. An ensemble, which has no epochs, is one point without a star.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fer.experiments import Axis, Band, BandKind, Group, band, positions, several, value_at
from fer.plots.style import Mark, ink, marks, see_through, styled
from fer.runs import Run

_LEGEND_LENGTH, _HOVER_WIDTH = 28, 40
_MARKERS_A_LINE = 14
_STAR, _SMALL_STAR, _POINT = 15, 10, 10  # pixels; the last of an ensemble's one point
_ROOM = "&nbsp;" * 4  # plotly measures the rows of a common hover box a little too short
_MANY = 6  # of more lines the stars are small
# Pixels of a hover box, measured: its head, each row of text, and around each line's rows. What is higher than the figure is cut off.
_HOVER_HEAD, _HOVER_ROW, _HOVER_GAP = 25, 17, 10
_UNITS = ((3 * 3600, "h", 3600.0), (300, "min", 60.0), (0, "s", 1.0))  # of wall time, by the longest run


@dataclass(frozen=True)
class Metric:
    """A figure of each epoch: `title` and the shorter `panel` say what it is; `main` is the key drawn solid, `train` the one drawn dashed; `number` its d3 format; `signed`: it can be zero or below, so its scale is never logarithmic."""

    title: str
    panel: str
    main: str
    train: str | None = None
    scale: float = 1.0
    number: str = ".3f"
    unit: str = ""
    starred: bool = True
    signed: bool = False

    def values(self, rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
        """The values of one key as they are drawn."""
        return [self.scale * value_at(row, key) for row in rows]

    def text(self, row: Mapping[str, Any], key: str) -> str:
        """One value in words, such as '55.86 %'."""
        return self.said(self.scale * value_at(row, key))

    def said(self, value: float) -> str:
        """A value that is drawn, in words."""
        return f"{value:{self.number}}{self.unit}"


METRICS: dict[str, Metric] = {
    "loss": Metric("Loss (cross entropy)", "Loss", "val_loss", "train_loss"),
    "top1": Metric("Top-1, %", "Top-1, %", "val_top1", "train_top1", 100.0, ".2f", " %"),
    "macro_f1": Metric("Macro F1 on val, %", "Macro F1 on val, %", "val_macro_f1", None, 100.0, ".2f", " %"),
    "lr": Metric("Learning rate", "Learning rate", "lr", None, 1.0, ".3g", starred=False),
    "gap": Metric(
        "Generalisation gap: train minus val top-1, points", "Gap, points", "gap", None, 100.0, ".2f", signed=True
    ),
}


@dataclass(frozen=True)
class View:
    """How curves are drawn. smoothing: 0 to 0.99, the weight of what came before; singles: the runs of a group behind its mean."""

    axis: Axis = "epoch"
    log: bool = False
    smoothing: float = 0.0
    band: BandKind | None = "std"
    singles: bool = False


@dataclass(frozen=True)
class Line:
    """A run or a group of seeds in a figure. note: the settings that set it apart, for the hover box."""

    group: Group
    mark: Mark
    note: str = ""


@dataclass(frozen=True)
class _Series:
    """One run or group as it is drawn: x and y in the units of the figure; `text` is what the hover box says of each point."""

    name: str
    mark: Mark
    x: Sequence[float]
    main: Sequence[float]
    train: Sequence[float] | None
    star: tuple[float, float] | None
    text: Sequence[str]
    star_at: str = "in its best epoch"
    together: str = ""  # what an ensemble's one point is of
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    singles: Sequence[tuple[Sequence[float], Sequence[float]]] = ()
    raw: Sequence[float] | None = None
    note: str = ""


def short(name: str, limit: int = _LEGEND_LENGTH) -> str:
    """A name cut in its middle for a legend: what tells runs of one recipe apart stands at the end."""
    tail = limit // 3
    return name if len(name) <= limit else name[: limit - tail - 1] + "…" + name[-tail:]


def comparison(
    lines: Sequence[Line], metric: str, view: View, *, dark: bool, legend: bool = False, height: int = 380
) -> go.Figure:
    """One metric of all runs and groups in one figure. Without `legend` the caller shows which colour is which.

    metric: a key of `METRICS`. What has no finished epoch is left out. height in pixels.
    """
    view, unit = _fitting(view, metric), _x_unit(lines, view)
    shown = lines if notes_fit(lines, height) else [replace(line, note="") for line in lines]
    series = _series(shown, metric, view)
    return _overlay(series, metric, view, dark=dark, legend=legend, height=height, unit=unit)


def has_curve(group: Group, metric: str) -> bool:
    """Whether there is something to draw: an epoch has ended, and an ensemble has no learning rate."""
    return bool(group.measured) and not (group.members and METRICS[metric].main == "lr")


def notes_fit(lines: Sequence[Line], height: int = 380) -> bool:
    """Whether the hover box of a figure so high, in pixels, has room for what sets each line apart."""
    rows = sum(len(textwrap.wrap(text, _HOVER_WIDTH)) for line in lines for text in (line.group.label, line.note))
    return _HOVER_HEAD + _HOVER_ROW * rows + _HOVER_GAP * len(lines) <= height


def side_by_side(
    lines: Sequence[Line], metrics: Sequence[str], view: View, *, dark: bool, panel_height: int = 210
) -> list[go.Figure]:
    """One figure for each run or group, a panel a metric, all with the same axes, so that they can be read side by side.

    metrics: keys of `METRICS`, from the top. panel_height in pixels. Empty axes for what has no finished epoch.
    """
    views = {m: _fitting(view, m) for m in metrics}
    by_metric = {m: _series(lines, m, views[m], empty=True) for m in metrics}
    ranges = {m: _value_range(found, views[m].log) for m, found in by_metric.items()}
    every = [s for found in by_metric.values() for s in found]
    unit, last = _x_unit(lines, view), max((x for s in every for x in s.x), default=1.0)
    figures = []
    for i in range(len(lines)):
        panels = {m: [by_metric[m][i]] if by_metric[m][i].x else [] for m in metrics}
        figure = _panels(panels, dark=dark, height=panel_height * len(metrics) + 60, legend=False)
        _x_axis(figure, view, unit, last, "-".join(metrics))
        figure.update_xaxes(range=_x_range(view, last))
        for row, metric in enumerate(metrics, start=1):
            figure.update_yaxes(type="log" if views[metric].log else "linear", range=ranges[metric], row=row, col=1)
        figures.append(figure)
    return figures


def run_curves(run: Run, dark: bool) -> go.Figure:
    """Loss and top-1 of one run in two panels over the same epochs; empty axes before the first epoch has ended."""
    line = Line(Group(run.name, (run,)), marks([(run.id, run.recipe)])[0])
    panels = {metric: _series([line], metric, View()) for metric in ("loss", "top1")}
    figure = _panels(panels, dark=dark, height=500, legend=True)
    _x_axis(figure, View(), "", len(run.metrics), "run")
    return figure


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """The exponential moving average, corrected for its start, so that the first value stays as it is; weight: 0 to 0.99."""
    found, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        found.append(total / norm)
    return found


def comparison_in_words(lines: Sequence[Line], metric: str, view: View) -> str:
    """The figure of `comparison` as text."""
    what, unit = METRICS[metric], _x_unit(lines, view)
    against = {"epoch": "epoch", "step": "optimizer step", "seconds": f"{unit} of training"}[view.axis]
    parts = []
    for s in _series(lines, metric, replace(view, smoothing=0.0)):
        if s.together:
            parts.append(f"{s.name}: {s.text[-1]}, {s.together}")
            continue
        star = f", {what.said(s.star[1])} {s.star_at}" if s.star else ""
        parts.append(f"{s.name}: {s.text[0]} first, {s.text[-1]} last{star}")
    return f"{what.title} against {against}. " + ("; ".join(parts) or "Nothing to draw yet") + "."


def numbers(lines: Sequence[Line], metric: str, view: View) -> list[dict[str, Any]]:
    """The numbers of a figure in the units of the files: a row for each run and epoch, then for each group its mean; nothing
    of what has no curve.

    Keys: `label`, `run` ('' for a mean), `seed`, `epoch`, `step`, `seconds`, the metric's own, and `low`, `high`, `n` of a mean.
    """
    what, rows = METRICS[metric], []
    keys = [what.main, *([what.train] if what.train else [])]
    for group in (line.group for line in lines if has_curve(line.group, metric)):
        for seed, run in group.by_seed.items():
            places = zip(positions(run, "step"), positions(run, "seconds"), strict=True)
            for row, (step, seconds) in zip(run.metrics, places, strict=True):
                own = {key: value_at(row, key) for key in keys}
                place = {"epoch": row["epoch"], "step": step, "seconds": seconds}
                rows.append({"label": group.label, "run": run.id, "seed": seed, **place, **own})
        if len(group.measured) > 1:
            rows += _mean_numbers(group, keys, view)
    return rows


def _mean_numbers(group: Group, keys: Sequence[str], view: View) -> list[dict[str, Any]]:
    bands = {key: band(group, key, kind=view.band or "std") for key in keys}
    main = bands[keys[0]]
    return [
        {
            "label": group.label,
            "run": "",
            "seed": None,
            "epoch": int(main.x[i]),
            **{key: b.mean[i] for key, b in bands.items()},
            "low": main.low[i],
            "high": main.high[i],
            "n": main.n[i],
        }
        for i in range(len(main.x))
    ]


# --- from runs to what is drawn


def _fitting(view: View, metric: str) -> View:
    """The view with a linear scale where the metric has no logarithm."""
    return replace(view, log=view.log and not METRICS[metric].signed)


def _series(lines: Sequence[Line], metric: str, view: View, *, empty: bool = False) -> list[_Series]:
    """What is drawn of each; `empty` keeps a place for what has no finished epoch."""
    unit = _x_unit(lines, view)
    found = [_of_group(line, metric, view, _seconds(unit)) for line in lines]
    return [s for s in found if s.x or empty]


def _of_group(line: Line, name: str, view: View, unit: float) -> _Series:
    """The only run, or the mean of several with its band. name: the metric's."""
    group, nothing = line.group, _Series(line.group.label, line.mark, [], [], None, None, [])
    if not has_curve(group, name):
        return nothing
    runs, metric = group.measured, METRICS[name]
    kind = view.band or "std"
    main = _band(group, runs, metric.main, kind, view.axis)
    x = [place / unit for place in main.x]
    mean = [metric.scale * v for v in main.mean]
    train = [metric.scale * v for v in _band(group, runs, metric.train, kind, view.axis).mean] if metric.train else None
    low = [None if v is None else metric.scale * v for v in main.low]
    high = [None if v is None else metric.scale * v for v in main.high]
    text = _said(metric, mean, train, main.n if len(runs) > 1 else (), low, high)
    tops = main.mean if metric.main == "val_top1" else _band(group, runs, "val_top1", kind, view.axis).mean
    best = tops.index(max(tops))
    drawn = smoothed(mean, view.smoothing) if view.smoothing else mean
    banded = len(runs) > 1 and view.band is not None
    return replace(
        nothing,
        x=x,
        main=drawn,
        train=smoothed(train, view.smoothing) if train and view.smoothing else train,
        star=(x[best], mean[best]) if metric.starred and not group.members else None,
        together=several(group) if group.members else "",
        star_at="where its mean val top-1 is highest" if len(runs) > 1 else nothing.star_at,
        text=text,
        low=[_on_log(v, m) if view.log else v for v, m in zip(low, mean, strict=True)] if banded else (),
        high=high if banded else (),
        singles=_singles(runs, metric, view, unit) if view.singles and len(runs) > 1 else (),
        raw=mean if view.smoothing else None,
        note=line.note,
    )


def _band(group: Group, runs: Sequence[Run], key: str, kind: BandKind, axis: Axis) -> Band:
    """The group's band; of a single run its own values, which need no statistics."""
    if len(runs) > 1:
        return band(group, key, kind=kind, axis=axis)
    (run,) = runs
    none = (None,) * len(run.metrics)
    mean = tuple(value_at(row, key) for row in run.metrics)
    return Band(tuple(positions(run, axis)), mean, none, none, (1,) * len(mean))


def _on_log(low: float | None, mean: float) -> float | None:
    """A band's lower edge on an axis that has no zero."""
    return low if low is None or low > 0 else mean / 100


def _singles(
    runs: Sequence[Run], metric: Metric, view: View, unit: float
) -> list[tuple[Sequence[float], Sequence[float]]]:
    return [([p / unit for p in positions(r, view.axis)], metric.values(r.metrics, metric.main)) for r in runs]


def _said(
    metric: Metric,
    main: Sequence[float],
    train: Sequence[float] | None,
    n: Sequence[int] = (),
    low: Sequence[float | None] = (),
    high: Sequence[float | None] = (),
) -> list[str]:
    """What the hover box says of each point: '54.92 % (train 61.20 %)', of a group its band and number of seeds too."""
    texts = [metric.said(v) for v in main]
    if n:
        edges = [
            f" ({metric.said(a)} to {metric.said(b)}, n = {count})"
            if a is not None and b is not None
            else f" (n = {count})"
            for a, b, count in zip(low, high, n, strict=True)
        ]
        texts = [t + e for t, e in zip(texts, edges, strict=True)]
    if train:
        texts = [f"{t} (train {metric.said(v)})" for t, v in zip(texts, train, strict=True)]
    return texts


def _x_unit(lines: Sequence[Line], view: View) -> str:
    """'s', 'min' or 'h' for wall time, by the longest run; '' for epochs and steps."""
    if view.axis != "seconds":
        return ""
    ends = (positions(r, "seconds")[-1] for line in lines for r in line.group.measured)
    longest = max(ends, default=0.0)
    return next(name for limit, name, _ in _UNITS if longest >= limit)


def _seconds(unit: str) -> float:
    return next((seconds for _, name, seconds in _UNITS if name == unit), 1.0)


# --- drawing


def _overlay(
    series: Sequence[_Series], metric: str, view: View, *, dark: bool, legend: bool, height: int, unit: str = ""
) -> go.Figure:
    what = METRICS[metric]
    star = _STAR if len(series) <= _MANY else _SMALL_STAR
    traces = [t for s in series for t in _traces(s, what, dark, legend=legend, labels=(short(s.name), None), star=star)]
    figure = styled(go.Figure(traces), dark=dark, height=height, legend=legend)
    figure.update_layout(title=_title(what.title), margin={"t": 40, "l": 8, "r": 12, "b": 44})
    _x_axis(figure, view, unit, max((x for s in series for x in s.x), default=1.0), metric)
    if legend:  # below, where a long one grows away from the curves
        figure.update_layout(legend={"y": -0.2, "yanchor": "top"})
    if view.log:
        figure.update_yaxes(type="log", exponentformat="power", dtick="D2" if what.main == "val_loss" else None)
    elif what.main == "lr":  # plotly draws a constant from one below it to one above it
        figure.update_yaxes(rangemode="tozero")
    return figure


def _panels(panels: Mapping[str, Sequence[_Series]], *, dark: bool, height: int, legend: bool) -> go.Figure:
    """One panel a metric over the same x; the legend says what is solid, dashed and starred."""
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.13,
        subplot_titles=[METRICS[m].panel for m in panels],
    )
    for row, (metric, series) in enumerate(panels.items(), start=1):
        for one in series:
            for trace in _traces(one, METRICS[metric], dark, legend=row == 1, labels=("val", "train")):
                figure.add_trace({**trace, "legendgroup": trace["name"]}, row=row, col=1)
    styled(figure, dark=dark, height=height, legend=legend)
    figure.update_layout(hoversubplots="axis", margin={"t": 34, "l": 8, "r": 12, "b": 72 if legend else 44})
    figure.update_layout(legend={"y": 0, "yref": "container", "yanchor": "bottom"})
    figure.update_annotations(x=0, xanchor="left", yshift=6, font={"size": 14})
    return figure


def _traces(
    s: _Series, metric: Metric, dark: bool, *, legend: bool, labels: tuple[str, str | None], star: int = _STAR
) -> list[dict[str, Any]]:
    """What lies behind first: band, single runs, raw line; then train, the line itself and the star. As dictionaries: plotly
    checks a trace when it is made, and once more when it joins a figure.

    labels: of val and of train in the legend; None: no entry.
    """
    colour, common = s.mark.colour, {"type": "scatter", "x": s.x, "legendgroup": s.name, "meta": _whole(s.name)}
    traces = [*_behind(s)]
    if s.train:
        traces.append(
            {
                **common,
                "y": s.train,
                "mode": "lines" if len(s.x) > 1 else "markers",
                "name": labels[1] or "train",
                "showlegend": legend and labels[1] is not None,
                "line": {"color": colour, "width": 1.6, "dash": "dash"},
                "marker": {"color": colour, "size": 7, "symbol": s.mark.symbol + "-open"},
                "hoverinfo": "skip",
            }
        )
    note = f"<br>&nbsp;&nbsp;<i>{_whole(s.note)}</i>" if s.note else ""
    traces.append(
        {
            **common,
            "y": s.main,
            "customdata": s.text,
            "mode": "lines+markers",
            "name": html.escape(labels[0]),
            "showlegend": legend,
            "line": {"color": colour, "width": 2.4},
            "marker": {
                "color": colour,
                "size": _POINT if s.together else 6,
                "symbol": s.mark.symbol,
                "maxdisplayed": _MARKERS_A_LINE,
            },
            "hovertemplate": f"%{{meta}}: %{{customdata}}{f', {s.together}' * bool(s.together)}{_ROOM}{note}<extra></extra>",
        }
    )
    if s.star:
        traces.append(_star(s, dark, size=star, shown=legend and labels[1] is not None))
    return traces


def _behind(s: _Series) -> list[dict[str, Any]]:
    """The band, the single runs and the raw line, all faint and silent."""
    common = {"type": "scatter", "legendgroup": s.name, "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
    traces = []
    edges = [(x, a, b) for x, a, b in zip(s.x, s.low, s.high, strict=False) if a is not None and b is not None]
    if edges:
        x, low, high = (list(part) for part in zip(*edges, strict=True))
        traces.append(
            {
                **common,
                "name": "band",
                "x": x + x[::-1],
                "y": high + low[::-1],
                "fill": "toself",
                "fillcolor": see_through(s.mark.colour, 0.18),
                "line": {"width": 0},
            }
        )
    thin = {"color": see_through(s.mark.colour, 0.35), "width": 1}
    traces += [{**common, "name": "one run", "x": x, "y": y, "line": thin} for x, y in s.singles]
    if s.raw is not None:
        traces.append({**common, "name": "raw", "x": s.x, "y": s.raw, "line": {**thin, "width": 1.2}})
    return traces


def _star(s: _Series, dark: bool, *, size: int, shown: bool) -> dict[str, Any]:
    assert s.star
    outline = {"color": ink(dark), "width": 1.4}
    return {
        "type": "scatter",
        "x": [s.star[0]],
        "y": [s.star[1]],
        "mode": "markers",
        "name": "best epoch",
        "legendgroup": s.name,
        "showlegend": shown,
        "marker": {"symbol": "star", "size": size, "color": s.mark.colour, "line": outline},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _x_axis(figure: go.Figure, view: View, unit: str, last: float, name: str) -> None:
    """The axis, and one hover box for all runs. No range is set: a live figure keeps its reader's zoom by `uirevision`."""
    word = {"epoch": "epoch", "step": "step", "seconds": f"{unit} of training"}[view.axis]
    number = "%{x}" if view.axis == "epoch" else "%{x:,.0f}" if view.axis == "step" else "%{x:.1f}"
    hover = f"{number} {word}" if view.axis == "seconds" else f"{word} {number}"
    figure.update_layout(hovermode="x unified", uirevision=f"{name}-{view.axis}-{view.log}")
    figure.update_xaxes(unifiedhovertitle={"text": hover}, tickformat="d" if view.axis == "epoch" else "~s")
    figure.update_xaxes(showspikes=False)  # plotly backs the guide with white, whatever stands behind the figure
    if view.axis == "epoch" and last <= 10:
        figure.update_xaxes(dtick=1)
    bottom = list(figure.select_xaxes())[-1]
    bottom.update(title={"text": word, "font": {"size": 13}})


def _x_range(view: View, last: float) -> list[float]:
    """Up to the last epoch, rounded up to fives, with room for the star; or up to the end."""
    if view.axis != "epoch":
        return [0, 1.03 * last]
    return [0.4, last + 0.6] if last <= 10 else [0, 5 * math.ceil(last / 5) + 1]


def _value_range(series: Sequence[_Series], log: bool) -> list[float] | None:
    """Lowest to highest value of all in round steps, so that it seldom moves while one trains; None without values."""
    parts = [part for s in series for part in (s.main, s.train or (), s.low, s.high, *(y for _, y in s.singles))]
    values = [v for part in parts for v in part if v is not None and (v > 0 or not log)]
    if not values:
        return None
    low, high = min(values), max(values)
    if log:
        return [math.floor(10 * math.log10(low)) / 10, math.ceil(10 * math.log10(high)) / 10]
    step = 10 ** math.floor(math.log10((high - low) or abs(high) or 1.0)) / 2
    return [step * math.floor(low / step - 0.1), step * math.ceil(high / step + 0.1)]


def _title(text: str) -> dict[str, Any]:
    return {
        "text": text,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "pad": {"t": 8},
        "font": {"size": 15},
    }


def _whole(name: str) -> str:
    """A whole name for a hover box, wrapped, with nothing in it taken as markup."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(name, _HOVER_WIDTH)) or "-"
