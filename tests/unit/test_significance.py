"""Every statistic against scipy's or statsmodels' on fixed cases: ties, one value, none, no overlap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fer.significance import (
    bootstrap_interval,
    holm,
    match_pictures,
    mcnemar_exact,
    paired_by_seed,
    paired_top1,
    spread,
    welch,
)


@pytest.mark.parametrize(("b", "c"), [(10, 3), (3, 10), (5, 5), (0, 1), (0, 12), (300, 260), (1200, 1000)])
def test_mcnemar_is_statsmodels(b: int, c: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[50, b], [c, 40]], exact=True).pvalue, rel=1e-9)
    assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)


def test_mcnemar_of_networks_that_never_differ_is_one() -> None:
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(
    "values",
    [[1] * 60 + [-1] * 20 + [0] * 120, [1] * 3 + [0] * 97, [0.012, 0.004, 0.031, -0.002, 0.008]],
    ids=["discordant pictures", "skewed", "five seeds"],
)
def test_the_bootstrap_is_scipys(values: list[float], level: float, method: str) -> None:
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=40_000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap_interval(values, level=level, method=method, resamples=40_000, seed=2)
    scale = np.std(values) / np.sqrt(len(values))
    assert ours == pytest.approx(tuple(theirs), abs=0.1 * scale)


def test_the_bootstrap_repeats_itself_and_another_seed_hardly_moves_it() -> None:
    values = [1] * 60 + [-1] * 20 + [0] * 120
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=4) == pytest.approx(bootstrap_interval(values, seed=3), abs=0.01)


@pytest.mark.parametrize("values", [[0.2], [0.0, 0.0, 0.0], [0.5, 0.5]])
def test_the_bootstrap_of_equal_values_has_no_width(values: list[float]) -> None:
    assert bootstrap_interval(values) == (values[0], values[0])


def test_nothing_to_resample_or_to_average_is_said() -> None:
    with pytest.raises(ValueError, match="no value"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="no value"):
        spread([])
    with pytest.raises(ValueError, match="no value"):
        paired_top1(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))


def test_paired_top1_holds_all_three() -> None:
    first, second = np.array([1, 1, 1, 0, 0, 1, 1, 1], dtype=bool), np.array([1, 0, 0, 1, 0, 0, 0, 1], dtype=bool)
    found = paired_top1(first, second)
    assert (found.value, found.n) == (3 / 8, 8)
    assert found.p == pytest.approx(stats.binomtest(1, 5).pvalue)
    assert found.low < 3 / 8 < found.high


# --- matching pictures -----------------------------------------------------------------------------------------------


def pairs(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> list[tuple[int, int]]:
    arrays = [np.array(x) for side in (first, second) for x in (zip(*side, strict=True) if side else ([], []))]
    a, b = match_pictures(arrays[0].astype(np.uint64), arrays[1], arrays[2].astype(np.uint64), arrays[3])
    return sorted(zip(a.tolist(), b.tolist(), strict=True))


def test_pictures_are_matched_whatever_their_order() -> None:
    assert pairs([(7, 0), (8, 1), (9, 2)], [(9, 2), (7, 0), (5, 1)]) == [(0, 1), (2, 0)]


def test_copies_go_in_their_order_and_what_is_left_over_stays_out() -> None:
    assert pairs([(7, 0), (7, 0), (7, 0), (8, 1)], [(8, 1), (7, 0), (7, 0)]) == [(0, 1), (1, 2), (3, 0)]


def test_one_picture_under_two_labels_is_two() -> None:
    assert pairs([(7, 0), (7, 1)], [(7, 1), (7, 3)]) == [(1, 0)]


def test_no_overlap_gives_none() -> None:
    assert pairs([(1, 0), (2, 0)], [(3, 0), (1, 1)]) == []
    assert pairs([], [(3, 0)]) == []


def test_hashes_of_all_64_bits_are_kept_apart() -> None:
    big = 2**64 - 1
    assert pairs([(big, 0), (big - 1, 0)], [(big - 1, 0)]) == [(1, 0)]


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0.54, 0.55, 0.53], [0.5, 0.5], [0.1, 0.4, 0.2, 0.9, 0.3]])
def test_the_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    found = spread(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values) or 1e-300)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.minimum, found.maximum) == (len(values), min(values), max(values))


def test_one_value_has_a_mean_and_nothing_else() -> None:
    found = spread([0.5])
    assert (found.n, found.mean, found.std, found.low, found.high) == (1, 0.5, None, None, None)


FIRST = {0: 0.551, 1: 0.563, 2: 0.549, 3: 0.57, 7: 0.9}
SECOND = {3: 0.551, 2: 0.545, 1: 0.55, 0: 0.547, 5: 0.1}


def test_paired_by_seed_is_the_paired_t_test_over_shared_seeds() -> None:
    found = paired_by_seed(FIRST, SECOND)
    theirs = stats.ttest_rel([FIRST[s] for s in range(4)], [SECOND[s] for s in range(4)])
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.n == 4


def test_of_three_seeds_the_t_interval_holds_the_mean_as_often_as_it_says_and_a_bootstrap_does_not() -> None:
    """Why the verdict over seeds has no choice of interval."""
    rng, by_t, by_bootstrap = np.random.default_rng(0), 0, 0
    for _ in range(500):
        values = rng.normal(0, 1, 3)
        of, (low, high) = spread(values), bootstrap_interval(values, resamples=1000)
        by_t += of.low <= 0 <= of.high
        by_bootstrap += low <= 0 <= high
    assert by_t / 500 > 0.92 and by_bootstrap / 500 < 0.8


def test_ties_over_seeds() -> None:
    assert paired_by_seed({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}).p == 1.0
    assert paired_by_seed({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5}).p == 0.0
    assert welch([0.5, 0.5], [0.5, 0.5]).p == 1.0
    assert welch([0.5, 0.5], [0.25, 0.25]).p == 0.0


def test_one_shared_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="1 shared seeds"):
        paired_by_seed({0: 0.5, 1: 0.6}, {1: 0.5, 2: 0.6})
    with pytest.raises(ValueError, match="2 values"):
        welch([0.5], [0.4, 0.5])


@pytest.mark.parametrize(
    ("a", "b"), [([0.5, 0.52, 0.55], [0.51, 0.5, 0.49, 0.52]), ([0.5, 0.5, 0.501], [0.5, 0.6, 0.7])]
)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    found, theirs = welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


@pytest.mark.parametrize("p", [[], [0.03], [0.01, 0.04, 0.03], [0.5, 0.001, 0.5, 0.02], [0.9, 0.8], [0.02, 0.02, 0.02]])
def test_holm_is_statsmodels(p: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    theirs = multipletests(p, method="holm")[1].tolist() if p else []
    assert holm(p) == pytest.approx(theirs)
