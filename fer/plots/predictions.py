"""An answer about a photo as something to see: the boxed photo, the crop, the probabilities as bars, the label in words."""

from __future__ import annotations

import base64
import io
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
_COLD, _HOT = np.array([120.0, 20.0, 90.0]), np.array([255.0, 220.0, 40.0])  # RGB: dark purple to yellow
_BAR = 25  # pixels of height a class


def looks(label: str) -> str:
    """A class in words that claim only what is seen: 'looks happy', never 'is happy'."""
    return _LOOKS.get(label, f"looks like '{label}'")


def says(label: str, unsure: bool) -> str:
    """The answer in words: 'looks happy', or 'unsure' where the probabilities do not support a label."""
    return "unsure" if unsure else looks(label)


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

    photo: (H, W) or (H, W, 3) uint8; boxes: x, y, width, height in its pixels. A box that is the whole photo is not drawn.
    """
    view = Image.fromarray(photo).convert("RGB")
    view.thumbnail((_VIEW_SIDE, _VIEW_SIDE), Image.Resampling.LANCZOS)
    scale = view.width / photo.shape[1]
    line = max(2, round(max(view.size) / 300))
    for number, box in enumerate(boxes, start=1):
        if tuple(box) != (0, 0, photo.shape[1], photo.shape[0]):
            _draw_box(view, [v * scale for v in box], str(number), line)
    return view


def board(view: bytes, size: tuple[int, int], shown: tuple[int, int]) -> go.Figure:
    """A photo on which a box can be drawn with the mouse; what is selected is in the photo's own pixels, y downwards.

    view: the photo as JPEG; size: its width and height in its own pixels; shown: those on the screen.
    """
    width, height = size
    corners = go.Scatter(  # plotly tells of a selection only where there is a point to select
        x=[0, width], y=[0, height], mode="markers", marker={"opacity": 0}, hoverinfo="skip", showlegend=False
    )
    figure = go.Figure(corners)
    figure.add_layout_image(
        source="data:image/jpeg;base64," + base64.b64encode(view).decode(),
        xref="x",
        yref="y",
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
    )
    figure.update_xaxes(range=[0, width], visible=False, fixedrange=True, constrain="domain")
    figure.update_yaxes(
        range=[height, 0], visible=False, fixedrange=True, scaleanchor="x", constrain="domain", constraintoward="top"
    )
    line = {"color": _BOX, "width": 3}
    return figure.update_layout(
        width=shown[0],
        height=shown[1],
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode="select",
        newselection={"line": line},
        activeselection={"fillcolor": _BOX, "opacity": 0.2},
    )


def annotated(
    photo: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], words: Sequence[tuple[str, bool]]
) -> bytes:
    """The photo in its own size as PNG, each face with its box, its number and its label in words.

    words: (label, whether unsure) for each box. A box that is the whole photo is not drawn; nothing but pixels is written.
    """
    view = Image.fromarray(photo).convert("RGB")
    line = max(2, round(max(view.size) / 400))
    for number, (box, (label, unsure)) in enumerate(zip(boxes, words, strict=True), start=1):
        if tuple(box) != (0, 0, *view.size):
            _draw_box(view, box, f"{number} {says(label, unsure)}", line)
    content = io.BytesIO()
    view.save(content, "PNG", compress_level=4)
    return content.getvalue()


def heat_over(crop: np.ndarray, heat: np.ndarray, times: int = 4) -> Image.Image:
    """The crop (H, W) uint8 with a map (H, W), 0 to 1, laid over it: the more yellow a place, the more it speaks for the label."""
    side = crop.shape[1] * times, crop.shape[0] * times
    grey = np.asarray(Image.fromarray(crop).resize(side, Image.Resampling.BICUBIC), np.float32)[..., None]
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))[..., None]
    strength = 0.75 * np.clip(smooth, 0, 1)
    colour = _COLD + (_HOT - _COLD) * np.clip(smooth, 0, 1)
    return Image.fromarray(np.rint((1 - strength) * grey + strength * colour).astype(np.uint8))


def enlarged(crop: np.ndarray, times: int = 4) -> Image.Image:
    """A crop (H, W) uint8 with every pixel shown as a square, as the network has it."""
    image = Image.fromarray(crop)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _draw_box(view: Image.Image, box: Sequence[float], label: str, line: int) -> None:
    """The box, and the label in its upper left corner, moved and, where it must be, made smaller to stay in the picture."""
    draw = ImageDraw.Draw(view)
    x, y, width, height = box
    corners = [x, y, x + width, y + height]
    draw.rectangle(corners, outline=_OUTLINE, width=2 * line)
    inset = min(line, width, height) / 2  # a box narrower than its line is a dot
    left, top = x + inset, y + inset
    right, bottom = max(left, x + width - inset), max(top, y + height - inset)
    draw.rectangle([left, top, right, bottom], outline=_BOX, width=line)
    size, room = max(12.0, min(0.2 * height, 9.0 * line)), view.width - 1 - 4 * line
    font = ImageFont.load_default(size=size)
    if (long := font.getlength(label)) > room:
        font = ImageFont.load_default(size=max(1.0, size * room / long))
    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    wide, high = right - left + 4 * line, bottom - top + 4 * line
    x, y = max(0, min(x, view.width - 1 - wide)), max(0, min(y, view.height - 1 - high))
    draw.rectangle([x, y, x + wide, y + high], fill=_BOX)
    draw.text((x + 2 * line - left, y + 2 * line - top), label, font=font, fill=_OUTLINE)


def _percent(value: float) -> str:
    return "<0.1\u00a0%" if 0 < value < 0.1 else f"{value:.1f}\u00a0%"


def _bold(text: str, strong: bool) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<b>{escaped}</b>" if strong else escaped
