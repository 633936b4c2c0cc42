"""Figures of one evaluation: the confusion matrix as a heat map, and the confusions worth a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from fer.plots.style import styled

VIEWS = ("Counts", "By row", "By column")

# One hue from the page's background to its opposite, so that lightness alone orders the cells, in grey print too.
_LIGHT_SCALE = ("#f3f7fb", "#9cc7e6", "#2f7fbd", "#0a3a6b")
_DARK_SCALE = ("#18222d", "#1d4f7d", "#4b9bd6", "#d6ecfb")
_TEXTS = ("#000000", "#ffffff")
_MOST_NUMBERS = 12  # with more classes the cells are too small for numbers; hovering still gives them
_MARGINS = {"l": 12, "r": 8, "t": 8, "b": 12}  # the axes add what their labels need


@dataclass(frozen=True)
class Confusion:
    """`count` of the `n` pictures of class `true` were taken for `predicted`."""

    true: str
    predicted: str
    count: int
    n: int


def shares(matrix: np.ndarray, view: str) -> np.ndarray:
    """The matrix as the view shows it: counts as they are, or as fractions of their row or column, 0 where that is empty.

    matrix: (C, C), rows are the true class. Raises ValueError for an unknown view.
    """
    counts = np.asarray(matrix, dtype=float)
    if view == "Counts":
        return counts
    if view not in VIEWS:
        raise ValueError(f"view is {view!r}; allowed: {VIEWS}")
    totals = counts.sum(axis=1 if view == "By row" else 0, keepdims=True)
    return np.divide(counts, np.broadcast_to(totals, counts.shape), out=np.zeros_like(counts), where=totals > 0)


def confusion_heatmap(matrix: np.ndarray, classes: Sequence[str], *, view: str = "Counts", dark: bool) -> go.Figure:
    """Rows are the true class, columns what the network said; a number in each cell. view: one of `VIEWS`.

    matrix: (C, C) counts. The numbers are a trace of their own, so that a cell can be hovered and, later, chosen.
    """
    counts = np.asarray(matrix)
    values = shares(counts, view)
    top = values.max() or 1.0
    y, x = np.indices(counts.shape)
    numbers = go.Scatter(
        x=x.ravel(),
        y=y.ravel(),
        mode="text" if len(classes) <= _MOST_NUMBERS else "markers",
        marker={"opacity": 0},
        text=[_number(v, view) for v in values.ravel()],
        textfont={"size": 13, "color": [text_on(cell_colour(v / top, dark=dark)) for v in values.ravel()]},
        hovertext=_hover(counts, classes),
        hoverinfo="text",
    )
    colours = go.Heatmap(
        z=values, zmin=0, zmax=top, colorscale=_colorscale(dark), showscale=False, hoverinfo="skip", xgap=2, ygap=2
    )
    figure = styled(go.Figure([colours, numbers]), dark=dark, height=120 + 48 * max(len(classes), 3), legend=False)
    for axis, title in ((figure.layout.xaxis, "Predicted class"), (figure.layout.yaxis, "True class")):
        axis.update(
            title={"text": title, "font": {"size": 14}, "standoff": 14}, showgrid=False, fixedrange=True, ticks=""
        )
        axis.update(tickvals=list(range(len(classes))), ticktext=list(classes))
    figure.update_xaxes(
        range=[-0.5, len(classes) - 0.5], autotickangles=[0, 90]
    )  # a phone has no room for them side by side
    figure.update_yaxes(range=[len(classes) - 0.5, -0.5])
    return figure.update_layout(margin=_MARGINS)


def biggest_confusions(matrix: np.ndarray, classes: Sequence[str], most: int = 3) -> list[Confusion]:
    """Each class's most frequent mistake, the largest share of its class first; at most `most`, none where none was made."""
    counts = np.array(matrix)
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    worst = [
        Confusion(classes[i], classes[int(row.argmax())], int(row.max()), int(totals[i]))
        for i, row in enumerate(counts)
    ]
    return sorted((c for c in worst if c.count), key=lambda c: (-c.count / c.n, -c.n))[:most]


def cell_colour(share: float, *, dark: bool) -> str:
    """The colour `#rrggbb` of a cell with this share, 0 to 1, of the largest value."""
    scale = _DARK_SCALE if dark else _LIGHT_SCALE
    place = min(max(share, 0.0), 1.0) * (len(scale) - 1)
    i = min(int(place), len(scale) - 2)
    low, high = _rgb(scale[i]), _rgb(scale[i + 1])
    return "#" + "".join(f"{round(a + (b - a) * (place - i)):02x}" for a, b in zip(low, high, strict=True))


def text_on(colour: str) -> str:
    """Black or white, whichever has more contrast on a colour `#rrggbb`."""
    return max(_TEXTS, key=lambda text: contrast(text, colour))


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _number(value: float, view: str) -> str:
    return f"{value:,.0f}" if view == "Counts" else f"{100 * value:.0f}\u00a0%"


def _hover(counts: np.ndarray, classes: Sequence[str]) -> list[str]:
    rows, columns = shares(counts, "By row"), shares(counts, "By column")
    return [
        f"{counts[i, j]:,} pictures of {true} were called {said}<br>{100 * rows[i, j]:.1f} % of all {true}<br>{100 * columns[i, j]:.1f} % of all called {said}"
        for i, true in enumerate(classes)
        for j, said in enumerate(classes)
    ]


def _colorscale(dark: bool) -> list[tuple[float, str]]:
    scale = _DARK_SCALE if dark else _LIGHT_SCALE
    return [(i / (len(scale) - 1), colour) for i, colour in enumerate(scale)]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
