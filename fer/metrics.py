"""Figures of merit from logits and labels. Rows of a confusion matrix are the true class. Fractions, 0 to 1.

scikit-learn and scipy's optimizer are imported where they are used: they take a second to load, which a page that only needs
probabilities shall not wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15  # of confidence, for calibration
_FEW = 20  # pictures, of which a temperature says nothing
FEWEST = 2 * _FEW  # pictures that give a temperature: as many as give each half of the cross-fit one of its own
_COLDEST = 0.25  # the lowest temperature, see `fit_temperature`


def top1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The share of pictures whose predicted class is the true one; labels, predicted: (N,) int."""
    return float(np.mean(labels == predicted))


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """The plain mean of each class's F1; a class that is never predicted counts 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, labels=range(num_classes), average="macro", zero_division=0))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, num_classes) int: row i, column j counts pictures of class i that were called j."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=range(num_classes))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logarithm of the probabilities: (N, num_classes) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, num_classes) float64, each row adding up to 1; a temperature above 1 makes them less sure."""
    return np.exp(log_softmax(logits / temperature))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over pictures of -log p(true class), natural logarithm; logits: (N, num_classes)."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The one number, 0.25 to 20, by which to divide logits (N, num_classes) so that their cross entropy is least (Guo et al., 2017).

    1.0 for fewer than 40 pictures: each half of the cross-fit needs 20, of fewer a temperature says nothing, and the error
    after scaling would be that of another temperature than the one beside it.

    Not below 0.25, which makes logits four times as large. Where all pictures are right, the cross entropy falls for as long as the
    temperature does: its value would say where the search ends and nothing of the network, and answers that are hardly
    apart would count as certain. The bound is far below what a network needs that training left too unsure: of those that
    come with the project none needs less than 0.77. A prior would hold it too, but move the temperature of every network.
    """
    return _fitted(logits, labels) if len(labels) >= FEWEST else 1.0


def _fitted(logits: np.ndarray, labels: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda t: cross_entropy(logits / np.exp(t), labels), bounds=(np.log(0.05), np.log(20)), method="bounded"
    )
    return max(_COLDEST, float(np.exp(found.x)))  # one valley: this is the least of those that are allowed


def cross_fitted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities (N, num_classes) of each half of the pictures at the temperature that was fitted on the other half; at 1
    where they are too few to give a temperature.

    What they say of calibration was not fitted on the pictures that it is said of. The halves are drawn with a fixed seed.
    """
    if len(labels) < FEWEST:
        return softmax(logits)
    order = np.random.default_rng(0).permutation(len(labels))
    probs = np.empty(logits.shape)
    for here, there in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        probs[here] = softmax(logits[here], _fitted(logits[there], labels[there]))
    return probs


def reliability(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """How often answers of about the same confidence are right: for each of the equally wide bins that is not empty,
    `low`, `high`, `n`, `confidence` (mean probability of the answer) and `accuracy`; probs: (N, num_classes)."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # a bin holds its upper edge
    found = []
    for i in np.unique(place):
        here = place == i
        means = {"confidence": float(confidence[here].mean()), "accuracy": float(right[here].mean())}
        found.append({"low": i / bins, "high": (i + 1) / bins, "n": int(here.sum()), **means})
    return found


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al., 2015), 0 to 1: the mean distance between confidence and accuracy over the bins."""
    return sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in reliability(probs, labels, bins)) / len(labels)


def calibration(logits: np.ndarray, labels: np.ndarray, temperature: float | None = None) -> dict[str, Any]:
    """What a report says of calibration: `temperature`, `ece_before`, `ece_after`, `bins`, `cross_fitted`.

    temperature: None fits it on these pictures, and `ece_after` is cross-fitted; one that was fitted elsewhere is used as it is.
    """
    after = cross_fitted(logits, labels) if temperature is None else softmax(logits, temperature)
    return {
        "temperature": fit_temperature(logits, labels) if temperature is None else temperature,
        "ece_before": calibration_error(softmax(logits), labels),
        "ece_after": calibration_error(after, labels),
        "bins": BINS,
        "cross_fitted": temperature is None,
    }


def summarise(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """What a report holds of one split: `n`, `loss`, `top1`, `macro_f1`, `per_class`, `confusion_matrix`, `classes`."""
    predicted = logits.argmax(axis=1)
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, n = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0
    )
    return {
        "n": len(labels),
        "loss": cross_entropy(logits, labels),
        "top1": top1(labels, predicted),
        "macro_f1": macro_f1(labels, predicted, len(classes)),
        "per_class": {
            name: {"precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]), "n": int(n[i])}
            for i, name in enumerate(classes)
        },
        "confusion_matrix": confusion_matrix(labels, predicted, len(classes)).tolist(),
        "classes": list(classes),
    }
