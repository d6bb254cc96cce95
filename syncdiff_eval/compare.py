"""What changed between two reports of one protocol: each method's scores on the clips that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syncdiff_data.records import UserError
from syncdiff_eval.differences import Difference, differing_clips, differing_settings, same_clips
from syncdiff_eval.report.files import Report
from syncdiff_eval.results import MethodResult, MetricInfo
from syncdiff_eval.statistics import Inference, PairedDifference, paired_difference

Records = Mapping[str, Mapping[str, Any]]
"""clip -> record of one method."""


@dataclass(frozen=True)
class MetricChange:
    """One metric of one method: its means a and b on the clips that have a value in both reports.

    Of a pooled metric the values of the whole method, without a paired difference."""

    metric: MetricInfo
    a: float
    b: float
    paired: PairedDifference | None
    """Of b - a."""
    is_same: bool
    """Whether every value is the same."""


@dataclass(frozen=True)
class MethodChange:
    """A method of both reports, on the clips that both have."""

    name: str
    n_same_files: int
    """Clips whose scored file is the same in both."""
    n_other_files: int
    scored_in_a: tuple[str, ...]
    """Clips with a score in the first report only."""
    scored_in_b: tuple[str, ...]
    metrics: tuple[MetricChange, ...]
    """Those with a number in both."""


@dataclass(frozen=True)
class ReportComparison:
    """Everything in which two reports differ, and the scores on what they share."""

    settings: list[Difference]
    clips: list[Difference]
    n_clips: int
    """Clips that both have, with one source, real video and driving audio."""
    only_a: list[str]
    """Methods of the first report only."""
    only_b: list[str]
    methods: list[MethodChange]
    confidence: float
    """Of the intervals, 0 to 1."""


def compare_reports(a: Report, b: Report) -> ReportComparison:
    """Differences are b - a, paired by clip, with intervals and tests over sources as in a leaderboard; p is that of
    each difference alone. Raises UserError for reports of different protocols, versions or settings."""
    _check_protocols(a, b)
    clips = same_clips(a, b)
    first, second = ({row.name: row for row in report.results.methods} for report in (a, b))
    return ReportComparison(
        settings=differing_settings(a.results, b.results),
        clips=differing_clips(a, b),
        n_clips=len(clips),
        only_a=[name for name in first if name not in second],
        only_b=[name for name in second if name not in first],
        methods=[
            _method_change(row, second[name], a, b, clips) for name, row in first.items() if name in second
        ],
        confidence=a.results.protocol.confidence,
    )


def _check_protocols(a: Report, b: Report) -> None:
    first, second = (
        f"{p.name} version {p.version}, {p.setting}" for p in (a.results.protocol, b.results.protocol)
    )
    if first != second:
        raise UserError(
            f"{a.folder} is of {first}, {b.folder} of {second}: their numbers are not comparable. Score both under one "
            "protocol."
        )


def _method_change(
    first: MethodResult, second: MethodResult, a: Report, b: Report, clips: Sequence[str]
) -> MethodChange:
    before, after = _scored(a, first.name, clips), _scored(b, first.name, clips)
    both = [clip for clip in clips if clip in before and clip in after]
    same = sum(before[clip]["facts"]["sha256"] == after[clip]["facts"]["sha256"] for clip in both)
    metrics = [metric for metric in a.results.metrics if metric.name in second.scores]
    protocol = a.results.protocol
    inference = Inference(protocol.resamples, protocol.confidence, protocol.seed)
    changes = [
        _pooled_change(metric, first, second)
        if metric.pooled
        else _paired_change(
            metric, [before[clip] for clip in both], [after[clip] for clip in both], inference
        )
        for metric in metrics
    ]
    return MethodChange(
        name=first.name,
        n_same_files=same,
        n_other_files=len(both) - same,
        scored_in_a=tuple(clip for clip in before if clip not in after),
        scored_in_b=tuple(clip for clip in after if clip not in before),
        metrics=tuple(change for change in changes if change is not None),
    )


def _scored(report: Report, method: str, clips: Sequence[str]) -> Records:
    wanted = set(clips)
    return {
        record["clip"]: record
        for record in report.records
        if record["method"] == method and record["clip"] in wanted and record["status"] == "scored"
    }


def _pooled_change(metric: MetricInfo, first: MethodResult, second: MethodResult) -> MetricChange | None:
    a, b = first.scores[metric.name].mean, second.scores[metric.name].mean
    return None if a is None or b is None else MetricChange(metric, a, b, None, a == b)


def _paired_change(
    metric: MetricInfo,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    inference: Inference,
) -> MetricChange | None:
    """before, after: records of the same clips."""
    name = metric.name
    pairs = [(x, y) for x, y in zip(before, after) if name in x["values"] and name in y["values"]]
    a = np.array([x["values"][name] for x, _ in pairs])
    b = np.array([y["values"][name] for _, y in pairs])
    paired = paired_difference(b, a, [x["source"] for x, _ in pairs], inference)
    if paired is None:
        return None
    return MetricChange(metric, float(a.mean()), float(b.mean()), paired, bool((a == b).all()))
