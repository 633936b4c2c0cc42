"""The runs at a glance, and what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from fer.experiments import Group, best_top1, several
from fer.plots.curves import short
from fer.plots.evaluation import contrast
from fer.plots.style import run_colours, styled

_SPLIT_COLOURS = {"train": "#1f83c6", "val": "#e69f00", "test": "#009e73"}


def best_bars(found: Sequence[Group], *, dark: bool) -> go.Figure:
    """Best validation top-1 of each experiment as a bar in its recipe's colour, the first on top; per cent, of seeds the mean."""
    shown = [(g, 100 * top) for g in found if (top := best_top1(g)) is not None][::-1]
    colours = run_colours([g.recipe for g, _ in reversed(shown)])[::-1]
    figure = go.Figure(
        go.Bar(
            x=[top for _, top in shown],
            y=[g.key for g, _ in shown],
            orientation="h",
            marker={"color": colours},
            text=[f"{top:.1f} % ({_reached(g)})  " for g, top in shown],
            textposition="inside",
            insidetextanchor="end",
            textfont={"color": [_text_on(c) for c in colours], "size": 14},
            customdata=[[escape(g.label), escape(g.runs[0].data_name)] for g, _ in shown],
            hovertemplate="%{customdata[0]}<br>best val top-1 %{x:.2f} %<br>data: %{customdata[1]}<extra></extra>",
        )
    )
    styled(figure, dark=dark, height=72 + 44 * len(shown), legend=False)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 8, "r": 8}, bargap=0.3)
    figure.update_xaxes(title_text="best validation top-1, %", rangemode="tozero")
    keys, names = [g.key for g, _ in shown], [escape(short(g.label)) for g, _ in shown]
    figure.update_yaxes(showgrid=False, tickvals=keys, ticktext=names, type="category")
    return figure


def _text_on(colour: str) -> str:
    """White, or black where white has less than 3 to 1 of contrast (WCAG 2.1)."""
    return "#ffffff" if contrast("#ffffff", colour) >= 3 else "#000000"


def _reached(group: Group) -> str:
    """'epoch 8', 'mean of 3 seeds' or '2 networks together'."""
    best = group.measured[0].best
    return several(group) or (f"epoch {best['epoch']}" if best else "")


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
