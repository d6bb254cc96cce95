"""Clips listed on the page: those without a score, and each method's worst. per_clip.parquet has all clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    values = per_clip.select(["method", "clip", metric.name])
    real = dict(
        zip(*_of_method(values, GROUND_TRUTH.name).select(["clip", metric.name]).to_pydict().values())
    )
    return [
        WorstClip(
            method.type, row, real.get(row["clip"]), curves(method.name, row["clip"]),
            curves(GROUND_TRUTH.name, row["clip"]),
        )
        for method in split_ranked(results)[0]
        for row in per_clip.take(_worst(values, method.name, metric)).to_pylist()
    ]  # fmt: skip


def _of_method(per_clip: pa.Table, method: str) -> pa.Table:
    return per_clip.filter(pc.equal(per_clip["method"], method))


def _worst(values: pa.Table, method: str, metric: MetricInfo) -> pa.Array:
    """Numbers of the rows of a method's worst clips, worst first. values: method, clip and the metric of every row."""
    numbered = values.append_column("row", pa.array(np.arange(len(values))))
    own = _of_method(numbered, method)
    own = own.filter(pc.is_valid(own[metric.name]))
    order = "ascending" if metric.higher_is_better else "descending"
    return own.sort_by([(metric.name, order), ("clip", "ascending")])["row"].slice(0, WORST)
