"""The built-in sample faces: 3,500 grey 48x48 pictures drawn by this module; everything works before any import.

They are synthetic. A face is an identity (head, skin, hair, eyes, nose, mouth, glasses, beard), an expression
(strengths of facial action units), a pose and a light, all drawn at random from the face's own generator. The action
units are those of the Facial Action Coding System (P. Ekman and W. V. Friesen, Consulting Psychologists Press, 1978);
which of them make which expression follows its emotion prototypes (W. V. Friesen and P. Ekman, EMFACS-7, 1983).

Pictures are polygons with integer corners, drawn four times too large and averaged down; light and noise follow in
whole grey levels. So the same pixels come out on every machine with the same Pillow and NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fer.data.dataset import CLASSES, SAMPLE, SIZE, SPLITS, Dataset
from fer.errors import DataError

VERSION = 1
SPLIT_SIZES = {"train": 2100, "val": 700, "test": 700}
# What is drawn, in per cent: uneven like FER2013, where disgust is rare, but less so.
CLASS_SHARES = {"angry": 14, "disgust": 8, "fear": 14, "happy": 18, "neutral": 16, "sad": 15, "surprise": 15}
WRONG_LABEL_SHARE = 0.045

ACTION_UNITS = {
    "AU1": "inner brow raiser",
    "AU2": "outer brow raiser",
    "AU4": "brow lowerer",
    "AU5": "upper lid raiser",
    "AU6": "cheek raiser",
    "AU7": "lid tightener",
    "AU9": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU15": "lip corner depressor",
    "AU16": "lower lip depressor",
    "AU17": "chin raiser",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
}
# Strength of each action unit, 0 to 1, in a face that shows the expression fully.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "angry": {"AU4": 1.0, "AU5": 0.4, "AU7": 0.7, "AU23": 0.7},
    "disgust": {"AU4": 0.35, "AU7": 0.4, "AU9": 1.0, "AU10": 0.9, "AU15": 0.3},
    "fear": {"AU1": 1.0, "AU2": 0.5, "AU4": 0.5, "AU5": 1.0, "AU20": 0.9, "AU25": 0.7},
    "happy": {"AU6": 0.8, "AU12": 1.0},
    "neutral": {},
    "sad": {"AU1": 0.9, "AU4": 0.5, "AU15": 1.0},
    "surprise": {"AU1": 0.9, "AU2": 1.0, "AU5": 0.8, "AU25": 0.8, "AU26": 1.0},
}
# What some faces add and others do not: (action unit, strength, share of faces).
VARIANTS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "angry": (("AU24", 0.9, 0.6), ("AU25", 0.7, 0.3), ("AU17", 0.5, 0.3)),
    "disgust": (("AU16", 0.6, 0.4), ("AU17", 0.7, 0.4), ("AU25", 0.6, 0.5)),
    "fear": (("AU26", 0.5, 0.4),),
    "happy": (("AU25", 0.9, 0.65), ("AU26", 0.35, 0.3)),
    "neutral": (("AU25", 0.25, 0.15), ("AU26", 0.1, 0.1)),
    "sad": (("AU17", 0.9, 0.5), ("AU7", 0.3, 0.3)),
    "surprise": (("AU5", 0.3, 0.4),),
}

_OVER = 4  # drawn this many times too large, then averaged down
_CANVAS = SIZE * _OVER
_CIRCLE = tuple((math.cos(math.tau * k / 24), math.sin(math.tau * k / 24)) for k in range(24))
_DISC = _CIRCLE[::2]
_ARC = tuple(k / 6 - 1 for k in range(13))  # -1 to 1, from the picture's left to its right
_HALF = tuple(k / 6 for k in range(7))  # 0 to 1, from the middle of the face outwards

# How often each kind occurs.
_HAIR_STYLES = {"short": 0.28, "fringe": 0.15, "parted": 0.16, "long": 0.2, "curly": 0.13, "bald": 0.08}
_GLASSES = {"none": 0.86, "thin": 0.08, "thick": 0.06}
_BEARDS = {"none": 0.76, "moustache": 0.06, "full": 0.09, "stubble": 0.09}
_OCCLUSIONS = {"nothing": 0.9, "strand": 0.04, "hand": 0.03, "edge": 0.03}
# The most that an action unit moves in a face without meaning anything.
_STRAY = {
    "AU1": 0.25,
    "AU2": 0.3,
    "AU4": 0.3,
    "AU5": 0.25,
    "AU7": 0.35,
    "AU12": 0.16,
    "AU15": 0.16,
    "AU20": 0.2,
    "AU24": 0.4,
}

Point = tuple[float, float]


# --- what varies from face to face


@dataclass(frozen=True)
class Identity:
    """What stays the same in one person. Lengths are in face units: half the height of the face is 1."""

    head_width: float
    jaw: float
    chin: float
    skin: int
    hair: int
    hair_style: str
    hairline: float
    eye_spacing: float
    eye_size: float
    eye_open: float
    eye_tilt: float
    iris: int
    brow_height: float
    brow_slant: float
    brow_thickness: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    mouth_curve: float
    lips: float
    lip_tone: float
    lines: float
    glasses: str
    beard: str


@dataclass(frozen=True)
class Pose:
    """Where the head is: turns in radians, scale in canvas pixels a face unit, centre in canvas pixels."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    centre: Point


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """One of the names, each as often as its share; the shares add up to 1."""
    chance = float(rng.random())
    for name, share in shares.items():
        chance -= share
        if chance < 0:
            return name
    return name


def _identity(rng: np.random.Generator) -> Identity:
    skin = int(rng.integers(100, 210))
    return Identity(
        head_width=_between(rng, 0.68, 0.83),
        jaw=_between(rng, 0.02, 0.24),
        chin=_between(rng, 0.92, 1.04),
        skin=skin,
        hair=int(rng.integers(18, 80)) if rng.random() < 0.7 or skin < 140 else int(rng.integers(110, 225)),
        hair_style=_pick(rng, _HAIR_STYLES),
        hairline=_between(rng, 0.56, 0.74),
        eye_spacing=_between(rng, 0.29, 0.36),
        eye_size=_between(rng, 0.88, 1.14),
        eye_open=_between(rng, 0.8, 1.2),
        eye_tilt=_between(rng, -0.02, 0.02),
        iris=int(rng.integers(25, 105)),
        brow_height=_between(rng, 0.215, 0.285),
        brow_slant=_between(rng, -0.025, 0.025),
        brow_thickness=_between(rng, 0.034, 0.058),
        nose_length=_between(rng, 0.28, 0.38),
        nose_width=_between(rng, 0.10, 0.155),
        mouth_width=_between(rng, 0.27, 0.33),
        mouth_height=_between(rng, 0.52, 0.60),
        mouth_curve=_between(rng, -0.02, 0.02),
        lips=_between(rng, 0.7, 1.4),
        lip_tone=_between(rng, 0.58, 0.82),
        lines=_between(rng, 0.4, 1.0),
        glasses=_pick(rng, _GLASSES),
        beard=_pick(rng, _BEARDS),
    )


def _pose(rng: np.random.Generator) -> Pose:
    scale = _OVER * _between(rng, 22.0, 24.5)
    shift = _OVER * 1.0
    return Pose(
        yaw=_between(rng, -0.25, 0.25),
        pitch=_between(rng, -0.12, 0.12),
        roll=_between(rng, -0.1, 0.1),
        scale=scale,
        centre=(_CANVAS / 2 + _between(rng, -shift, shift), _CANVAS * 0.51 + _between(rng, -shift, shift)),
    )


def _intensity(rng: np.random.Generator) -> float:
    """How strongly an expression is shown, 0.3 to 1; one face in ten is subtle."""
    return _between(rng, 0.3, 0.5) if rng.random() < 0.1 else _between(rng, 0.62, 1.0)


def action_units(expression: str, intensity: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """The strengths of all action units on the picture's left and right side of one face, 0 to about 1.2.

    `expression` is one of `CLASSES`, `intensity` 0 to 1. No two faces show an expression alike: strengths vary by a
    quarter, the sides by a tenth, variants come and go, and every face moves a little in ways that mean nothing.
    """
    strengths = dict.fromkeys(ACTION_UNITS, 0.0)
    strengths.update(EXPRESSIONS[expression])
    for unit, strength, share in VARIANTS[expression]:
        if rng.random() < share:
            strengths[unit] = max(strengths[unit], strength)
    noise = rng.random((len(strengths), 3))
    return {
        unit: _sides(strength * intensity * (0.75 + 0.5 * vary) + _STRAY.get(unit, 0.0) * stray * stray, side)
        for (unit, strength), (vary, stray, side) in zip(strengths.items(), noise.tolist(), strict=True)
    }


def _sides(strength: float, side: float) -> tuple[float, float]:
    tilt = 0.2 * (side - 0.5)
    return strength * (1 + tilt), strength * (1 - tilt)


# --- drawing


class _Pen:
    """Draws in face units: (0, 0) between the eyes and the nose, x to the right, y down, the chin near y = 1.

    `ink` takes the picture, `shade` the soft light and dark (128 changes nothing) that is blurred before use.
    """

    def __init__(self, pose: Pose, who: Identity, background: int) -> None:
        self.pose, self.who = pose, who
        self.image = Image.new("L", (_CANVAS, _CANVAS), background)
        self.shading = Image.new("L", (_CANVAS // 2, _CANVAS // 2), 128)
        self.ink, self.shade = ImageDraw.Draw(self.image), ImageDraw.Draw(self.shading)
        self._sin, self._cos = math.sin(pose.roll) * pose.scale, math.cos(pose.roll) * pose.scale

    def place(self, points: Sequence[Point], depth: float | None = None) -> list[tuple[int, int]]:
        """The canvas pixels of points; `depth` towards the viewer, by default that of the surface of the head."""
        yaw, pitch, (cx, cy) = self.pose.yaw, self.pose.pitch, self.pose.centre
        sin, cos, root, floor = self._sin, self._cos, math.sqrt, math.floor
        narrow, across = 1 - 0.45 * yaw * yaw, 1 / self.who.head_width**2
        cx, cy = cx + 0.5, cy + 0.5  # floor then rounds to the nearest
        pixels = []
        for x, y in points:  # the hot loop of this module
            if depth is None:
                left = 1 - across * x * x - 0.81 * y * y
                near = 0.5 * root(left) if left > 0 else 0.0
            else:
                near = depth
            x, y = x * narrow + near * yaw, y + near * pitch
            pixels.append((floor(cx + x * cos - y * sin), floor(cy + x * sin + y * cos)))
        return pixels

    def fill(self, points: Sequence[Point], grey: float, depth: float | None = None) -> None:
        """A filled outline."""
        self.ink.polygon(self.place(points, depth), fill=_grey(grey))

    def stroke(
        self, points: Sequence[Point], width: float, grey: float, taper: tuple[float, float] = (0.3, 0.3)
    ) -> None:
        """A line along the points, `width` wide in the middle; `taper` is the share of the width left at its ends."""
        self.fill(_ribbon(points, width, taper), grey)

    def soften(self, centre: Point, size: Point, level: int) -> None:
        """A soft patch on the shading: an ellipse of `level`, 128 for no change, above for light, below for dark."""
        (cx, cy), (rx, ry) = centre, size
        corners = self.place([(cx + rx * c, cy + ry * s) for c, s in _DISC])
        self.shade.polygon([(x // 2, y // 2) for x, y in corners], fill=level)


def _ribbon(points: Sequence[Point], width: float, taper: tuple[float, float]) -> list[Point]:
    """The outline of a line with a width that swells from its ends to its middle."""
    upper, lower = [], []
    last = len(points) - 1
    for k, (x, y) in enumerate(points):
        (x0, y0), (x1, y1) = points[max(k - 1, 0)], points[min(k + 1, last)]
        dx, dy = x1 - x0, y1 - y0
        t = k / last
        end = taper[0] if t < 0.5 else taper[1]
        half = 0.5 * width * (end + (1 - end) * 4 * t * (1 - t)) / (math.sqrt(dx * dx + dy * dy) or 1.0)
        upper.append((x - dy * half, y + dx * half))
        lower.append((x + dy * half, y - dx * half))
    return upper + lower[::-1]


def _grey(value: float) -> int:
    return min(255, max(0, math.floor(value + 0.5)))


def _mean(units: dict[str, tuple[float, float]]) -> dict[str, float]:
    return {unit: (left + right) / 2 for unit, (left, right) in units.items()}


def _ellipse(cx: float, cy: float, rx: float, ry: float) -> list[Point]:
    return [(cx + rx * c, cy + ry * s) for c, s in _CIRCLE]


def _outline(who: Identity, drop: float) -> list[Point]:
    """The head, ear to ear over the top and back under the chin; `drop` is how far the jaw hangs."""
    points = []
    for c, s in _CIRCLE:
        x = who.head_width * c * (1 - who.jaw * max(0.0, s) ** 2)
        points.append((x, (who.chin + drop) * s if s > 0 else 1.04 * s))
    return points


def _draw_behind(pen: _Pen, cloth: int) -> None:
    """Shoulders, neck, ears and the hair that hangs behind the head."""
    who, wide = pen.who, pen.who.head_width
    if who.hair_style == "long":
        crown = [(1.2 * wide * c, 1.16 * s) for c, s in _CIRCLE if s < 1e-9]
        pen.fill(
            [(-1.3 * wide, 1.3), (-1.22 * wide, 0.4), *sorted(crown), (1.22 * wide, 0.4), (1.3 * wide, 1.3)],
            who.hair * 0.85,
            0.0,
        )
    if who.hair_style == "curly":
        for c, s in _CIRCLE:
            if s < 0.35:
                pen.fill(_ellipse(wide * 1.03 * c, 0.98 * s - 0.05, 0.24, 0.24), who.hair * 0.9, 0.0)
    pen.fill([(-1.5, 1.9), (-1.3, 1.2), (-0.4, 1.02), (0.4, 1.02), (1.3, 1.2), (1.5, 1.9)], cloth, -0.1)
    pen.fill([(-0.4, 1.2), (-0.42, 0.6), (0.42, 0.6), (0.4, 1.2), (0, 1.32)], who.skin * 0.72, 0.0)
    for side in (-1, 1):
        pen.fill(_ellipse(side * wide * 1.02, 0.02, 0.09, 0.19), who.skin * 0.86, -0.1)


def _draw_head(pen: _Pen, drop: float) -> None:
    who = pen.who
    pen.fill(_outline(who, drop), who.skin, 0.0)
    for side in (-1, 1):
        pen.soften((side * who.eye_spacing, -0.16), (0.2, 0.15), 112)
        pen.soften((side * 0.36, 0.25), (0.17, 0.13), 136)
        pen.soften((side * who.head_width * 0.82, 0.55), (0.13, 0.3), 114)
    pen.soften((0.0, -0.62), (0.36, 0.2), 136)
    pen.soften((0.0, 0.84 + drop), (0.16, 0.09), 137)
    pen.soften((0.0, 0.05), (0.05, 0.22), 146)


def _draw_beard(pen: _Pen, drop: float) -> None:
    who = pen.who
    dark = min(0.8 * who.hair, 0.6 * who.skin)
    y, wide = who.mouth_height, who.head_width
    if who.beard in ("full", "stubble"):
        tone = dark if who.beard == "full" else 0.8 * who.skin + 0.2 * dark
        lower = sorted((px * 0.99, py) for px, py in _outline(who, drop) if py > 0.1)
        cheek = [(0.88 * wide, 0.18), (0.7 * wide, 0.5), (0.5 * wide, y + 0.02 + drop / 2), (0.2, y + 0.16 + drop)]
        pen.fill([*lower, *cheek, *[(-px, py) for px, py in cheek[::-1]]], tone)
        pen.fill(
            [(-0.12, y + 0.15 + drop), (0.12, y + 0.15 + drop), (0.08, y + 0.3 + drop), (-0.08, y + 0.3 + drop)], tone
        )
    if who.beard in ("full", "moustache"):
        y -= 0.1
        pen.fill(
            [(-0.27, y + 0.09), (-0.1, y - 0.05), (0, y - 0.03), (0.1, y - 0.05), (0.27, y + 0.09), (0, y + 0.05)], dark
        )


def _draw_eye(pen: _Pen, side: int, au: dict[str, float], gaze: Point) -> None:
    """One eye; `side` is -1 on the picture's left and 1 on its right."""
    who = pen.who
    cx, cy = side * who.eye_spacing, -0.13
    wide = 0.16 * who.eye_size
    squeeze = min(1.0, 0.55 * au["AU7"] + 0.35 * au["AU6"] + 0.3 * au["AU9"])
    top = 0.094 * who.eye_size * who.eye_open * (1 + 0.75 * au["AU5"] - 0.55 * squeeze)
    bottom = 0.058 * who.eye_size * (1 + 0.25 * au["AU5"] - 1.0 * squeeze)
    tilt = side * (who.eye_tilt + 0.035 * (au["AU4"] - au["AU1"]) + 0.02 * au["AU15"])

    def lid(t: float, height: float) -> float:
        return cy - tilt * t - height * (1 - t * t)

    upper = [(cx + wide * t, lid(t, top)) for t in _ARC]
    lower = [(cx + wide * t, lid(t, -bottom)) for t in _ARC]
    pen.fill(upper + lower[::-1], min(238, who.skin * 0.35 + 150))
    gx, gy = cx + gaze[0], cy - 0.012 + gaze[1]
    for radius, grey in ((0.082, who.iris), (0.04, who.iris * 0.25)):
        ring = []
        for c, s in _DISC:
            x = min(cx + wide, max(cx - wide, gx + radius * c))
            t = (x - cx) / wide
            ring.append((x, min(lid(t, -bottom), max(lid(t, top), gy + radius * s))))
        pen.fill(ring, grey)
    if top + bottom > 0.08:
        pen.fill(
            [(gx - 0.045, gy - 0.045), (gx - 0.012, gy - 0.045), (gx - 0.012, gy - 0.012), (gx - 0.045, gy - 0.012)],
            245,
        )
    pen.stroke(upper, 0.04, who.skin * 0.25, (0.6, 0.6))
    pen.stroke(lower, 0.018, who.skin * 0.62)
    crease = [(x, y - 0.045 - 0.02 * au["AU5"]) for x, y in upper[1:-1]]
    pen.stroke(crease, 0.02, who.skin * 0.7)
    if au["AU6"] + au["AU7"] > 0.35:  # the bag under the eye and the crow's feet
        fold = who.skin * (1 - 0.3 * who.lines * min(1.0, au["AU6"] + au["AU7"]))
        pen.stroke([(x, y + 0.045) for x, y in lower[1:-1]], 0.022, fold)
        for k in (-1, 1):
            pen.stroke(
                [(cx + side * (wide + 0.05), cy + 0.02 * k), (cx + side * (wide + 0.11), cy + 0.05 * k)],
                0.018,
                fold,
                (1, 1),
            )


def _draw_brow(pen: _Pen, side: int, au: dict[str, float]) -> None:
    who = pen.who
    inner, outer = who.eye_spacing - 0.17 - 0.045 * au["AU4"], who.eye_spacing + 0.2
    points = []
    for t in _HALF:
        y = -0.13 - who.brow_height - 0.05 * math.sqrt(max(0.0, 1 - (1.6 * t - 0.9) ** 2)) + who.brow_slant * (0.5 - t)
        y -= 0.17 * au["AU1"] * (1 - t) ** 1.5 + 0.15 * au["AU2"] * t
        y += au["AU4"] * (0.145 - 0.11 * t) + au["AU9"] * (0.08 - 0.04 * t) + 0.03 * au["AU7"]
        points.append((side * (inner + (outer - inner) * t), y + 0.03 * t * t))
    tone = 0.75 * who.hair + 0.1 * who.skin
    pen.stroke(points, who.brow_thickness * 1.7, min(tone, who.skin * 0.66), (0.7, 0.25))
    pen.soften((side * (inner + 0.02), points[0][1] + 0.07), (0.07, 0.05), _grey(122 - 22 * au["AU4"]))


def _draw_frown(pen: _Pen, au: dict[str, float]) -> None:
    """The lines on forehead, between the brows and on the nose."""
    who = pen.who
    raised = min(au["AU1"], 1.0)
    if raised > 0.3:
        half = 0.14 + 0.26 * min(au["AU2"], 1.0)
        for k in range(3):
            line = [(half * t, -0.62 - 0.085 * k + 0.03 * t * t) for t in _ARC]
            pen.stroke(line, 0.022, who.skin * (1 - 0.3 * who.lines * raised))
    if au["AU4"] > 0.25:
        dark = who.skin * (1 - 0.5 * who.lines * min(1.0, au["AU4"]))
        for side in (-1, 1):
            pen.stroke([(side * 0.05, -0.42), (side * 0.045, -0.33), (side * 0.06, -0.24)], 0.028, dark)
    if au["AU9"] > 0.25:
        dark = who.skin * (1 - 0.42 * min(1.0, au["AU9"]))
        for y in (-0.16, -0.08, 0.0):
            pen.stroke([(-0.1, y - 0.03), (0.0, y + 0.015), (0.1, y - 0.03)], 0.026, dark)


def _draw_nose(pen: _Pen, au: dict[str, float]) -> None:
    who, wide = pen.who, pen.who.nose_width * (1 + 0.25 * au["AU9"] + 0.12 * au["AU12"])
    tip = who.nose_length - 0.05 * au["AU9"]
    turn = 1 if pen.pose.yaw >= 0 else -1
    pen.stroke([(-turn * 0.06, -0.12), (-turn * 0.055, 0.05), (-turn * 0.085, tip - 0.06)], 0.03, who.skin * 0.8)
    for side in (-1, 1):
        wing = [(side * wide * 0.75, tip - 0.08), (side * wide * 1.05, tip - 0.01), (side * wide * 0.7, tip + 0.045)]
        pen.stroke(wing, 0.028, who.skin * 0.66)
        pen.fill(_ellipse(side * wide * 0.5, tip + 0.03, 0.042, 0.022), who.skin * 0.3)
    pen.stroke([(-0.05, tip + 0.055), (0.0, tip + 0.07), (0.05, tip + 0.055)], 0.022, who.skin * 0.7)


@dataclass(frozen=True)
class _Mouth:
    """The four lines of a mouth, from the picture's left to its right: outer and inner edge of both lips."""

    top: list[Point]
    upper: list[Point]
    lower: list[Point]
    bottom: list[Point]
    gap: float


def _mouth(who: Identity, au: dict[str, float], units: dict[str, tuple[float, float]]) -> _Mouth:
    tight = min(1.0, 0.55 * au["AU23"] + 0.65 * au["AU24"])
    half = who.mouth_width * (1 + 0.3 * au["AU12"] + 0.3 * au["AU20"] - 0.16 * au["AU23"] - 0.22 * au["AU26"])
    gap = 0.085 * au["AU25"] + 0.31 * au["AU26"] + 0.08 * au["AU16"]
    lift = 0.075 * au["AU10"] + 0.03 * au["AU9"]
    push = 0.05 * au["AU17"]
    lines: tuple[list[Point], ...] = ([], [], [], [])
    for t in _ARC:
        side = 0 if t < 0 else 1
        pull, press, stretch = units["AU12"][side], units["AU15"][side], units["AU20"][side]
        corner = -0.14 * pull + 0.135 * press + 0.025 * stretch - who.mouth_curve
        body = (1 - t * t) if au["AU20"] < 0.4 else (1 - t**4)  # a stretched mouth is a box, not an almond
        y = who.mouth_height + corner * abs(t) ** 1.6 + 0.03 * pull * (1 - t * t) - 0.01 * press
        upper = y - (lift + 0.2 * gap + push) * body
        lower = upper + gap * body + 0.006
        bow = 0.062 * who.lips * (1 - 0.8 * tight) * (1 - t * t) * (0.72 + 0.28 * min(1.0, 3 * abs(t)))
        full = 0.085 * who.lips * (1 - 0.75 * tight) * (1 - t * t) * (1 + 0.4 * au["AU17"])
        for line, at in zip(lines, (upper - bow, upper, lower, lower + full), strict=True):
            line.append((half * t, at))
    return _Mouth(*lines, gap=gap)


def _draw_mouth(pen: _Pen, au: dict[str, float], units: dict[str, tuple[float, float]]) -> None:
    who, mouth = pen.who, _mouth(pen.who, au, units)
    tone = who.skin * who.lip_tone
    pen.fill(mouth.top + mouth.upper[::-1], tone * 0.9)
    pen.fill(mouth.lower + mouth.bottom[::-1], tone)
    if mouth.gap > 0.03:
        pen.fill(mouth.upper + mouth.lower[::-1], 28)
        _draw_teeth(pen, mouth, au)
    else:
        pen.stroke(mouth.upper, 0.036, who.skin * 0.28, (0.5, 0.5))
    corner = 0.2 + 0.6 * max(au["AU12"], au["AU15"], au["AU20"])
    for (x, y), side in ((mouth.upper[0], -1), (mouth.upper[-1], 1)):
        pen.stroke(
            [(x - side * 0.02, y - 0.015), (x + side * 0.015, y), (x + side * 0.02, y + 0.025 + 0.04 * au["AU15"])],
            0.03,
            who.skin * (1 - 0.55 * min(1.0, corner)),
        )
    low = mouth.bottom[6][1]
    pen.soften((0.0, low + 0.06), (0.15, 0.035), 104)
    if au["AU17"] > 0.3:
        for k in (-1, 0, 1):
            pen.stroke([(0.07 * k - 0.03, low + 0.1), (0.07 * k + 0.02, low + 0.14)], 0.024, who.skin * 0.7, (1, 1))


def _draw_teeth(pen: _Pen, mouth: _Mouth, au: dict[str, float]) -> None:
    """The upper row where the upper lip leaves it bare, the lower row where the lower lip does."""
    row = min(0.075, 0.6 * mouth.gap) if au["AU12"] + au["AU10"] + au["AU20"] + au["AU23"] > 0.25 else 0.03
    inside = slice(1, -1)
    upper, lower = mouth.upper[inside], mouth.lower[inside]
    edge = [(x, min(y + row, low)) for (x, y), (_, low) in zip(upper, lower, strict=True)]
    pen.fill(upper + edge[::-1], 222)
    if au["AU16"] + au["AU20"] > 0.5:
        edge = [(x, max(y - 0.35 * mouth.gap, top)) for (x, y), (_, top) in zip(lower, upper, strict=True)]
        pen.fill(lower + edge[::-1], 196)
    if au["AU26"] > 0.5:
        pen.fill(_ellipse(0.0, mouth.lower[6][1] - 0.035, 0.1, 0.035), 92)


def _draw_cheeks(pen: _Pen, au: dict[str, float]) -> None:
    """The fold from the nose to the corner of the mouth, and the raised cheek."""
    who = pen.who
    depth = min(1.0, max(0.6 * au["AU12"], 0.9 * au["AU10"], 0.9 * au["AU9"], 0.4 * au["AU15"]))
    for side in (-1, 1):
        if depth > 0.15:
            wide = who.mouth_width * (1 + 0.3 * au["AU12"]) + 0.07
            start = (side * (who.nose_width + 0.04), who.nose_length - 0.04 - 0.03 * au["AU9"])
            middle = (side * (0.55 * wide + 0.1), who.nose_length + 0.08)
            end = (side * wide, who.mouth_height - 0.08 * au["AU12"] + 0.03 * au["AU15"])
            pen.stroke([start, middle, end], 0.032, who.skin * (1 - 0.4 * depth * (0.5 + 0.5 * who.lines)))
        if au["AU6"] > 0.2:
            pen.soften((side * 0.4, 0.17), (0.16, 0.1), _grey(136 + 12 * au["AU6"]))


def _draw_hair(pen: _Pen) -> None:
    who, wide, style = pen.who, pen.who.head_width, pen.who.hair_style
    if style == "bald":
        pen.soften((-0.15, -0.8), (0.25, 0.12), 146)
        return
    outer = [(1.06 * wide * c, 1.13 * s + 0.02) for c, s in _CIRCLE if s <= 1e-9]
    line = 0.5 if style == "fringe" else who.hairline
    inner = []
    for t in _ARC[::-1]:
        y = -line * (1 - t**6)
        if style == "parted":
            y -= 0.16 * (t + 0.35) * (t < 0.4) - 0.06
        if style == "fringe":
            y += 0.05 * math.sin(9 * t)
        inner.append((0.93 * wide * t, min(0.05, y)))
    pen.fill([(-1.06 * wide, 0.12), *sorted(outer), (1.06 * wide, 0.12), *inner], who.hair, 0.1)
    shine = [(0.6 * wide * t - 0.1, -0.98 + 0.12 * t * t) for t in _ARC]
    pen.stroke(shine, 0.06, who.hair + 26)


def _draw_glasses(pen: _Pen) -> None:
    who = pen.who
    if who.glasses == "none":
        return
    width, tone = (0.03, 70) if who.glasses == "thin" else (0.055, 25)
    for side in (-1, 1):
        rim = _ellipse(side * (who.eye_spacing + 0.01), -0.12, 0.225, 0.175)
        pen.stroke([*rim, rim[0]], width, tone, (1, 1))
        pen.stroke([(side * (who.eye_spacing + 0.23), -0.15), (side * who.head_width, -0.17)], width, tone, (1, 1))
    pen.stroke([(-who.eye_spacing + 0.215, -0.14), (0, -0.17), (who.eye_spacing - 0.215, -0.14)], width, tone, (1, 1))


def _draw_occlusion(pen: _Pen, rng: np.random.Generator) -> None:
    """One picture in ten has something in the way: a strand of hair, a hand, or the edge of something near."""
    kind = _pick(rng, _OCCLUSIONS)
    side = 1 if rng.random() < 0.5 else -1
    if kind == "strand":
        points = [(side * 0.15, -1.0), (side * _between(rng, 0.3, 0.5), -0.45), (side * 0.5, -0.05), (side * 0.58, 0.4)]
        pen.stroke(points, 0.17, pen.who.hair, (0.8, 0.2))
    elif kind == "hand":
        x, y = side * _between(rng, 0.45, 0.6), _between(rng, 0.5, 0.7)
        for k in range(4):
            pen.stroke(
                [(x + side * 0.5, y + 0.6), (x + side * 0.1, y + 0.14 * k), (x - side * 0.1, y - 0.1 + 0.13 * k)],
                0.13,
                pen.who.skin * (0.82 + 0.05 * k),
                (1, 0.7),
            )
    elif kind == "edge":
        x, grey = side * _between(rng, 0.45, 0.8), _between(rng, 20, 200)
        pen.fill([(x, -2), (x + side * 0.15, 2), (side * 2, 2), (side * 2, -2)], grey, 0.0)


# --- light and camera


def _lit(pen: _Pen, rng: np.random.Generator) -> np.ndarray:
    """The picture averaged down and lit from one side, (48, 48) int64, 0 to 255 and a little beyond."""
    flat = np.asarray(pen.image.reduce(_OVER), dtype=np.int64)
    soft = np.asarray(pen.shading.reduce(_OVER // 2).filter(ImageFilter.BoxBlur(1)), dtype=np.int64)
    across, down = _between(rng, -1.0, 1.0), _between(rng, -0.7, 0.3)
    (cx, cy), scale = pen.pose.centre, pen.pose.scale / _OVER
    steps = np.arange(SIZE)
    u = ((steps - cx / _OVER) / (scale * pen.who.head_width * 1.1))[None, :]
    v = ((steps - cy / _OVER) / (scale * 1.15))[:, None]
    far = np.maximum(1.0, np.sqrt(u * u + v * v))
    u, v = u / far, v / far
    light = 0.6 * np.sqrt(np.maximum(0.0, 1 - u * u - v * v)) + 0.36 * (across * u + down * v) + 0.55
    level = np.rint(np.clip(light, 0.35, 1.25) * 256).astype(np.int64)
    return (flat * soft * level) // (128 * 256)


def _exposed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast, brightness, focus and sensor noise of one camera; (48, 48) uint8."""
    contrast, brightness = int(rng.integers(205, 300)), int(rng.integers(-14, 20))
    picture = np.clip(((picture - 118) * contrast) // 256 + 118 + brightness, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(0.2)))
    strength = int(rng.integers(1, 6))
    noise = rng.integers(-strength, strength + 1, (2, SIZE, SIZE)).sum(axis=0)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def draw_face(expression: str, rng: np.random.Generator, intensity: float | None = None) -> np.ndarray:
    """One synthetic face, (48, 48) uint8.

    `expression` is one of `CLASSES`; `rng` decides everything else; `intensity` is how strongly the expression shows,
    0 (not at all) to 1, by default drawn at random. Raises DataError.
    """
    if expression not in EXPRESSIONS:
        raise DataError(f"There is no expression '{expression}'. Allowed: {', '.join(CLASSES)}.")
    if intensity is not None and not 0 <= intensity <= 1:
        raise DataError(f"An expression cannot have the intensity {intensity}. Choose a number from 0 to 1.")
    drawn = _intensity(rng)  # drawn in any case, so that a given intensity changes nothing else
    units = action_units(expression, drawn if intensity is None else intensity, rng)
    pen = _Pen(_pose(rng), _identity(rng), int(rng.integers(25, 215)))
    _draw_person(pen, units, rng)
    _draw_occlusion(pen, rng)
    return _exposed(_lit(pen, rng), rng)


def _draw_person(pen: _Pen, units: dict[str, tuple[float, float]], rng: np.random.Generator) -> None:
    """Everything that belongs to the person, from back to front."""
    au = _mean(units)
    drop = 0.15 * au["AU26"] - 0.02 * au["AU17"]
    gaze = (_between(rng, -0.045, 0.045), _between(rng, -0.015, 0.025))
    _draw_behind(pen, int(rng.integers(20, 220)))
    _draw_head(pen, drop)
    _draw_beard(pen, drop)
    _draw_cheeks(pen, au)
    _draw_frown(pen, au)
    _draw_nose(pen, au)
    for side in (-1, 1):
        own = {unit: pair[side > 0] for unit, pair in units.items()}
        _draw_eye(pen, side, own, gaze)
        _draw_brow(pen, side, own)
    _draw_mouth(pen, au, units)
    _draw_glasses(pen)
    _draw_hair(pen)


# --- the data set


def _expressions(split: str) -> np.ndarray:
    """What each face of one split shows, (n,) int64 class indices in random order, with the shares of CLASS_SHARES."""
    counts = [SPLIT_SIZES[split] * CLASS_SHARES[name] // 100 for name in CLASSES]
    shown = np.repeat(np.arange(len(CLASSES)), counts)
    return np.random.default_rng((VERSION, SPLITS.index(split), 1)).permutation(shown)


def _mislabelled(split: str, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of one split with a few wrong ones, and the positions of these; (n,) and (m,) int64."""
    rng = np.random.default_rng((VERSION, SPLITS.index(split), 2))
    wrong = np.sort(rng.choice(len(shown), round(len(shown) * WRONG_LABEL_SHARE), replace=False))
    labels = shown.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    return labels, wrong


def _meta(wrong: list[int], total: int) -> dict[str, Any]:
    spec = {"dimensions": f"{SIZE} x {SIZE}", "resolution": "not stated", "bit_depth": "8-bit grey", "format": "drawn"}
    return {
        "synthetic": True,
        "origin": "drawn by FER Lab",
        "version": VERSION,
        "spec": {key: {value: total} for key, value in spec.items()},
        "wrong_labels": wrong,
    }


def draw_sample() -> Dataset:
    """The data set `sample`: 2,100 train, 700 val and 700 test faces, the same at every call.

    Each face has its own generator, so no face depends on another. About 4.5 per cent of the labels in each split are
    wrong on purpose; `meta["wrong_labels"]` lists their positions, and `sources` follow the label as a folder would.
    """
    shown = {split: _expressions(split) for split in SPLITS}
    labelled = {split: _mislabelled(split, shown[split]) for split in SPLITS}
    starts = np.cumsum([0, *(len(shown[split]) for split in SPLITS)])
    labels = np.concatenate([labelled[split][0] for split in SPLITS])
    splits = np.repeat(np.arange(len(SPLITS), dtype=np.uint8), [len(shown[split]) for split in SPLITS])
    wrong = np.concatenate([labelled[split][1] + start for split, start in zip(SPLITS, starts, strict=False)])
    drawn = np.concatenate([shown[split] for split in SPLITS])
    images = np.stack([draw_face(CLASSES[k], np.random.default_rng((VERSION, i))) for i, k in enumerate(drawn)])
    sources = np.array(
        [f"{SPLITS[s]}/{CLASSES[k]}/{i:06d}" for i, (s, k) in enumerate(zip(splits, labels, strict=True))]
    )
    return Dataset(SAMPLE, images, labels, splits, sources, CLASSES, _meta(wrong.tolist(), len(labels)))
