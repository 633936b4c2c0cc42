"""Figures of merit against values worked out by hand, and against torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.special
import torch

from fer.metrics import (
    calibration,
    calibration_error,
    confusion_matrix,
    cross_entropy,
    cross_fitted,
    fit_temperature,
    log_softmax,
    macro_f1,
    reliability,
    softmax,
    summarise,
    top1,
)

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


def overconfident(n: int = 4000, temperature: float = 2.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 5) that are this many times too large for labels drawn from their true probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, (n, 5))
    probs = softmax(true)
    labels = np.array([rng.choice(5, p=p) for p in probs])
    return true * temperature, labels


def test_softmax_adds_up_to_one_and_holds_to_scipys():
    logits = np.array([[1000.0, 0.0, -1000.0], [0.1, 0.2, 0.3]], dtype=np.float32)
    assert softmax(logits) == pytest.approx(scipy.special.softmax(logits.astype(float), axis=1))
    assert softmax(logits, 7.0) == pytest.approx(scipy.special.softmax(logits / 7.0, axis=1))
    assert log_softmax(logits) == pytest.approx(scipy.special.log_softmax(logits.astype(float), axis=1))


def test_the_temperature_that_spoilt_the_logits_is_found_again():
    logits, labels = overconfident(temperature=2.5)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.08)
    assert fit_temperature(logits / 5, labels) == pytest.approx(0.5, rel=0.08)


def test_a_few_pictures_say_nothing_of_the_temperature():
    logits, labels = overconfident(temperature=2.5)
    assert fit_temperature(logits[:39], labels[:39]) == 1.0
    assert fit_temperature(logits[:1], logits[:1].argmax(1)) == 1.0
    assert fit_temperature(logits[:40], labels[:40]) != 1.0


@pytest.mark.parametrize("n", [20, 30, 39, 40])
def test_the_error_after_scaling_is_of_a_temperature_wherever_there_is_one(n):
    logits, labels = overconfident(n=n, temperature=4.0)
    found = calibration(logits, labels)
    assert (found["temperature"] == 1.0) == (found["ece_after"] == found["ece_before"]) == (n < 40)


def test_where_all_are_right_the_temperature_is_held():
    logits, _ = overconfident(n=500)
    labels = logits.argmax(axis=1)
    logits[np.arange(500), labels] = np.sort(logits, axis=1)[:, -2] + 0.2
    found = calibration(logits, labels)
    assert found["temperature"] == 0.25
    assert softmax(np.array([[1.0, 0.8, 0, 0, 0, 0, 0]]), found["temperature"]).max() < 0.7
    assert np.array_equal(cross_fitted(logits, labels), softmax(logits, 0.25))


def test_the_bound_moves_no_temperature_above_it():
    logits, labels = overconfident(temperature=1.0)
    assert fit_temperature(logits * 0.3, labels) == pytest.approx(0.3, rel=0.08)
    assert fit_temperature(logits * 0.1, labels) == 0.25


def test_scaling_mends_calibration_and_leaves_every_answer():
    logits, labels = overconfident()
    probs = cross_fitted(logits, labels)
    assert (probs.argmax(1) == logits.argmax(1)).all()
    assert calibration_error(softmax(logits), labels) > 0.1
    assert calibration_error(probs, labels) < 0.03


def test_the_cross_fitted_figure_does_not_look_at_its_own_labels():
    logits, labels = overconfident(n=400)
    order = np.random.default_rng(0).permutation(400)
    changed = labels.copy()
    changed[order[::2]] = (labels[order[::2]] + 1) % 5
    assert np.array_equal(cross_fitted(logits, labels)[order[::2]], cross_fitted(logits, changed)[order[::2]])


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 0])
    bins = reliability(probs, labels, bins=10)
    assert [(round(b["low"], 1), round(b["high"], 1), b["n"]) for b in bins] == [(0.5, 0.6, 2), (0.8, 0.9, 2)]
    assert [b["accuracy"] for b in bins] == [0.5, 0.5]
    assert calibration_error(probs, labels, bins=10) == pytest.approx((2 * 0.1 + 2 * 0.4) / 4)


def test_calibration_with_a_temperature_from_elsewhere_uses_it_as_it_is():
    logits, labels = overconfident(n=500)
    found = calibration(logits, labels, 3.0)
    assert found["temperature"] == 3.0
    assert found["ece_after"] == calibration_error(softmax(logits, 3.0), labels)
    assert not found["cross_fitted"]
    assert calibration(logits, labels)["cross_fitted"]
    assert cross_fitted(logits[:1], labels[:1]) == pytest.approx(softmax(logits[:1]))
