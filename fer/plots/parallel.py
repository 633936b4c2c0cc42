"""Settings and result of many runs in one figure: parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from fer.plots.style import ink, styled

_FEWEST, _MOST_AXES = 6, 8
RESULT = "best val top-1, %"


def parallel_coordinates(
    settings: Mapping[str, Sequence[Any]], top1: Sequence[float | None], *, dark: bool, height: int = 380
) -> go.Figure | None:
    """A line a run through its settings to its best val top-1; None where fewer than 6 runs have one, or nothing differs.

    settings: `{name: one value a run}`; numbers get an axis, words and none a place each. At most eight settings are
    shown: those first that the result goes with most.
    """
    known = [i for i, value in enumerate(top1) if value is not None]
    result = [100 * value for value in top1 if value is not None]
    columns = {name: [values[i] for i in known] for name, values in settings.items()}
    columns = {name: values for name, values in columns.items() if len(set(map(str, values))) > 1}
    if len(known) < _FEWEST or not columns:
        return None
    ordered = sorted(columns, key=lambda name: -_spread_between(columns[name], result))[:_MOST_AXES]
    dimensions = [_axis(name, columns[name]) for name in ordered]
    dimensions.append({"label": RESULT, "values": result, "tickformat": ".1f"})
    line = {"color": result, "colorscale": [[0.0, "#d55e00"], [0.5, "#8f9aa5"], [1.0, "#1f83c6"]]}
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line=line,
            labelfont={"color": ink(dark), "size": 13},
            tickfont={"color": ink(dark), "size": 12},
            rangefont={"color": "rgba(0,0,0,0)", "size": 1},
        )
    )
    styled(figure, dark=dark, height=height, legend=False)
    return figure.update_layout(margin={"l": 80, "r": 60, "t": 70, "b": 30})


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        ticks = sorted(set(values))
        few = {"tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks]} if len(ticks) <= 6 else {}
        return {"label": name, "values": list(values), **few}
    words = sorted({str(v) for v in values})
    places = [words.index(str(v)) for v in values]
    return {"label": name, "values": places, "tickvals": list(range(len(words))), "ticktext": words}


def _spread_between(values: Sequence[Any], result: Sequence[float]) -> float:
    """How far the mean results of a setting's values are apart."""
    of: dict[str, list[float]] = {}
    for value, top in zip(values, result, strict=True):
        of.setdefault(str(value), []).append(top)
    means = [sum(tops) / len(tops) for tops in of.values()]
    return max(means) - min(means)
