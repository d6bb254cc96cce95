"""What changed between two reports."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report_samples import METHODS, sample
from rich.console import Console
from scipy import stats

from syncdiff_data.records import UserError
from syncdiff_eval.compare import MetricChange, ReportComparison, compare_reports
from syncdiff_eval.report.changes import print_comparison
from syncdiff_eval.report.files import Report

SHIFT = 0.25
"""By which LSE-C of the changed method is higher in the second report."""


@pytest.fixture(scope="module")
def first() -> Report:
    """With enough signs that ten sources are tested exactly."""
    made = sample(12, METHODS[:2], failures=1)
    protocol = made.results.protocol.model_copy(update={"resamples": 2**10})
    return Report(Path("first"), made.results.model_copy(update={"protocol": protocol}), made.per_clip)


def changed(report: Report, change: Callable[[dict[str, Any]], None], **results: Any) -> Report:
    """The report with other rows and other results; its means are not read."""
    rows = report.per_clip.to_pylist()
    for row in rows:
        change(row)
    table = pa.Table.from_pylist(rows, report.per_clip.schema)
    return Report(Path("second"), report.results.model_copy(update=results), table)


def better(row: dict[str, Any]) -> None:
    """wav2lip's files are others, with a higher LSE-C; clip 5 has another real video."""
    if row["method"] == "wav2lip" and row["status"] == "scored":
        row["sha256"] = "9" * 64
        row["lse_c"] += SHIFT + 0.01 * int(row["clip"][-2:])
    if row["method"] == "ground_truth" and row["clip"] == "clip005":
        row["sha256"] = "8" * 64


def of(found: ReportComparison, method: str, metric: str) -> MetricChange:
    (row,) = [each for each in found.methods if each.name == method]
    (change,) = [each for each in row.metrics if each.metric.name == metric]
    return change


def printed(found: ReportComparison) -> str:
    out = io.StringIO()
    print_comparison(found, Console(width=140, file=out))
    return out.getvalue()


def test_a_report_has_not_changed_from_itself(first: Report) -> None:
    found = compare_reports(first, first)
    assert (found.settings, found.clips, found.only_a, found.only_b) == ([], [], [], [])
    assert found.n_clips == 12
    assert all(change.is_same for row in found.methods for change in row.metrics)
    assert printed(found).count("all numbers are the same") == len(first.results.methods)


def test_the_difference_is_paired_over_the_clips_of_both(first: Report) -> None:
    """The clip with another real video is left out, and so is the one that failed."""
    found = compare_reports(first, changed(first, better))
    change = of(found, "wav2lip", "lse_c")
    assert change.paired is not None
    assert change.paired.n == 12 - 2
    rows = first.per_clip.to_pandas()
    own = rows[(rows["method"] == "wav2lip") & (rows["status"] == "scored") & (rows["clip"] != "clip005")]
    moved = np.array([SHIFT + 0.01 * int(clip[-2:]) for clip in own["clip"]])
    assert change.paired.mean == pytest.approx(moved.mean())
    assert change.b - change.a == pytest.approx(moved.mean())
    expected = stats.t.interval(0.95, len(moved) - 1, moved.mean(), stats.sem(moved))
    assert (change.paired.low, change.paired.high) == pytest.approx(expected)
    assert change.paired.p == 2**-9
    assert of(found, "softgan", "lse_c").is_same
    assert [each.what for each in found.clips] == ["real video of clip clip005"]
    (row,) = [each for each in found.methods if each.name == "wav2lip"]
    assert (row.n_same_files, row.n_other_files) == (0, 10)


def test_changed_numbers_are_printed_and_the_others_are_not(first: Report) -> None:
    text = printed(compare_reports(first, changed(first, better)))
    line = next(line for line in text.splitlines() if line.strip().startswith("LSE-C"))
    assert "+0.3" in line
    assert "LSE-D" not in text
    assert "10 files in both, 10 changed" in text
    assert "second less first" in text


def test_settings_weights_and_versions_are_listed(first: Report) -> None:
    results = first.results
    other = changed(
        first,
        lambda row: None,
        weights={"syncnet": "6d" * 32, "expert": "77"},
        versions=results.versions | {"numpy": "2.1", "syncdiff": "0.2.0"},
        scoring_version=6,
        protocol=results.protocol.model_copy(update={"face_backend": "face-alignment"}),
        metrics=[
            m.model_copy(update={"not_available": "no weights"}) if m.name == "lse_c" else m
            for m in results.metrics
        ],
    )
    found = {each.what: (each.a, each.b) for each in compare_reports(first, other).settings}
    assert found == {
        "protocol face backend": ("embedded", "face-alignment"),
        "metric lse_c": ("scored", "no weights"),
        "weights syncnet": ("5c" * 32, "6d" * 32),
        "weights expert": ("absent", "77"),
        "version of scoring": ("5", "6"),
        "version of numpy": ("2.0", "2.1"),
        "version of syncdiff": (results.versions["syncdiff"], "0.2.0"),
    }
    text = printed(compare_reports(first, other))
    for what in found:
        assert what in text


def test_methods_and_clips_of_one_report_are_named(first: Report) -> None:
    made = sample(10, METHODS[1:3], failures=2)
    found = compare_reports(first, Report(Path("second"), made.results, made.per_clip))
    assert (found.only_a, found.only_b) == (["wav2lip"], ["latent"])
    assert [(each.what, each.a, each.b) for each in found.clips[:2]] == [
        ("clip clip010", "present", "absent"), ("clip clip011", "present", "absent"),
    ]  # fmt: skip
    text = printed(found)
    assert "Methods of the first report only: wav2lip" in text
    assert "Methods of the second report only: latent" in text


def test_clips_that_only_one_report_scored_are_named(first: Report) -> None:
    def broken(row: dict[str, Any]) -> None:
        if row["method"] == "softgan" and row["clip"] == "clip007":
            for name in row:
                row[name] = row[name] if name in ("method", "clip", "source", "null_reasons") else None
            row |= {"status": "failed", "reason": "unreadable"}

    found = compare_reports(first, changed(first, broken))
    (row,) = [each for each in found.methods if each.name == "softgan"]
    assert (row.scored_in_a, row.scored_in_b) == (("clip007",), ())
    assert "scored in the first report only: clip007" in printed(found)


def test_a_pooled_metric_has_two_numbers_and_no_test(first: Report) -> None:
    rows = [
        row.model_copy(
            update={
                "scores": row.scores | {"fid_face": row.scores["fid_face"].model_copy(update={"mean": 3.0})}
            }
        )
        if row.name == "wav2lip"
        else row
        for row in first.results.methods
    ]
    found = compare_reports(first, replace(first, results=first.results.model_copy(update={"methods": rows})))
    change = of(found, "wav2lip", "fid_face")
    assert (change.a, change.b, change.paired) == (10.5, 3.0, None)
    line = next(line for line in printed(found).splitlines() if line.strip().startswith("FID face"))
    assert "−7.50" in line
    assert "no test   pooled" in line


@pytest.mark.parametrize("other", [{"name": "latentsync"}, {"version": 2}, {"setting": "crossed-audio"}])
def test_other_protocols_are_refused(first: Report, other: dict[str, Any]) -> None:
    protocol = first.results.protocol.model_copy(update=other)
    with pytest.raises(UserError, match="not comparable"):
        compare_reports(first, changed(first, lambda row: None, protocol=protocol))


def test_few_sources_have_no_interval_and_say_so() -> None:
    made = sample(4, METHODS[:1], failures=0)
    few = Report(Path("first"), made.results, made.per_clip)
    found = compare_reports(few, changed(few, better))
    paired = of(found, "wav2lip", "lse_c").paired
    assert paired is not None
    assert (paired.low, paired.p, paired.n) == (None, None, 4)
    assert "no test" in printed(found)
