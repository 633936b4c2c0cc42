"""Finding faces in a photo and cropping them as FER2013 does: square, tight, 48x48, grey.

The detector is OpenCV's: boosted cascades of Haar features (Viola and Jones, 2001), which ship inside its wheel. They are
fast and need no download; they see upright, roughly frontal faces only. One cascade scans the scaled photo and proposes
places, then three look closely at each, and a face is what at least two of them agree on: alone, each takes folds and
pebbles for faces.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SIZE = 48  # pixels a side of every crop, as in FER2013

# Added on each side of a box, as a fraction of its longer side, so that a crop is cut as FER2013's are. Measured with
# OpenCV 4.14: 300 PublicTest faces drawn at random, enlarged to 144 px and pasted into four 640x480 backgrounds; 194 were
# found (many are turned away or half covered). Box width over the face square's: mean 0.968, standard deviation 0.143; centre
# off by 0.003 to the right and 0.011 up (0.049, 0.045): under one pixel of 48, so nothing is shifted.
MARGIN = 0.016

Box = tuple[int, int, int, int]

_SCAN_SIDES = (192, 800)  # pixels: a photo with a shorter or longer long side is scaled to these before the scan
_SCAN_CASCADE = "alt2"  # takes the least for a face that is none
_SCAN_STEP = 1.2  # ratio of the sizes tried one after the other
_SMALLEST = 32  # pixels, in the scaled photo: 4 % of a large photo's long side
_CLOSE_CASCADES = ("alt2", "default", "alt")
_CLOSE_FACE = 72  # pixels, what a proposed face measures in the close look
_CLOSE_STEP = 1.1
_CLOSE_RANGE = (0.64, 1.6)  # sizes tried there, times _CLOSE_FACE
_CLOSE_SURROUND = 0.4  # photo shown there on each side, times the proposal's side
_AGREEING = 2  # cascades that must find a face before it counts
_LEAST_SCORE = 14  # against 6 it loses 2 in 100 pasted FER2013 faces, and half the false ones on photos without a face
_OVERLAP = 0.3  # intersection over union from which two boxes are one face

_cascades_lock = threading.Lock()  # an OpenCV cascade must not be used by two threads at once


@dataclass(frozen=True)
class Face:
    """A face found in a photo.

    box    x, y, width, height in pixels of the photo, inside it; x and y are the upper left corner
    score  how many windows of all cascades agreed on it, at least 14; a clear face has 40 to 200. Not a probability
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
    with _cascades_lock:
        looks = [_look_closely(grey, proposal) for proposal in _propose(grey)]
    faces = _without_overlaps([face for face in looks if face is not None])
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))


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


def _propose(grey: np.ndarray) -> list[Box]:
    """Places in the photo worth a close look: one cascade, coarse steps, over the scaled photo."""
    height, width = grey.shape
    shortest, longest = _SCAN_SIDES
    scale = min(max(max(height, width), shortest), longest) / max(height, width)
    scaled = _resize(grey, max(1, round(width * scale)), max(1, round(height * scale)))
    found = _detect(_SCAN_CASCADE, scaled, _SCAN_STEP, (_SMALLEST, max(scaled.shape)))
    return [_moved(face.box, 1 / scale, 0, 0) for face in _without_overlaps(found)]


def _look_closely(grey: np.ndarray, proposal: Box) -> Face | None:
    """The face at this place, or None if fewer than two cascades find one there: in the photo's own pixels, fine steps."""
    x, y, side, _ = proposal
    surround = round(side * _CLOSE_SURROUND)
    left, top = max(0, x - surround), max(0, y - surround)
    part = grey[top : y + side + surround, left : x + side + surround]
    scale = _CLOSE_FACE / side
    part = _resize(part, max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    sizes = (round(_CLOSE_FACE * _CLOSE_RANGE[0]), round(_CLOSE_FACE * _CLOSE_RANGE[1]))
    votes = []
    for name in _CLOSE_CASCADES:
        found = [
            Face(_moved(face.box, 1 / scale, left, top), face.score) for face in _detect(name, part, _CLOSE_STEP, sizes)
        ]
        votes += [face for face in found if _overlap(face.box, proposal) > _OVERLAP][:1]
    score = sum(vote.score for vote in votes)
    if len(votes) < _AGREEING or score < _LEAST_SCORE:
        return None
    mean = np.average([vote.box for vote in votes], axis=0, weights=[vote.score for vote in votes])
    return Face(_inside(mean, grey), score)


def _detect(cascade: str, grey: np.ndarray, step: float, sizes: tuple[int, int]) -> list[Face]:
    """What one cascade finds between two sizes in pixels, surest first; windows that agree are already one box."""
    smallest, largest = sizes
    boxes, counts = _cascade(cascade).detectMultiScale2(
        cv2.equalizeHist(grey),
        scaleFactor=step,
        minNeighbors=1,
        minSize=(smallest, smallest),
        maxSize=(largest, largest),
    )
    faces = [
        Face((int(x), int(y), int(w), int(h)), float(count)) for (x, y, w, h), count in zip(boxes, counts, strict=True)
    ]
    return sorted(faces, key=lambda face: (-face.score, face.box))  # OpenCV's threads finish in any order


def _without_overlaps(faces: list[Face]) -> list[Face]:
    """The surest of each heap of overlapping faces (non-maximum suppression), surest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.box)):
        if all(_overlap(face.box, other.box) <= _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _moved(box: Box, scale: float, left: int, top: int) -> Box:
    x, y, width, height = (round(value * scale) for value in box)
    return x + left, y + top, width, height


def _inside(box: np.ndarray, grey: np.ndarray) -> Box:
    """A box of fractions, rounded and clipped to the photo."""
    height, width = grey.shape
    x0, y0 = max(0, round(float(box[0]))), max(0, round(float(box[1])))
    x1, y1 = min(width, round(float(box[0] + box[2]))), min(height, round(float(box[1] + box[3])))
    return x0, y0, x1 - x0, y1 - y0


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    """One of OpenCV's frontal-face cascades; to be used while holding the lock."""
    loaded = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_{name}.xml")
    assert not loaded.empty(), f"OpenCV's wheel has no cascade {name}"
    return loaded
