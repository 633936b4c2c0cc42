"""One look for every figure: the template, and one colour a recipe that stays the same on every page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import plotly.graph_objects as go

from fer.recipes import RECIPES, STUDY

# Wong's colour-blind-safe palette (Nature Methods, 2011) for the study's four; the rest as far from these and from each other
# as there is room for, also in eyes that see no green, and at least 2.2:1 against both papers.
_PALETTE = (
    "#1f83c6", "#d55e00", "#009e73", "#cc79a7", "#7b4fe0", "#e0a100", "#8a5a6e", "#7fae1e", "#22b0cf", "#d4245f",
    "#6f7020", "#f07a6c", "#8e98f0", "#0d7377", "#b14fd0", "#8b95a1", "#a8741f",
)  # fmt: skip
_FIRST = (*STUDY, "strong", "fast", "ensemble", "cosine", "one-cycle", "plateau", "polynomial-decay")
_NAMES = (*_FIRST, *(name for name in RECIPES if name not in _FIRST), "custom")
RECIPE_COLOURS = {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(_NAMES)}
_LIGHT = 0.68  # lightness in OKLab from which on a colour has no lighter shade
_NEAR = 0.08  # two colours closer than this, in OKLab, are taken for each other
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
CLASS_COLOUR = "#1f83c6"
PLOT_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}


def recipe_colour(recipe: str) -> str:
    """The colour of a recipe's runs, the same wherever they are drawn; one for all recipes that this version does not know."""
    return RECIPE_COLOURS.get(recipe, RECIPE_COLOURS["custom"])


@dataclass(frozen=True)
class Mark:
    """How one run of a figure is told from the others: colour '#rrggbb' and plotly's marker symbol."""

    colour: str
    symbol: str


def marks(keys: Sequence[tuple[str, str]], kept: Mapping[str, Mark] | None = None) -> list[Mark]:
    """A mark for each (key, recipe), no colour twice and none like another as long as there are enough.

    kept: the marks that keys had before, which they keep unless another one has the same colour. The first of a recipe
    gets the recipe's colour, a further one a shade of it; where that is like one that is taken, what is farthest from all.
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
            colour = next((c for c in shades if _apart(c, taken) > _NEAR), None)
            colour = colour or max((*_PALETTE, *shades, *_ALL_SHADES), key=lambda c: _apart(c, taken))
            same = sum(r == recipe for k, r in keys if k in found)
            found[key] = Mark(colour, SYMBOLS[same % len(SYMBOLS)])
            taken.add(colour)
    return [found[key] for key, _ in keys]


def _apart(colour: str, taken: Iterable[str]) -> float:
    """How far a colour is from the nearest of those taken, in OKLab; 1 where none is."""
    return min((math.dist(_oklab(colour), _oklab(other)) for other in taken), default=1.0)


@cache
def _oklab(colour: str) -> tuple[float, float, float]:
    """Lightness, green to red and blue to yellow of `#rrggbb`, as far apart as eyes find them (Ottosson, 2020)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def run_colours(recipes: Sequence[str]) -> list[str]:
    """A colour for each run of a chart: its recipe's, and a shade of it for a further run of the same recipe."""
    return [mark.colour for mark in marks([(str(i), recipe) for i, recipe in enumerate(recipes)])]


def _shades(colour: str) -> tuple[str, ...]:
    """The colour, and two more of its hue; of a light one both darker, so that white paper shows them."""
    if _oklab(colour)[0] > _LIGHT:
        return colour, darken(colour, 0.25), darken(colour, 0.45)
    return colour, lighten(colour, 0.35), darken(colour, 0.3)


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


_ALL_SHADES = tuple(shade for colour in _PALETTE for shade in _shades(colour)[1:])


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
    """The figure in the common look; height in pixels. What the figure sets itself stays. Returns the same figure."""
    return figure.update_layout(template=_template(dark), height=height, showlegend=legend)


@cache
def _template(dark: bool) -> go.layout.Template:
    """The common look. A template is checked by plotly once, not with every figure."""
    axis = {
        "gridcolor": faint(dark),
        "linecolor": faint(dark),
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 14}},
    }
    surface = "#1a232d" if dark else "#ffffff"
    page = "#10161d" if dark else "#ffffff"  # the themes' own, so that a picture saved from the figure can be read
    return go.layout.Template(
        layout={
            "paper_bgcolor": page,
            "plot_bgcolor": page,
            "font": {"family": '"Source Sans", Helvetica, Arial, sans-serif', "size": 14, "color": ink(dark)},
            "margin": {"l": 56, "r": 16, "t": 40, "b": 48},
            "hoverlabel": {"bgcolor": surface, "font": {"color": ink(dark), "size": 13}, "bordercolor": faint(dark)},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": faint_text(dark), "activecolor": ink(dark)},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
            "xaxis": axis,
            "yaxis": axis,
        }
    )
