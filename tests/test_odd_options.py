"""Options at their borders and well-formed files with senseless content: a sentence, and nothing of the user's lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loader_data import make_dataset, numbered_clip
from report_samples import sample
from runs import python
from shard_data import build
from syncdiff_pipelines import benchmark, extract_features, preprocess

from syncdiff_data.cli import RayOptions, user_path
from syncdiff_data.clips import ClipConfig
from syncdiff_data.faces import FaceConfig
from syncdiff_data.loader import ClipWindows, LoaderConfig
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, read_clips
from syncdiff_data.shards.inspect import contact_sheet
from syncdiff_data.shards.lifecycle import start_dataset
from syncdiff_data.shards.schema import ENVIRONMENT_KEY, environment_of
from syncdiff_data.sources.talkvid import read_people
from syncdiff_eval.cache import open_run
from syncdiff_eval.report.files import write_report
from syncdiff_eval.results import read_results
from syncdiff_model.autoencoder import AutoencoderConfig
from syncdiff_model.checkpoint import tidy
from syncdiff_model.dub_pairs import check_outputs, read_pairs
from syncdiff_model.mask import MaskConfig
from syncdiff_model.presets import TrainConfig, load_preset


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("out", ["clips", "by/../clips"])
def test_features_do_not_overwrite_their_clips(tmp_path: Path, out: str) -> None:
    clips, _ = make_dataset(tmp_path, [[numbered_clip(0, 12)]])
    before = files_of(Path(clips))
    (tmp_path / "by").mkdir()
    options = extract_features.Options(
        clips=clips, encoder="logfbank", out=str(tmp_path / out), overwrite=True, ray=RayOptions(workers=1)
    )
    with pytest.raises(UserError, match="--out is the folder of --clips"):
        extract_features.main(options)
    assert files_of(Path(clips)) == before


def test_a_data_set_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = files_of(tmp_path / "d")
    with pytest.raises(UserError, match="is a data set of clips, not of features"):
        start_dataset(store, Recipe.of("features", "d", 1, {}, {}), "plan", 2, overwrite=True)
    assert files_of(tmp_path / "d") == before


def test_temporary_files_of_the_user_stay(tmp_path: Path) -> None:
    (tmp_path / "important.tmp").mkdir()
    (tmp_path / "important.tmp" / "thesis.txt").write_text("mine")
    (tmp_path / "notes.tmp").write_text("mine")
    (tmp_path / "link.7.tmp").symlink_to("important.tmp")
    (tmp_path / "thesis.2024.tmp").mkdir()
    (tmp_path / "old.previous.tmp").mkdir()
    (tmp_path / "plan.draft-2.tmp").write_text("mine")
    (tmp_path / "best.4711.tmp").mkdir()
    tidy(tmp_path)
    with open_run(tmp_path):
        pass
    Store(tmp_path).sweep("")
    assert not (tmp_path / "best.4711.tmp").exists(), "left by a killed process"
    assert (tmp_path / "thesis.2024.tmp").is_dir()
    assert (tmp_path / "old.previous.tmp").is_dir()
    assert (tmp_path / "plan.draft-2.tmp").exists()
    assert (tmp_path / "important.tmp" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "notes.tmp").exists()
    assert (tmp_path / "link.7.tmp").is_symlink()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TrainConfig(1, 1, 1, keep_checkpoints=-1), "keep_checkpoints"),
        (lambda: TrainConfig(1, 0, 1), "batch_size"),
        (lambda: TrainConfig(1, 1, 1, learning_rate=float("nan")), "learning_rate"),
        (lambda: TrainConfig(1, 1, 1, ema_decay=2), "ema_decay"),
        (lambda: TrainConfig(1, 1, 1, max_seconds=float("nan")), "max_seconds"),
        (lambda: MaskConfig(top=5), "top"),
        (lambda: AutoencoderConfig(factor=0), "factor"),
        (lambda: AutoencoderConfig(widths=()), "widths"),
        (lambda: FaceConfig(detect_every=0), "detect_every"),
        (lambda: FaceConfig(crop_size=0), "crop_size"),
        (lambda: FaceConfig(max_clip_s=float("nan")), "max_clip_s"),
        (lambda: ClipConfig(jpeg_quality=0), "jpeg_quality"),
        (lambda: RayOptions(workers=0), "workers"),
        (lambda: RayOptions(device="nope"), "no torch device"),
        (
            lambda: preprocess.main(
                preprocess.Options(source="folder", root=Path("r"), out="o", shard_size=0)
            ),
            "shard_size",
        ),
        (
            lambda: benchmark.main(benchmark.Options(Path("r"), Path("o"), clip_timeout=float("nan"))),
            "clip_timeout",
        ),
        (lambda: load_preset("x" * 5000), "There is no preset"),
        (lambda: user_path("--root", "~nobody-of-that-name/a"), "who is not there"),
        (lambda: Store("~nobody-of-that-name/a"), "who is not there"),
        (lambda: Store("foo://x"), "give a folder or an s3"),
        (lambda: Store("http://x/y"), "give a folder or an s3"),
    ],
)
def test_options_outside_their_range_are_a_sentence(make: Callable[[], object], name: str) -> None:
    with pytest.raises(UserError, match=name):
        make()


@pytest.mark.parametrize("output", ["x" * 300 + "/c.mp4", "a\0b.mp4", "a/" * 40_000 + "c.mp4"])
def test_outputs_that_no_file_can_have_are_refused(tmp_path: Path, output: str) -> None:
    with pytest.raises(UserError, match=r"longer than|no file's name"):
        check_outputs(Path("pairs.csv"), [output], tmp_path)


def test_lists_with_odd_names(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("video,audio,output\n~nobody-of-that-name/a.mp4,b.wav,c.mp4\n")
    with pytest.raises(UserError, match="who is not there"):
        read_pairs(tmp_path / "pairs.csv", tmp_path)
    talk = [{"info": {"Person ID": "\ud800", "Video Link": "https://youtu.be/abc_1"}, "start-time": 1}]
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk" / "list.json").write_text(json.dumps(talk))
    assert list(read_people(tmp_path / "talk").values()) == [[(1.0, "?")]]


@pytest.mark.parametrize("text", [b"not JSON", b"[1]", b"\xff", b"[" * 10_000])
def test_a_damaged_environment_is_none(text: bytes) -> None:
    assert environment_of(pa.schema([], metadata={ENVIRONMENT_KEY: text})) == {}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("landmarks", [[[0.0] * 136] * 3]),
        ("landmarks", None),
        ("face", [[b"x"] * 12]),
        ("face", [[b"x"] * 3]),
        ("face_to_source", [[[0.0] * 6] * 12]),
        ("audio", [b"no sound"]),
    ],
)
def test_a_clip_of_senseless_columns_is_named(tmp_path: Path, column: str, values: list | None) -> None:
    """Well-formed Parquet of the right types."""
    clips, features = make_dataset(tmp_path, [[numbered_clip(0, 12)]])
    described = Path(clips) / "dataset.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"counts": {"clips": 1}}))
    (path,) = (Path(clips) / "clips").iterdir()
    table = pq.ParquetFile(path).read_row_group(0)
    at = table.schema.get_field_index(column)
    field = table.schema.field(at)
    senseless = pa.nulls(1, field.type) if values is None else pa.array(values, field.type)
    schema = table.schema.set(at, field.with_nullable(True))
    pq.write_table(table.set_column(at, schema.field(at), senseless).cast(schema), path)
    if column != "face_to_source":  # crops can be shown that lie nowhere in their source
        with pytest.raises(UserError, match=r"clips-00000-of-00001|cannot be shown"):
            contact_sheet(clips, tmp_path / "sheet.png")
    if column == "audio":
        with pytest.raises(UserError, match=r"row 0 of shard .* holds no clip"):
            list(read_clips(clips))
        return
    with pytest.raises(UserError, match=r"clips-00000-of-00001\.parquet"):
        next(iter(ClipWindows(clips, features, LoaderConfig(2, 5, epochs=1))))


@pytest.mark.parametrize(("key", "value"), [("confidence", 1.0), ("confidence", -1), ("decimals", 10**9)])
def test_numbers_that_no_report_has_are_refused(tmp_path: Path, key: str, value: float) -> None:
    """A confidence of 1 looked for a number of sources for ever, and decimals filled the memory."""
    made = sample(3)
    write_report(tmp_path / "r", made.results, made.per_clip, lambda method, clip: None)
    text = json.loads((tmp_path / "r" / "results.json").read_text())
    (text["protocol"] if key == "confidence" else text["metrics"][0])[key] = value
    (tmp_path / "r" / "results.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match=key):
        read_results(tmp_path / "r")


@pytest.mark.parametrize("kind", ["file", "below a file", "circle", "too long", "closed"])
def test_folders_that_can_be_none_are_a_sentence(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "circle").symlink_to("circle")
    if kind == "closed":  # to a user who is not root
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    given = {"below a file": "file/x", "too long": "a" * 300, "closed": "."}.get(kind, kind)
    with pytest.raises(UserError, match=r"cannot be used \(.*\): give a folder or an s3:// URI"):
        Store(tmp_path / given)
    monkeypatch.undo()
    assert Store(tmp_path / "not there yet").base == str(tmp_path.resolve() / "not there yet")


def test_a_reader_that_ends_early_is_no_stack() -> None:
    """`syncdiff ... --help | head`"""
    line = [sys.executable, "-m", "syncdiff_data", "--help"]
    said = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert said.stdout
    assert said.stderr
    said.stdout.close()
    assert "Traceback" not in said.stderr.read()
    said.stderr.close()
    said.wait()


BROKEN = """
from syncdiff_data.cli import exit_with_sentence
def act():
    raise BrokenPipeError("of a worker")
exit_with_sentence(act)
"""


def test_a_broken_pipe_of_a_worker_is_said() -> None:
    """It was taken for the output's, and the command ended without a word."""
    assert "BrokenPipeError: of a worker" in python(BROKEN).stderr


CLOSED = """
import os, sys
from syncdiff_data.cli import exit_with_sentence
def act():
    with open("first", "w") as file:
        assert file.fileno() > 2
    os.write(2, b"said by a library")
    sys.stderr.isatty()
exit_with_sentence(act)
"""


def test_closed_standard_streams_are_no_files_of_the_work(tmp_path: Path) -> None:
    done = python(CLOSED, tmp_path, prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert done.returncode == 0
    assert (tmp_path / "first").read_text() == ""


IMPATIENT = """
import atexit, os, signal
from syncdiff_data.cli import exit_with_sentence
def act():
    raise KeyboardInterrupt
atexit.register(lambda: os.kill(os.getpid(), signal.SIGNAL))
exit_with_sentence(act)
"""


@pytest.mark.parametrize("once_more", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_at_once_without_a_stack(once_more: signal.Signals) -> None:
    done = python(IMPATIENT.replace("SIGNAL", once_more.name))
    assert done.returncode == -once_more, "130 of Ctrl-C to a shell"
    assert done.stderr == "stopped; what is finished stays, run the same command again to go on\n"


HUNG_UP = """
import os, signal
from syncdiff_data.cli import exit_with_sentence
exit_with_sentence(lambda: os.kill(os.getpid(), signal.SIGHUP))
"""


@pytest.mark.parametrize(("before", "status"), [("", 129), ("trap '' HUP; ", 0)])
def test_a_closed_terminal_stops_a_command_unless_it_ignores_that_as_under_nohup(
    before: str, status: int
) -> None:
    assert python(HUNG_UP, prefix=("sh", "-c", before + 'exec "$@"', "sh")).returncode == status
