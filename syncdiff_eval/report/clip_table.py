"""The rows of per_clip.parquet as data for the page's table of all clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from syncdiff_eval.report.cells import TYPES, plain_reason, short_heading
from syncdiff_eval.report.groups import groups, ordering_metric, overview_metrics
from syncdiff_eval.results import MetricInfo, Results

MOST_ROWS = 3000
"""Rows that the page holds: about a megabyte. per_clip.parquet has all."""


def clip_table(results: Results, per_clip: pa.Table, preview_of: Mapping[str, int]) -> dict[str, Any]:
    """Metrics, sets of columns to choose from, methods, clips, and rows [method, clip, reason, values ...]: indexes,
    null or a reason, and each metric's value or null, rounded to its decimals.

    Beyond MOST_ROWS the clips with a preview are kept, and then the first in the table's order.
    """
    metrics = _clip_metrics(results)
    methods = {row.name: row for row in results.methods}
    kept = kept_clips(per_clip, max(1, MOST_ROWS // max(1, len(methods))), preview_of)
    place = {clip: i for i, clip in enumerate(kept)}
    numbers = {name: i for i, name in enumerate(methods)}
    names = [metric.name for metric in metrics]
    columns = per_clip.select(["method", "clip", "status", "reason", *names])
    return {
        "metrics": [
            {"title": short_heading(m), "unit": m.unit, "decimals": m.decimals, "better": _sign(m)}
            for m in metrics
        ],
        "sets": [
            {"title": title, "metrics": [names.index(m.name) for m in chosen]}
            for title, chosen in _sets(results, metrics)
        ],
        "methods": [
            {"name": row.name, "type": row.type, "words": TYPES[row.type]} for row in methods.values()
        ],
        "clips": [{"name": clip, "preview": preview_of.get(clip)} for clip in kept],
        "all": len(per_clip),
        "rows": [
            [
                numbers[row["method"]],
                place[row["clip"]],
                None if row["status"] == "scored" else plain_reason(row["reason"]),
                *(None if row[m.name] is None else round(row[m.name], m.decimals) for m in metrics),
            ]
            for row in columns.to_pylist()
            if row["clip"] in place and row["method"] in numbers
        ],
    }


def kept_clips(per_clip: pa.Table, most: int, first: Mapping[str, int]) -> list[str]:
    """At most so many clips in the table's order, those of `first` before others."""
    clips = list(dict.fromkeys(per_clip["clip"].to_pylist()))
    chosen = set(sorted(clips, key=lambda clip: clip not in first)[:most])
    return [clip for clip in clips if clip in chosen]


def _clip_metrics(results: Results) -> list[MetricInfo]:
    """With a number for some clip of some method, in the order of the groups."""
    return [
        metric
        for group in groups(results)
        for metric in group.metrics
        if not metric.pooled and any(row.scores[metric.name].mean is not None for row in results.methods)
    ]


def _sets(results: Results, metrics: Sequence[MetricInfo]) -> list[tuple[str, list[MetricInfo]]]:
    """Titles and metrics of the sets of columns: the overview's, then each group's."""
    first = ordering_metric(results)
    headline = dict.fromkeys(m.name for m in [*([first] if first else []), *overview_metrics(results)])
    sets = [("Overview", [m for m in metrics if m.name in headline])]
    sets += [(group.title, [m for m in group.metrics if m in metrics]) for group in groups(results)]
    return [(title, chosen) for title, chosen in sets if chosen]


def _sign(metric: MetricInfo) -> int:
    """1 where higher is better, -1 where lower is, else 0."""
    return 0 if metric.higher_is_better is None else 1 if metric.higher_is_better else -1
