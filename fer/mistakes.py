"""Where networks are wrong, picture by picture: from the logits that `evaluate` saved, and the data set where it is here.

A picture is known by its hash, so mistakes can be counted, and shared mistakes found, without the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer.data.dataset import Dataset, picture_hashes
from fer.metrics import softmax
from fer.significance import match_pictures
from fer.verdicts import SavedLogits


@dataclass(frozen=True)
class Answer:
    """What a network says of one picture. place: its index in the saved logits; true, predicted: class indices;
    confidence: the probability of what it said, true_probability: of the label, calibrated, 0 to 1."""

    place: int
    true: int
    predicted: int
    confidence: float
    true_probability: float


def answers(saved: SavedLogits, places: np.ndarray) -> list[Answer]:
    """What the network says of the pictures at these places (n,), in that order."""
    probs = softmax(saved.logits[places], saved.temperature) if len(places) else np.empty((0, 1))
    return [
        Answer(int(place), int(true), int(row.argmax()), float(row.max()), float(row[true]))
        for place, true, row in zip(places, saved.labels[places], probs, strict=True)
    ]


def confident_mistakes(saved: SavedLogits, most: int | None = None) -> list[Answer]:
    """The pictures whose answer is wrong, the surest first; at most `most`."""
    wrong = answers(saved, np.flatnonzero(~saved.right))
    return sorted(wrong, key=lambda a: (-a.confidence, a.place))[:most]


def in_cell(saved: SavedLogits, true: int, predicted: int) -> list[Answer]:
    """The pictures of one class that were called another, or the same, the surest first."""
    places = np.flatnonzero((saved.labels == true) & (saved.logits.argmax(axis=1) == predicted))
    return sorted(answers(saved, places), key=lambda a: (-a.confidence, a.place))


@dataclass(frozen=True)
class Shared:
    """n: pictures that all networks were asked about; wrong: places, in the first one's logits, that all get wrong."""

    n: int
    wrong: np.ndarray


def wrong_for_all(saved: Sequence[SavedLogits]) -> Shared:
    """The pictures that every network gets wrong, of those that all were asked about; at least one set of logits.

    Ordered by how sure the first network is, the surest first.
    """
    first, *others = saved
    known, wrong = np.ones(len(first.labels), dtype=bool), ~first.right
    for other in others:
        here, there = match_pictures(first.hashes, first.labels, other.hashes, other.labels)
        matched, theirs = np.zeros_like(known), np.zeros_like(known)
        matched[here], theirs[here] = True, ~other.right[there]
        known, wrong = known & matched, wrong & theirs
    places = np.flatnonzero(known & wrong)
    sure = softmax(first.logits[places], first.temperature).max(axis=1) if len(places) else np.empty(0)
    return Shared(int(known.sum()), places[np.argsort(-sure, kind="stable")])


def pictures(data: Dataset, split: str, hashes: np.ndarray) -> dict[int, np.ndarray]:
    """`{hash: picture (48, 48) uint8}` of those among `hashes` (n,) uint64 that are in this split of the data set."""
    if split not in data.split_names:
        return {}
    wanted = set(hashes.tolist())
    images = data.subset(split)[0]
    return {int(h): image for h, image in zip(picture_hashes(images), images, strict=True) if int(h) in wanted}
