"""Comparison by type: the best GAN against the best diffusion method under every metric, with the paired test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from syncdiff_eval.methods import MethodType
from syncdiff_eval.report.cells import comparison_mean
from syncdiff_eval.report.groups import ranked_metrics
from syncdiff_eval.results import Comparison, MethodResult, MetricInfo, Results

GAN, DIFFUSION, OTHER = MethodType.GAN, MethodType.DIFFUSION, MethodType.OTHER


@dataclass(frozen=True)
class TypeComparison:
    """The best methods of each type under one metric.

    difference: diffusion minus GAN on the clips both have; None for a pooled metric. low, high: its interval; None on
    too few sources, as is p_holm."""

    metric: MetricInfo
    best: dict[MethodType, MethodResult]
    difference: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    winner: MethodType | None
    """None: no significant difference, or no test (a pooled metric)."""

    @property
    def advantage(self) -> tuple[float, float, float] | None:
        """Low, mean and high of the difference, positive where diffusion is better."""
        if self.difference is None or self.low is None or self.high is None:
            return None
        if self.metric.higher_is_better:
            return self.low, self.difference, self.high
        return -self.high, -self.difference, -self.low


def type_comparisons(results: Results) -> list[TypeComparison]:
    """One per metric under which a GAN and a diffusion method have numbers; empty where a type is absent.

    The difference and its test are those of `results.comparisons`: paired, corrected over all methods.
    """
    found = []
    for metric in ranked_metrics(results):
        best = {kind: row for kind in (GAN, DIFFUSION, OTHER) if (row := _best(results, metric, kind))}
        if GAN in best and DIFFUSION in best:
            found.append(_type_comparison(results, metric, best))
    return found


def count_types(results: Results) -> list[tuple[MethodType, int]]:
    """Number of methods per type that occurs, without the baselines."""
    counts = Counter(row.type for row in results.methods if not row.baseline)
    return [(kind, counts[kind]) for kind in (GAN, DIFFUSION, OTHER) if counts[kind]]


def _best(results: Results, metric: MetricInfo, kind: MethodType) -> MethodResult | None:
    rows = [row for row in results.methods if row.type is kind and not row.baseline]
    levels = {
        row.name: value
        for row in rows
        if not row.scores[metric.name].low_coverage and (value := comparison_mean(row, metric)) is not None
    }
    if not levels:
        return None
    name = (max if metric.higher_is_better else min)(levels, key=levels.__getitem__)
    return next(row for row in rows if row.name == name)


def _type_comparison(
    results: Results, metric: MetricInfo, best: dict[MethodType, MethodResult]
) -> TypeComparison:
    gan, diffusion = best[GAN].name, best[DIFFUSION].name
    tested = [c for c in results.comparisons if c.metric == metric.name and {c.a, c.b} == {gan, diffusion}]
    if not tested:
        return TypeComparison(metric, best, None, None, None, None, None)
    (c,) = tested
    if c.a == diffusion:
        difference, low, high = c.difference, c.low, c.high
    else:
        difference, low, high = -c.difference, _negative(c.high), _negative(c.low)
    return TypeComparison(metric, best, difference, low, high, c.p_holm, _winner(c, gan))


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _winner(comparison: Comparison, gan: str) -> MethodType | None:
    if comparison.winner is None:
        return None
    return GAN if comparison.winner == gan else DIFFUSION
