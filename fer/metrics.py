"""Figures of merit from logits and labels. Rows of a confusion matrix are the true class. Fractions, 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix as _confusion_matrix
from sklearn.metrics import f1_score, precision_recall_fscore_support


def top1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The share of pictures whose predicted class is the true one; labels, predicted: (N,) int."""
    return float(np.mean(labels == predicted))


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """The plain mean of each class's F1; a class that is never predicted counts 0."""
    return float(f1_score(labels, predicted, labels=range(num_classes), average="macro", zero_division=0))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, num_classes) int: row i, column j counts pictures of class i that were called j."""
    return _confusion_matrix(labels, predicted, labels=range(num_classes))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over pictures of -log p(true class), natural logarithm; logits: (N, num_classes)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def summarise(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """What a report holds of one split: `n`, `loss`, `top1`, `macro_f1`, `per_class`, `confusion_matrix`, `classes`."""
    predicted = logits.argmax(axis=1)
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
