"""Intervals of means, paired comparisons of methods, Holm's correction and rank groups.

Clips that share a source video are not independent, so the unit is the source (a video, or a speaker where the list of
pairs names speakers): a mean stays the mean over clips, its uncertainty comes from the spread between sources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEAST_SOURCES = 6
"""Under 6 sources there is no interval and no test: the sign-flip test's smallest p, 2^(1 - n), is then over 0.05."""
_BATCH = 4_000_000
"""Signs in memory at a time, 32 MB."""


@dataclass(frozen=True)
class Inference:
    """confidence (0 to 1) of every interval and test; resamples and seed of tests that do not enumerate all signs."""

    resamples: int
    confidence: float
    seed: int


def mean_interval(
    values: np.ndarray, sources: Sequence[str], inference: Inference
) -> tuple[float, float] | None:
    """Student's t interval of the mean of float64 [n]; None for fewer than LEAST_SOURCES different sources.

    sources: of each value, the source it is from. With one value per source this is the usual interval. Else the
    variance is that of the sources' weighted means, and the degrees of freedom are Satterthwaite's for values that are
    equal within a source (Bell and McCaffrey 2002), fewer where one source has many values.
    """
    weights, means = _by_source(values, sources)
    if len(means) < LEAST_SOURCES:
        return None
    return student_interval(weights, means, inference.confidence)


def student_interval(weights: np.ndarray, means: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval of the weighted mean of G >= 2 independent means: weights, float64 [G], add up to 1."""
    centre = float(weights @ means)
    # Residuals of the larger sources are smaller, since those pull the mean towards themselves.
    adjusted = weights**2 / (1 - 2 * weights + weights @ weights)
    error = float(np.sqrt(adjusted @ (means - centre) ** 2))
    half = float(stats.t.ppf((1 + confidence) / 2, _degrees_of_freedom(weights, adjusted))) * error
    return centre - half, centre + half


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the n clips both have, from `sources` different sources.

    low, high: its interval; p: of a true mean of zero. None for fewer than LEAST_SOURCES sources."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    sources: int


Sample = tuple[np.ndarray, np.ndarray, Sequence[str]]
"""a and b, float64 [n] on the same clips, and the source of each clip, as in `mean_interval`."""


def paired_difference(
    a: np.ndarray, b: np.ndarray, sources: Sequence[str], inference: Inference
) -> PairedDifference | None:
    """Paired comparison of two float64 [n] on the same clips; None without any. sources: as in `mean_interval`.

    p is that of the two-sided paired permutation test: under no difference, the differences of a source are as likely
    with the opposite sign.
    """
    return paired_differences([(a, b, sources)], inference)[0]


def paired_differences(samples: Sequence[Sample], inference: Inference) -> list[PairedDifference | None]:
    """`paired_difference` of every sample; together they take less time."""
    found = [_difference(*sample, inference) if len(sample[0]) else None for sample in samples]
    tested = [i for i, each in enumerate(found) if each is not None and each[0].low is not None]
    p = dict(zip(tested, sign_flip_ps([found[i][1] for i in tested], inference)))  # type: ignore[index]
    return [None if each is None else replace(each[0], p=p.get(i)) for i, each in enumerate(found)]


def _difference(
    a: np.ndarray, b: np.ndarray, sources: Sequence[str], inference: Inference
) -> tuple[PairedDifference, np.ndarray]:
    """The difference, its p left out, and each source's part of the mean, float64 [G]."""
    differences = a - b
    weights, means = _by_source(differences, sources)
    low, high = mean_interval(differences, sources, inference) or (None, None)
    mean = float(differences.mean())
    return PairedDifference(mean, low, high, None, len(differences), len(means)), weights * means


def sign_flip_p(sums: np.ndarray, inference: Inference) -> float:
    """Two-sided p of the sum of float64 [G] when every sign is as likely as its opposite.

    All 2^G signs are enumerated where they are no more than `resamples` (scipy.stats.permutation_test), so that p is
    exact; else that many are drawn, the observed one counted among them.
    """
    return sign_flip_ps([sums], inference)[0]


def sign_flip_ps(tests: Sequence[np.ndarray], inference: Inference) -> list[float]:
    """`sign_flip_p` of every test. Those of equally many sources share the drawn signs, which take most of the time."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, sums in enumerate(tests):
        by_size[len(sums)].append(i)
    found: dict[int, float] = {}
    for size, those in by_size.items():
        test = _exact_p if 2**size <= inference.resamples else _drawn_p
        found |= zip(those, test(np.stack([tests[i] for i in those]), inference))
    return [found[i] for i in range(len(tests))]


def _exact_p(tests: np.ndarray, inference: Inference) -> list[float]:
    """p of each of float64 [K, G]."""
    return [
        float(
            stats.permutation_test(
                (sums,), np.sum, permutation_type="samples", vectorized=True, n_resamples=inference.resamples
            ).pvalue
        )
        for sums in tests
    ]


def _drawn_p(tests: np.ndarray, inference: Inference) -> list[float]:
    """p of each of float64 [K, G]; each is the same, whatever the others are."""
    # scipy draws signs by permuting pairs, which takes 15 times as long for 1,000 sources.
    rng = np.random.default_rng(inference.seed)
    # Rounding must not exclude sums that are equal in exact arithmetic.
    least = np.abs(tests.sum(1)) - 1e-12 * np.abs(tests).sum(1)
    extreme, batch = np.zeros(len(tests), int), max(1, _BATCH // tests.shape[1])
    for done in range(0, inference.resamples, batch):
        size = (min(batch, inference.resamples - done), tests.shape[1])
        signs = 2.0 * rng.integers(0, 2, size, np.int8) - 1
        extreme += np.sum(np.abs(signs @ tests.T) >= least, axis=0)
    return ((extreme + 1) / (inference.resamples + 1)).tolist()


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of one family of tests by Holm's step-down procedure (Holm 1979), in the given
    order."""
    adjusted = [1.0] * len(p)
    running = 0.0
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - step) * p[i]))
        adjusted[i] = running
    return adjusted


def rank_groups(
    means: Mapping[str, float], wins: set[tuple[str, str]], higher_is_better: bool
) -> dict[str, int]:
    """Rank of every method; methods without a significant difference share one.

    means: by method. wins: (winner, loser) of every significant difference. Sorted by mean, a new group begins only
    where every method above wins against every method from there on, as in the WMT's clusters (Koehn 2012). The rank
    is the place of the group's first method.
    """
    order = sorted(means, key=lambda name: (-means[name] if higher_is_better else means[name], name))
    ranks, rank = {}, 1
    for place, name in enumerate(order):
        above, below = order[:place], order[place:]
        if place and all((better, worse) in wins for better in above for worse in below):
            rank = place + 1
        ranks[name] = rank
    return ranks


def _by_source(values: np.ndarray, sources: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """values [n] -> share of the values and their mean, of each source: float64 [G] twice."""
    _, at, counts = np.unique(np.asarray(sources, str), return_inverse=True, return_counts=True)
    return counts / len(values), np.bincount(at, weights=values) / counts


def _degrees_of_freedom(weights: np.ndarray, adjusted: np.ndarray) -> float:
    """Satterthwaite's, 2 E[v]^2 / var[v] of v = sum of adjusted (mean - centre)^2 over means of one variance.

    v is a quadratic form in the means with the matrix A = (I - w 1') diag(adjusted) (I - 1 w'); the result is
    tr(A)^2 / tr(A^2), written out so that no G x G matrix is made. G - 1 for equal weights.
    """
    w, d = weights, adjusted
    total, ww, wd = d.sum(), w @ w, w @ d
    trace = total - 2 * wd + total * ww
    square = (
        d @ d + 2 * (d @ d) * ww + 2 * wd**2 + total**2 * ww**2
        - 4 * (d * d) @ w + 2 * total * (d @ (w * w)) - 4 * total * wd * ww
    )  # fmt: skip
    return float(trace**2 / square)
