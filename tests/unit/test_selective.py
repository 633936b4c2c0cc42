"""When an answer is unsure: a rule that reaches its target, what it costs, and runs that have none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer.evaluate import evaluate_run
from fer.selective import AnswerRule, fit_rule, rule_of


def calibrated(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes whose answers are right as often as their probability says."""
    rng = np.random.default_rng(seed)
    p, said = rng.uniform(0.5, 1.0, n), rng.integers(0, 2, n)
    probs = np.where(np.arange(2) == said[:, None], p[:, None], 1 - p[:, None])
    return probs, np.where(rng.random(n) < p, said, 1 - said)


def answers(rule: AnswerRule, probs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The share of right answers among those given, and the share that was given."""
    given = ~rule.unsure(probs)
    return float((probs.argmax(axis=1) == labels)[given].mean()), float(given.mean())


def test_the_answers_that_are_given_are_right_as_often_as_asked():
    rule = fit_rule(*calibrated(), 0.8)
    top1, coverage = answers(rule, *calibrated(seed=1))
    assert top1 == pytest.approx(0.8, abs=0.02)
    assert coverage == pytest.approx(0.8, abs=0.08), "the mean of 0.6 to 1 is 0.8"
    assert rule.top1 == pytest.approx(top1, abs=0.03) and rule.coverage == pytest.approx(coverage, abs=0.08)
    assert rule.chance(np.array([[0.7, 0.3], [0.2, 0.8]])) == pytest.approx([0.7, 0.8], abs=0.03)


def test_a_label_that_is_right_less_often_than_its_probability_says_needs_more_of_it():
    probs, labels = calibrated()
    said = probs.argmax(axis=1)
    luck = np.random.default_rng(2).random(len(labels)) < 0.25
    labels = np.where((said == 1) & luck, 0, labels)  # a quarter of the right answers 1 become wrong
    rule = fit_rule(probs, labels, 0.8)
    trusted, doubted = rule.chance(np.array([[0.8, 0.2], [0.2, 0.8]]))
    assert trusted > doubted + 0.1
    confidence = probs.max(axis=1)
    by_rule = (said == labels)[np.argsort(-rule.chance(probs))[:2000]].mean()
    assert by_rule > (said == labels)[np.argsort(-confidence)[:2000]].mean() + 0.01


def test_a_higher_target_costs_coverage():
    coverage = [fit_rule(*calibrated(), target).coverage for target in (0.76, 0.85, 0.95)]
    assert coverage[0] > coverage[1] > coverage[2] > 0


def test_where_nothing_reaches_the_target_everything_is_unsure():
    probs, labels = calibrated()
    rule = fit_rule(probs, 1 - labels, 0.9)
    assert rule.unsure(probs).all() and rule.coverage == 0 and rule.top1 is None


def test_where_everything_is_right_everything_is_answered():
    probs, _labels = calibrated(100)
    rule = fit_rule(probs, probs.argmax(axis=1))
    assert rule.coverage >= 0.9 and rule.top1 == 1.0


def test_equal_answers_are_given_together_or_not_at_all():
    probs = np.tile([0.9, 0.1], (100, 1))
    rule = fit_rule(probs, np.repeat([0, 1], [50, 50]), 0.8)
    assert rule.unsure(probs).all(), "ranked by luck the first fifty would all be right"


def test_one_picture_and_sure_answers_are_no_crash():
    rule = fit_rule(np.array([[1.0, 0.0]]), np.array([0]))
    assert np.isfinite(rule.chance(np.array([[1.0, 0.0], [0.0, 1.0]]))).all()


def test_the_report_keeps_the_rule_of_each_way_of_asking(finished_run, store):
    evaluate_run(store, "done", tta=True, device="cpu")
    run = store.get("done")
    for tta, split in ((False, "val"), (True, "val+tta")):
        assert rule_of(run, tta=tta).to_json() == run.report(split)["selective"]
        (run.path / f"logits-{split}.npz").unlink()
        assert rule_of(run, tta=tta).n == 70, "the report is enough"
    assert "selective" not in evaluate_run(store, "done", split="train", device="cpu")


def without_rule(run) -> None:
    """The report as it was before rules were kept."""
    path = run.path / "report.json"
    kept = json.loads(path.read_text())
    for report in kept["reports"][run.fingerprint].values():
        report.pop("selective", None)
    path.write_text(json.dumps(kept))


def test_a_run_that_was_evaluated_earlier_has_its_rule_from_its_logits(finished_run, store):
    kept = rule_of(finished_run)
    without_rule(finished_run)
    again = rule_of(store.get("done"))
    assert again.n == 70 and again.least == pytest.approx(kept.least) and again.offsets == pytest.approx(kept.offsets)
    assert rule_of(store.get("done"), tta=True) == again, "without logits of views those without stand in"


@pytest.mark.parametrize("damage", [{"offsets": [0.0]}, {"slope": "steep"}, {"least": None}, {"colour": 1}])
def test_a_damaged_rule_is_made_again_from_the_logits(finished_run, store, damage):
    sound = rule_of(finished_run)
    path = finished_run.path / "report.json"
    kept = json.loads(path.read_text())
    kept["reports"][finished_run.fingerprint]["val"]["selective"].update(damage)
    path.write_text(json.dumps(kept))
    assert rule_of(store.get("done")).least == pytest.approx(sound.least)


def test_a_rule_of_earlier_weights_is_none(finished_run, store):
    path = finished_run.path / "report.json"
    kept = json.loads(path.read_text())
    kept["reports"][finished_run.fingerprint]["val"]["epoch"] = 99
    path.write_text(json.dumps(kept))
    assert rule_of(store.get("done")) is None, "the logits beside the report are of those weights, too"


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip", b"text"])
def test_neither_report_nor_logits_is_no_rule(finished_run, store, content):
    without_rule(finished_run)
    path = finished_run.path / "logits-val.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert rule_of(store.get("done")) is None
