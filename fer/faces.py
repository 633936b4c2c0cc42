"""Finding faces in a photo and cropping them as FER2013 does: square, tight, 48x48, grey.

The detector is OpenCV's: boosted cascades of Haar features (Viola and Jones, 2001), which ship inside its wheel. They are
fast and need no download; they see upright, roughly frontal faces only. One look over the shrunken photo proposes places,
then three cascades look closely at each, and a face is what at least two of them agree on: alone, each takes folds and
pebbles for faces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SIZE = 48  # pixels a side of every crop, as in FER2013

MARGIN = 0.025  # added on each side of a box, as a fraction of its longer side

Box = tuple[int, int, int, int]

_SCAN_SIDE = 800  # pixels on the long side of the photo that is scanned: a compromise of seconds and small faces
_SCAN_CASCADES = ("alt2", "default")
_SCAN_STEP = 1.25  # ratio of the sizes tried one after the other
_SMALLEST = 32  # pixels, in the scanned photo: 4 % of a large photo's long side
_CLOSE_CASCADES = ("alt2", "default", "alt")
_CLOSE_FACE = 72  # pixels, about what a proposed face measures in the close look
_CLOSE_STEP = 1.1
_AGREEING = 2  # cascades that must find a face before it counts
_OVERLAP = 0.4  # intersection over union from which two boxes are one face


@dataclass(frozen=True)
class Face:
    """A face found in a photo.

    box    x, y, width, height in pixels of the photo, inside it; x and y are the upper left corner
    score  how many windows of all cascades agreed on it: at least 4, above about 20 rarely wrong; not a probability
    """

    box: Box
    score: float


def is_face_crop(image: np.ndarray) -> bool:
    """Whether the picture is exactly 48x48: already a face as the data sets have them, with nothing to look for."""
    return image.shape[:2] == (SIZE, SIZE)


def find_faces(image: np.ndarray) -> list[Face]:
    """The upright, frontal faces of a photo, biggest first; an empty list when there are none.

    image: (H, W) grey or (H, W, 3) RGB, uint8, already turned upright. Faces narrower than about 4 % of a large photo's
    long side are not looked for. May be called from several threads at once. Raises ValueError for any other array.
    """
    grey = _grey(image)
    faces: list[Face] = []
    for proposal in _propose(grey):
        face = _look_closely(grey, proposal)
        if face is not None:
            faces.append(face)
    return sorted(_without_overlaps(faces), key=lambda face: face.box[2] * face.box[3], reverse=True)


def crop_face(image: np.ndarray, box: Box, *, margin: float = MARGIN) -> np.ndarray:
    """(48, 48) uint8 grey: the square around the box's centre, `margin` of the box's longer side wider on each side.

    image: (H, W) grey or (H, W, 3) RGB, uint8. Where the square leaves the photo, the photo's edge pixels are repeated.
    Raises ValueError for any other array and for a square that is empty or lies wholly outside the photo.
    """
    _check(image)
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
    photo_height, photo_width = image.shape[:2]
    outside = left >= photo_width or top >= photo_height or left + side <= 0 or top + side <= 0
    if width < 1 or height < 1 or margin <= -0.5 or outside:
        raise ValueError(f"no pixel to crop: box {box}, margin {margin}, photo {photo_width}x{photo_height}")
    return _resize_square(_grey(_padded_square(image, left, top, side)))


def whole_face(image: np.ndarray) -> np.ndarray:
    """(48, 48) uint8 grey: the whole picture taken for a face, by the largest square in its centre.

    A wide or tall picture loses its two ends, so that the face is not squeezed. Arrays as in `crop_face`.
    """
    _check(image)
    height, width = image.shape[:2]
    side = min(height, width)
    return _resize_square(_grey(_padded_square(image, (width - side) // 2, (height - side) // 2, side)))


def _check(image: np.ndarray) -> None:
    grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not grey_or_rgb or image.size == 0:
        raise ValueError(f"expected uint8 (H, W) or (H, W, 3), not empty; got {image.dtype} {image.shape}")


def _grey(image: np.ndarray) -> np.ndarray:
    _check(image)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _resize(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    shrinks = width * height < grey.size
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resize_square(grey: np.ndarray) -> np.ndarray:
    return _resize(grey, SIZE, SIZE)


def _padded_square(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The square, edge pixels repeated where it leaves the picture; at least one of its pixels is inside."""
    height, width = image.shape[:2]
    inside = image[max(top, 0) : top + side, max(left, 0) : left + side]
    above, before = max(-top, 0), max(-left, 0)
    below, after = max(top + side - height, 0), max(left + side - width, 0)
    return cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE)


def _cascade(name: str) -> cv2.CascadeClassifier:
    """This thread's own cascade: one object must not be used by two threads at once."""
    loaded = _own.__dict__
    if name not in loaded:
        loaded[name] = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_{name}.xml")
        assert not loaded[name].empty(), f"OpenCV's wheel has no cascade {name}"
    return loaded[name]


_own = threading.local()
