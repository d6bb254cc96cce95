"""Clips listed on the page: those without a score, and each method's worst. per_clip.parquet has all clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.report.cells import split_ranked
from syncdiff_eval.report.groups import ordering_metric
from syncdiff_eval.results import MetricInfo, Results

WORST = 3
"""Clips shown of each method."""
NAMED = 3
"""Clips named of each reason."""

Curves = Callable[[str, str], np.ndarray | None]
"""(method, clip) -> SyncNet's confidence, float32 [windows]; None where none was kept."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """Clips of one method that failed for one reason."""

    method: str
    reason: str
    clips: tuple[str, ...]
    detail: str | None
    """Of the first of them."""

    @property
    def named(self) -> str:
        rest = len(self.clips) - NAMED
        return ", ".join(self.clips[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class WorstClip:
    """A method's row of per_clip.parquet, and the values of real video on that clip."""

    type: MethodType
    row: Row
    real: float | None
    """Value of the ordering metric."""
    curve: np.ndarray | None
    real_curve: np.ndarray | None


def failed_clips(per_clip: pa.Table) -> list[Failure]:
    """In the order of the table, one entry per method and reason."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in per_clip.select(["method", "clip", "status", "reason", "detail"]).to_pylist():
        if row["status"] == "failed":
            found.setdefault((row["method"], row["reason"]), []).append(row)
    return [
        Failure(method, reason, tuple(row["clip"] for row in rows), rows[0]["detail"])
        for (method, reason), rows in found.items()
    ]


def worst_clips(results: Results, per_clip: pa.Table, curves: Curves) -> list[WorstClip]:
    """Each ranked method's worst clips by the ordering metric, worst first; empty where there is none."""
    metric = ordering_metric(results)
    if metric is None:
        return []
    rows = [row for row in per_clip.to_pylist() if row[metric.name] is not None]
    real = {row["clip"]: row[metric.name] for row in rows if row["method"] == GROUND_TRUTH.name}
    return [
        WorstClip(
            method.type, row, real.get(row["clip"]), curves(method.name, row["clip"]),
            curves(GROUND_TRUTH.name, row["clip"]),
        )
        for method in split_ranked(results)[0]
        for row in _worst([row for row in rows if row["method"] == method.name], metric)
    ]  # fmt: skip


def _worst(rows: Sequence[Row], metric: MetricInfo) -> list[Row]:
    sign = 1 if metric.higher_is_better else -1
    return sorted(rows, key=lambda row: (sign * row[metric.name], row["clip"]))[:WORST]
