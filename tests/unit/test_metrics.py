"""Figures of merit against values worked out by hand, and against torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fer.metrics import confusion_matrix, cross_entropy, macro_f1, summarise, top1

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 1])


def test_top1_is_the_share_that_is_right():
    assert top1(LABELS, PREDICTED) == 0.5
    assert top1(LABELS, LABELS) == 1.0


def test_rows_of_the_confusion_matrix_are_the_true_class():
    assert confusion_matrix(LABELS, PREDICTED, 4).tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_macro_f1_is_the_plain_mean_and_a_class_never_predicted_counts_nothing():
    # F1 of class 0: 2*2/(3+3); of class 1: 2*1/(2+3); of class 2: 0
    assert macro_f1(LABELS, PREDICTED, 3) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)
    assert macro_f1(LABELS, PREDICTED, 4) == pytest.approx((4 / 6 + 2 / 5 + 0 + 0) / 4)


def test_cross_entropy_is_torchs_and_survives_huge_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (50, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 50)
    theirs = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert cross_entropy(logits, labels) == pytest.approx(theirs, rel=1e-6)
    assert cross_entropy(np.array([[1e30, 0.0]], np.float32), np.array([0])) == 0.0
    assert cross_entropy(np.array([[0.0, 0.0]], np.float32), np.array([1])) == pytest.approx(np.log(2))


def test_a_report_is_json_and_agrees_with_itself():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 3, 200)
    report = json.loads(json.dumps(summarise(logits, labels, ("a", "b", "c")), allow_nan=False))
    assert set(report) == {"n", "loss", "top1", "macro_f1", "per_class", "confusion_matrix", "classes"}
    matrix = np.array(report["confusion_matrix"])
    assert report["n"] == matrix.sum() == 200
    assert report["top1"] == np.trace(matrix) / 200
    assert report["classes"] == list(report["per_class"]) == ["a", "b", "c"]
    for i, entry in enumerate(report["per_class"].values()):
        assert set(entry) == {"precision", "recall", "f1", "n"}
        assert entry["n"] == matrix[i].sum()
        assert entry["recall"] == pytest.approx(matrix[i, i] / matrix[i].sum())
        assert entry["precision"] == pytest.approx(matrix[i, i] / matrix[:, i].sum())
    assert report["macro_f1"] == pytest.approx(np.mean([e["f1"] for e in report["per_class"].values()]))


def test_classes_without_pictures_count_zero_without_a_warning():
    report = summarise(np.array([[9.0, 0, 0]]), np.array([0]), ("a", "b", "c"))
    assert report["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "n": 0}
    assert report["macro_f1"] == pytest.approx(1 / 3)
