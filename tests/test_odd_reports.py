"""Shards and reports of others, well-formed and senseless: each is refused with a sentence that names what is odd."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from loader_data import make_dataset, numbered_clip
from report_samples import sample
from rich.console import Console
from shard_data import SOURCES, build, synthetic_clip
from syncdiff_pipelines import demo
from test_shards_validate import changed, rewrite

from syncdiff_data.__main__ import inspect_command, validate_command
from syncdiff_data.cli import RayOptions
from syncdiff_data.extract import ExtractConfig, ExtractStage, clips_dataset
from syncdiff_data.features import load_encoder
from syncdiff_data.images import PNG, decode_gray
from syncdiff_data.loader import LoaderConfig
from syncdiff_data.loader.index import build_index
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, read_features
from syncdiff_data.shards.schema import FOOTER_KEY, shard_path
from syncdiff_data.shards.validate import validate
from syncdiff_eval.benchmark import BenchmarkConfig, _check_added
from syncdiff_eval.cache import FrameFeatureCache, forget_all, open_run
from syncdiff_eval.compare import compare_reports
from syncdiff_eval.merge import merge_reports
from syncdiff_eval.methods import read_methods
from syncdiff_eval.metrics.base import Column, MetricFamily
from syncdiff_eval.pairing import Pairing
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.report.files import write_report
from syncdiff_eval.report.tables import terminal
from syncdiff_eval.results import read_results
from syncdiff_eval.runner import ClipScoring
from syncdiff_eval.validate import read_valid_report


def test_a_million_declared_shards_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = build(tmp_path / "d")
    for kind in ("clips", "rejects"):
        for number in (0, 1):
            path = Path(store.path(shard_path(kind, number, 2)))
            path.rename(path.with_name(shard_path(kind, number, 50_000).rpartition("/")[2]))
    described = json.loads(store.read_text("dataset.json")) | {"num_shards": 50_000}
    store.write_text("dataset.json", json.dumps(described))
    opened: list[str] = []
    monkeypatch.setattr(
        Store,
        "open",
        lambda self, name: opened.append(name) or self.filesystem.open_input_file(self.path(name)),
    )
    lacks = "lacks 49,998 of the 50,000 shards .* clips/clips-00002-of-50000"
    assert [problem for problem in validate(store.uri) if "lacks" in problem]
    assert len(opened) < 10, "a folder is listed once, shards that are not there are not opened"
    with pytest.raises(UserError, match=lacks):
        clips_dataset(store.uri)
    with pytest.raises(UserError, match="is not there"):
        build_index(store, None, LoaderConfig(2, 3))
    assert len(opened) < 20


def sound(samples: np.ndarray, rate: int = 16_000, kind: str = "FLAC") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype="PCM_16")
    return buffer.getvalue()


SAMPLES = np.zeros(3 * 640, np.int16)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("face_to_source", [[0.0] * 6] * 3, "row 0: face_to_source of frame 0 maps the crop to a line"),
        ("face_to_source", [[1.0, 0, 0, 0, 1, 0]] * 2 + [[1.0, 2, 5, 2, 4, 5]], "face_to_source of frame 2"),
        ("audio", sound(SAMPLES, kind="WAV"), "row 0: .*its sound is WAV PCM_16, 16000 Hz"),
        ("audio", sound(SAMPLES, rate=44_100), "its sound is FLAC PCM_16, 44100 Hz"),
        ("audio", sound(np.stack([SAMPLES, SAMPLES], 1)), r"2 channel\(s\)"),
        ("start_s", float("nan"), "start_s is not finite"),
    ],
)
def test_validate_refuses_clips_that_cannot_be_used(
    tmp_path: Path, column: str, value: Any, problem: str
) -> None:
    store = build(tmp_path / "d")
    path = Path(store.path(shard_path("clips", 0, 2)))
    tables = [pq.ParquetFile(path).read_row_group(row) for row in range(4)]
    rewrite(path, [changed(tables[0], column, [value]), *tables[1:]])
    with pytest.raises(AssertionError, match=problem):
        assert validate(store.uri) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_hash": [1]},
        {"sources": [[]]},
        {"sources": [["a\ud800", 1, "x"]]},
        {"crop_size": "big"},
        {"shard": "x"},
    ],
)
def test_a_footer_of_other_types_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = build(tmp_path / "d")
    path = Path(store.path(shard_path("rejects", 0, 2)))
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[FOOTER_KEY]) | changes
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer).encode()}), path)
    (problem,) = validate(store.uri)
    assert "rejects-00000-of-00002.parquet" in problem
    assert "does not say in its footer what it is" in problem


def test_a_shard_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    first, second = (Path(store.path(shard_path("rejects", number, 2))) for number in (0, 1))
    second.write_bytes(first.read_bytes())
    assert any(
        "says that it is rejects/rejects-00000-of-00002.parquet" in problem for problem in validate(store.uri)
    )


@pytest.mark.parametrize(
    "changes",
    [{"recipe": {"config": {"licences": [1]}}}, {"recipe": {"config": {"faces": 3}}}, {"name": "\ud800"}],
)
def test_a_dataset_json_of_other_types_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = build(tmp_path / "d")
    store.write_text("dataset.json", json.dumps(json.loads(store.read_text("dataset.json")) | changes))
    with pytest.raises(UserError, match=r"dataset\.json of .* is damaged"):
        validate(store.uri)


def senseless(tables: list[pa.Table], how: str) -> list[pa.Table]:
    """Features of two clips, well-formed and no clip's."""
    if how == "joined":
        return [pa.concat_tables(tables)]
    if how == "twice":
        return [tables[0], tables[0]]
    if how == "empty":
        return [table.slice(0, 0) for table in tables]
    layer = tables[0].schema.field(1)
    return [pa.table({"clip_id": table["clip_id"], layer.name: pa.nulls(1, layer.type)}) for table in tables]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("joined", "a row group of 2 clips"),
        ("twice", "clip_id clip0000 occurs 2 times"),
        ("empty", "a row group of 0 clips"),
        ("null", "row 0: its logfbank is null"),
    ],
)
def test_validate_names_senseless_features(tmp_path: Path, how: str, problem: str) -> None:
    _, features = make_dataset(tmp_path, [[numbered_clip(0, 3), numbered_clip(1, 3)]])
    (path,) = (Path(features) / "features").iterdir()
    file = pq.ParquetFile(path)
    tables = senseless([file.read_row_group(row) for row in (0, 1)], how)
    schema = tables[0].schema.with_metadata(file.schema_arrow.metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=2)
    assert any(problem in found for found in validate(features))
    if how in ("empty", "null"):
        with pytest.raises(UserError, match=r"row 0 of shard .* holds no features"):
            list(read_features(features))


def test_flags_of_validate_are_looked_at_before_the_shards(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    store.delete("dataset.json")
    with pytest.raises(UserError, match=r"The root .* does not exist"):
        validate_command(store.uri, root=tmp_path / "nothing")


def test_clips_are_compared_with_no_clips(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    with pytest.raises(UserError, match="is a data set of clips: --clips is what features"):
        validate(store.uri, clips=store.uri)


def test_a_folder_that_is_not_utf8_is_a_sentence(tmp_path: Path, report: Path) -> None:
    odd = tmp_path / "n\udcff"
    with pytest.raises(UserError, match="is not UTF-8"):
        inspect_command(str(odd))
    assert read_valid_report(copied(report, odd)).results.n_clips == 3  # a report may lie anywhere


def test_foreign_files_in_a_cache_stay(tmp_path: Path) -> None:
    """In OUT/cache, say, of a project that --out names by mistake."""
    record = json.dumps({"status": "failed", "reason": "worker_crashed"})
    for name in ("package.json", "thesis.txt", f"{'0a' * 16}.json"):
        (tmp_path / name).write_text(record)
    with open_run(tmp_path, {"worker_crashed"}):
        assert (tmp_path / "package.json").exists()
        assert not (tmp_path / f"{'0a' * 16}.json").exists()
    (tmp_path / f"{'0a' * 16}-{'1b' * 8}.npz").touch()
    (tmp_path / "folder").mkdir()
    forget_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "folder",
        "lock",
        "package.json",
        "thesis.txt",
    ]
    with pytest.raises(UserError, match=r"thesis\.txt cannot be emptied"):
        forget_all(tmp_path / "thesis.txt")


def test_arrays_of_the_cache_that_were_deleted_are_made_again(tmp_path: Path) -> None:
    """By somebody who made room: their records alone are no finished work."""
    with open_run(tmp_path) as cache:
        frames = FrameFeatureCache(cache, {"file": "a"})
        frames.store({"x": np.zeros(3)}, name="net")
        assert frames.read(name="net") is not None
        scoring = ClipScoring(None, cache, None, "")  # type: ignore[arg-type]
        family = {"values": {}, "missing": {}, "arrays": frames.key(name="net")}
        assert scoring._is_whole(family)
        (tmp_path / f"{frames.key(name='net')}.npz").unlink()
        assert frames.read(name="net") is None
        assert not scoring._is_whole(family)
        assert scoring._is_whole(family | {"arrays": None})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"out": Path(__file__)}, "cannot be a folder"),
        ({"clips": 6}, "clips is 6: expected 7"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"preset": "nosuch"}, "no preset nosuch"),
    ],
)
def test_the_demo_asks_before_it_works(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        demo.main(demo.Options(**({"out": tmp_path} | options)))


def test_a_picture_of_gigabytes_in_a_few_bytes_is_refused() -> None:
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = (
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in chunks
    )
    with pytest.raises(ValueError, match="a picture of 30000x30000"):
        decode_gray(PNG + b"".join(parts))


def write(folder: Path, *only: str) -> Path:
    made = sample(3, only=only or None, failures=1)
    write_report(folder, made.results, made.per_clip, lambda method, clip: None)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that each test copies what it damages of."""
    return write(tmp_path_factory.mktemp("report"), "wav2lip", "latent")


def copied(report: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in report.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def edited(report: Path, folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """The report with another results.json."""
    content = json.loads((report / "results.json").read_text())
    edit(content)
    path = copied(report, folder) / "results.json"
    path.unlink()
    path.write_text(json.dumps(content))
    return folder


def with_cell(report: Path, folder: Path, column: str, value: object) -> Path:
    """The report with another value in the last row, which is scored, of per_clip.parquet."""
    table = pq.read_table(report / "per_clip.parquet")
    assert table["status"].to_pylist()[-1] == "scored"
    at = table.schema.get_field_index(column)
    values = [*table[column].to_pylist()[:-1], value]
    path = copied(report, folder) / "per_clip.parquet"
    path.unlink()
    pq.write_table(
        table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type)), path
    )
    return folder


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, None) for name in ("method", "clip", "source", "status", "null_reasons")),
        ("lse_c", float("nan")),
        ("sound_lag_s", float("inf")),
    ],
)
def test_rows_that_no_benchmark_writes_are_refused(
    report: Path, tmp_path: Path, column: str, value: object
) -> None:
    with pytest.raises(
        UserError, match=f"per_clip.parquet has a row whose {column} is null or no finite number"
    ):
        read_valid_report(with_cell(report, tmp_path / "r", column, value))


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("clip", "another", "other clips for one method"),
        ("source", "video000", "a clip of two sources"),
    ],
)
def test_methods_share_their_clips(report: Path, tmp_path: Path, column: str, value: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        read_valid_report(with_cell(report, tmp_path / "r", column, value))


def test_sources_and_rows_are_as_many_as_results_json_counts(report: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"other sources than results.json counts"):
        read_valid_report(edited(report, tmp_path / "sources", lambda r: r.update(n_sources=2)))
    with pytest.raises(UserError, match=r"has 12 rows; the methods and clips of results.json make 16"):
        read_valid_report(edited(report, tmp_path / "clips", lambda r: r.update(n_clips=4)))


def test_a_report_replaces_no_pages_of_others(report: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", "softgan", "wav2lip")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(UserError, match=r"holds index.html, which would be replaced"):
        merge_reports([report, other], tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
    (tmp_path / "site" / "per_clip.parquet").touch()  # a report that was interrupted
    merge_reports([report, other], tmp_path / "site")


@pytest.mark.parametrize("column", ["sha256", "codec", "fps", "num_frames"])
def test_scored_clips_name_their_file(report: Path, tmp_path: Path, column: str) -> None:
    with pytest.raises(UserError, match="scored clips without the facts of their files"):
        read_valid_report(with_cell(report, tmp_path / "r", column, None))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda r: r["methods"][2]["scores"].pop("lse_c"), "other metrics for 'wav2lip' than it lists"),
        (lambda r: r["methods"].append(r["methods"][2]), "has the method 'wav2lip' twice"),
        (lambda r: r["metrics"].append(r["metrics"][0]), "has the metric '.*' twice"),
        (lambda r: r["metrics"][0].update(title="x" * 201), "has 201 letters, at most 200"),
        (lambda r: r["metrics"][0].update(unit="a " * 500_000), "at most 10000 characters"),
        (lambda r: r["protocol"].update(name="a\nb"), "cannot stand in a table as a protocol's name"),
        (
            lambda r: r["protocol"].update(resamples=10**12),
            "protocol.resamples: .* less than or equal to 1000000",
        ),
        (lambda r: r["protocol"].update(seed=-1), "protocol.seed: "),
        (lambda r: r["methods"][2].update(bit_rate=10**400), "methods.2.bit_rate: "),
    ],
)
def test_results_that_make_no_table_are_refused(
    report: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        read_results(edited(report, tmp_path / "r", edit))


def test_brackets_are_no_markup(report: Path, tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["protocol"]["name"] = "[bold]P[/b]"
        content["metrics"][0]["title"] = "[red]T[/r]"
        content["metrics"][0]["unit"] = "[0, 1]"
        content["methods"][2]["name"] = "[m]"
        for row in content["methods"]:
            row["scores"][content["metrics"][0]["name"]] |= {
                "mean": None,
                "low": None,
                "high": None,
                "reason": "[/]",
            }
        content["methods"][2]["scores"][content["metrics"][0]["name"]]["reason"] = "[/other]"

    out = io.StringIO()
    terminal(read_results(edited(report, tmp_path / "r", edit)), Console(file=out, width=400))
    for name in ("[bold]P[/b]", "[red]T[/r]", "[0, 1]", "[m]", "[/]", "[/other]"):
        assert name in out.getvalue(), name


def test_a_sound_report_is_read_merged_and_compared(report: Path, tmp_path: Path) -> None:
    """What the checks above must not refuse."""
    other = write(tmp_path / "other", "softgan", "wav2lip")
    assert len(merge_reports([report, other], tmp_path / "out").methods) == 5
    assert compare_reports(read_valid_report(report), read_valid_report(other)).only_b == ["softgan"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("name: null, type: gan", "the name of an entry is None: expected a text, in quotes"),
        ("name: 1:30, type: gan", "the name of an entry is 90"),
        ("name: a, type: gan, folder: [b]", "the folder of an entry is"),
        ("name: a, type: gan, folder: ~nobody-of-that-name/a", "a user who is not there"),
        ("name: a, name: b, type: gan", "the key 'name' is there twice"),
        (f"name: a, type: gan, citation: {'x' * 10_001}", "has 10,001 letters"),
    ],
)
def test_a_registry_of_methods_says_what_it_means(tmp_path: Path, entry: str, sentence: str) -> None:
    (tmp_path / "m.yaml").write_text(f"methods: [{{{entry}}}]")
    with pytest.raises(UserError, match=sentence):
        read_methods((), tmp_path / "m.yaml")


def test_names_of_methods_that_look_the_same_are_one_name(tmp_path: Path) -> None:
    for first, second in (("\u00e9", "e\u0301"), ("a", " a ")):
        with pytest.raises(UserError, match="has two folders"):
            read_methods((f"{first}={tmp_path}", f"{second}={tmp_path}"), None)


class Encoder:
    """One that gives the features of the test."""

    columns: ClassVar[object] = {"x": 2}

    def __init__(self, given: list[dict[str, np.ndarray]]) -> None:
        self.given = given

    def encode(self, clips: object) -> list[dict[str, np.ndarray]]:
        return self.given


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "features of 0 clips for 1"),
        ([{"x": np.zeros((3, 2))}] * 2, "features of 2 clips for 1"),
        ([{"x": np.zeros((2, 2))}], r"x of shape \(2, 2\)"),
        ([{"x": np.full((3, 2), None)}], "type object"),
    ],
)
def test_an_encoder_that_gives_other_features_is_told(
    given: list[dict[str, np.ndarray]], problem: str
) -> None:
    """Clips would be left out of the shard without a word."""
    stage = ExtractStage("", "", "", ExtractConfig("own:Encoder"), (), "cpu")
    vars(stage)["_encoder"] = Encoder(given)
    with pytest.raises(ValueError, match=problem):
        stage._encoded([synthetic_clip(SOURCES[0], num_frames=3)])


@pytest.mark.parametrize("columns", [{}, None, {"clip_id": 2}, {"x": 0}, {"x": "2"}, {3: 3}])
def test_an_encoder_of_no_columns_is_a_sentence(monkeypatch: pytest.MonkeyPatch, columns: object) -> None:
    monkeypatch.setattr(Encoder, "columns", columns)
    with pytest.raises(UserError, match="The encoder 'test_odd_reports:Encoder' "):
        load_encoder("test_odd_reports:Encoder")


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (Column("method", "Mine", "", True, 2), "has a column 'method' already"),
        (Column("mine", "a|b", "", True, 2), "cannot stand in a table as a metric's title"),
        (Column("mine", "Mine", "", True, 99), "none of a report: decimals: .* equal to 12, found 99"),
    ],
)
def test_columns_of_own_metrics_are_looked_at_before_the_work(column: Column, sentence: str) -> None:
    """They were seen when the report was written, after all clips were scored."""
    family = MetricFamily("mine", (column,), 1, lambda weights, device: None)  # type: ignore[arg-type,return-value]
    config = BenchmarkConfig(
        Path(), Pairing("own-audio", ()), (), SYNCDIFF, Path(), {}, RayOptions(), added=(family,)
    )
    with pytest.raises(UserError, match=sentence):
        _check_added(config)


def test_a_report_has_no_metric_of_another_columns_name(report: Path, tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        old = content["metrics"][0]["name"]
        content["metrics"][0]["name"] = "codec"
        for row in content["methods"]:
            row["scores"]["codec"] = row["scores"].pop(old)

    with pytest.raises(UserError, match="cannot hold the metric 'codec'"):
        read_valid_report(edited(report, tmp_path / "r", rename))
