"""Whether a difference is more than chance: paired tests, intervals, and the correction for several comparisons.

Arrays and numbers in, numbers out; `fer/verdicts.py` applies this to runs. Top-1 and differences are fractions, 0 to 1.

Two questions, two tests. Of *two networks* that saw the same pictures: the exact McNemar test (McNemar, 1947) and a bootstrap
interval over pictures (Efron, 1987). Of *two recipes*, trained with several seeds: the t test on the differences by seed
(Student, 1908), or Welch's where the seeds are not the same. Dietterich (1998) says when which is right.

scipy is imported where a distribution is asked for: it takes longer than most pages, which have no test to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
Method = Literal["bca", "percentile"]


@dataclass(frozen=True)
class Spread:
    """Several values of one figure. `std` (n - 1 below the line) and the interval of the mean are None where n is 1."""

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Difference:
    """First minus second: its interval, the two-sided p value, and n: pictures, or seeds (Welch: the fewer of the two)."""

    value: float
    low: float
    high: float
    p: float
    n: int


# --- the same pictures -----------------------------------------------------------------------------------------------


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided exact McNemar p value: only_first and only_second count what one of the two got right and the other wrong.

    1 where they never differ.
    """
    from scipy.special import bdtr

    n = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), n, 0.5))) if n else 1.0


def match_pictures(
    first_hashes: np.ndarray, first_labels: np.ndarray, second_hashes: np.ndarray, second_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n,) into the first and into the second of the pictures that both hold, the same picture at the same place.

    A picture is its hash and its label. Of one that stands several times on both sides, the first copy goes with the
    first, the second with the second; what is left over on one side is left out. hashes: uint64, labels: int, (N,) each.
    """
    first, second = _numbered(first_hashes, first_labels), _numbered(second_hashes, second_labels)
    _, in_first, in_second = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return in_first, in_second


def paired_top1(
    first_right: np.ndarray, second_right: np.ndarray, *, level: float = LEVEL, method: Method = "bca", seed: int = 0
) -> Difference:
    """The difference in top-1 of two networks on the same n pictures: bootstrap interval, exact McNemar p.

    first_right, second_right: (n,) bool, whether each was right, in the same order. Raises ValueError where n is 0.
    """
    apart = first_right.astype(int) - second_right.astype(int)
    low, high = bootstrap_interval(apart, level=level, method=method, seed=seed)
    p = mcnemar_exact(int((apart > 0).sum()), int((apart < 0).sum()))
    return Difference(float(apart.mean()), low, high, p, len(apart))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    method: Method = "bca",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap interval of the mean of values (n,): the same for the same seed.

    bca corrects for bias and skew (Efron, 1987); percentile takes the quantiles as they are. One value, or equal ones, give an
    interval without width; from a handful of values it comes out too narrow. Raises ValueError where there is no value.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("there is no value to resample")
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        return float(distinct[0]), float(distinct[0])
    # How often each value is drawn, instead of which pictures: the same distribution at a thousandth of the work.
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    means = drawn @ distinct / len(values)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(means, _corrected(tails, values, means) if method == "bca" else tails)
    return float(low), float(high)


def _corrected(tails: np.ndarray, values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The quantiles that BCa takes in place of the tails."""
    from scipy.special import ndtr, ndtri

    observed, away = values.mean(), values - values.mean()
    near = 1e-12 * max(
        1.0, float(np.abs(values).max())
    )  # a mean that only rounding keeps from the observed one is equal
    below = ((means < observed - near).mean() + (means <= observed + near).mean()) / 2
    bias = ndtri(np.clip(below, 1 / (2 * len(means)), 1 - 1 / (2 * len(means))))
    skew = (away**3).sum() / (6 * (away**2).sum() ** 1.5)  # of the jackknife's means, in closed form
    z = bias + ndtri(tails)
    return ndtr(bias + z / (1 - skew * z))


def _numbered(hashes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) records of hash, label and which copy of the picture it is, so that each is there once."""
    order = np.lexsort((labels, hashes))
    ordered = np.stack([hashes[order].astype(np.uint64), labels[order].astype(np.uint64)])
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    place = np.arange(len(order))
    copy = np.empty(len(order), dtype=np.int64)
    copy[order] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return np.rec.fromarrays([hashes.astype(np.uint64), labels.astype(np.int64), copy], names="hash,label,copy")


# --- several seeds ---------------------------------------------------------------------------------------------------


def spread(values: Sequence[float], *, level: float = LEVEL) -> Spread:
    """Mean, standard deviation and t interval of the mean. Raises ValueError where there is no value."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        raise ValueError("there is no value to take the mean of")
    low, high, mean = float(x.min()), float(x.max()), float(x.mean())
    if len(x) == 1:
        return Spread(1, mean, None, None, None, low, high)
    std = float(x.std(ddof=1))
    half = _t(len(x) - 1, level) * std / math.sqrt(len(x))
    return Spread(len(x), mean, std, mean - half, mean + half, low, high)


def paired_by_seed(first: Mapping[int, float], second: Mapping[int, float], *, level: float = LEVEL) -> Difference:
    """The mean difference over the seeds that both have: `{seed: value}` each; interval and p by the paired t test.

    Raises ValueError below 2 shared seeds.
    """
    shared = sorted(first.keys() & second.keys())
    apart = [first[s] - second[s] for s in shared]
    if len(apart) < 2:
        raise ValueError(f"{len(apart)} shared seeds cannot say how much seeds differ")
    of = spread(apart, level=level)
    assert of.std is not None and of.low is not None and of.high is not None
    p = _two_sided(of.mean, of.std / math.sqrt(of.n), of.n - 1)
    return Difference(of.mean, of.low, of.high, p, of.n)


def welch(first: Sequence[float], second: Sequence[float], *, level: float = LEVEL) -> Difference:
    """The difference of two means whose values are not paired, of unequal variance (Welch, 1947).

    Raises ValueError where either has fewer than 2 values.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("each side needs 2 values or more")
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    value, error = float(a.mean() - b.mean()), math.sqrt(parts.sum())
    n = min(len(a), len(b))
    if error == 0:
        return Difference(value, value, value, _two_sided(value, 0.0, 1), n)
    freedom = float(parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum())
    half = _t(freedom, level) * error
    return Difference(value, value - half, value + half, _two_sided(value, error, freedom), n)


def _t(freedom: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def _two_sided(value: float, error: float, freedom: float) -> float:
    """The t test's p value; without any spread 1 for no difference and 0 for one."""
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if value == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(value) / error))


# --- several comparisons ---------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, corrected for their number (Holm, 1979), in the order given: below 0.05, one in twenty such families errs."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
