"""A trained network asked about a picture: uint8 in, probabilities out."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer.errors import FerError, ImageError, RunError
from fer.evaluate import Scorer
from fer.faces import MARGIN, Box, Face, centre_square, clipped, crop_face, find_faces, is_face_crop, square_around
from fer.images import EXTENSIONS, MAX_PHOTO_BYTES, is_meant, read_photo
from fer.metrics import softmax
from fer.runs import TTA, Run, RunStore, by_merit, precision_of, whole_report
from fer.selective import own_rule, rule_of


@dataclass(frozen=True)
class FacePrediction:
    """One face: the part of its box (x, y, width, height) that lies inside the upright photo, in its pixels, the crop (48, 48) uint8 that the network
    saw, a probability for each class, 0 to 1, and whether that supports no label (`fer.selective`).

    square, angle: what was cut out of the photo for it, x, y, side, side, which may leave the photo, and by how many
    degrees it was turned, as in `fer.faces.Face`; None and 0 of a crop that came as one.
    """

    box: Box
    crop: np.ndarray
    probs: dict[str, float]
    unsure: bool = False
    square: Box | None = None
    angle: float = 0.0

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of the label."""
        return self.probs[self.label]

    def to_json(self) -> dict[str, Any]:
        return {
            "box": list(self.box),
            "label": self.label,
            "confidence": self.confidence,
            "unsure": self.unsure,
            "probs": self.probs,
        }


class Predictor:
    """The best weights of one run, or of an ensemble's members, ready to be asked.

    Owns the preprocessing, so that callers hand in plain pictures, and the temperature, so that the probabilities say how
    often the answers are right.
    """

    def __init__(self, run_id: str, store: RunStore | None = None, *, tta: bool = False) -> None:
        """Load the weights onto the CPU; tta: average over ten views of each face. Raises RunError, CheckpointError."""
        self.run: Run = (store or RunStore()).get(run_id)
        self.scorer = Scorer.load(self.run, tta=tta)
        self.temperature = self.run.temperature(tta=tta)
        own = own_rule(self.run, tta=tta)
        self.rule = own or rule_of(self.run)
        self.rule_fits = own is not None  # else it was set for one look at each face

    @property
    def classes(self) -> tuple[str, ...]:
        return self.scorer.classes

    def predict(self, faces: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, num_classes) of face crops (N, 48, 48) uint8; one crop (48, 48) counts as N = 1."""
        batch = faces[None] if faces.ndim == 2 else faces
        if batch.dtype != np.uint8 or batch.shape[1:] != (48, 48):
            raise ValueError(f"expected (N, 48, 48) uint8, got {faces.shape} {faces.dtype}")
        return softmax(self.scorer.logits(torch.from_numpy(np.ascontiguousarray(batch))), self.temperature)

    def predict_photo(
        self, photo: np.ndarray, *, whole: bool = False, box: Box | None = None, angle: float = 0.0
    ) -> list[FacePrediction]:
        """The faces found in a photo (H, W) or (H, W, 3) uint8, biggest first; empty where none is found.

        A picture of 48x48 pixels is taken as a face crop; `whole` takes any picture as one face, by the largest square in
        its middle, and `box` is a face's place set by hand: x, y, width, height in pixels, to be turned by `angle` as a
        `Face`'s. Raises ValueError for a box without a pixel of the photo.
        """
        if box is not None:
            faces, margin = [Face(box, 0.0, angle)], 0.0
        elif whole or is_face_crop(photo):
            faces, margin = [Face(centre_square(photo), 0.0)], 0.0
        else:
            faces, margin = find_faces(photo), MARGIN
        crops = [crop_face(photo, face.box, margin=margin, angle=face.angle) for face in faces]
        said = self.judge(crops, [clipped(face.box, photo) for face in faces])
        return [
            replace(one, square=square_around(face.box, margin=margin), angle=face.angle)
            for one, face in zip(said, faces, strict=True)
        ]

    def judge(self, crops: Sequence[np.ndarray], boxes: Sequence[Box]) -> list[FacePrediction]:
        """The answers about face crops (48, 48) uint8 that were cut out already, in their order."""
        if not len(crops):
            return []
        rows = self.predict(np.stack(crops))
        unsure = self.rule.unsure(rows) if self.rule else np.zeros(len(rows), bool)
        return [
            FacePrediction(box, crop, {c: float(p) for c, p in zip(self.classes, row, strict=True)}, bool(doubt))
            for box, crop, row, doubt in zip(boxes, crops, rows, unsure, strict=True)
        ]

    @property
    def report(self) -> dict[str, Any] | None:
        """The run's report on val, with ten views where it averages over them; else that of one look, or None."""
        found = (self.run.report(split) for split in ("val" + TTA * self.scorer.tta, "val"))
        return next((report for report in found if whole_report(report)), None)

    def precision(self, label: str) -> float | None:
        """How often the run is right on val when it says this label, from its report; None where there is none, or where
        it never said so."""
        report = self.report
        return precision_of(report, label) if report and label in report["per_class"] else None


def predict_file(predictor: Predictor, path: str, *, whole: bool = False) -> dict[str, Any]:
    """One entry of `predict --json`: {image, width, height, faces}, or {image, error} where it cannot be read."""
    entry, _photo = predict_path(predictor, path, whole=whole)
    return entry


def predict_path(predictor: Predictor, path: str, *, whole: bool = False) -> tuple[dict[str, Any], np.ndarray | None]:
    """What `predict_file` gives, and the photo itself, (H, W) or (H, W, 3) uint8, to draw on; None where it cannot be read."""
    try:
        photo = read_photo(_read(Path(path)), Path(path).name)
    except FerError as error:
        return {"image": path, "error": str(error)}, None
    faces = predictor.predict_photo(photo, whole=whole)
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {"image": path, **size, "faces": [f.to_json() for f in faces]}, photo


def picture_paths(arguments: Sequence[str]) -> list[str]:
    """The files that are meant: a folder's pictures (not those of folders below, nor hidden ones), what a pattern such as 'a/*.jpg' matches, and
    any other path as it is. Sorted within each argument, none twice. Raises ImageError for a folder or pattern without one,
    and for a folder that cannot be read.
    """
    found: list[str] = []
    for argument in arguments:
        try:
            found += _meant(argument)
        except OSError as error:
            raise ImageError(f"'{argument}' cannot be read: {error.strerror}.") from error
    return list(dict.fromkeys(found))


def _meant(argument: str) -> list[str]:
    path = Path(argument)
    if path.is_dir():
        inside = sorted(str(p) for p in path.iterdir() if is_meant(p.name) and p.is_file())
        if not inside:
            raise ImageError(f"The folder '{argument}' holds no picture. Endings looked for: {', '.join(EXTENSIONS)}.")
        return inside
    if not path.exists() and glob.has_magic(argument):
        inside = sorted(p for p in glob.glob(argument, recursive=True) if Path(p).is_file())
        if not inside:
            raise ImageError(f"No file matches '{argument}'.")
        return inside
    return [argument]


def default_run(store: RunStore) -> str:
    """The run to ask where none is named: trained on photographs before drawn faces, then by best validation top-1.

    Raises RunError where no run has weights.
    """
    candidates = by_merit(r for r in store.runs() if r.has_weights)
    if not candidates:
        raise RunError(
            "No run has weights yet. Train one first, for example with: python -m fer train --recipe baseline"
        )
    return candidates[0].id


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"'{path.name}' is not a file. Give a picture, or several.")
        with path.open("rb") as file:
            return file.read(MAX_PHOTO_BYTES + 1)  # one more than allowed, so that the check sees it
    except FileNotFoundError:
        raise ImageError(f"There is no file '{path.name}'.") from None
    except OSError as error:
        raise ImageError(f"'{path.name}' cannot be read: {error.strerror}.") from error
