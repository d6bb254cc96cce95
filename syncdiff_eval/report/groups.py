"""Groups of metrics: one table each, since a single table would have twenty columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from syncdiff_eval.methods import MethodType
from syncdiff_eval.metrics.base import ReportGroup
from syncdiff_eval.results import MetricInfo, Results

_QUESTIONS = {
    ReportGroup.SYNC: "Does the mouth move with the sound?",
    ReportGroup.MOUTH_AUDIO: "Do the lips close and open with the sound?",
    ReportGroup.LIP_READER: "Do the lips match the sound, by AV-HuBERT features?",
    ReportGroup.REALISM: "Do the faces look real, and like the same person?",
    ReportGroup.PICTURE: "Do the frames look like the real ones?",
    ReportGroup.MOUTH_SHAPE: "Does the mouth take the real mouth’s shapes?",
    ReportGroup.LEAK: "Does the mouth follow the source video where it should follow the sound?",
    ReportGroup.OTHER: "Metrics of no other group.",
}
_ADDED = ("Added metrics", "Chosen by --metric; they are not part of the protocol.")
_HEADLINE = (
    "expert_confidence",
    "lse_c",
    "closure",
    "avs_u",
    "fid_face",
    "frechet_centerface",
    "identity_dlib",
    "ssim_face",
    "lmd_mouth",
    "leak_corr",
)


@dataclass(frozen=True)
class Group:
    """One table: metrics that have numbers, and those that have none with the one reason for it."""

    title: str
    question: str
    metrics: tuple[MetricInfo, ...]
    unavailable: tuple[tuple[str, str], ...]
    """Titles of metrics, and the reason they share."""


def groups(results: Results) -> list[Group]:
    """The groups that there are metrics of; metrics outside of the protocol come last."""
    shown = [metric for metric in results.metrics if not frame_count_of(metric, results)]
    known = [(title, question, [m for m in shown if m.in_protocol and m.group == title])
             for title, question in _QUESTIONS.items()]  # fmt: skip
    rest = (*_ADDED, [metric for metric in shown if not metric.in_protocol])
    return [
        Group(
            title,
            question,
            tuple(m for m in metrics if not _common_reason(m, results)),
            _unavailable(metrics, results),
        )
        for title, question, metrics in (*known, rest)
        if metrics
    ]


def frame_count_of(metric: MetricInfo, results: Results) -> str | None:
    """The pooled metric whose number of frames this one is, else None. It is printed in that metric's cell."""
    base = metric.name.removesuffix("_frames")
    names = {other.name for other in results.metrics}
    return base if metric.pooled and base != metric.name and base in names else None


def ordering_metric(results: Results) -> MetricInfo | None:
    """The metric that orders the methods: the first ranked per-clip metric with numbers."""
    return next(
        (metric for metric in results.metrics if _has_numbers(metric, results) and not metric.pooled
         and metric.higher_is_better is not None), None
    )  # fmt: skip


def overview_metrics(results: Results) -> list[MetricInfo]:
    """Metrics of the overview table: one or two of each group; none where there is only one group."""
    filled = [group for group in groups(results) if any(_has_numbers(m, results) for m in group.metrics)]
    if len(filled) < 2:
        return []
    named = {metric.name: metric for metric in results.metrics if _has_numbers(metric, results)}
    return [named[name] for name in _HEADLINE if name in named]


def ranked_metrics(results: Results) -> list[MetricInfo]:
    """Metrics with a better direction under which some method has a number."""
    return [m for m in results.metrics if m.higher_is_better is not None and _has_numbers(m, results)]


def _has_numbers(metric: MetricInfo, results: Results) -> bool:
    return any(
        row.scores[metric.name].mean is not None
        for row in results.methods
        if row.type is not MethodType.REFERENCE
    )


def _common_reason(metric: MetricInfo, results: Results) -> str | None:
    """Why no row at all has a number, where the ranked methods share one reason."""
    if any(row.scores[metric.name].mean is not None for row in results.methods):
        return None
    rows = [row for row in results.methods if row.type is not MethodType.REFERENCE] or results.methods
    reasons = {row.scores[metric.name].reason for row in rows}
    return reasons.pop() if len(reasons) == 1 else None


def _unavailable(metrics: Iterable[MetricInfo], results: Results) -> tuple[tuple[str, str], ...]:
    titles: dict[str, list[str]] = {}
    for metric in metrics:
        if reason := _common_reason(metric, results):
            titles.setdefault(reason, []).append(metric.title)
    return tuple((", ".join(names), reason) for reason, names in titles.items())
