"""Intervals, paired tests, Holm and rank groups against scipy and known cases."""

import numpy as np
import pytest
from scipy import stats

from syncdiff_eval.statistics import Inference, PairedDifference, holm, rank_groups
from syncdiff_eval.statistics import mean_interval as interval_by_source
from syncdiff_eval.statistics import paired_difference as difference_by_source

INFERENCE = Inference(resamples=4000, confidence=0.95, seed=7)


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Of clips that each have a source of their own."""
    return interval_by_source(values, [str(i) for i in range(len(values))], INFERENCE)


def paired_difference(a: np.ndarray, b: np.ndarray) -> PairedDifference | None:
    return difference_by_source(a, b, [str(i) for i in range(len(a))], INFERENCE)


def test_interval_agrees_with_students_on_normal_data() -> None:
    """Bug 6: sd 1.71 on 218 clips makes a mean of LSE-C uncertain by 0.23."""
    values = np.random.default_rng(0).normal(7, 1, 218)
    values = 7 + 1.71 * (values - values.mean()) / values.std(ddof=1)
    low, high = mean_interval(values) or (0, 0)
    t = stats.t.interval(0.95, 217, loc=7, scale=1.71 / np.sqrt(218))
    assert (low, high) == pytest.approx(t, abs=0.02)
    assert (high - low) / 2 == pytest.approx(0.23, abs=0.02)


def test_interval_is_absent_for_few_clips() -> None:
    values = np.random.default_rng(1).normal(size=30)
    assert mean_interval(values[:5]) is None
    assert mean_interval(np.full(8, 2.5)) == (2.5, 2.5)


@pytest.mark.parametrize("effect", [0.0, 0.2, 0.35])
def test_paired_p_agrees_with_the_permutation_test(effect: float) -> None:
    rng = np.random.default_rng(2)
    b = rng.normal(7, 2, 80)
    a = b + effect + rng.normal(0, 1, 80)
    found = paired_difference(a, b)
    expected = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=4000, rng=np.random.default_rng(3)
    )
    assert found is not None
    assert found.mean == pytest.approx((a - b).mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert found.p == pytest.approx(expected.pvalue, abs=0.03)


def test_a_paired_test_finds_a_difference_within_overlapping_intervals() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(7, 2, 60)
    a, b = hard + 0.3, hard + rng.normal(0, 0.2, 60)
    found = paired_difference(a, b)
    assert found is not None
    assert found.p is not None
    assert found.p < 0.01
    (_, high_b), (low_a, _) = mean_interval(b), mean_interval(a)  # type: ignore[misc]
    assert low_a < high_b


def test_on_few_clips_nothing_is_significant() -> None:
    found = paired_difference(np.array([2.0, 2.1, 2.2, 2.3, 2.4]), np.ones(5))
    assert found is not None
    assert (found.low, found.high, found.p) == (None, None, None)
    assert found.mean == pytest.approx(1.2)
    six = paired_difference(np.array([2.0, 2.1, 2.2, 2.3, 2.4, 2.5]), np.ones(6))
    assert six is not None
    assert six.p == 2**-5
    assert paired_difference(np.empty(0), np.empty(0)) is None


def test_equal_methods_have_a_difference_of_zero() -> None:
    found = paired_difference(np.ones(20), np.ones(20))
    assert found is not None
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_groups() -> None:
    means = {"a": 9.0, "b": 8.0, "c": 5.0, "d": 4.0}
    every = {("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")}
    assert rank_groups(means, every, True) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert rank_groups(means, set(), True) == dict.fromkeys("abcd", 1)
    assert rank_groups(means, every - {("a", "b"), ("c", "d")}, True) == {"a": 1, "b": 1, "c": 3, "d": 3}
    chained = {("a", "c"), ("a", "d"), ("b", "d")}
    assert rank_groups(means, chained, True) == dict.fromkeys("abcd", 1)
    lower = {(worse, better) for better, worse in every}
    assert rank_groups(means, lower, False) == {"d": 1, "c": 2, "b": 3, "a": 4}
