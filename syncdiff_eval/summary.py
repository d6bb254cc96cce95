"""Aggregates records to results: means, intervals, paired comparisons and ranks. Pure functions of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType
from syncdiff_eval.metrics.base import ClipArrays, MetricFamily, MissingValue, Values
from syncdiff_eval.reencode import ENCODER
from syncdiff_eval.results import Comparison, MethodResult, MetricInfo, Reencoding, Score, Shift
from syncdiff_eval.statistics import Bootstrap, holm, mean_interval, paired_difference, rank_groups

Record = Mapping[str, Any]
ByMethod = dict[str, dict[str, float]]
"""method -> clip -> value, of one metric; clips without a value are absent."""


def metric_infos(families: Sequence[MetricFamily], unavailable: Mapping[str, str]) -> list[MetricInfo]:
    """Every column, in the protocol's order. unavailable: family name -> why it did not run."""
    return [
        MetricInfo(
            name=column.name,
            title=column.title,
            unit=column.unit,
            higher_is_better=column.higher_is_better,
            decimals=column.decimals,
            pooled=column.pooled,
            not_available=unavailable.get(family.name),
        )
        for family in families
        for column in family.columns
    ]


def method_results(
    methods: Sequence[Method],
    metrics: Sequence[MetricInfo],
    records: Sequence[Record],
    pooled: Mapping[tuple[str, str], float | MissingValue],
    unmatched: Mapping[str, int],
    bootstrap: Bootstrap,
) -> tuple[list[MethodResult], list[Comparison]]:
    """Rows of the leaderboard and all paired comparisons. pooled: (method, metric) -> value of pooled metrics."""
    ranked = [method.name for method in methods if method.type is not MethodType.REFERENCE]
    scores: dict[str, dict[str, Score]] = {method.name: {} for method in methods}
    comparisons: list[Comparison] = []
    for metric in metrics:
        # records -> method -> clip -> value -> paired comparisons -> ranks -> one Score per method
        values = _values_by_method(metric.name, methods, records)
        compared = _paired_comparisons(metric, values, ranked, bootstrap)
        comparisons += compared
        shared = _shared_clips(values, ranked)
        ranks = _ranks(metric, values, ranked, shared, compared)
        for method in methods:
            own = [record for record in records if record["method"] == method.name]
            scores[method.name][metric.name] = _score(
                metric, own, values[method.name], shared if method.name in ranked else [],
                ranks.get(method.name), pooled.get((method.name, metric.name)), bootstrap,
            )  # fmt: skip
    rows = [_method_result(method, records, unmatched, scores[method.name]) for method in methods]
    return rows, comparisons


def pooled_values(
    methods: Sequence[Method],
    records: Sequence[Record],
    families: Sequence[MetricFamily],
    cache: Cache,
) -> dict[tuple[str, str], float | MissingValue]:
    """(method, metric) -> value of pooled metrics (FID). Real video has none: it is the reference distribution."""
    values: dict[tuple[str, str], float | MissingValue] = {}
    for family in families:
        if family.pool is None:
            continue
        names = [column.name for column in family.columns if column.pooled]
        reference = family.pool.gather(_arrays_of(GROUND_TRUTH.name, records, family.name, cache))
        for method in methods:
            computed: Values = {name: MissingValue(Reason.IDENTICAL_TO_REFERENCE) for name in names}
            if method.type is not MethodType.REFERENCE:
                generated = family.pool.gather(_arrays_of(method.name, records, family.name, cache))
                computed = family.pool.compare(generated, reference)
            values |= {(method.name, name): computed[name] for name in names}
    return values


def reencoding_results(
    methods: Sequence[Method],
    metrics: Sequence[MetricInfo],
    records: Sequence[Record],
    reencoded: Sequence[Record],
) -> list[Reencoding]:
    """Change of every metric after re-encoding, for each method with re-encoded files, in order of methods."""
    found = []
    for method in methods:
        after = [record for record in reencoded if record["method"] == method.name]
        clips = {record["clip"] for record in after}
        before = [record for record in records if record["method"] == method.name and record["clip"] in clips]
        if after:
            failures = Counter(record["reason"] for record in after if record["status"] == "failed")
            found.append(
                Reencoding(
                    method=method.name,
                    encoder=ENCODER,
                    n_attempted=len(after),
                    failures=dict(sorted(failures.items())),
                    shifts={m.name: _shift(m, before, after) for m in metrics if not m.pooled},
                )
            )
    return found


def _shift(metric: MetricInfo, before: Sequence[Record], after: Sequence[Record]) -> Shift:
    """Change over the clips with a value before and after. A metric may have values after only: PSNR of real video
    against itself is undefined before."""
    first, second = (
        {
            record["clip"]: record["values"][metric.name]
            for record in side
            if metric.name in record.get("values", {})
        }
        for side in (before, after)
    )
    both = sorted(first.keys() & second.keys())
    moved = np.array([second[clip] - first[clip] for clip in both])
    reason = None
    if not both:
        without_value = before if not first else [record for record in after if record["clip"] in first]
        reason = metric.not_available or _most_frequent_reason(metric.name, without_value)
    return Shift(
        n=len(both),
        mean=float(moved.mean()) if both else None,
        mean_abs=float(np.abs(moved).mean()) if both else None,
        largest_abs=float(np.abs(moved).max()) if both else None,
        reencoded=_mean(second, sorted(second)) if second else None,
        n_reencoded=len(second),
        reason=reason,
    )


def _arrays_of(method: str, records: Sequence[Record], family: str, cache: Cache) -> Iterator[ClipArrays]:
    for record in records:
        if record["method"] == method and family in record.get("arrays", {}):
            yield cache.arrays(record["arrays"][family])


def _values_by_method(metric: str, methods: Sequence[Method], records: Sequence[Record]) -> ByMethod:
    values: ByMethod = {method.name: {} for method in methods}
    for record in records:
        if metric in record.get("values", {}):
            values[record["method"]][record["clip"]] = record["values"][metric]
    return values


def _shared_clips(values: ByMethod, ranked: Sequence[str]) -> list[str]:
    """Clips on which every ranked method has a value; methods without any value are not counted."""
    scored = [set(values[name]) for name in ranked if values[name]]
    return sorted(set.intersection(*scored)) if scored else []


def _paired_comparisons(
    metric: MetricInfo, values: ByMethod, ranked: Sequence[str], bootstrap: Bootstrap
) -> list[Comparison]:
    """All pairs of ranked methods on the clips both have, with Holm's correction over the pairs."""
    if metric.higher_is_better is None:
        return []
    tested = []
    for a, b in combinations(ranked, 2):
        both = sorted(values[a].keys() & values[b].keys())
        first, second = (np.array([values[name][clip] for clip in both]) for name in (a, b))
        found = paired_difference(first, second, bootstrap)
        if found:
            tested.append((a, b, found))
    corrected = holm([found.p for _, _, found in tested])
    comparisons = []
    for (a, b, found), p_holm in zip(tested, corrected):
        winner = None
        if p_holm < 1 - bootstrap.confidence:
            winner = a if (found.mean > 0) == metric.higher_is_better else b
        comparisons.append(
            Comparison(
                metric=metric.name, a=a, b=b, difference=found.mean, low=found.low, high=found.high,
                p=found.p, p_holm=p_holm, n=found.n, winner=winner,
            )
        )  # fmt: skip
    return comparisons


def _ranks(
    metric: MetricInfo,
    values: ByMethod,
    ranked: Sequence[str],
    shared: Sequence[str],
    compared: Sequence[Comparison],
) -> dict[str, int]:
    if metric.higher_is_better is None or not shared:
        return {}
    means = {name: _mean(values[name], shared) for name in ranked if values[name]}
    wins = {(c.winner, c.b if c.winner == c.a else c.a) for c in compared if c.winner}
    return rank_groups(means, wins, metric.higher_is_better)


def _score(
    metric: MetricInfo,
    own: Sequence[Record],
    values: Mapping[str, float],
    shared: Sequence[str],
    rank: int | None,
    pooled: float | MissingValue | None,
    bootstrap: Bootstrap,
) -> Score:
    """One cell of the leaderboard. pooled: the value of a pooled metric."""
    clips = sorted(values)
    mean = _mean(values, clips) if clips else None
    interval = mean_interval(np.array([values[clip] for clip in clips]), bootstrap)
    on_shared = [clip for clip in shared if clip in values]
    n_scored = len(clips)
    scored = sum(record["status"] == "scored" for record in own)
    reason: str | None = None
    if metric.pooled and scored and pooled is not None:
        mean, reason = (None, str(pooled.reason)) if isinstance(pooled, MissingValue) else (pooled, None)
        n_scored = scored if mean is not None else 0
    elif not clips:
        reason = metric.not_available or _most_frequent_reason(metric.name, own)
    return Score(
        mean=mean,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        n_scored=n_scored,
        n_attempted=len(own),
        mean_shared=_mean(values, on_shared) if on_shared else None,
        n_shared=len(on_shared),
        rank=rank,
        reason=reason,
    )


def _most_frequent_reason(metric: str, own: Sequence[Record]) -> str:
    """The most frequent reason of clips without a value, where no clip has one."""
    reasons = Counter(record.get("missing", {}).get(metric) or record["reason"] for record in own)
    return str(min(reasons, key=lambda reason: (-reasons[reason], reason)))


def _method_result(
    method: Method, records: Sequence[Record], unmatched: Mapping[str, int], scores: dict[str, Score]
) -> MethodResult:
    own = [record for record in records if record["method"] == method.name]
    failures = Counter(record["reason"] for record in own if record["status"] == "failed")
    facts = [record["facts"] for record in own if "facts" in record]
    media = Counter(_media(each) for each in facts)
    bit_rates = [each["bit_rate"] for each in facts if each["bit_rate"]]
    return MethodResult(
        name=method.name,
        type=method.type,
        citation=method.citation,
        baseline=method.baseline is not None,
        n_attempted=len(own),
        n_scored=len(own) - failures.total(),
        failures=dict(sorted(failures.items())),
        unmatched_outputs=unmatched[method.name],
        media=[f"{what}: {n}" for what, n in sorted(media.items(), key=lambda item: (-item[1], item[0]))],
        codecs=sorted({each["codec"] for each in facts}),
        bit_rate=int(np.median(bit_rates)) if bit_rates else None,
        scores=scores,
    )


def _media(facts: Mapping[str, Any]) -> str:
    return f"{facts['codec']} {facts['width']}x{facts['height']} {facts['fps']:g} fps"


def _mean(values: Mapping[str, float], clips: Sequence[str]) -> float:
    return float(np.mean([values[clip] for clip in clips]))
