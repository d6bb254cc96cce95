"""Reports of other methods on the same clips, joined to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_samples import DIFFUSION, GAN, METHODS, Sample, sample

from syncdiff_data.cli import RayOptions
from syncdiff_data.records import UserError
from syncdiff_eval import per_clip
from syncdiff_eval.__main__ import command
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.merge import check_same_run, merge_reports
from syncdiff_eval.methods import Method
from syncdiff_eval.pairing import Pairing
from syncdiff_eval.per_clip import TAIL, per_clip_table, read_per_clip, records_of, write_per_clip
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.report.files import FILES, Report, write_report
from syncdiff_eval.results import Results, read_results, write_results
from syncdiff_eval.validate import validate_report
from syncdiff_eval.videos import FileFacts

NAMES = [method.name for method in METHODS]
HALVES = (NAMES[:2], NAMES[2:])
PROVENANCE = {"git_commit": None, "merged_from": []}


@cache
def drawn(*only: str) -> Sample:
    """Seven videos of two clips; a method of low coverage, and one without any clip."""
    failing = {METHODS[1].name: 8, METHODS[3].name: 14}
    return sample(14, failing=failing, failures=1, only=only or None, clips_per_source=2)


def write(made: Sample, out: Path) -> Path:
    """What is read of a report; the rest is there, and empty."""
    write_results(made.results, out / "results.json")
    write_per_clip(made.per_clip, out / "per_clip.parquet")
    for name in set(FILES) - {"results.json", "per_clip.parquet"}:
        (out / name).touch()
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    write_report(out, drawn().results, drawn().per_clip, Sample.curve)
    return out


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [write(drawn(*only), tmp_path_factory.mktemp("half")) for only in HALVES]


@pytest.fixture(scope="module")
def joined(halves: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joined")
    merge_reports(halves, out)
    return out


def without_provenance(results: Results) -> Results:
    return results.model_copy(update=PROVENANCE)


def test_rows_are_records_again() -> None:
    table = drawn().per_clip
    metrics = drawn().results.metrics
    assert per_clip_table(records_of(table), metrics).equals(table)


def test_a_table_made_in_parts_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawn()
    records = records_of(made.per_clip)
    for name, at_once in (("whole", len(records)), ("parts", 7)):
        monkeypatch.setattr(per_clip, "ROWS_AT_ONCE", at_once)
        write_per_clip(per_clip_table(records, made.results.metrics), tmp_path / name)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert per_clip_table([], made.results.metrics).schema == made.per_clip.schema


@pytest.mark.parametrize("damage", ["flipped bit", "name in another encoding", "text in another encoding"])
def test_a_damaged_table_is_a_sentence(tmp_path: Path, damage: str) -> None:
    made, path = drawn(), tmp_path / "per_clip.parquet"
    write_per_clip(made.per_clip, path)
    assert read_per_clip(path, made.results.metrics).equals(made.per_clip)
    data = path.read_bytes()
    if damage == "flipped bit":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif damage == "name in another encoding":
        path.write_bytes(data.replace(b"num_frames", b"num_fr\xe4mes"))
    else:  # as a report would have it that was written without checksums
        pq.write_table(made.per_clip, path, compression="none")
        path.write_bytes(path.read_bytes().replace(b"scored", b"sc\xf6red"))
    assert path.read_bytes() != data
    with pytest.raises(UserError, match=r"per_clip\.parquet cannot be read"):
        read_per_clip(path, made.results.metrics)


def test_rows_hold_every_fact_of_a_file() -> None:
    """What a method's row is made of is there when reports are joined."""
    assert {field.name for field in fields(FileFacts)} <= {name for name, _ in TAIL}


def test_two_halves_are_the_whole_run(whole: Path, joined: Path) -> None:
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "per_clip.parquet"):
        assert (joined / name).read_bytes() == (whole / name).read_bytes()
    assert without_provenance(read_results(joined)) == without_provenance(read_results(whole))
    validate_report(joined)


def test_ranks_and_tests_are_those_of_all_methods(halves: list[Path], joined: Path) -> None:
    """Not a matter of putting tables below each other: in each half some method is the best."""
    ranks = [
        {row.name: row.scores["lse_c"].rank for row in read_results(report).methods}
        for report in (*halves, joined)
    ]
    assert ranks[0]["wav2lip"] == 1 < ranks[2]["wav2lip"]  # type: ignore[operator]
    first = read_results(halves[0]).comparisons
    assert all(c.p_holm is None for c in first) or all(c.p_holm == c.p for c in first)
    both = {(c.metric, c.a, c.b) for c in read_results(joined).comparisons}
    assert ("lse_c", "wav2lip", "latent") in both


def test_what_was_merged_is_in_the_report(halves: list[Path], joined: Path) -> None:
    parts = read_results(joined).merged_from
    assert [part.methods for part in parts] == list(HALVES)
    assert len({part.results_sha256 for part in parts}) == 2
    assert "Merged from" in (joined / "index.html").read_text(encoding="utf-8")


def test_merging_in_steps_is_merging_at_once(whole: Path, tmp_path: Path) -> None:
    parts = [write(drawn(name), tmp_path / name) for name in NAMES[:3]]
    merge_reports(parts, tmp_path / "once")
    merge_reports(parts[:2], tmp_path / "two")
    merge_reports([tmp_path / "two", parts[2]], tmp_path / "three")
    for name in ("results.json", "per_clip.parquet", "leaderboard.md"):
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_a_method_in_both_is_one_method(joined: Path, halves: list[Path], tmp_path: Path) -> None:
    overlapping = write(drawn(*NAMES[1:]), tmp_path / "overlapping")
    merged = merge_reports([halves[0], overlapping], tmp_path / "out")
    assert without_provenance(merged) == without_provenance(read_results(joined))


def test_reencoded_files_and_published_numbers_are_taken_over(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "num_clips": 6,
        "methods": METHODS[:3],
        "failures": 0,
        "reencoded": True,
        "published": "HDTF",
    }
    parts = [write(sample(only=only, **more), tmp_path / only[0]) for only in (NAMES[:1], NAMES[1:3])]
    assert without_provenance(merge_reports(parts, tmp_path / "out")) == without_provenance(
        sample(**more).results
    )


def results_with(made: Sample, **changes: Any) -> Sample:
    return replace(made, results=made.results.model_copy(update=changes))


def rows_with(made: Sample, change: Callable[[dict[str, Any]], None]) -> Sample:
    rows = made.per_clip.to_pylist()
    for row in rows:
        change(row)
    return replace(made, per_clip=pa.Table.from_pylist(rows, made.per_clip.schema))


def other_video(row: dict[str, Any]) -> None:
    if (row["method"], row["clip"]) == ("ground_truth", "clip003"):
        row["sha256"] = "f" * 64


def other_audio(row: dict[str, Any]) -> None:
    if row["clip"] == "clip004" and row["audio_sha256"]:
        row["audio_sha256"] = "e" * 64


def other_source(row: dict[str, Any]) -> None:
    if row["clip"] == "clip005":
        row["source"] = "video000"


def other_reason(row: dict[str, Any]) -> None:
    if row["method"] == "ground_truth" and row["clip"] == "clip006":
        row["null_reasons"] = [(name, "no_face") for name, _ in row["null_reasons"]]


def protocol_with(made: Sample, **changes: Any) -> Sample:
    return results_with(made, protocol=made.results.protocol.model_copy(update=changes))


def metrics_with(made: Sample, **changes: Any) -> Sample:
    first, *rest = made.results.metrics
    return results_with(made, metrics=[first.model_copy(update=changes), *rest])


REFUSED: dict[str, tuple[Callable[[Sample], Sample], str]] = {
    "protocol": (lambda made: protocol_with(made, name="latentsync"), "protocol name: syncdiff-v4 in the first"),
    "version": (lambda made: protocol_with(made, version=2), "protocol version: 4 in the first, 2"),
    "setting": (lambda made: protocol_with(made, setting="crossed-audio"), "protocol setting: own-audio"),
    "statistics": (lambda made: protocol_with(made, seed=4), "protocol seed: 3 in the first, 4"),
    "metric": (lambda made: metrics_with(made, in_protocol=False), "scored in the first, scored, no part"),
    "weights": (lambda made: results_with(made, weights={"syncnet": "6d" * 32}), f"syncnet: {'5c' * 6}… in the first"),
    "more weights": (
        lambda made: results_with(made, weights=made.results.weights | {"x": "1"}), "weights x: absent in the first, 1"
    ),
    "library": (
        lambda made: results_with(made, versions=made.results.versions | {"numpy": "2.1"}), "version of numpy: 2.0 in"
    ),
    "metric's version": (
        lambda made: results_with(made, family_versions=made.results.family_versions | {"lse": 99}),
        "version of metrics lse",
    ),
    "scoring": (lambda made: results_with(made, scoring_version=None), "version of scoring: 5 in the first, unknown"),
    "real video": (lambda made: rows_with(made, other_video), "real video of clip clip003"),
    "audio": (lambda made: rows_with(made, other_audio), "driving audio of clip clip004"),
    "source": (lambda made: rows_with(made, other_source), "source of clip clip005: video002 in the first, video000"),
    "row of both": (lambda made: rows_with(made, other_reason), "missing of ground_truth on clip clip006"),
}  # fmt: skip


def report(made: Sample, name: str) -> Report:
    return Report(Path(name), made.results, made.per_clip)


@pytest.fixture(scope="module")
def first() -> Report:
    return report(drawn(*HALVES[0]), "first")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_run_is_refused_by_name(first: Report, case: str) -> None:
    change, sentence = REFUSED[case]
    with pytest.raises(UserError) as refused:
        check_same_run(first, report(change(drawn(*HALVES[1])), "second"))
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("first and second cannot be merged")


def test_the_same_run_is_not_refused(first: Report) -> None:
    check_same_run(first, report(drawn(*HALVES[1]), "second"))
    made = drawn(*HALVES[1])
    newer = results_with(made, versions=made.results.versions | {"syncdiff": "9"}, git_commit=None)
    check_same_run(first, report(newer, "second"))


def test_other_clips_are_refused(first: Report) -> None:
    fewer = report(sample(13, METHODS[:1], failures=1, clips_per_source=2), "fewer")
    with pytest.raises(UserError, match="clip clip013: present in the first, absent in the second"):
        check_same_run(first, fewer)


@pytest.mark.parametrize(("by", "refused"), [(4e-4, False), (2e-3, True)])
def test_rows_of_both_may_differ_by_less_than_is_printed(first: Report, by: float, refused: bool) -> None:
    def change(row: dict[str, Any]) -> None:
        if row["method"] == "frozen_first_frame":
            row["expert_confidence"] += by

    other = report(rows_with(drawn(*HALVES[1]), change), "second")
    if refused:
        with pytest.raises(UserError, match="expert_confidence of frozen_first_frame on clip clip000"):
            check_same_run(first, other)
    else:
        check_same_run(first, other)


def test_a_method_of_two_types_is_refused() -> None:
    parts = [report(sample(6, [Method("latent", kind)]), str(kind)) for kind in (DIFFUSION, GAN)]
    with pytest.raises(UserError, match="type of latent: diffusion in the first, gan in the second"):
        check_same_run(*parts)


def test_no_report_is_lost(halves: list[Path], joined: Path) -> None:
    before = (halves[0] / "results.json").read_bytes()
    with pytest.raises(UserError, match="one of the reports to merge"):
        merge_reports(halves, halves[0], overwrite=True)
    with pytest.raises(UserError, match="holds a report already"):
        merge_reports(halves, joined)
    with pytest.raises(UserError, match="two reports or more"):
        merge_reports([halves[0], halves[0]], joined, overwrite=True)
    assert (halves[0] / "results.json").read_bytes() == before


def test_a_benchmark_does_not_write_over_a_joined_report(joined: Path, tmp_path: Path) -> None:
    pairing = Pairing("own-audio", ())
    config = BenchmarkConfig(tmp_path, pairing, [], SYNCDIFF, joined, {}, RayOptions())
    with pytest.raises(UserError, match="holds a merged report"):
        benchmark(config)


def test_a_protocol_that_is_no_longer_computed_is_refused(tmp_path: Path) -> None:
    parts = [write(protocol_with(drawn(*only), version=2), tmp_path / only[0]) for only in HALVES]
    with pytest.raises(UserError, match="syncdiff-v4 version 2"):
        merge_reports(parts, tmp_path / "out")


def test_the_command_says_where_the_leaderboard_lies(
    halves: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["eval", "merge", *map(str, halves), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0
    assert str(tmp_path / "out" / "leaderboard.md") in capsys.readouterr().out
