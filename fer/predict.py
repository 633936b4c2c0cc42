"""A trained network asked about a picture: uint8 in, probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer.errors import FerError, ImageError, RunError
from fer.evaluate import Scorer
from fer.faces import crop_face, find_faces, is_face_crop, whole_face
from fer.images import MAX_PHOTO_BYTES, read_image
from fer.metrics import softmax
from fer.runs import Run, RunStore, by_merit


@dataclass(frozen=True)
class FacePrediction:
    """One face: its box (x, y, width, height) in pixels of the upright photo, the crop (48, 48) uint8 that the network
    saw, and a probability for each class, 0 to 1."""

    box: tuple[int, int, int, int]
    crop: np.ndarray
    probs: dict[str, float]

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of the label."""
        return self.probs[self.label]

    def to_json(self) -> dict[str, Any]:
        return {"box": list(self.box), "label": self.label, "confidence": self.confidence, "probs": self.probs}


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

    @property
    def classes(self) -> tuple[str, ...]:
        return self.scorer.classes

    def predict(self, faces: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, num_classes) of face crops (N, 48, 48) uint8; one crop (48, 48) counts as N = 1."""
        batch = faces[None] if faces.ndim == 2 else faces
        if batch.dtype != np.uint8 or batch.shape[1:] != (48, 48):
            raise ValueError(f"expected (N, 48, 48) uint8, got {faces.shape} {faces.dtype}")
        return softmax(self.scorer.logits(torch.from_numpy(np.ascontiguousarray(batch))), self.temperature)

    def predict_photo(self, photo: np.ndarray, *, whole: bool = False) -> list[FacePrediction]:
        """The faces found in a photo (H, W) or (H, W, 3) uint8, biggest first; empty where none is found.

        A picture of 48x48 pixels is taken as a face crop; `whole` takes any picture as one face.
        """
        height, width = photo.shape[:2]
        if whole or is_face_crop(photo):
            boxes, crops = [(0, 0, width, height)], [whole_face(photo)]
        else:
            boxes = [face.box for face in find_faces(photo)]
            crops = [crop_face(photo, box) for box in boxes]
        if not crops:
            return []
        probs = self.predict(np.stack(crops))
        return [
            FacePrediction(box, crop, {c: float(p) for c, p in zip(self.classes, row, strict=True)})
            for box, crop, row in zip(boxes, crops, probs, strict=True)
        ]


def predict_file(predictor: Predictor, path: str, *, whole: bool = False) -> dict[str, Any]:
    """One entry of `predict --json`: {image, width, height, faces}, or {image, error} where it cannot be read."""
    try:
        photo = np.asarray(read_image(_read(Path(path)), name=Path(path).name, max_bytes=MAX_PHOTO_BYTES))
    except FerError as error:
        return {"image": path, "error": str(error)}
    faces = predictor.predict_photo(photo, whole=whole)
    return {"image": path, "width": photo.shape[1], "height": photo.shape[0], "faces": [f.to_json() for f in faces]}


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
