"""Tables of benchmarks/metric_agreement.py: rank correlations over resampled clips, separation, degraded pictures."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from agreement_statistics import (
    closest,
    goodness,
    interval,
    markdown,
    pooled_separation,
    rank_correlations,
    resampled_means,
    separation,
)
from degraded import with_late_mouth, with_mouth


def test_rank_correlation_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (20, 8)).astype(float), rng.normal(size=8)
    expected = [stats.spearmanr(row, b).statistic for row in a]
    assert rank_correlations(a, b) == pytest.approx(expected)


def test_rank_correlation_leaves_out_methods_without_a_value_and_needs_four():
    published = np.array([np.nan, 3.0, 2.0, 1.0, 0.0])
    assert rank_correlations(np.array([[9.0, 3, 2, 1, 0]]), published) == pytest.approx([1.0])
    assert np.isnan(rank_correlations(np.array([[9.0, np.nan, 2, 1, 0]]), published)).all()


def test_rank_correlation_of_what_does_not_vary_is_unknown():
    found = rank_correlations(np.array([[1.0, 2, 3, 4], [5, 5, 5, 5], [1, np.nan, 3, 4]]), np.arange(4.0))
    assert found[0] == pytest.approx(1)
    assert np.isnan(found[1:]).all()


def test_means_of_draws_leave_out_clips_without_a_value():
    values = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, 5.0]])
    means = resampled_means(values, np.array([[0, 0, 1], [2, 2, 2]]))
    assert means[0] == pytest.approx([2, 5])
    assert means[1][0] == pytest.approx(5 / 3)
    assert np.isnan([means[1][1], means[2][0]]).all()


def test_interval_holds_the_middle_of_the_resamples_and_needs_most_of_them():
    found = interval(np.concatenate([[0.5], np.linspace(0, 1, 1001)]))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))
    assert str(found) == "+0.50 [+0.03, +0.97]"
    assert interval(np.array([0.5, np.nan, np.nan, 0.5])) is None
    assert interval(np.array([np.nan, 0.5, 0.5])) is None


def test_separation_of_clips_that_differ_always_and_never():
    real = np.arange(11.0)
    apart = separation(real + 20, real)
    assert (apart.auc, apart.n) == (1.0, 11)
    assert apart.p == pytest.approx(2 / 2**11)
    alike = separation(real, real[::-1])
    assert alike.auc == pytest.approx(0.5)
    assert alike.p > 0.9


def test_separation_pairs_clips_that_have_both_values_and_tests_no_fewer_than_six():
    found = separation(np.array([1.0, np.nan, 3.0]), np.array([0.0, 0.0, np.nan]))
    assert (found.n, found.auc, found.p) == (1, 1.0, None)
    assert separation(np.array([np.nan, 1.0]), np.array([1.0, np.nan])) is None


def test_pooled_separation_counts_resamples_and_is_never_nought():
    real = np.concatenate([[-1.0], -np.ones(99)])
    assert pooled_separation(real, real - 1).p == pytest.approx(0.02)
    assert pooled_separation(real, real).p == 1


@pytest.mark.parametrize(
    ("name", "higher_is_better", "expected"),
    [("psnr_face", True, [0.5, 2]), ("lmd_face", False, [-0.5, -2]), ("opening_spread", None, [-0.5, -1])],
)
def test_higher_is_better_after_turning(name, higher_is_better, expected):
    assert goodness(np.array([0.5, 2.0]), name, higher_is_better) == pytest.approx(expected)


def test_closest_metric_is_of_another_family():
    rhos = {("a", "b"): 0.9, ("a", "c"): 0.2, ("a", "d"): -0.4, ("c", "a"): 1.0}
    families = {"a": "x", "b": "x", "c": "y", "d": "z"}
    assert closest("a", rhos, families) == ("c", 0.2)
    assert closest("b", rhos, families)[0] == ""


def test_table_has_dashes_where_nothing_is_known():
    assert markdown(["a", "b"], [["x", None]]) == "| a | b |\n| --- | ---: |\n| x | – |\n"


def test_another_mouth_changes_the_mouth_alone():
    images = [np.full((40, 60, 3), 10 * i, np.uint8) for i in range(4)]
    boxes = np.tile(np.array([10, 20, 40, 36]), (4, 1))
    late = with_late_mouth(images, boxes)
    assert [frame[28, 25, 0] for frame in late] == [20, 30, 0, 10]
    outside = np.ones((40, 60), bool)
    outside[20:36, 10:40] = False
    assert all((made[outside] == image[outside]).all() for made, image in zip(late, images))
    shorter = with_mouth(images, boxes, images[3:], boxes[:1])
    assert [frame[28, 25, 0] for frame in shorter] == [30, 30, 30, 30]
