"""Kind 39: intervals and tests on few clips are right as often as they say, or there are none."""

import numpy as np
import pytest
from report_samples import FROZEN, METHODS, sample

from syncdiff_eval.methods import GROUND_TRUTH
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.tables import markdown
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.statistics import (
    LEAST_SOURCES,
    Inference,
    mean_interval,
    paired_difference,
    paired_differences,
    sign_flip_p,
)

INFERENCE = Inference(resamples=1000, confidence=0.95, seed=1)
DRAWS = 600


def names(n: int) -> list[str]:
    return [f"clip{i}" for i in range(n)]


@pytest.mark.parametrize("n", [6, 8, 20])
def test_kind_39_intervals_cover_the_true_mean_as_often_as_stated(n: int) -> None:
    """Percentile bootstraps cover 89 % at n = 8; 600 draws of 95 % have a standard deviation of 0.9 %."""
    rng = np.random.default_rng(n)
    covered = 0
    for _ in range(DRAWS):
        interval = mean_interval(rng.normal(3, 1, n), names(n), INFERENCE)
        assert interval is not None
        covered += interval[0] <= 3 <= interval[1]
    assert 0.92 < covered / DRAWS < 0.98


@pytest.mark.parametrize("n", [6, 8, 10, 20])
def test_kind_39_equal_methods_differ_as_rarely_as_stated(n: int) -> None:
    """The paired bootstrap's false positives were 10.4 % at n = 8 and 13.4 % at n = 10."""
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(DRAWS):
        found = paired_difference(rng.normal(size=n), rng.normal(size=n), names(n), INFERENCE)
        assert found is not None
        assert found.p is not None
        wrong += found.p < 0.05
    assert 0.01 < wrong / DRAWS < 0.075


def test_kind_39_a_clear_difference_on_eight_clips_is_found() -> None:
    rng = np.random.default_rng(0)
    found = [
        paired_difference(rng.normal(1.5, 1, 8), np.zeros(8), names(8), INFERENCE).p  # type: ignore[union-attr]
        for _ in range(200)
    ]
    assert np.mean(np.array(found) < 0.05) > 0.8


def test_kind_39_drawn_signs_agree_with_all_signs() -> None:
    sums = np.random.default_rng(4).normal(0.4, 1, 12)
    exact, drawn = (sign_flip_p(sums, Inference(n, 0.95, 2)) for n in (5000, 4000))
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.03)
    assert sign_flip_p(np.zeros(30), INFERENCE) == 1


def test_tests_that_share_signs_have_the_p_that_each_has_alone() -> None:
    """Exact ones, drawn ones of several numbers of sources, samples without a test and without a clip."""
    rng = np.random.default_rng(5)
    samples = [
        (rng.normal(shift, 1, n), np.zeros(n), names(n))
        for shift, n in [(0.5, 40), (1.0, 8), (0.0, 40), (0.2, 41), (0.0, 3), (0.0, 0), (0.1, 40)]
    ]
    alone = [paired_difference(*sample, INFERENCE) for sample in samples]
    assert paired_differences(samples, INFERENCE) == alone
    assert [found and found.p is not None for found in alone] == [True, True, True, True, False, None, True]


@pytest.mark.parametrize("n", [2, 5])
def test_kind_39_under_the_least_number_the_report_says_why_there_is_no_interval(n: int) -> None:
    made = sample(n, METHODS[:2], failures=0)
    score = made.results.methods[-1].scores["lse_c"]
    assert score.mean is not None
    assert (score.low, score.high) == (None, None)
    assert {(c.p, c.p_holm, c.low, c.winner) for c in made.results.comparisons} == {(None, None, None, None)}
    sentence = f"at least {LEAST_SOURCES} different sources"
    assert sentence in warnings(made.results)[0]
    page = render_page(made.results, made.per_clip, made.curve)
    assert sentence in page
    assert "no test" in page
    assert sentence in markdown(made.results)


def test_kind_39_the_frozen_frame_takes_part_in_no_comparison_and_decides_no_shared_clip() -> None:
    """Its rows fail on a clip of their own; with it in the family Holm's factor would be 3 instead of 1."""
    made = sample(12, METHODS[:2], failures=1)
    found = [c for c in made.results.comparisons if c.metric == "lse_c"]
    assert [(c.a, c.b) for c in found] == [("wav2lip", "softgan")]
    assert found[0].p_holm == found[0].p
    rows = {row.name: row.scores["lse_c"] for row in made.results.methods}
    assert rows[FROZEN.name].rank is None
    assert rows[FROZEN.name].mean_shared is not None  # still shown, on the others' clips
    assert rows["wav2lip"].n_shared == 10
    assert rows[GROUND_TRUTH.name].rank is None
