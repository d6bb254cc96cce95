"""Methods against each other under one metric: paired comparisons, the clips they share, and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from syncdiff_eval.results import Comparison, MetricInfo
from syncdiff_eval.statistics import (
    Inference,
    PairedDifference,
    Sample,
    holm,
    paired_differences,
    rank_groups,
)

ByMethod = Mapping[str, Mapping[str, float]]
"""method -> clip -> value, of one metric; clips without a value are absent."""


def paired_comparisons(
    metric: MetricInfo,
    values: ByMethod,
    competitors: Sequence[str],
    sources: Mapping[str, str],
    inference: Inference,
) -> list[Comparison]:
    """All pairs of competitors with a common clip, with Holm's correction over the pairs that are tested.

    sources: clip -> its source, the unit of the tests."""
    if metric.higher_is_better is None:
        return []
    pairs = list(combinations(competitors, 2))
    differences = paired_differences([_sample(values[a], values[b], sources) for a, b in pairs], inference)
    found = [(a, b, difference) for (a, b), difference in zip(pairs, differences) if difference]
    # Pairs on too few sources have no p, and the others pay nothing for them.
    tested = {(a, b): difference.p for a, b, difference in found if difference.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values()))))
    return [
        _comparison(metric, a, b, difference, corrected.get((a, b)), 1 - inference.confidence)
        for a, b, difference in found
    ]


def _sample(a: Mapping[str, float], b: Mapping[str, float], sources: Mapping[str, str]) -> Sample:
    """What both have values of, in order of clip."""
    both = sorted(a.keys() & b.keys())
    first, second = (np.array([values[clip] for clip in both]) for values in (a, b))
    return first, second, [sources[clip] for clip in both]


def covered_methods(values: ByMethod, competitors: Sequence[str], least_coverage: float) -> list[str]:
    """The competitors with at least least_coverage (0 to 1) of the clips that the one with the most has."""
    most = max((len(values[name]) for name in competitors), default=0)
    return [name for name in competitors if most and len(values[name]) >= least_coverage * most]


def shared_clips(values: ByMethod, covered: Sequence[str]) -> list[str]:
    """Clips on which every covered method has a value."""
    return sorted(set.intersection(*(set(values[name]) for name in covered))) if covered else []


def ranks(metric: MetricInfo, covered: Sequence[str], compared: Sequence[Comparison]) -> dict[str, int]:
    """Ranks of the covered methods, from the paired comparisons alone.

    Methods are ordered by their mean difference from each other one on the clips that both have, which is the order of
    their means where all have the same clips."""
    if metric.higher_is_better is None:
        return {}
    leads: dict[str, list[float]] = {name: [0.0] for name in covered}
    for c in compared:
        if c.a in leads and c.b in leads:
            leads[c.a].append(c.difference)
            leads[c.b].append(-c.difference)
    wins = {(c.winner, c.b if c.winner == c.a else c.a) for c in compared if c.winner}
    return rank_groups(
        {name: float(np.mean(lead)) for name, lead in leads.items()}, wins, metric.higher_is_better
    )


def _comparison(
    metric: MetricInfo, a: str, b: str, found: PairedDifference, p_holm: float | None, level: float
) -> Comparison:
    winner = None
    if p_holm is not None and p_holm < level:
        winner = a if (found.mean > 0) == metric.higher_is_better else b
    return Comparison(
        metric=metric.name, a=a, b=b, difference=found.mean, low=found.low, high=found.high, p=found.p,
        p_holm=p_holm, n=found.n, n_sources=found.sources, winner=winner,
    )  # fmt: skip
