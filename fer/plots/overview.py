"""The runs at a glance, and what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from fer.plots.curves import short
from fer.plots.style import run_colours, styled
from fer.runs import Run

_SPLIT_COLOURS = {"train": "#1f83c6", "val": "#e69f00", "test": "#009e73"}


def best_bars(runs: Sequence[Run], *, dark: bool) -> go.Figure:
    """Best validation top-1 of each run as a bar in its recipe's colour, the best on top; per cent."""
    ranked = sorted((r for r in runs if r.best), key=lambda r: r.best["val_top1"] if r.best else 0.0)
    values = [100 * r.best["val_top1"] for r in ranked if r.best]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[r.id for r in ranked],
            orientation="h",
            marker={"color": run_colours([r.recipe for r in reversed(ranked)])[::-1]},
            text=[f"{v:.1f} % (epoch {r.best['epoch']})  " for v, r in zip(values, ranked, strict=True) if r.best],
            textposition="inside",
            insidetextanchor="end",
            textfont={"color": "#ffffff", "size": 14},
            customdata=[[escape(r.name), escape(r.data_name)] for r in ranked],
            hovertemplate="%{customdata[0]}<br>best val top-1 %{x:.2f} %<br>data: %{customdata[1]}<extra></extra>",
        )
    )
    styled(figure, dark=dark, height=72 + 44 * len(ranked), legend=False)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 8, "r": 8}, bargap=0.3)
    figure.update_xaxes(title_text="best validation top-1, %", rangemode="tozero")
    names = [escape(short(r.name)) for r in ranked]
    figure.update_yaxes(showgrid=False, tickvals=[r.id for r in ranked], ticktext=names, type="category")
    return figure


def class_counts(counts: Mapping[str, Mapping[str, int]], *, dark: bool) -> go.Figure:
    """Pictures of each class, one group of bars a class with a bar for each split; counts: `{split: {class: n}}`."""
    figure = go.Figure(
        [
            go.Bar(
                name=f"{split} ({sum(by_class.values()):,})",
                x=list(by_class),
                y=list(by_class.values()),
                marker={"color": _SPLIT_COLOURS[split]},
                text=[f"{n:,}" for n in by_class.values()],
                textposition="outside",
                textfont={"size": 11},
                cliponaxis=False,
                hovertemplate=f"%{{x}}, {split}: %{{y:,}} pictures<extra></extra>",
            )
            for split, by_class in counts.items()
        ]
    )
    styled(figure, dark=dark, height=380)
    figure.update_layout(barmode="group", bargap=0.2)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(title_text="pictures", tickformat=",")
    return figure
