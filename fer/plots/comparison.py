"""Groups of runs against each other: mean and band of each metric, and differences with their intervals."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from fer.experiments import BandKind, Group, band
from fer.plots.curves import METRICS, marks, metric_curves, short
from fer.plots.style import faint_text, ink, styled
from fer.verdicts import Verdict

_KEYS = ("lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_macro_f1", "epoch_seconds")
_BAND_OPACITY = 0.2
_REAL, _NOISE = "#009e73", "#7a8794"


@dataclass(frozen=True)
class Mean:
    """The mean over a group's seeds as a curve: rows of epochs, as `metrics.jsonl` has them."""

    name: str
    recipe: str
    metrics: tuple[Mapping[str, Any], ...]


def mean_of(group: Group) -> Mean:
    """The mean over the seeds that reached each epoch; a single run's own figures."""
    columns = {key: band(group, key).mean for key in _KEYS}
    rows = [{"epoch": i + 1, **{key: columns[key][i] for key in _KEYS}} for i in range(len(columns["lr"]))]
    label = group.label if group.n == 1 else f"{group.label} (mean of {group.n} seeds)"
    return Mean(label, group.recipe, tuple(rows))


def group_curves(
    groups: Sequence[Group],
    metric: str,
    *,
    dark: bool,
    kind: BandKind = "std",
    legend: bool = True,
    height: int = 380,
) -> go.Figure:
    """One metric of all groups: the mean, and behind it the band of validation over seeds where there are several.

    metric: a key of `fer.plots.curves.METRICS`; kind: what the band is, see `fer.experiments.band`. height in pixels.
    """
    means = [mean_of(g) for g in groups]
    figure = metric_curves(means, metric, dark=dark, legend=legend, height=height)
    lines, figure.data = figure.data, ()
    what = METRICS[metric]
    for group, mean, mark in zip(groups, means, marks(means), strict=True):
        of = band(group, what.main, kind=kind)
        edges = [(x, low, high) for x, low, high in zip(of.x, of.low, of.high, strict=True) if low is not None]
        if edges:
            x = [e[0] for e in edges]
            figure.add_scatter(
                x=[*x, *x[::-1]],
                y=[what.scale * v for v in [*(e[2] for e in edges), *(e[1] for e in edges[::-1])]],
                fill="toself",
                fillcolor=_transparent(mark.colour),
                mode="none",
                legendgroup=mean.name,
                showlegend=False,
                hoverinfo="skip",
            )
    figure.add_traces(lines)
    return figure


def differences(verdicts: Sequence[Verdict], *, dark: bool) -> go.Figure:
    """Each verdict's difference in top-1 and its 95 % interval around it, in points; filled and green where it is real.

    Refused verdicts are left out; read from the top in the order given.
    """
    told = [v for v in verdicts if v.difference is not None and v.interval is not None][::-1]
    figure = go.Figure()
    for v in told:
        assert v.difference is not None and v.interval is not None
        middle, low, high = (100 * x for x in (v.difference, *v.interval))
        colour = _REAL if v.is_real else (_NOISE if not dark else faint_text(dark))
        figure.add_scatter(
            x=[middle],
            y=[v.name],
            error_x={
                "type": "data",
                "array": [high - middle],
                "arrayminus": [middle - low],
                "thickness": 2.4,
                "width": 7,
            },
            mode="markers",
            marker={
                "size": 13,
                "color": colour,
                "symbol": "circle" if v.is_real else "circle-open",
                "line": {"width": 2},
            },
            hovertemplate=f"%{{x:+.2f}} points, 95 % interval {low:.2f} to {high:.2f}<br>{'real' if v.is_real else 'not more than chance'}<extra></extra>",
            showlegend=False,
        )
    styled(figure, dark=dark, height=110 + 46 * len(told), legend=False)
    figure.add_vline(x=0, line={"color": ink(dark), "width": 1, "dash": "dot"})
    figure.update_layout(margin={"t": 10, "b": 48, "l": 8, "r": 16})
    base = html.escape(short(told[0].baseline)) if told else "the baseline"
    figure.update_xaxes(title_text=f"top-1 against {base}, points")
    names = [v.name for v in told]
    figure.update_yaxes(
        tickvals=names, ticktext=[html.escape(short(n)) for n in names], type="category", showgrid=False
    )
    return figure


def differences_in_words(verdicts: Sequence[Verdict]) -> str:
    """The differences as text, for those who cannot see them."""
    return "Differences in top-1 with 95 % intervals. " + " ".join(v.sentence for v in verdicts)


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{_BAND_OPACITY})"
