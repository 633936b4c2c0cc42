"""Finding faces in a photo and cropping them as FER2013 does: square, tight, 48x48, grey.

The detector is OpenCV's: boosted cascades of Haar features (Viola and Jones, 2001), which ship inside its wheel. They are
fast and need no download. Two cascades scan the scaled photo and propose places; then frontal cascades look closely at
each, upright and turned a little either way, and profile cascades look for either side. Every window that agrees is a
vote, and a face is what gathers enough of them: alone, each takes folds and pebbles for faces. Where nothing is found
upright, the photo is turned and looked at again.

A YuNet file (Wu et al., 2023) that the user has downloaded takes the cascades' place where `FER_YUNET` names it.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from fer.errors import ConfigError

SIZE = 48  # pixels a side of every crop, as in FER2013
YUNET = "FER_YUNET"  # the environment variable that names a YuNet file

# Added on each side of a box, as a fraction of its longer side, so that a crop is cut as FER2013's are. Measured with OpenCV
# 4.14: 400 PublicTest faces enlarged to 96 to 192 px and pasted into four 640x480 textures; 293 were found upright. On every
# other one the true square's side is 1.044 times the box's in the median, its centre 0.006 to the left and 0.001 down, so
# nothing is shifted. On the other half the side is then off by 9 % in the mean (9.6 % without) and the centre by 5 %. The votes
# of today give 0.015 on train faces as on val; the difference, 1 % of a side that is off by 11 %, was left.
MARGIN = 0.022

Box = tuple[int, int, int, int]

_SCAN_SIDES = (192, 800)  # pixels: a photo with a shorter or longer long side is scaled to these before the scan
_SCAN_CASCADES = ("frontalface_default", "frontalface_alt")
_SCAN_STEP = 1.2  # ratio of the sizes tried one after the other
_SMALLEST = 32  # pixels, in the scaled photo: 4 % of a large photo's long side
_CLOSE_FRONTAL = ("frontalface_alt", "frontalface_alt2")
_CLOSE_TURNS = (0, -12, 12)  # degrees
_CLOSE_PROFILE = "profileface"  # sees one side; the mirrored photo shows the other
_CLOSE_FACE = 72  # pixels, what a proposed face measures in the close look
_CLOSE_STEP = 1.1
_CLOSE_RANGE = (0.64, 1.6)  # sizes tried there, times _CLOSE_FACE
_CLOSE_SURROUND = 0.45  # photo shown there on each side, times the proposal's side
_MOST_LOOKS = 40  # proposals looked at, those with the most windows first: a bound on the time that a busy photo takes
_MOST_VOTES = 60  # windows of one look that count
# Both chosen, like the scan, on 160 pasted train faces and 160 pictures without a face (of `face_finding.py --choose`): 78 % of
# these found, 1.3 and 2.5 false boxes in 100. From 8.25 to 9 that does not change; 9 leaves the tests' astronaut without a
# second face. benchmarks/README.md has the figures on photos that chose nothing.
_LEAST_SCORE = 9.0
_LEAST_TURNED = 12.0  # in a turned photo, which gives chance two more tries
_TURNS = (-20, 20)  # degrees: tried where nothing is found upright
_YUNET_SIDE = 1024  # pixels: the longer side of the photo that YuNet is shown
_YUNET_SCORE = 0.7  # of 1, the least that counts
_OVERLAP = 0.3  # intersection over union from which two boxes are one face

_cascades_lock = threading.Lock()  # an OpenCV cascade must not be used by two threads at once


@dataclass(frozen=True)
class Face:
    """A face found in a photo.

    box    x, y, width, height in pixels of the photo; x and y are the upper left corner. It is as it was found and may leave
           the photo, so that its centre is the face's; `clipped` gives what lies inside
    score  how many windows of all looks agreed on it, as a sum of logarithms; a clear face has 20 and more. Of YuNet its own
           score, 0 to 1. Not a probability of being a face
    angle  degrees by which to turn the photo anticlockwise around the box's centre so that the face stands upright
    """

    box: Box
    score: float
    angle: float = 0.0


def is_face_crop(image: np.ndarray) -> bool:
    """Whether the picture is exactly 48x48: already a face as the data sets have them, with nothing to look for."""
    return image.shape[:2] == (SIZE, SIZE)


def find_faces(image: np.ndarray) -> list[Face]:
    """The faces of a photo, biggest first; an empty list when there are none.

    image: (H, W) grey or (H, W, 3) RGB, uint8, already turned upright. Faces narrower than about 4 % of a large photo's
    long side are not looked for. May be called from several threads at once. Raises ValueError for any other array, and
    ConfigError where `FER_YUNET` names a file that is no YuNet.
    """
    _check(image)
    model = os.environ.get(YUNET)
    if model:
        with _cascades_lock:
            faces = _find_with_yunet(image, model)
    else:
        grey = _grey(image)
        with _cascades_lock:
            faces = _find_upright(grey) or _find_turned(grey)
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))


def crop_face(image: np.ndarray, box: Box, *, margin: float = MARGIN, angle: float = 0.0) -> np.ndarray:
    """(48, 48) uint8 grey: the square around the box, `margin` of the box's longer side wider on each side.

    image: (H, W) grey or (H, W, 3) RGB, uint8; angle: a `Face`'s. Where the square leaves the photo, the photo's edge
    pixels are repeated. Raises ValueError for any other array and for a square that is empty or lies wholly outside the photo.
    """
    _check(image)
    _x, _y, width, height = box
    left, top, side, _side = square_around(box, margin=margin)
    photo_height, photo_width = image.shape[:2]
    outside = left >= photo_width or top >= photo_height or left + side <= 0 or top + side <= 0
    if width < 1 or height < 1 or margin <= -0.5 or outside:
        raise ValueError(f"no pixel to crop: box {box}, margin {margin}, photo {photo_width}x{photo_height}")
    if angle:
        return _resize_square(_turned_square(image, left, top, side, angle))
    return _resize_square(_grey(_padded_square(image, left, top, side)))


def square_around(box: Box, *, margin: float = MARGIN) -> Box:
    """The square that `crop_face` cuts out: x, y, side, side, at least 1 pixel a side."""
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    return round(x + (width - side) / 2), round(y + (height - side) / 2), side, side


def same_face(a: Box, b: Box) -> bool:
    """Whether two boxes overlap so much that they are about one face."""
    return _overlap(a, b) > _OVERLAP


def clipped(box: Box, image: np.ndarray) -> Box:
    """The part of a box (x, y, width, height) that lies inside the photo (H, W, ...); 0 wide or high where there is none."""
    height, width = image.shape[:2]
    x0, y0 = min(max(0, box[0]), width), min(max(0, box[1]), height)
    x1, y1 = min(max(x0, box[0] + box[2]), width), min(max(y0, box[1] + box[3]), height)
    return x0, y0, x1 - x0, y1 - y0


def whole_face(image: np.ndarray) -> np.ndarray:
    """(48, 48) uint8 grey: the whole picture taken for a face, by the largest square in its centre.

    A wide or tall picture loses its two ends, so that the face is not squeezed. Arrays as in `crop_face`.
    """
    return crop_face(image, centre_square(image), margin=0.0)


def centre_square(image: np.ndarray) -> Box:
    """The largest square in the middle of a picture, x, y, side, side: what `whole_face` takes. Arrays as in `crop_face`."""
    _check(image)
    height, width = image.shape[:2]
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side, side


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


def _turned_square(image: np.ndarray, left: int, top: int, side: int, angle: float) -> np.ndarray:
    """The square turned around its centre, from a wider one, so that its corners hold what is in the photo."""
    wider = math.ceil(side * 0.25)
    part = _grey(_padded_square(image, left - wider, top - wider, side + 2 * wider))
    turned = _turn(part, angle)[0]
    return turned[wider : wider + side, wider : wider + side]


def _turn(grey: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned anticlockwise around its centre, and the (2, 3) matrix that leads back from it."""
    height, width = grey.shape
    there = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned = cv2.warpAffine(grey, there, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return turned, cv2.invertAffineTransform(there)


# --- cascades


def _find_upright(grey: np.ndarray) -> list[Face]:
    looks = [_look_closely(grey, *proposal) for proposal in _propose(grey)]
    return _without_overlaps([face for face in looks if face is not None])


def _find_turned(grey: np.ndarray) -> list[Face]:
    """Faces in the photo turned each way, in the pixels of the photo as it is."""
    scale = min(1.0, _SCAN_SIDES[1] / max(grey.shape))
    small = _resize(grey, max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    found = []
    for angle in _TURNS:
        turned, back = _turn(small, angle)
        for face in _find_upright(turned):
            x, y, width, height = face.box
            centre = back @ (x + width / 2, y + height / 2, 1.0)
            box = np.array([centre[0] - width / 2, centre[1] - height / 2, width, height]) / scale
            if face.score >= _LEAST_TURNED and _has_pixels(box, grey):
                found.append(replace(face, box=_rounded(box), angle=float(angle)))
    return _without_overlaps(found)


def _propose(grey: np.ndarray) -> list[tuple[Box, float]]:
    """Places in the photo worth a close look, with their votes: two cascades, coarse steps, over the scaled photo."""
    height, width = grey.shape
    shortest, longest = _SCAN_SIDES
    scale = min(max(max(height, width), shortest), longest) / max(height, width)
    scaled = _resize(grey, max(1, round(width * scale)), max(1, round(height * scale)))
    sizes = (_SMALLEST, max(scaled.shape))
    by_cascade = [_detect(name, scaled, _SCAN_STEP, sizes) for name in _SCAN_CASCADES]
    places = _without_overlaps([face for found in by_cascade for face in found])[:_MOST_LOOKS]
    return [(_moved(place.box, 1 / scale, 0, 0), _votes(by_cascade, place.box)[0]) for place in places]


def _look_closely(grey: np.ndarray, proposal: Box, votes: float) -> Face | None:
    """The face at this place, or None if too few windows find one there: in the photo's own pixels, fine steps."""
    x, y, side, _ = proposal
    surround = round(side * _CLOSE_SURROUND)
    left, top, wide = x - surround, y - surround, side + 2 * surround
    scale = _CLOSE_FACE / side
    part = _resize(_padded_square(grey, left, top, wide), *(max(1, round(wide * scale)),) * 2)
    middle = _moved((surround, surround, side, side), scale, 0, 0)
    score, boxes = _votes(_looks(part), middle)
    if votes + score < _LEAST_SCORE or not boxes:
        return None
    centres = [(b.box[0] + b.box[2] / 2, b.box[1] + b.box[3] / 2, b.box[2]) for b in boxes]
    across, down, size = np.average(centres, axis=0, weights=[b.score for b in boxes]) / scale
    box = np.array([left + across - size / 2, top + down - size / 2, size, size])
    return Face(_rounded(box), votes + score) if _has_pixels(box, grey) else None


def _looks(part: np.ndarray) -> list[list[Face]]:
    """What each look finds in the part, in the pixels of the part as it is."""
    sizes = (round(_CLOSE_FACE * _CLOSE_RANGE[0]), round(_CLOSE_FACE * _CLOSE_RANGE[1]))
    found = []
    for angle in _CLOSE_TURNS:
        turned, back = _turn(part, angle) if angle else (part, np.eye(2, 3))
        for name in _CLOSE_FRONTAL:
            found.append([_turned_back(face, back) for face in _detect(name, turned, _CLOSE_STEP, sizes)])
    found.append(_detect(_CLOSE_PROFILE, part, _CLOSE_STEP, sizes))
    mirrored = _detect(_CLOSE_PROFILE, np.ascontiguousarray(part[:, ::-1]), _CLOSE_STEP, sizes)
    found.append([replace(f, box=(part.shape[1] - f.box[0] - f.box[2], *f.box[1:])) for f in mirrored])
    return found


def _votes(looks: list[list[Face]], place: Box) -> tuple[float, list[Face]]:
    """How much the looks agree on a face at this place, and the box that each of them has for it."""
    here = [next((f for f in found if _overlap(f.box, place) > _OVERLAP), None) for found in looks]
    boxes = [face for face in here if face]
    return sum(math.log1p(min(_MOST_VOTES, face.score)) for face in boxes), boxes


def _turned_back(face: Face, back: np.ndarray) -> Face:
    x, y, width, height = face.box
    centre = back @ (x + width / 2, y + height / 2, 1.0)
    return replace(face, box=(round(centre[0] - width / 2), round(centre[1] - height / 2), width, height))


def _detect(cascade: str, grey: np.ndarray, step: float, sizes: tuple[int, int]) -> list[Face]:
    """What one cascade finds between two sizes in pixels, surest first; windows that agree are already one box."""
    smallest, largest = sizes
    boxes, counts = _cascade(cascade).detectMultiScale2(
        grey, scaleFactor=step, minNeighbors=1, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    faces = [
        Face((int(x), int(y), int(w), int(h)), float(count)) for (x, y, w, h), count in zip(boxes, counts, strict=True)
    ]
    return sorted(faces, key=lambda face: (-face.score, face.box))  # OpenCV's threads finish in any order


# --- YuNet


def _find_with_yunet(image: np.ndarray, model: str) -> list[Face]:
    height, width = image.shape[:2]
    scale = min(1.0, _YUNET_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
    detector = _yunet(model)
    detector.setInputSize(size)
    _count, rows = detector.detect(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA))
    boxes = [(face_square(row), float(row[-1])) for row in (() if rows is None else rows)]
    return [Face(_rounded(box / scale), score) for box, score in boxes if _has_pixels(box / scale, image)]


def face_square(row: np.ndarray) -> np.ndarray:
    """The square x, y, side, side that the cascades would draw, of one row of YuNet's answer: x, y, width, height of the
    face from brow to chin, then eyes, nose and mouth. The square has the same centre and the longer side."""
    x, y, width, height = (float(v) for v in row[:4])
    side = max(width, height)
    return np.array([x + (width - side) / 2, y + (height - side) / 2, side, side])


@lru_cache(maxsize=2)
def _yunet(model: str) -> cv2.FaceDetectorYN:
    """The detector of a YuNet file; to be used while holding the lock. Raises ConfigError."""
    if not Path(model).is_file():
        raise ConfigError(f"{YUNET} names '{model}', which is no file. Point it to a YuNet file (.onnx), or unset it.")
    try:
        detector = cv2.FaceDetectorYN.create(model, "", (320, 320), _YUNET_SCORE)
        detector.detect(np.zeros((320, 320, 3), np.uint8))  # any ONNX file can be opened; another network fails here
        return detector
    except cv2.error as error:
        raise ConfigError(
            f"{YUNET} names '{model}', which OpenCV cannot read as a YuNet network. Download it again, or unset {YUNET}."
        ) from error


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


def _has_pixels(box: np.ndarray, image: np.ndarray) -> bool:
    _x, _y, width, height = clipped(_rounded(box), image)
    return width > 0 and height > 0


def _rounded(box: np.ndarray) -> Box:
    """A box of fractions in whole pixels, each of its sides the nearest."""
    x0, y0 = round(float(box[0])), round(float(box[1]))
    return x0, y0, round(float(box[0] + box[2])) - x0, round(float(box[1] + box[3])) - y0


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    """One of OpenCV's face cascades; to be used while holding the lock."""
    loaded = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
    assert not loaded.empty(), f"OpenCV's wheel has no cascade {name}"
    return loaded
