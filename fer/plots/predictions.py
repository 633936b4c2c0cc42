"""An answer about a photo as something to see: the boxed photo, the crop, the probabilities as bars, the label in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image, ImageDraw, ImageFont

from fer.plots.style import CLASS_COLOUR, ink, lighten, styled

# What is seen, not what is felt.
_LOOKS = {
    "angry": "looks angry",
    "disgust": "looks disgusted",
    "fear": "looks afraid",
    "happy": "looks happy",
    "neutral": "looks neutral",
    "sad": "looks sad",
    "surprise": "looks surprised",
}
_BOX, _OUTLINE = "#ffd23f", "#10161d"  # bright on dark, so that a box is seen on any photo
_VIEW_SIDE = 1280  # pixels: the longer side of a photo as it is shown
_BAR = 25  # pixels of height a class


def looks(label: str) -> str:
    """A class in words that claim only what is seen: 'looks happy', never 'is happy'."""
    return _LOOKS.get(label, f"looks like '{label}'")


def probability_bars(probs: Mapping[str, float], *, dark: bool) -> go.Figure:
    """One bar a class in the given order, so that faces can be compared; the most probable is dark and bold.

    probs: `{class: probability}`, 0 to 1; shown as per cent.
    """
    top = max(probs, key=probs.__getitem__)
    pale = "#3d5468" if dark else lighten(CLASS_COLOUR, 0.6)
    strong = "#4fa8e8" if dark else CLASS_COLOUR
    values = [100 * p for p in probs.values()]
    bars = go.Bar(
        x=values,
        y=list(probs),
        orientation="h",
        marker_color=[strong if c == top else pale for c in probs],
        text=[_bold(_percent(v), c == top) for c, v in zip(probs, values, strict=True)],
        textposition="outside",
        textfont={"color": ink(dark), "size": 13},
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
    )
    figure = styled(go.Figure(bars), dark=dark, height=12 + _BAR * len(probs), legend=False)
    figure.update_xaxes(range=[0, 122], visible=False, fixedrange=True)  # room for '100 %' behind the longest bar
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        fixedrange=True,
        tickvals=list(probs),
        ticktext=[_bold(c, c == top) for c in probs],
    )
    return figure.update_layout(bargap=0.28, margin={"l": 8, "r": 8, "t": 4, "b": 4})


def bars_alt(probs: Mapping[str, float]) -> str:
    """The bars in words, the most probable first."""
    ranked = sorted(probs.items(), key=lambda item: -item[1])
    return "Probabilities: " + ", ".join(f"{name} {_percent(100 * p)}" for name, p in ranked)


def boxed(photo: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> Image.Image:
    """The photo, its longer side at most 1,280 pixels, with a box around each face, numbered from 1.

    photo: (H, W) or (H, W, 3) uint8; boxes: x, y, width, height in its pixels. A box as large as the photo is not drawn.
    """
    view = Image.fromarray(photo).convert("RGB")
    view.thumbnail((_VIEW_SIDE, _VIEW_SIDE), Image.Resampling.LANCZOS)
    scale = view.width / photo.shape[1]
    draw = ImageDraw.Draw(view)
    line = max(2, round(max(view.size) / 300))
    for number, box in enumerate(boxes, start=1):
        if box[2:] != (photo.shape[1], photo.shape[0]):
            _draw_box(draw, [v * scale for v in box], str(number), line)
    return view


def enlarged(crop: np.ndarray, times: int = 4) -> Image.Image:
    """A crop (H, W) uint8 with every pixel shown as a square, as the network has it."""
    image = Image.fromarray(crop)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _draw_box(draw: ImageDraw.ImageDraw, box: Sequence[float], number: str, line: int) -> None:
    x, y, width, height = box
    corners = [x, y, x + width, y + height]
    draw.rectangle(corners, outline=_OUTLINE, width=2 * line)
    draw.rectangle([x + line / 2, y + line / 2, x + width - line / 2, y + height - line / 2], outline=_BOX, width=line)
    font = ImageFont.load_default(size=max(12.0, min(0.2 * height, 9.0 * line)))
    left, top, right, bottom = draw.textbbox((0, 0), number, font=font)
    draw.rectangle([x, y, x + right - left + 4 * line, y + bottom - top + 4 * line], fill=_BOX)
    draw.text((x + 2 * line - left, y + 2 * line - top), number, font=font, fill=_OUTLINE)


def _percent(value: float) -> str:
    return "<0.1\u00a0%" if 0 < value < 0.1 else f"{value:.1f}\u00a0%"


def _bold(text: str, strong: bool) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<b>{escaped}</b>" if strong else escaped
