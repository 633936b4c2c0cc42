"""Figures of an evaluation: the confusion matrix as a heat map, the confusions worth a sentence, and calibration."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from fer.plots.style import CLASS_COLOUR, faint_text, styled

VIEWS = ("Counts", "By row", "By column")

# One hue from the page's background to its opposite, so that lightness alone orders the cells, in grey print too.
_LIGHT_SCALE = ("#f3f7fb", "#9cc7e6", "#2f7fbd", "#0a3a6b")
_DARK_SCALE = ("#18222d", "#1d4f7d", "#4b9bd6", "#d6ecfb")
# Two hues that colour-blind readers tell apart, meeting in the background: fewer than the other run, as many, more.
_LIGHT_DIVERGING = ("#7b3fa0", "#c9a9dc", "#f7f7f7", "#f2bd7a", "#b35806")
_DARK_DIVERGING = ("#c79be6", "#6b4488", "#18222d", "#8a5218", "#f0a04b")
_AFTER_COLOUR = "#d55e00"
_TEXTS = ("#000000", "#ffffff")
_MOST_NUMBERS = 12  # with more classes the cells are too small for numbers; hovering still gives them
_MARGINS = {"l": 12, "r": 8, "t": 34, "b": 12}  # the axes add what their labels need; above, the tool buttons


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

    matrix: (C, C) counts. An invisible marker lies on each cell, since a heat map cannot be clicked: its x is the index of
    the predicted class, its y that of the true one.
    """
    counts = np.asarray(matrix)
    values = shares(counts, view)
    top = float(values.max()) or 1.0
    cells = [cell_colour(v / top, dark=dark) for v in values.ravel()]
    scale = _DARK_SCALE if dark else _LIGHT_SCALE
    heat = go.Heatmap(z=values, zmin=0, zmax=top, colorscale=_colorscale(scale))
    return _matrix(heat, [_number(v, view) for v in values.ravel()], _hover(counts, classes), cells, classes, dark)


def difference(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, bool]:
    """The first matrix minus the second, both (C, C) counts, and whether it is in counts.

    It is where both have the same number of pictures in each class; else it is in fractions of the class.
    """
    same = bool((np.sum(first, axis=1) == np.sum(second, axis=1)).all())
    if same:
        return np.asarray(first, dtype=float) - second, True
    return shares(first, "By row") - shares(second, "By row"), False


def difference_heatmap(
    first: np.ndarray, second: np.ndarray, classes: Sequence[str], *, names: tuple[str, str], dark: bool
) -> go.Figure:
    """The first run's confusion matrix minus the second's: where it said something more often, and where less often."""
    values, in_counts = difference(first, second)
    top = float(np.abs(values).max()) or 1.0
    scale = _DARK_DIVERGING if dark else _LIGHT_DIVERGING
    cells = [scale_colour(scale, 0.5 + v / top / 2) for v in values.ravel()]
    heat = go.Heatmap(z=values, zmin=-top, zmax=top, colorscale=_colorscale(scale))
    texts = [f"{v:+,.0f}" if in_counts else f"{100 * v:+.1f}" for v in (0.0 if v == 0 else v for v in values.ravel())]
    texts = ["0" if float(t.replace(",", "")) == 0 else t for t in texts]
    hover = [
        f"{true} called {said}<br>{first[i][j]:,} by {html.escape(names[0])}<br>{second[i][j]:,} by {html.escape(names[1])}"
        for i, true in enumerate(classes)
        for j, said in enumerate(classes)
    ]
    return _matrix(heat, texts, hover, cells, classes, dark)


def _matrix(
    heat: go.Heatmap,
    texts: Sequence[str],
    hover: Sequence[str],
    cells: Sequence[str],
    classes: Sequence[str],
    dark: bool,
) -> go.Figure:
    """A heat map with a number and an invisible marker on each cell; texts, hover, cells (colours): (C * C,), row by row."""
    n = len(classes)
    y, x = (i.ravel().tolist() for i in np.indices((n, n)))
    side = 36 if n <= _MOST_NUMBERS else 14
    seen = {"color": "#ffffff" if dark else "#000000"}
    markers = go.Scatter(
        x=x,
        y=y,
        mode="markers",
        text=list(texts),
        hovertext=list(hover),
        hoverinfo="text",
        marker={"opacity": 0, "symbol": "square-open", "size": side, "line": {"width": 2}, **seen},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0}},
    )
    heat.update(showscale=False, hoverinfo="skip", xgap=2, ygap=2)
    figure = styled(go.Figure([heat, markers]), dark=dark, height=120 + 48 * max(n, 3), legend=False)
    if n <= _MOST_NUMBERS:  # not a trace: a chosen marker would make its numbers pale
        figure.update_layout(
            annotations=[
                {"x": a, "y": b, "text": t, "showarrow": False, "font": {"size": 13, "color": text_on(cell)}}
                for a, b, t, cell in zip(x, y, texts, cells, strict=True)
            ]
        )
    for axis, title in ((figure.layout.xaxis, "Predicted class"), (figure.layout.yaxis, "True class")):
        axis.update(
            title={"text": title, "font": {"size": 14}, "standoff": 14}, showgrid=False, fixedrange=True, ticks=""
        )
        axis.update(tickvals=list(range(n)), ticktext=[html.escape(c) for c in classes])
    figure.update_xaxes(range=[-0.5, n - 0.5], autotickangles=[0, 90])  # a phone has no room for them side by side
    figure.update_yaxes(range=[n - 0.5, -0.5])
    return figure.update_layout(margin=_MARGINS, clickmode="event+select", dragmode=False)


def reliability_diagram(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]], *, dark: bool
) -> go.Figure:
    """Accuracy against confidence, each bin a marker that is larger the more pictures it holds; on the diagonal is honest.

    before, after: `metrics.reliability` of the probabilities as they are, and after temperature scaling.
    """
    figure = go.Figure(
        go.Scatter(
            x=[0, 100],
            y=[0, 100],
            mode="lines",
            name="as often right as sure",
            line={"color": faint_text(dark), "dash": "dot", "width": 1.5},
            hoverinfo="skip",
        )
    )
    for name, bins, colour, symbol, dash in (
        ("as trained", before, CLASS_COLOUR, "circle", "solid"),
        ("after temperature scaling", after, _AFTER_COLOUR, "diamond", "dash"),
    ):
        figure.add_scatter(
            x=[100 * b["confidence"] for b in bins],
            y=[100 * b["accuracy"] for b in bins],
            customdata=[b["n"] for b in bins],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"color": colour, "symbol": symbol, "size": _areas([b["n"] for b in bins])},
            hovertemplate=f"{name}<br>%{{customdata:,}} pictures<br>%{{x:.1f}} % sure, %{{y:.1f}} % right<extra></extra>",
        )
    styled(figure, dark=dark, height=420)
    figure.update_xaxes(title={"text": "Confidence, %"}, range=[0, 102])
    figure.update_yaxes(title={"text": "Right, %"}, range=[0, 102])
    return figure.update_layout(margin={"l": 8, "r": 12, "t": 64, "b": 48})


def _areas(counts: Sequence[float]) -> list[float]:
    """Diameters, 5 to 24 pixels, whose areas go with the counts."""
    top = max(counts, default=1)
    return [max(5.0, 24.0 * (n / top) ** 0.5) for n in counts]


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
    return scale_colour(_DARK_SCALE if dark else _LIGHT_SCALE, share)


def scale_colour(scale: Sequence[str], share: float) -> str:
    """The colour `#rrggbb` at a place, 0 to 1, of a scale of colours that stand equally far apart."""
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


def _colorscale(scale: Sequence[str]) -> list[tuple[float, str]]:
    return [(i / (len(scale) - 1), colour) for i, colour in enumerate(scale)]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
