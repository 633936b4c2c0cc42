"""When an answer is unsure: a threshold that reaches its target, what it costs, and runs that have none."""

from __future__ import annotations

import numpy as np
import pytest

from fer.selective import fit_threshold, threshold_of


def calibrated(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes whose answers are right as often as their probability says."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.5, 1.0, n)
    return np.stack([p, 1 - p], axis=1), (rng.random(n) >= p).astype(int)


def test_the_answers_from_the_threshold_on_are_right_as_often_as_asked():
    probs, labels = calibrated()
    found = fit_threshold(probs, labels, 0.8)
    answered = probs.max(axis=1) >= found.value
    assert (probs.argmax(axis=1) == labels)[answered].mean() >= 0.8
    assert found.value == pytest.approx(0.6, abs=0.04), "the mean of 0.6 to 1 is 0.8"
    assert found.coverage == pytest.approx(0.8, abs=0.08)
    assert found.top1 == pytest.approx(0.8, abs=0.03)
    assert found.unsure(found.value - 1e-6) and not found.unsure(found.value)


def test_a_higher_target_costs_coverage():
    probs, labels = calibrated()
    coverage = [fit_threshold(probs, labels, target).coverage for target in (0.76, 0.85, 0.95)]
    assert coverage[0] > coverage[1] > coverage[2] > 0


def test_where_nothing_reaches_the_target_everything_is_unsure():
    probs, labels = calibrated()
    found = fit_threshold(probs, 1 - labels, 0.9)
    assert found.unsure(1.0) and found.coverage == 0 and found.top1 is None


def test_where_everything_is_right_everything_is_answered():
    probs, _labels = calibrated(100)
    found = fit_threshold(probs, np.zeros(100, int))
    assert found.coverage >= 0.95 and found.top1 == 1.0 and found.value == probs.max(axis=1).min()


def test_equal_probabilities_are_answered_together_or_not_at_all():
    probs = np.tile([0.9, 0.1], (100, 1))
    found = fit_threshold(probs, np.repeat([0, 1], [50, 50]), 0.8)
    assert found.unsure(0.9), "ranked by luck the first fifty would all be right"


def test_a_run_has_the_threshold_of_its_own_logits(finished_run):
    found = threshold_of(finished_run)
    assert found and found.n == 70 and found.to_json()["target_top1"] == 0.8
    with np.load(finished_run.path / "logits-val.npz") as kept:
        assert found.n == len(kept["labels"])
    assert threshold_of(finished_run, tta=True) == found, "without logits of views those without stand in"


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip", b"text"])
def test_missing_or_damaged_logits_are_no_threshold(finished_run, content):
    path = finished_run.path / "logits-val.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert threshold_of(finished_run) is None
