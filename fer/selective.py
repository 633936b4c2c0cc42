"""When to say nothing: answers whose chance of being right is too low are "unsure" (selective classification; Geifman and
El-Yaniv, 2017).

The chance comes from two things that an answer shows: the calibrated probability of its label, and which label it is,
since at the same probability "happy" is right more often than "fear". A logistic model of both is fitted on val, and the
least chance that is answered is set there so that the answers are right as often as the target asks. Its price is
coverage: the share of faces that still get an answer.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fer.metrics import softmax
from fer.runs import TTA, Run

TARGET = 0.8  # the share of answers that must be right
_FEWEST = 100  # answers on val below which a share says little
_FOLDS = 5
_HOLD = 30.0  # how strongly the labels' offsets are held at 0: little is known of a label that is hardly ever said


@dataclass(frozen=True)
class AnswerRule:
    """Which answers a run gives, and what keeping back the others costs. Fractions, 0 to 1.

    The chance that an answer is right: 1 / (1 + exp(-(intercept + slope * log(p / (1 - p)) + offset of its label))), where p
    is its label's calibrated probability.

    least      the least chance that is answered; above 1 where none reaches the target
    target     the share of right answers that was asked for
    top1       the share of right answers among those given, on pictures of val that set neither the model nor `least`
    coverage   the share of those pictures that got an answer
    n          pictures of val
    """

    intercept: float
    slope: float
    offsets: tuple[float, ...]
    least: float
    target: float
    top1: float | None
    coverage: float
    n: int

    def chance(self, probs: np.ndarray) -> np.ndarray:
        """(N,): the chance that the most probable class is the right one, of calibrated probabilities (N, num_classes)."""
        return _chance(np.array([self.intercept, self.slope, *self.offsets]), probs)

    def unsure(self, probs: np.ndarray) -> np.ndarray:
        """(N,) bool: whether an answer is better not given; probs as in `chance`."""
        return self.chance(probs) < self.least

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "offsets": list(self.offsets)}


def fit_rule(probs: np.ndarray, labels: np.ndarray, target: float = TARGET) -> AnswerRule:
    """The rule from calibrated probabilities (N, num_classes) and labels (N,) of val.

    All is cross-fitted: each fifth of the pictures has its chances from a model of the other four, `least` is set on these
    chances, and `top1` and `coverage` are of each fifth at the `least` that the other four set.
    """
    right = probs.argmax(axis=1) == labels
    folds = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    chances = np.zeros(len(labels))
    for fold in range(_FOLDS):
        here = folds == fold
        chances[here] = _chance(_fit(probs[~here], right[~here]), probs[here])
    answered = np.zeros(len(labels), bool)
    for fold in range(_FOLDS):
        here = folds == fold
        answered[here] = chances[here] >= _least(chances[~here], right[~here], target)
    intercept, slope, *offsets = (float(v) for v in _fit(probs, right))
    return AnswerRule(
        intercept=intercept,
        slope=slope,
        offsets=tuple(offsets),
        least=_least(chances, right, target),
        target=target,
        top1=float(right[answered].mean()) if answered.any() else None,
        coverage=float(answered.mean()) if len(labels) else 0.0,
        n=len(labels),
    )


def rule_of(run: Run, *, tta: bool = False) -> AnswerRule | None:
    """The rule in the run's report on val, else one from the logits that it keeps of val, as runs that were evaluated
    earlier have them. With views, that of one look where there is none with them; None where there is neither."""
    return own_rule(run, tta=tta) or (own_rule(run) if tta else None)


def own_rule(run: Run, *, tta: bool = False) -> AnswerRule | None:
    """As `rule_of`, but None where it was not evaluated with these views, whatever is known without them."""
    return _from_report(run, tta) or _from_logits(run, tta)


def _from_report(run: Run, tta: bool) -> AnswerRule | None:
    report = run.report("val" + TTA * tta) or {}
    kept = report.get("selective")
    if not isinstance(kept, Mapping):
        return None
    try:
        rule = AnswerRule(**{**kept, "offsets": tuple(float(v) for v in kept["offsets"])})
        numbers = (rule.intercept, rule.slope, *rule.offsets, rule.least, rule.target, rule.coverage, rule.n)
        fits = len(rule.offsets) == len(report.get("classes", ())) and all(math.isfinite(v) for v in numbers)
    except (KeyError, TypeError, ValueError):
        return None  # written by another version, or damaged
    return rule if fits else None


def _from_logits(run: Run, tta: bool) -> AnswerRule | None:
    if run.is_outdated(run.kept_report("val" + TTA * tta)):
        return None  # and so are the logits that were kept beside it
    try:
        with open(run.path / f"logits-val{TTA * tta}.npz", "rb") as file, np.load(file, allow_pickle=False) as kept:
            logits, labels = kept["logits"], kept["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # never evaluated, or damaged: the page then says that there is no rule
    if logits.ndim == 2 and len(logits) == len(labels) > 0 and np.isfinite(logits).all():
        return fit_rule(softmax(logits, run.temperature(tta=tta)), labels)
    return None


def _inputs(probs: np.ndarray) -> np.ndarray:
    """What the model sees of each answer: 1, the log odds of its probability, and a 1 at its label: (N, 2 + num_classes)."""
    confidence = np.clip(probs.max(axis=1), 1e-6, 1 - 1e-6)
    said = np.eye(probs.shape[1])[probs.argmax(axis=1)]
    return np.column_stack([np.ones(len(probs)), np.log(confidence / (1 - confidence)), said])


def _chance(weights: np.ndarray, probs: np.ndarray) -> np.ndarray:
    return _sigmoid(_inputs(probs) @ weights)


def _sigmoid(score: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(score / 2)) / 2  # 1 / (1 + exp(-score)), which overflows


def _fit(probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The logistic model's weights (2 + num_classes,) of the least cross entropy; the offsets are held to 0 and the first
    two, a little, to what calibrated probabilities ask for: 0 and 1."""
    from scipy.optimize import minimize

    inputs, hold = _inputs(probs), np.array([1.0, 1.0] + [_HOLD] * probs.shape[1])
    start = np.array([0.0, 1.0] + [0.0] * probs.shape[1])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score, away = inputs @ weights, weights - start
        value = np.logaddexp(0, score).sum() - score[right].sum() + hold @ away**2 / 2
        return value, inputs.T @ (_sigmoid(score) - right) + hold * away

    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-6}).x


def _least(chances: np.ndarray, right: np.ndarray, target: float) -> float:
    """The least chance down to which the answers reach the target, without falling below it on the way; 1.01 where the
    surest hundred do not."""
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_its_value = np.append(ranked[1:] < ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    judged = np.flatnonzero(last_of_its_value & (np.arange(1, len(order) + 1) >= min(_FEWEST, len(order))))
    reached = np.cumprod(share[judged] >= target).astype(bool)
    return float(ranked[judged[reached][-1]]) if reached.any() else 1.01
