"""Aggregates records to results: means, intervals, paired comparisons and ranks. Pure functions of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import median_low
from typing import Any

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType
from syncdiff_eval.metrics.base import MetricFamily, MissingValue, Values, finite
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.ranking import covered_methods, paired_comparisons, ranks, shared_clips
from syncdiff_eval.reencode import ENCODER
from syncdiff_eval.results import Comparison, MethodResult, MetricInfo, Reencoding, Score, Shift
from syncdiff_eval.scoring.sound import SHIFTED_S
from syncdiff_eval.statistics import Inference, mean_interval

Row = Mapping[str, Any]


def metric_infos(
    families: Sequence[MetricFamily], unavailable: Mapping[str, str], added: Collection[str] = ()
) -> list[MetricInfo]:
    """Every column, in the protocol's order. unavailable: family name -> why it did not run. added: names of families
    that are not part of the protocol."""
    return [
        MetricInfo(
            name=column.name,
            title=column.title,
            unit=column.unit,
            higher_is_better=column.higher_is_better,
            decimals=column.decimals,
            pooled=column.pooled,
            not_available=unavailable.get(family.name),
            group=family.group,
            in_protocol=family.name not in added,
        )
        for family in families
        for column in family.columns
    ]


def method_results(
    methods: Sequence[Method],
    metrics: Sequence[MetricInfo],
    records: Sequence[Row],
    pooled: Mapping[tuple[str, str], float | MissingValue],
    unmatched: Mapping[str, int],
    protocol: ProtocolDefinition,
    sources: Mapping[str, str],
) -> tuple[list[MethodResult], list[Comparison]]:
    """Rows of the leaderboard and all paired comparisons.

    pooled: (method, metric) -> value of pooled metrics. sources: clip -> the video, or speaker, it is from; clips of
    one source are not independent. Baselines are neither compared nor ranked.
    """
    competitors = [method.name for method in methods if method.is_competitor]
    scores: dict[str, dict[str, Score]] = {method.name: {} for method in methods}
    own = _by_method(methods, records)
    comparisons: list[Comparison] = []
    for metric in metrics:
        # records -> method -> clip -> value -> paired comparisons -> ranks -> one Score per method
        values = _values_by_method(metric.name, methods, records)
        compared = paired_comparisons(metric, values, competitors, sources, protocol.inference)
        comparisons += compared
        covered = covered_methods(values, competitors, protocol.least_coverage)
        shared, ranked = shared_clips(values, covered), ranks(metric, covered, compared)
        for method in methods:
            name = method.name
            score = _score(metric, own[name], values[name], pooled.get((name, metric.name)), sources,
                           protocol.inference)  # fmt: skip
            low_coverage = bool(values[name]) and name in competitors and name not in covered
            if method.type is not MethodType.REFERENCE and not low_coverage:
                score = score.model_copy(update=_on_shared(values[name], shared) | {"rank": ranked.get(name)})
            scores[name][metric.name] = score.model_copy(update={"low_coverage": low_coverage})
    rows = [_method_result(method, own[method.name], unmatched, scores[method.name]) for method in methods]
    return rows, comparisons


def pooled_values(
    methods: Sequence[Method],
    records: Sequence[Row],
    families: Sequence[MetricFamily],
    cache: Cache,
) -> dict[tuple[str, str], float | MissingValue]:
    """(method, metric) -> value of pooled metrics (FID). Real video has none: it is the reference distribution.

    A method is compared with the ground truth of the clips it has itself, so that the clips on which it failed do not
    count as a difference of frames."""
    values: dict[tuple[str, str], float | MissingValue] = {}
    for family in families:
        if family.pool is None:
            continue
        names = [column.name for column in family.columns if column.pooled]
        keys = _array_keys(records, family.name)
        real = keys.get(GROUND_TRUTH.name, {})
        by_clips: dict[tuple[str, ...], list[Method]] = {}
        for method in methods:
            by_clips.setdefault(tuple(clip for clip in keys.get(method.name, {}) if clip in real), []).append(
                method
            )
        for clips, those in by_clips.items():  # one ground truth in memory at a time
            reference = family.pool.gather(cache.arrays(real[clip]) for clip in clips)
            for method in those:
                computed: Values = {name: MissingValue(Reason.IDENTICAL_TO_REFERENCE) for name in names}
                if method.type is not MethodType.REFERENCE:
                    generated = family.pool.gather(cache.arrays(keys[method.name][clip]) for clip in clips)
                    computed = family.pool.compare(generated, reference)
                values |= {(method.name, name): finite(computed[name]) for name in names}
    return values


def reencoding_results(
    methods: Sequence[Method],
    metrics: Sequence[MetricInfo],
    records: Sequence[Row],
    reencoded: Sequence[Row],
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


def _shift(metric: MetricInfo, before: Sequence[Row], after: Sequence[Row]) -> Shift:
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


def _array_keys(records: Sequence[Row], family: str) -> dict[str, dict[str, str]]:
    """method -> clip -> key of the arrays that the family kept, in order of the records."""
    keys: dict[str, dict[str, str]] = {}
    for record in records:
        if family in record.get("arrays", {}):
            keys.setdefault(record["method"], {})[record["clip"]] = record["arrays"][family]
    return keys


def _by_method(methods: Sequence[Method], records: Sequence[Row]) -> dict[str, list[Row]]:
    """The records of each method, in their order."""
    found: dict[str, list[Row]] = {method.name: [] for method in methods}
    for record in records:
        found[record["method"]].append(record)
    return found


def _values_by_method(
    metric: str, methods: Sequence[Method], records: Sequence[Row]
) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, float]] = {method.name: {} for method in methods}
    for record in records:
        if metric in record.get("values", {}):
            values[record["method"]][record["clip"]] = record["values"][metric]
    return values


def _on_shared(values: Mapping[str, float], shared: Sequence[str]) -> dict[str, float | int | None]:
    clips = [clip for clip in shared if clip in values]
    return {"mean_shared": _mean(values, clips) if clips else None, "n_shared": len(clips)}


def _score(
    metric: MetricInfo,
    own: Sequence[Row],
    values: Mapping[str, float],
    pooled: float | MissingValue | None,
    sources: Mapping[str, str],
    inference: Inference,
) -> Score:
    """One cell of the leaderboard, without what other methods decide. pooled: the value of a pooled metric."""
    clips = sorted(values)
    mean = _mean(values, clips) if clips else None
    interval = mean_interval(
        np.array([values[clip] for clip in clips]), [sources[clip] for clip in clips], inference
    )
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
        mean_shared=None,
        n_shared=0,
        low_coverage=False,
        rank=None,
        reason=reason,
    )


def _most_frequent_reason(metric: str, own: Sequence[Row]) -> str:
    """The most frequent reason of clips without a value, where no clip has one."""
    reasons = Counter(record.get("missing", {}).get(metric) or record["reason"] for record in own)
    return str(min(reasons, key=lambda reason: (-reasons[reason], reason)))


def _method_result(
    method: Method, own: Sequence[Row], unmatched: Mapping[str, int], scores: dict[str, Score]
) -> MethodResult:
    failures = Counter(record["reason"] for record in own if record["status"] == "failed")
    facts = [record["facts"] for record in own if "facts" in record]
    media = Counter(_media(each) for each in facts)
    bit_rates = [each["bit_rate"] for each in facts if each["bit_rate"]]
    late = [each["sound_late_s"] for each in facts if each.get("sound_late_s") is not None]
    lags = [each["sound_lag_s"] for each in facts if abs(each.get("sound_lag_s") or 0.0) > SHIFTED_S]
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
        sound_late_ms=round(1000 * median_low(late), 1) if late else None,
        n_sound_shifted=len(lags),
        sound_shift_ms=round(1000 * median_low(lags), 1) if lags else None,
        scores=scores,
    )


def _media(facts: Mapping[str, Any]) -> str:
    return f"{facts['codec']} {facts['width']}x{facts['height']} {facts['fps']:g} fps"


def _mean(values: Mapping[str, float], clips: Sequence[str]) -> float:
    return float(np.mean([values[clip] for clip in clips]))
