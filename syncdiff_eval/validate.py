"""Validation of a report: the schema, and the numbers of results.json against the rows of per_clip.parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from syncdiff_data.records import UserError
from syncdiff_eval.per_clip import read_per_clip
from syncdiff_eval.report.files import FILES, Report
from syncdiff_eval.results import MethodResult, MetricInfo, Reencoding, Results, read_results

FACTS = ["num_frames", "sha256", "codec", "width", "height", "fps"]
"""Columns that say which file was scored; never null where one was."""


def validate_report(report: Path) -> str:
    """One sentence that the report is valid. Raises UserError that names the first fault."""
    results = read_valid_report(report).results
    n_rows = len(results.methods) * results.n_clips
    return f"{report} is valid: {len(results.methods)} methods, {results.n_clips} clips, {n_rows} rows."


def read_valid_report(report: Path) -> Report:
    """A report whose files agree. Raises UserError that names the first fault."""
    results = read_results(report)
    missing = [name for name in FILES if not (report / name).is_file()]
    if missing:
        raise UserError(f"{report} lacks {', '.join(missing)}; run the benchmark again.")
    n_rows = len(results.methods) * results.n_clips
    table = read_per_clip(report / "per_clip.parquet", results.metrics, n_rows)
    rows = table.to_pandas()
    for method in results.methods:
        _check_method(method, rows[rows["method"] == method.name], results)
    _check_clips(rows, results)
    for reencoding in results.reencoding:
        _check_reencoding(reencoding, results)
    return Report(report, results, table)


def _check_clips(rows: pd.DataFrame, results: Results) -> None:
    """The same clips for every method, each of one source; as many sources as results.json says."""
    faults = {
        "has other clips for one method than for another": rows["clip"].nunique() != results.n_clips,
        "has a clip of two sources": bool((rows.groupby("clip")["source"].nunique() > 1).any()),
        "has other sources than results.json counts": rows["source"].nunique() != results.n_sources,
    }
    for fault, found in faults.items():
        if found and len(rows):
            raise UserError(f"per_clip.parquet {fault}.")


def _check_method(method: MethodResult, rows: pd.DataFrame, results: Results) -> None:
    """Every clip once, failures with a reason and without numbers, nulls explained, files known, means as written."""
    failed, scored = rows[rows["status"] == "failed"], rows["status"] == "scored"
    numbers = [metric.name for metric in results.metrics if not metric.pooled]
    faults = {
        "does not have every clip exactly once": len(rows) != results.n_clips or not rows["clip"].is_unique,
        "has a status other than scored and failed": not rows["status"].isin(["scored", "failed"]).all(),
        "has failed clips without a reason": bool(failed["reason"].isna().any()),
        "has numbers for failed clips": bool(failed[numbers].notna().any(axis=None)),
        "has nulls without a reason": not _nulls_explained(rows[scored], numbers),
        "has other failures than results.json counts": _failures(failed) != method.failures,
        "has scored clips without the facts of their files": bool(
            rows.loc[scored, FACTS].isna().any(axis=None)
        ),
    }
    for fault, found in faults.items():
        if found:
            raise UserError(f"per_clip.parquet: {method.name} {fault}.")
    for metric in results.metrics:
        _check_mean(method, rows, metric)


def _nulls_explained(scored: pd.DataFrame, numbers: list[str]) -> bool:
    return all(
        dict(reasons).get(name)
        for name in numbers
        for reasons in scored.loc[scored[name].isna(), "null_reasons"]
    )


def _failures(failed: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(n) for reason, n in failed["reason"].value_counts().items()}


def _check_reencoding(reencoding: Reencoding, results: Results) -> None:
    """Every scored file once, and as many shifts as there are values."""
    n_scored = {method.name: method.n_scored for method in results.methods}
    left = reencoding.n_attempted - sum(reencoding.failures.values())
    shifts = reencoding.shifts.values()
    if (
        n_scored.get(reencoding.method) != reencoding.n_attempted
        or set(reencoding.shifts) != {metric.name for metric in results.metrics if not metric.pooled}
        or any(not shift.n <= shift.n_reencoded <= left for shift in shifts)
        or any((shift.mean is None) != (shift.n == 0) for shift in shifts)
    ):
        raise UserError(f"results.json: the re-encoded files of {reencoding.method} do not add up.")


def _check_mean(method: MethodResult, rows: pd.DataFrame, metric: MetricInfo) -> None:
    if metric.pooled:
        return
    values = rows[metric.name].dropna()
    score = method.scores[metric.name]
    same = score.n_scored == len(values) and (
        (score.mean is None and not len(values))
        or (score.mean is not None and np.isclose(values.mean(), score.mean, rtol=1e-9))
    )
    if not same:
        raise UserError(
            f"results.json: {method.name}, {metric.name}: mean {score.mean} of {score.n_scored} clips, but "
            f"per_clip.parquet gives {values.mean()} of {len(values)}."
        )
