"""When to say nothing: answers below a confidence that was set on val are "unsure" (selective classification; Geifman and
El-Yaniv, 2017).

The threshold is the lowest calibrated probability from which upwards the answers on val are right as often as the
target asks. Its price is coverage: the share of faces that still get an answer.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer.metrics import softmax
from fer.runs import TTA, Run

TARGET = 0.8  # the share of answers that must be right
_FEWEST = 30  # answers on val below which a share says nothing


@dataclass(frozen=True)
class Threshold:
    """From which probability on a run answers, and what that costs. Fractions, 0 to 1.

    value      the least probability that is answered; above 1 where no threshold reaches the target
    target     the share of right answers that was asked for
    top1       the share of right answers among those given, on pictures of val that did not set the threshold
    coverage   the share of those pictures that got an answer
    n          pictures of val
    """

    value: float
    target: float
    top1: float | None
    coverage: float
    n: int

    def unsure(self, confidence: float) -> bool:
        """Whether an answer with this probability is better not given."""
        return confidence < self.value

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.value,
            "target_top1": self.target,
            "top1": self.top1,
            "coverage": self.coverage,
            "n": self.n,
        }


def fit_threshold(probs: np.ndarray, labels: np.ndarray, target: float = TARGET) -> Threshold:
    """The threshold from calibrated probabilities (N, num_classes) and labels (N,) of val.

    `top1` and `coverage` are cross-fitted: each half of the pictures is judged at the threshold that the other half set.
    """
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    order = np.random.default_rng(0).permutation(len(labels))
    answered = np.zeros(len(labels), bool)
    for here, there in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        answered[here] = confidence[here] >= _lowest(confidence[there], right[there], target)
    return Threshold(
        value=_lowest(confidence, right, target),
        target=target,
        top1=float(right[answered].mean()) if answered.any() else None,
        coverage=float(answered.mean()) if len(labels) else 0.0,
        n=len(labels),
    )


def threshold_of(run: Run, *, tta: bool = False, target: float = TARGET) -> Threshold | None:
    """The threshold from the logits that the run keeps of val; None where it keeps none that can be read."""
    for views in dict.fromkeys((tta, False)):
        try:
            path = run.path / f"logits-val{TTA * views}.npz"
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
                logits, labels = kept["logits"], kept["labels"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue  # never evaluated, or damaged: the page then says that there is no threshold
        if logits.ndim == 2 and len(logits) == len(labels) > 0 and np.isfinite(logits).all():
            return fit_threshold(softmax(logits, run.temperature(tta=views)), labels, target)
    return None


def _lowest(confidence: np.ndarray, right: np.ndarray, target: float) -> float:
    """The lowest confidence at which the answers from there on reach the target; 1.01 where none does."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_its_value = np.append(ranked[1:] < ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    enough = np.arange(1, len(order) + 1) >= min(_FEWEST, len(order))
    reached = np.flatnonzero((share >= target) & enough & last_of_its_value)
    return float(ranked[reached[-1]]) if len(reached) else 1.01
