"""How many faces are found, how many boxes hold none, and how far a box is from the square that FER2013 would have cut.

    python benchmarks/face_finding.py --data fer2013

Three sets of photos are made. FER2013's val faces, enlarged to 96 to 192 pixels, are pasted at known places into
scikit-image's textures; its astronaut is rescaled, lit and turned by up to 15 degrees; and parts of its pictures that show
no face are enlarged, lit and turned by quarters. The crop's margin and shift are fitted on the first half of the faces that
are found and judged on the second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import skimage.data
from skimage.io import imread

from benchmarks import machine
from fer.data.dataset import load
from fer.faces import Box, find_faces

TEXTURES = ("brick.png", "grass.png", "gravel.png", "coffee.png")
WITHOUT_FACES = (
    *TEXTURES,
    *("page.png", "rocket.jpg", "cell.png", "chelsea.png", "clock_motion.png", "color.png", "horse.png"),
    *("hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png"),
    *("retina.jpg", "text.png", "microaneurysms.png", "phantom.png", "chessboard_GRAY.png"),
)
ASTRONAUT = (176, 66, 98, 118)  # the astronaut's face by eye, hairline to chin


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fer2013", help="a prepared data set with FER2013's faces")
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faces, _labels = load(arguments.data).subset("val")
    pasted_result, pairs = judge(pasted(faces, arguments.faces, arguments.seed))
    results = {
        "benchmark": "face_finding",
        "pasted": pasted_result,
        "crop": fit(pairs),
        "astronaut": judge(astronauts(60, arguments.seed), least=0.3)[0],
        "without_faces": judge((photo, None) for photo in without_faces(arguments.faces, arguments.seed))[0],
        **machine.describe(),
    }
    print(json.dumps(results, indent=1))


def picture(name: str) -> np.ndarray:
    """One of scikit-image's own pictures, grey, uint8."""
    image = imread(Path(skimage.data.__file__).parent / name)
    return (cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image).astype(np.uint8)


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    smaller = width * height < image.size
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def lit(image: np.ndarray, gamma: float) -> np.ndarray:
    return (255 * (image / 255.0) ** gamma).astype(np.uint8)


def pasted(faces: np.ndarray, n: int, seed: int) -> Iterator[tuple[np.ndarray, Box]]:
    """(640x480 texture with one face in it, the square that the face fills)."""
    rng = np.random.default_rng(seed)
    for i, k in enumerate(rng.choice(len(faces), n, replace=False)):
        photo = resized(picture(TEXTURES[i % len(TEXTURES)]), 640, 480)
        side = int(rng.integers(96, 193))
        x, y = int(rng.integers(0, 640 - side)), int(rng.integers(0, 480 - side))
        photo[y : y + side, x : x + side] = resized(faces[k], side, side)
        yield photo, (x, y, side, side)


def astronauts(n: int, seed: int) -> Iterator[tuple[np.ndarray, Box]]:
    """(the astronaut rescaled to 0.5 to 2, lit with gamma 0.6 to 1.6, turned by up to 15 degrees; her face's box)."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        scale, angle = float(np.exp(rng.uniform(np.log(0.5), np.log(2)))), float(rng.uniform(-15, 15))
        x, y, width, height = ASTRONAUT
        turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, 1.0)
        photo = cv2.warpAffine(skimage.data.astronaut(), turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        photo = lit(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), rng.uniform(0.6, 1.6))
        yield photo, tuple(round(scale * v) for v in ASTRONAUT)  # type: ignore[misc]


def without_faces(n: int, seed: int) -> Iterator[np.ndarray]:
    """Parts of pictures that show no face, 640 pixels long, lit and turned by quarters."""
    rng = np.random.default_rng(seed + 5)
    for i in range(n):
        whole = picture(WITHOUT_FACES[i % len(WITHOUT_FACES)])
        height, width = (max(32, round(side * rng.uniform(0.35, 1))) for side in whole.shape)
        top, left = (int(rng.integers(0, max(1, a - b + 1))) for a, b in zip(whole.shape, (height, width), strict=True))
        part = np.rot90(whole[top : top + height, left : left + width], int(rng.integers(0, 4)) if i % 2 else 0)
        scale = 640 / max(part.shape)
        part = resized(np.ascontiguousarray(part), round(part.shape[1] * scale), round(part.shape[0] * scale))
        yield lit(part, rng.uniform(0.6, 1.5))


def judge(
    photos: Iterator[tuple[np.ndarray, Box | None]], least: float = 0.4
) -> tuple[dict[str, float], list[tuple[Box, Box]]]:
    """Found, false boxes and milliseconds a photo; and the (found box, true square) of each face that was found."""
    n = false = 0
    pairs, seconds = [], []
    for photo, true in photos:
        began = time.perf_counter()
        boxes = [face.box for face in find_faces(photo)]
        seconds.append(time.perf_counter() - began)
        hits = [box for box in boxes if true and overlap(box, true) > least]
        n, false = n + 1, false + len(boxes) - len(hits)
        pairs += [(hits[0], true)] if hits else []
    share = {"found": len(pairs) / n} if pairs else {}
    return {"n": n, **share, "false_boxes_per_photo": false / n, "median_ms": 1000 * float(np.median(seconds))}, pairs


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def fit(pairs: list[tuple[Box, Box]]) -> dict[str, float]:
    """The margin and shift that fit best on every other face, and the mean error of side and centre on the others."""
    found, true = (np.array(boxes, float) for boxes in zip(*pairs, strict=True))
    longer = found[:, 2:].max(axis=1)
    side = true[:, 2] / longer
    right = (true[:, 0] + true[:, 2] / 2 - found[:, 0] - found[:, 2] / 2) / longer
    down = (true[:, 1] + true[:, 3] / 2 - found[:, 1] - found[:, 3] / 2) / longer
    half, rest = slice(0, None, 2), slice(1, None, 2)
    size, x, y = (float(np.median(v[half])) for v in (side, right, down))
    errors = np.abs(side[rest] / size - 1), np.hypot(right[rest] - x, down[rest] - y)
    before = np.abs(side[rest] - 1), np.hypot(right[rest], down[rest])
    return {
        "margin": (size - 1) / 2,
        "shift_right": x,
        "shift_down": y,
        "side_error": float(errors[0].mean()),
        "centre_error": float(errors[1].mean()),
        "side_error_without": float(before[0].mean()),
        "centre_error_without": float(before[1].mean()),
        "n_fitted": len(side[half]),
        "n_judged": len(side[rest]),
    }


if __name__ == "__main__":
    main()
