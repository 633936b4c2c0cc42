"""Metrics against epoch: several runs in one figure, one small figure a run, and one run by itself.

Validation is drawn solid and training dashed, both in the run's colour; a star marks the epoch with the highest
validation top-1. Second and third runs of one recipe are lighter and carry markers of another shape.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fer.plots.style import SYMBOLS, ink, run_colours, styled

_LEGEND_LENGTH, _HOVER_WIDTH = 28, 40
_MARKERS_A_LINE = 14
_ROOM = "&nbsp;" * 4  # plotly measures the rows of a common hover box a little too short
_EPOCH = {"text": "epoch", "font": {"size": 13}}


class Curve(Protocol):
    """What is drawn of a run; `fer.runs.Run` fits. metrics: rows of `metrics.jsonl`, fractions 0 to 1."""

    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> str: ...

    @property
    def metrics(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Metric:
    """A figure of each epoch: `title` and the shorter `panel` say what it is; `main` is the key drawn solid, `train` the one drawn dashed; `number` its d3 format."""

    title: str
    panel: str
    main: str
    train: str | None = None
    scale: float = 1.0
    number: str = ".3f"
    unit: str = ""
    starred: bool = True

    def values(self, rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
        """The values of one key as they are drawn."""
        return [self.scale * row[key] for row in rows]

    def text(self, row: Mapping[str, Any], key: str) -> str:
        """One value in words, such as '55.86 %'."""
        return f"{self.scale * row[key]:{self.number}}{self.unit}"


METRICS: dict[str, Metric] = {
    "loss": Metric("Loss (cross entropy)", "Loss", "val_loss", "train_loss"),
    "top1": Metric("Top-1, %", "Top-1, %", "val_top1", "train_top1", 100.0, ".2f", " %"),
    "macro_f1": Metric("Macro F1 on val, %", "Macro F1 on val, %", "val_macro_f1", None, 100.0, ".2f", " %"),
    "lr": Metric("Learning rate", "Learning rate", "lr", None, 1.0, ".3g", starred=False),
}


@dataclass(frozen=True)
class Mark:
    """How one run of a figure is told from the others: colour '#rrggbb' and plotly's marker symbol."""

    colour: str
    symbol: str


def marks(runs: Sequence[Curve]) -> list[Mark]:
    """Colour and symbol of each run: its recipe's colour, lighter and with another symbol for each further run of it."""
    seen: dict[str, int] = {}
    symbols = []
    for run in runs:
        symbols.append(SYMBOLS[seen.get(run.recipe, 0) % len(SYMBOLS)])
        seen[run.recipe] = seen.get(run.recipe, 0) + 1
    return [Mark(c, s) for c, s in zip(run_colours([r.recipe for r in runs]), symbols, strict=True)]


def short(name: str, limit: int = _LEGEND_LENGTH) -> str:
    """A name cut in its middle for a legend: what tells runs of one recipe apart stands at the end."""
    tail = limit // 3
    return name if len(name) <= limit else name[: limit - tail - 1] + "…" + name[-tail:]


def metric_curves(
    runs: Sequence[Curve], metric: str, *, dark: bool, legend: bool = True, height: int = 380
) -> go.Figure:
    """One metric of all runs in one figure; runs without a finished epoch keep their colour and are left out.

    metric: a key of `METRICS`. height in pixels. Without `legend` the caller shows which colour is which run.
    """
    figure = go.Figure()
    for run, mark in zip(runs, marks(runs), strict=True):
        if run.metrics:
            figure.add_traces(_lines(run, METRICS[metric], mark, dark, legend=legend, labels=(short(run.name), None)))
    styled(figure, dark=dark, height=height, legend=legend)
    _epochs(figure, runs, metric)
    figure.update_layout(title=_title(METRICS[metric].title), margin={"t": 40, "l": 8, "r": 12, "b": 44})
    if legend:  # below, where a long one grows away from the curves
        figure.update_layout(legend={"y": -0.2, "yanchor": "top"})
    figure.update_xaxes(title=_EPOCH)
    return figure


def small_multiples(
    runs: Sequence[Curve], metrics: Sequence[str] = ("loss", "top1"), *, dark: bool, panel_height: int = 210
) -> list[go.Figure]:
    """One figure a run with a panel for each metric, all with the same axes, so that they can be read side by side.

    metrics: keys of `METRICS`, from the top. panel_height in pixels. The caller shows which figure is which run.
    """
    ranges = {m: _value_range(runs, METRICS[m]) for m in metrics}
    figures = []
    for run, mark in zip(runs, marks(runs), strict=True):
        figure = _panels(run, mark, metrics, dark=dark, height=panel_height * len(metrics) + 60, legend=False)
        _epochs(figure, runs, "-".join(metrics))
        figure.update_xaxes(range=_epoch_range(runs))
        for row, metric in enumerate(metrics, start=1):
            figure.update_yaxes(range=ranges[metric], row=row, col=1)
        figures.append(figure)
    return figures


def run_curves(run: Curve, dark: bool) -> go.Figure:
    """Loss and top-1 of one run in two panels over the same epochs; empty axes before the first epoch has ended."""
    figure = _panels(run, marks([run])[0], ("loss", "top1"), dark=dark, height=500, legend=True)
    _epochs(figure, [run], "run")
    return figure


def in_words(runs: Sequence[Curve], metric: str) -> str:
    """The curves of one metric as text, for those who cannot see them."""
    what = METRICS[metric]
    parts = []
    for run in runs:
        if not run.metrics:
            continue
        first, last = run.metrics[0], run.metrics[-1]
        best = max(run.metrics, key=lambda row: row["val_top1"])
        ends = f"{run.name}: {what.text(first, what.main)} in epoch 1, {what.text(last, what.main)} in epoch {last['epoch']}"
        star = f", {what.text(best, what.main)} in its best epoch {best['epoch']}" if what.starred else ""
        train = f", train {what.text(last, what.train)} at the end" if what.train else ""
        parts.append(ends + star + train)
    return f"{what.title} against epoch. " + "; ".join(parts) + "."


def _panels(run: Curve, mark: Mark, metrics: Sequence[str], *, dark: bool, height: int, legend: bool) -> go.Figure:
    """One run, one panel a metric, the epochs shared; the legend says what is solid, dashed and starred."""
    figure = make_subplots(
        rows=len(metrics),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.13,
        subplot_titles=[METRICS[m].panel for m in metrics],
    )
    for row, metric in enumerate(metrics, start=1):
        for trace in (
            _lines(run, METRICS[metric], mark, dark, legend=row == 1, labels=("val", "train")) if run.metrics else []
        ):
            figure.add_trace(trace.update(legendgroup=trace.name), row=row, col=1)
    styled(figure, dark=dark, height=height, legend=legend)
    figure.update_layout(hoversubplots="axis", margin={"t": 34, "l": 8, "r": 12, "b": 72 if legend else 44})
    figure.update_layout(legend={"y": 0, "yref": "container", "yanchor": "bottom"})
    figure.update_annotations(x=0, xanchor="left", yshift=6, font={"size": 14})
    figure.update_xaxes(title=_EPOCH, row=len(metrics), col=1)
    return figure


def _lines(
    run: Curve, metric: Metric, mark: Mark, dark: bool, *, legend: bool, labels: tuple[str, str | None]
) -> list[go.Scatter]:
    """The solid line with markers, the dashed line where there is one, and the star. labels: of val and of train; None: no entry."""
    rows = run.metrics
    epochs = [row["epoch"] for row in rows]
    common = {"x": epochs, "legendgroup": run.name, "meta": _whole(run.name)}
    traces = []
    hover = f"%{{meta}}: %{{y:{metric.number}}}{metric.unit}"
    train = metric.values(rows, metric.train) if metric.train else None
    if train:
        hover += f" (train %{{customdata:{metric.number}}}{metric.unit})"
        traces.append(
            go.Scatter(
                **common,
                y=train,
                mode="lines" if len(rows) > 1 else "markers",
                name=labels[1] or "train",
                showlegend=legend and labels[1] is not None,
                line={"color": mark.colour, "width": 1.6, "dash": "dash"},
                marker={"color": mark.colour, "size": 7, "symbol": mark.symbol + "-open"},
                hoverinfo="skip",
            )
        )
    traces.append(
        go.Scatter(
            **common,
            y=metric.values(rows, metric.main),
            customdata=train,
            mode="lines+markers",
            name=html.escape(labels[0]),
            showlegend=legend,
            line={"color": mark.colour, "width": 2.4},
            marker={"color": mark.colour, "size": 6, "symbol": mark.symbol, "maxdisplayed": _MARKERS_A_LINE},
            hovertemplate=hover + _ROOM + "<extra></extra>",
        )
    )
    if metric.starred:
        traces.append(_star(run, metric, mark, dark, shown=legend and labels[1] is not None))
    return traces


def _star(run: Curve, metric: Metric, mark: Mark, dark: bool, *, shown: bool) -> go.Scatter:
    best = max(run.metrics, key=lambda row: row["val_top1"])
    return go.Scatter(
        x=[best["epoch"]],
        y=metric.values([best], metric.main),
        mode="markers",
        name="best epoch",
        legendgroup=run.name,
        showlegend=shown,
        marker={"symbol": "star", "size": 15, "color": mark.colour, "line": {"color": ink(dark), "width": 1.4}},
        cliponaxis=False,
        hoverinfo="skip",
    )


def _epochs(figure: go.Figure, runs: Sequence[Curve], view: str) -> None:
    """The axis of epochs, whole numbers only, and one hover box for all runs.

    No range is set: a live figure keeps its reader's zoom only while what we ask for stays the same (`uirevision`).
    """
    figure.update_layout(hovermode="x unified", uirevision=view)
    figure.update_xaxes(unifiedhovertitle={"text": "epoch %{x}"}, tickformat="d")
    figure.update_xaxes(showspikes=False)  # plotly backs the guide with white, whatever stands behind the figure
    if _last_epoch(runs) <= 10:
        figure.update_xaxes(dtick=1)


def _last_epoch(runs: Sequence[Curve]) -> int:
    return max((row["epoch"] for r in runs for row in r.metrics), default=1)


def _epoch_range(runs: Sequence[Curve]) -> list[float]:
    """Epoch 0 to the last one, rounded up to fives, with room for the star."""
    last = _last_epoch(runs)
    return [0.4, last + 0.6] if last <= 10 else [0, 5 * math.ceil(last / 5) + 1]


def _value_range(runs: Sequence[Curve], metric: Metric) -> list[float] | None:
    """Lowest to highest value of all runs in round steps, so that it seldom moves while one trains; None without values."""
    keys = [metric.main, *([metric.train] if metric.train else [])]
    values = [v for r in runs for k in keys for v in metric.values(r.metrics, k)]
    if not values:
        return None
    low, high = min(values), max(values)
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
