"""Joins reports on the same clips to the report of one run with all of their methods.

Means, ranks and tests are computed anew from the values per clip. What a method has by itself is taken over: pooled
metrics, which compare it with real video only, and re-encoded files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage import exclusive
from syncdiff_data.weights import file_sha256
from syncdiff_eval.differences import PROGRAM, Difference, differing_clips, differing_settings
from syncdiff_eval.methods import GROUND_TRUTH, Baseline, Method, MethodType
from syncdiff_eval.metrics.base import MissingValue
from syncdiff_eval.per_clip import per_clip_table
from syncdiff_eval.protocols import ProtocolDefinition, find_protocol
from syncdiff_eval.provenance import git_commit
from syncdiff_eval.report.files import Report, check_place, write_report
from syncdiff_eval.results import MergedReport, MethodResult, MetricInfo, Protocol, Results
from syncdiff_eval.summary import method_results
from syncdiff_eval.validate import read_valid_report

Record = Mapping[str, Any]
_SAME = ("source", "status", "reason", "num_frames", "audio_sha256", "missing")
"""What must be equal in two rows of one method and clip, beside the file's hash and the values."""


def merge_reports(folders: Sequence[Path], out: Path, overwrite: bool = False) -> Results:
    """Write the report of all methods of the reports in `folders` into `out`.

    A method may be in several of them if its rows are the same. Raises UserError that names the difference where
    protocol, metrics, weights, versions, clips or such rows differ, or where `out` holds a report already.
    """
    _check_out(folders, out, overwrite)
    reports = [read_valid_report(folder) for folder in folders]
    for a, b in combinations(reports, 2):
        check_same_run(a, b)
    results, records = merged(reports)
    with exclusive(str(out)):
        write_report(out, results, per_clip_table(records, results.metrics), lambda method, clip: None)
    return results


def merged(reports: Sequence[Report]) -> tuple[Results, list[Record]]:
    """Results and records of all methods, of reports on the same clips with the same settings."""
    first = reports[0].results
    rows = _joined_methods(reports)
    records = _joined_records(reports, [row.name for row in rows])
    methods, comparisons = method_results(
        [_method(row) for row in rows],
        first.metrics,
        records,
        {key: value for row in rows for key, value in _pooled(row, first.metrics).items()},
        {row.name: row.unmatched_outputs for row in rows},
        _definition(first.protocol),
        {record["clip"]: record["source"] for record in records},
    )
    reencoded = {each.method: each for report in reversed(reports) for each in report.results.reencoding}
    return first.model_copy(
        update={
            "methods": methods,
            "comparisons": comparisons,
            "reencoding": [reencoded[row.name] for row in rows if row.name in reencoded],
            "published": list(dict.fromkeys(n for report in reports for n in report.results.published)),
            "versions": first.versions | {"syncdiff": version("syncdiff")},
            "git_commit": git_commit(),
            "other_flags": [],
            "merged_from": _provenance(reports),
        }
    ), records


def _check_out(folders: Sequence[Path], out: Path, overwrite: bool) -> None:
    given = {folder.resolve() for folder in folders}
    if len(given) < 2:
        raise UserError("Name two reports or more: python -m syncdiff_eval merge REPORT REPORT --out OUT.")
    if out.resolve() in given:
        raise UserError(f"{out} is one of the reports to merge, which would be lost: choose another --out.")
    if (out / "results.json").exists() and not overwrite:
        raise UserError(f"{out} holds a report already: choose another --out, or --overwrite.")
    if not overwrite:
        check_place(out)


def check_same_run(a: Report, b: Report) -> None:
    """UserError with the first difference that the rows and settings of one run cannot have."""
    for report in (a, b):
        if GROUND_TRUTH.name not in {row.name for row in report.results.methods}:
            raise UserError(
                f"{report.folder} has no row {GROUND_TRUTH.name}, so its real videos are unknown."
            )
    settings = [found for found in differing_settings(a.results, b.results) if found.what not in PROGRAM]
    found = settings or differing_clips(a, b) or _differing_rows(a, b)
    if found:
        more = f", and {len(found) - 1} more such" if len(found) > 1 else ""
        first, second = found[0].brief
        raise UserError(
            f"{a.folder} and {b.folder} cannot be merged. {found[0].what}: {first} in the first, {second} in the "
            f"second{more}. Numbers are comparable if one run could have made them: one protocol, the same clips, "
            "weights and versions. python -m syncdiff_eval compare lists what differs."
        )


def _differing_rows(a: Report, b: Report) -> list[Difference]:
    """Of the methods that both have."""
    types = {row.name: row.type for row in a.results.methods}
    named = [
        Difference(f"type of {row.name}", types[row.name], row.type)
        for row in b.results.methods
        if types.get(row.name, row.type) is not row.type
    ]
    rows = {(record["method"], record["clip"]): record for record in a.records}
    pairs = [(rows.get((record["method"], record["clip"])), record) for record in b.records]
    found = [_differing_row(x, y, a.results.metrics) for x, y in pairs if x is not None]
    return [*named, *(difference for difference in found if difference)]


def _differing_row(a: Record, b: Record, metrics: Sequence[MetricInfo]) -> Difference | None:
    """The first difference of two rows of one method and clip. Values may differ by less than their last printed digit,
    as they do between types of machines."""
    where = f"{a['method']} on clip {a['clip']}"
    for name in _SAME:
        if a[name] != b[name]:
            return Difference(f"{name} of {where}", str(a[name]), str(b[name]))
    first, second = (record.get("facts", {}).get("sha256") for record in (a, b))
    if first != second:
        return Difference(f"file of {where}", str(first), str(second))
    for metric in metrics:
        x, y = (record["values"].get(metric.name) for record in (a, b))
        if x != y and (x is None or y is None or abs(x - y) >= 10**-metric.decimals):
            return Difference(f"{metric.name} of {where}", str(x), str(y))
    return None


def _joined_methods(reports: Sequence[Report]) -> list[MethodResult]:
    """Every method once, in the order of one run: real video, baselines, then the rest in the order of the reports."""
    rows: dict[str, MethodResult] = {}
    for report in reports:
        for row in report.results.methods:
            rows.setdefault(row.name, row)
    return sorted(rows.values(), key=lambda row: (row.type is not MethodType.REFERENCE, not row.baseline))


def _joined_records(reports: Sequence[Report], names: Sequence[str]) -> list[Record]:
    """The records of the methods in that order, of each those of the first report that has it."""
    found: dict[str, dict[str, Record]] = {name: {} for name in names}
    for report in reports:
        for record in report.records:
            found[record["method"]].setdefault(record["clip"], record)
    return [record for name in names for record in found[name].values()]


def _method(row: MethodResult) -> Method:
    return Method(row.name, row.type, row.citation, None, Baseline() if row.baseline else None)


def _pooled(row: MethodResult, metrics: Sequence[MetricInfo]) -> dict[tuple[str, str], float | MissingValue]:
    """Values of the pooled metrics that ran on a method with scored clips, as `summary.pooled_values` made them."""
    scores = {
        m.name: row.scores[m.name] for m in metrics if m.pooled and not m.not_available and row.n_scored
    }
    return {
        (row.name, name): MissingValue(Reason(str(score.reason))) if score.mean is None else score.mean
        for name, score in scores.items()
    }


def _definition(protocol: Protocol) -> ProtocolDefinition:
    """The protocol's definition with the statistics of the reports. UserError where it has another version by now."""
    known = find_protocol(protocol.name)
    if known.version != protocol.version:
        raise UserError(
            f"The reports are of {protocol.name} version {protocol.version}, and this syncdiff computes the statistics "
            f"of version {known.version}: score again, or merge with the syncdiff that made them."
        )
    return replace(
        known,
        seed=protocol.seed,
        resamples=protocol.resamples,
        confidence=protocol.confidence,
        least_coverage=protocol.least_coverage,
    )


def _provenance(reports: Sequence[Report]) -> list[MergedReport]:
    """The reports that scored the clips, each once, also where one of `reports` was merged from them."""
    parts = [part for report in reports for part in report.results.merged_from or [_part(report)]]
    return list({part.results_sha256: part for part in parts}.values())


def _part(report: Report) -> MergedReport:
    results = report.results
    return MergedReport(
        results_sha256=file_sha256(report.folder / "results.json"),
        methods=[row.name for row in results.methods if _method(row).is_competitor],
        syncdiff_version=results.versions.get("syncdiff"),
        git_commit=results.git_commit,
    )
