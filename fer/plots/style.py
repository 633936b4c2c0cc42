"""One look for every figure: the template, and one colour a recipe that stays the same on every page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

# Wong's colour-blind-safe palette (Nature Methods, 2011), then hues of Tol's muted scheme; the study's four come first.
RECIPE_COLOURS = {
    "baseline": "#1f83c6",
    "step-decay": "#d55e00",
    "exponential-decay": "#009e73",
    "grouped-conv": "#cc79a7",
    "polynomial-decay": "#e69f00",
    "cosine": "#56b4e9",
    "one-cycle": "#8f6bd1",
    "plateau": "#999933",
    "depthwise-conv": "#44aa99",
    "dilated-conv": "#b0475d",
    "fast": "#4f6fb0",
}
_OTHERS = ("#7a8794", "#a0703c", "#5f8f3a", "#b58bb0", "#c2883f")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
CLASS_COLOUR = "#1f83c6"
PLOT_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}


def recipe_colour(recipe: str) -> str:
    """The colour of a recipe's runs, the same wherever they are drawn."""
    if recipe in RECIPE_COLOURS:
        return RECIPE_COLOURS[recipe]
    return _OTHERS[hashlib.sha256(recipe.encode()).digest()[0] % len(_OTHERS)]


@dataclass(frozen=True)
class Mark:
    """How one run of a figure is told from the others: colour '#rrggbb' and plotly's marker symbol."""

    colour: str
    symbol: str


def marks(keys: Sequence[tuple[str, str]], kept: Mapping[str, Mark] | None = None) -> list[Mark]:
    """A mark for each (key, recipe), no colour twice as long as there are enough.

    kept: the marks that keys had before, which they keep unless another one has the same colour. The first of a recipe
    gets the recipe's colour, a further one a shade of it, then whatever is free.
    """
    found = {key: kept[key] for key, _ in keys if kept and key in kept}
    taken: set[str] = set()
    for key, mark in list(found.items()):
        if mark.colour in taken:
            del found[key]
        taken.add(mark.colour)
    for key, recipe in keys:
        if key not in found:
            shades = _shades(recipe_colour(recipe))
            colour = next((c for c in (*shades, *_ALL_COLOURS) if c not in taken), shades[0])
            same = sum(r == recipe for k, r in keys if k in found)
            found[key] = Mark(colour, SYMBOLS[same % len(SYMBOLS)])
            taken.add(colour)
    return [found[key] for key, _ in keys]


def run_colours(recipes: Sequence[str]) -> list[str]:
    """A colour for each run of a chart: its recipe's, and a shade of it for a further run of the same recipe."""
    return [mark.colour for mark in marks([(str(i), recipe) for i, recipe in enumerate(recipes)])]


def _shades(colour: str) -> tuple[str, ...]:
    return colour, lighten(colour, 0.35), darken(colour, 0.3), lighten(colour, 0.55)


def darken(colour: str, share: float) -> str:
    """The colour `#rrggbb` moved towards black by a share, 0 to 1."""
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * (1 - share)):02x}" for i in (1, 3, 5))


def lighten(colour: str, share: float) -> str:
    """The colour `#rrggbb` moved towards white by a share, 0 to 1."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)


def see_through(colour: str, share: float) -> str:
    """The colour `#rrggbb` as rgba with an opacity, 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"


_ALL_COLOURS = tuple(
    c for share in (0.0, 0.35) for base in (*RECIPE_COLOURS.values(), *_OTHERS) for c in [lighten(base, share)]
)


def ink(dark: bool) -> str:
    """The colour of text in a figure."""
    return "#e8eef4" if dark else "#16202c"


def faint(dark: bool) -> str:
    """The colour of grid lines and outlines in a figure."""
    return "rgba(200,214,228,0.16)" if dark else "rgba(30,50,70,0.12)"


def faint_text(dark: bool) -> str:
    """The colour of what stands back in a figure, such as its tool buttons."""
    return "#93a3b3" if dark else "#66788a"


def styled(figure: go.Figure, *, dark: bool, height: int = 360, legend: bool = True) -> go.Figure:
    """The figure in the common look; height in pixels. Returns the same figure."""
    axis = {
        "gridcolor": faint(dark),
        "linecolor": faint(dark),
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 14}},
    }
    surface = "#1a232d" if dark else "#ffffff"
    page = "#10161d" if dark else "#ffffff"  # the themes' own, so that a picture saved from the figure can be read
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor=page,
        plot_bgcolor=page,
        font={"family": '"Source Sans", Helvetica, Arial, sans-serif', "size": 14, "color": ink(dark)},
        margin={"l": 56, "r": 16, "t": 40, "b": 48},
        hoverlabel={"bgcolor": surface, "font": {"color": ink(dark), "size": 13}, "bordercolor": faint(dark)},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": faint_text(dark), "activecolor": ink(dark)},
        showlegend=legend,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0, "title": {"text": ""}},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
