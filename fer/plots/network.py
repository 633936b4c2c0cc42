"""A network as a picture: one box a layer, its height the map's size, its width the number of channels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from fer.plots.style import ink, lighten, styled

_SLOT, _MARGIN, _TALLEST, _WIDEST, _DEPTH = 100.0, 36.0, 100.0, 34.0, 0.38
_COLOURS = {"input": "#7a8794", "convolution": "#1f83c6", "pooling": "#e69f00", "linear": "#009e73", "other": "#8f6bd1"}
_MANY = {"convolution": "conv", "pooling": "pools"}
# These change neither the shape nor, to the eye, the plan; they are named with the layer that they follow.
_FOLLOWERS = (
    "ReLU",
    "LeakyReLU",
    "GELU",
    "SiLU",
    "Sigmoid",
    "Dropout",
    "Dropout2d",
    "BatchNorm2d",
    "Flatten",
    "Identity",
    "Residual",
    "ResidualBlock",
)


@dataclass(frozen=True)
class Stage:
    """One box of the picture: what it is, its output shape, and the layers that follow it without a box of their own."""

    family: str
    title: str
    shape: tuple[int, ...]
    num_params: int = 0
    detail: str = ""
    followers: tuple[str, ...] = ()


def stages(model: Mapping[str, Any]) -> list[Stage]:
    """The boxes of a network, input first; model: the content of `model.json`. Layers with a `stage` share its box."""
    found = [Stage("input", "Input", tuple(model["input_shape"]))]
    for name, group in groupby(model["layers"], lambda layer: layer.get("stage")):
        layers = list(group)
        found = [*found, _one_box(layers)] if name else _a_box_each(found, layers)
    return found


def _one_box(layers: list[Mapping[str, Any]]) -> Stage:
    """The box of a stage of many layers, with the shape that it hands on."""
    kinds = [family for family, _ in map(_family, layers)]
    main = next(family for family in ("convolution", "linear", "pooling", kinds[0]) if family in kinds)
    of_it = [layer for layer, family in zip(layers, kinds, strict=True) if family == main]
    title = _family(of_it[0])[1] if len(of_it) == 1 or main == "other" else f"{len(of_it)} {_MANY.get(main, main)}"
    detail = of_it[0]["detail"] if len(of_it) == 1 else f"stage {layers[0]['stage']}, {len(layers)} layers"
    shape, num_params = tuple(layers[-1]["output_shape"]), sum(layer["num_params"] for layer in layers)
    return Stage(main, title, shape, num_params, detail)


def _a_box_each(found: list[Stage], layers: Iterable[Mapping[str, Any]]) -> list[Stage]:
    """The boxes so far and those of these layers."""
    for layer in layers:
        if layer["kind"] in _FOLLOWERS:
            last = found[-1]
            found[-1] = replace(
                last, followers=(*last.followers, layer["kind"]), num_params=last.num_params + layer["num_params"]
            )
        else:
            family, title = _family(layer)
            found.append(Stage(family, title, tuple(layer["output_shape"]), layer["num_params"], layer["detail"]))
    return found


def network_picture(model: Mapping[str, Any], *, dark: bool) -> go.Figure:
    """The network drawn from left to right; under and over the boxes kind, output shape and parameters.

    model: the content of `model.json`. Neighbours are labelled on different sides, so that a narrow screen has room.
    """
    boxes = stages(model)
    figure = go.Figure()
    most_channels = max(s.shape[0] for s in boxes if len(s.shape) == 3)
    largest_map = max(s.shape[1] for s in boxes if len(s.shape) == 3)
    longest = max((s.shape[0] for s in boxes if len(s.shape) == 1), default=1)
    shapes: list[dict[str, Any]] = []
    centres = []
    for i, stage in enumerate(boxes):
        if len(stage.shape) == 3:
            width = 6 + _WIDEST * math.sqrt(stage.shape[0] / most_channels)
            height = max(7.0, _TALLEST * stage.shape[1] / largest_map)
            depth = _DEPTH * height
        else:
            width, height, depth = 9.0, max(10.0, _TALLEST * math.sqrt(stage.shape[0] / longest)), 5.0
        left = _SLOT * (i + 0.5) - (width + depth) / 2
        shapes += _cuboid(left, -(height + depth) / 2, width, height, depth, _COLOURS[stage.family], dark)
        centres.append(_SLOT * (i + 0.5))
    figure.add_scatter(
        x=centres,
        y=[0.0] * len(boxes),
        mode="markers",
        marker={"size": 34, "opacity": 0},
        customdata=[[s.title, _hover(s)] for s in boxes],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )
    styled(figure, dark=dark, height=330, legend=False)
    figure.update_layout(shapes=shapes, dragmode=False, margin={"l": 0, "r": 0, "t": 4, "b": 4})
    figure.update_xaxes(visible=False, range=[-_MARGIN, _SLOT * len(boxes) + _MARGIN], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-150, 150], fixedrange=True)
    for i, (stage, x) in enumerate(zip(boxes, centres, strict=True)):
        _label(figure, stage, x, below=i % 2 == 0, dark=dark)
    return figure


def unseen(model: Mapping[str, Any]) -> str:
    """A sentence on what of a picture never reaches the network's answer; '' where all does or nothing is known."""
    side = model.get("input_shape", [0])[-1]
    left_over = side - model.get("seen_side", side)
    if not left_over:
        return ""
    return f"Its pools leave the last {left_over} rows and columns of a picture over: it never looks at them."


def network_alt(model: Mapping[str, Any]) -> str:
    """The picture in words."""
    parts = [
        f"{s.title}, {_shape(s)}" + (f", {s.num_params:,} parameters" if s.num_params else "") for s in stages(model)
    ]
    return f"The network {model['name']}, layer by layer: " + "; ".join(parts) + "."


def _family(layer: Mapping[str, Any]) -> tuple[str, str]:
    kind, size = layer["kind"], layer["detail"].split(",")[0]
    if kind.startswith("Conv"):
        return "convolution", f"Conv {size}"
    if "Pool" in kind:
        return "pooling", f"Pool {size}".strip()
    if kind == "Linear":
        return "linear", "Linear"
    if kind == "PixelUnshuffle":
        return "other", f"Fold {size.split()[0]}"
    return "other", kind


def _shape(stage: Stage) -> str:
    return "x".join(str(n) for n in stage.shape)


def _hover(stage: Stage) -> str:
    lines = [f"output {_shape(stage)}", f"{stage.num_params:,} parameters" if stage.num_params else "no parameters"]
    if stage.detail:
        lines.insert(0, stage.detail)
    if stage.followers:
        lines.append("then " + ", ".join(stage.followers))
    return "<br>".join(lines)


def _label(figure: go.Figure, stage: Stage, x: float, *, below: bool, dark: bool) -> None:
    lines = [f"<b>{stage.title}</b>", _shape(stage), *([f"{stage.num_params:,}"] if stage.num_params else [])]
    figure.add_annotation(
        x=x,
        y=-78 if below else 78,
        text="<br>".join(lines),
        showarrow=False,
        yanchor="top" if below else "bottom",
        font={"size": 12, "color": ink(dark)},
        align="center",
    )


def _cuboid(
    x: float, y: float, width: float, height: float, depth: float, colour: str, dark: bool
) -> list[dict[str, Any]]:
    """Front, top and right side of a box whose lower left front corner is at (x, y)."""
    right, top = x + width, y + height
    faces = (
        (((x, y), (right, y), (right, top), (x, top)), lighten(colour, 0.05)),
        (((x, top), (right, top), (right + depth, top + depth), (x + depth, top + depth)), lighten(colour, 0.45)),
        (((right, y), (right + depth, y + depth), (right + depth, top + depth), (right, top)), lighten(colour, 0.28)),
    )
    line = {"width": 1, "color": "#10161d" if dark else "#ffffff"}
    return [
        {
            "type": "path",
            "path": "M " + " L ".join(f"{a:.2f},{b:.2f}" for a, b in corners) + " Z",
            "fillcolor": fill,
            "line": line,
        }
        for corners, fill in faces
    ]
