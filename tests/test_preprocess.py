"""Whole runs on Ray: what becomes of sources, resume, refusals, the same bytes however many workers."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import command, contents, extract, pipeline, preprocess, preprocess_killed
from stub_faces import CONFIG, write_colour

from syncdiff_data.cli import RayOptions, user_path
from syncdiff_data.clips import ClipConfig
from syncdiff_data.features import logfbank
from syncdiff_data.media import probe
from syncdiff_data.preprocess import PreprocessStage
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, load_dataset, read_clips, read_features, read_rejects
from syncdiff_data.shards.validate import validate


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven sources, of which three become clips."""
    root = tmp_path_factory.mktemp("videos")
    write_colour(root / "b/face.mp4", "face", 12)
    write_colour(root / "a/face.mp4", "face", 15)
    write_colour(root / "c/face.mp4", "face", 10)
    write_colour(root / "a/short.mp4", "face", 9)
    write_colour(root / "a/nobody.mp4", "no_face")
    write_colour(root / "b/mute.mp4", "face", sound=False)
    (root / "b/torn.mp4").write_bytes((root / "a/face.mp4").read_bytes()[:900])
    return root


@pytest.fixture(scope="module")
def dataset(videos: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """The data set of `videos`; tests that change it work on a copy."""
    out = tmp_path_factory.mktemp("out") / "clips"
    preprocess(videos, out)
    return out


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "copy")


def test_every_source_is_a_clip_or_a_reject(dataset: Path) -> None:
    clips = list(read_clips(dataset))
    assert [(clip.source, clip.num_frames) for clip in clips] == [
        ("a/face.mp4", 15),
        ("b/face.mp4", 12),
        ("c/face.mp4", 10),
    ]
    assert {r.source: (r.reason, str(r.kind)) for r in read_rejects(dataset)} == {
        "a/nobody.mp4": (Reason.NO_FACE, "filtered"),
        "a/short.mp4": (Reason.TRACK_TOO_SHORT, "filtered"),
        "b/mute.mp4": (Reason.NO_AUDIO, "filtered"),
        "b/torn.mp4": (Reason.UNREADABLE, "failed"),
    }
    assert validate(dataset) == []


def test_clips_hold_what_the_videos_show(dataset: Path) -> None:
    clip = next(read_clips(dataset))
    assert clip.face.shape == (15, 32, 32, 3)
    assert np.abs(clip.face.astype(int) - 128).max() < 8
    assert clip.mouth is None
    assert clip.start_s == 0
    np.testing.assert_array_equal(clip.source_frame, np.arange(15))
    tone = 8000 * np.sin(np.arange(15 * 640) * 15 / 100)
    assert np.corrcoef(clip.audio[1000:-1000], tone[1000:-1000])[0, 1] > 0.99


def test_dataset_json_counts(dataset: Path) -> None:
    description = load_dataset(Store(dataset), "clips")
    assert description.num_shards == 4
    assert description.counts == {
        "sources": 7,
        "clips": 3,
        "frames": 37,
        "rejects": 4,
        "rejects_by_reason": {"no_audio": 1, "no_face": 1, "track_too_short": 1, "unreadable": 1},
    }
    assert "stub_faces:ColourBackend" in description.recipe["weights"], (
        "a plug-in's code is part of the recipe"
    )


def test_options_that_filter(videos: Path, tmp_path: Path, ray_session: None) -> None:
    preprocess(videos, tmp_path / "kept", clips=replace(CONFIG, allow_no_audio=True), limit=5)
    mute = [clip for clip in read_clips(tmp_path / "kept") if clip.source == "b/mute.mp4"]
    assert not mute[0].audio.any()
    preprocess(
        videos, tmp_path / "dropped", clips=replace(CONFIG, allow_no_audio=True, drop_silent=True), limit=5
    )
    reasons = {r.source: r.reason for r in read_rejects(tmp_path / "dropped")}
    assert reasons["b/mute.mp4"] == Reason.SILENT_AUDIO


def test_nothing_of_this_machine_is_in_the_files(dataset: Path, videos: Path) -> None:
    for name, data in contents(dataset).items():
        assert str(videos).encode() not in data, name
        assert str(dataset.parent).encode() not in data, name


def test_the_same_bytes_from_one_worker(
    dataset: Path, videos: Path, tmp_path: Path, ray_session: None
) -> None:
    preprocess(videos, tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(dataset)


def test_the_same_bytes_on_an_object_store(dataset: Path, videos: Path) -> None:
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        Store(f"s3://test:test@bucket{query}").filesystem.create_dir("bucket")
        uri = f"s3://test:test@bucket/lrs/clips{query}"
        preprocess(videos, uri)
        store = Store(uri)
        names = [name for folder in ("", "clips", "rejects") for name in store.list(folder)]
        stored = {name: store.open(name).read() for name in names}
        assert stored == contents(dataset)
        preprocess(videos, uri)
    finally:
        server.stop()


# Resume


def test_a_second_run_touches_nothing(copy: Path, videos: Path, ray_session: None) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.*")}
    preprocess(videos, copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.*")} == before


def test_only_what_is_missing_or_torn_is_made_again(copy: Path, videos: Path, ray_session: None) -> None:
    before = contents(copy)
    kept = copy / "clips/clips-00001-of-00004.parquet"
    age = kept.stat().st_mtime_ns
    (copy / "clips/clips-00000-of-00004.parquet").write_bytes(b"PAR1")
    (copy / "clips/clips-00002-of-00004.parquet").unlink()
    (copy / "rejects/rejects-00003-of-00004.parquet").unlink()
    (copy / "clips/clips-00002-of-00004.parquet.host-1.tmp").write_bytes(b"half")
    preprocess(videos, copy)
    assert contents(copy) == before
    assert kept.stat().st_mtime_ns == age


def test_a_changed_list_of_sources_is_refused(
    copy: Path, videos: Path, tmp_path: Path, ray_session: None
) -> None:
    before = contents(copy)
    root = shutil.copytree(videos, tmp_path / "videos")
    write_colour(root / "c/new.mp4", "face")
    with pytest.raises(UserError, match=r"another list of sources"):
        preprocess(root, copy)
    assert contents(copy) == before
    preprocess(root, copy, overwrite=True)
    assert Counter(clip.source for clip in read_clips(copy))["c/new.mp4"] == 1
    assert validate(copy) == []
    unchanged = "clips/clips-00000-of-00004.parquet"
    assert contents(copy)[unchanged] == before[unchanged]


def test_another_recipe_is_refused(copy: Path, videos: Path) -> None:
    before = contents(copy)
    with pytest.raises(UserError, match=r"config\.jpeg_quality: 95 there, 80 now"):
        preprocess(videos, copy, clips=replace(CONFIG, jpeg_quality=80))
    with pytest.raises(UserError, match=r"name: folder there, mine now"):
        preprocess(videos, copy, name="mine")
    assert contents(copy) == before


def test_retry_failed_runs_failed_sources_again(videos: Path, tmp_path: Path, ray_session: None) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    whole = write_colour(root / "a.mp4", "face")
    write_colour(root / "b.mp4", "face")
    data = whole.read_bytes()
    whole.write_bytes(bytes(len(data)))  # As a copy that broke off on a file system that reserves space.
    preprocess(root, out)
    assert [(r.source, r.reason) for r in read_rejects(out)] == [("a.mp4", "unreadable")]
    whole.write_bytes(data)
    preprocess(root, out)
    assert len(read_rejects(out)) == 1, "without the flag a finished shard stays"
    preprocess(root, out, retry_failed=True)
    assert [clip.source for clip in read_clips(out)] == ["a.mp4", "b.mp4"]
    assert load_dataset(Store(out)).counts["rejects"] == 0
    assert validate(out) == []


class FaultyDisk(PreprocessStage):
    """Opening a.mp4 fails with EIO as often as a file a.faults beside it says."""

    def setup(self) -> None:
        super().setup()
        real = av.open

        def open_media(file: Any, *arguments: Any, **options: Any) -> Any:
            faults = Path(str(file).removeprefix("file:")).with_suffix(".faults")
            left = int(faults.read_text()) if faults.exists() else 0
            if left:
                faults.write_text(str(left - 1))
                raise av.error.OSError(errno.EIO, os.strerror(errno.EIO), str(file))
            return real(file, *arguments, **options)

        # The worker process serves other tests too, which have no such file.
        av.open = open_media
        probe._can_be_read = lambda path: not path.with_suffix(".faults").exists()


@pytest.fixture
def faulty_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline("preprocess"), "PreprocessStage", FaultyDisk)


def test_kind_17_a_fault_of_the_disk_is_retried_then_failed(
    tmp_path: Path, ray_session: None, faulty_disk: None
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name in ("good", "twice", "always"):
        write_colour(root / f"{name}.mp4", "face")
    (root / "twice.faults").write_text("2")
    (root / "always.faults").write_text("1000")
    preprocess(root, out, shard_size=3)
    assert [clip.source for clip in read_clips(out)] == ["good.mp4", "twice.mp4"]
    (reject,) = read_rejects(out)
    assert (reject.source, reject.reason, reject.kind) == ("always.mp4", "read_error", "failed")
    (root / "always.faults").unlink()
    preprocess(root, out, shard_size=3, retry_failed=True)
    assert read_rejects(out) == []


def test_kind_43_a_run_that_could_read_nothing_is_not_complete(
    tmp_path: Path, ray_session: None, faulty_disk: None
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    write_colour(root / "always.mp4", "face")
    (root / "always.faults").write_text("1000")
    with pytest.raises(UserError, match=r"^1 of 1 sources could not be read from .*mounted on every node"):
        preprocess(root, out)
    assert not load_dataset(Store(out), must_be_complete=False).complete


# Refusals


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("missing root", r"does not exist"),
        ("empty folder", r"[Nn]o.*(video|media)"),
        ("occupied output", r"not empty and is not a data set"),
        ("wrong hash", r"sha256|hash|published"),
        ("unknown backend", r"no face backend"),
        ("unknown plug-in", r"cannot be loaded"),
        ("no Ray there", r"no Ray answers"),
    ],
)
def test_a_sentence_for(
    trouble: str, sentence: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out, options = videos, tmp_path / "out", {}
    if trouble == "missing root":
        root = tmp_path / "nowhere"
    elif trouble == "empty folder":
        root = tmp_path / "empty"
        root.mkdir()
    elif trouble == "occupied output":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif trouble == "wrong hash":
        (tmp_path / "s3fd.pth").write_bytes(b"something else")
        options = {"weights": (f"s3fd={tmp_path}/s3fd.pth",), "clips": with_backend("face-alignment")}
    elif trouble == "unknown backend":
        options = {"clips": with_backend("telepathy")}
    elif trouble == "unknown plug-in":
        options = {"clips": with_backend("stub_faces:Telepathy")}
    else:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        options = {"ray": RayOptions(ray_address="127.0.0.1:1")}
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with pytest.raises(UserError, match=sentence):
        preprocess(root, out, **options)
    if trouble == "occupied output":
        assert contents(out) == {"thesis.tex": b"years of work"}


def with_backend(name: str) -> ClipConfig:
    return replace(CONFIG, faces=replace(CONFIG.faces, backend=name))


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    done = command(
        "preprocess", "--source", "grid", "--root", tmp_path / "nowhere", "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: The root ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_relative_paths_are_refused_inside_a_ray_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_path("--root", "data") == str(Path("data").absolute())
    assert user_path("--out", "s3://bucket/x") == "s3://bucket/x"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(UserError, match=r"--root data is relative, and a Ray job"):
        user_path("--root", "data")
    assert user_path("--root", "/data") == "/data"


# The second stage


def test_features_lie_beside_their_clips(dataset: Path, tmp_path: Path, ray_session: None) -> None:
    out = tmp_path / "features"
    extract(dataset, out)
    assert validate(out, dataset) == []
    clips = list(read_clips(dataset))
    for clip, (clip_id, features) in zip(clips, read_features(out), strict=True):
        assert clip_id == clip.clip_id
        expected = logfbank(clip.audio)[: clip.num_frames].astype(np.float16)
        np.testing.assert_array_equal(features["logfbank"], expected)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    extract(dataset, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before
    with pytest.raises(UserError, match=r"config\.encoder: logfbank there, mel now"):
        extract(dataset, out, "mel")


def test_features_of_a_torn_shard_are_a_sentence(copy: Path, tmp_path: Path, ray_session: None) -> None:
    path = copy / "clips/clips-00000-of-00004.parquet"
    data = bytearray(path.read_bytes())
    data[data.index(b"fLaC") + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"clips-00000-of-00004\.parquet of .* cannot be read"):
        extract(copy, tmp_path / "features")


def test_validate_compares_features_with_clips(copy: Path, tmp_path: Path, ray_session: None) -> None:
    out = tmp_path / "features"
    extract(copy, out)
    shards = sorted((out / "features").iterdir())
    data = shards[0].read_bytes()
    shards[0].write_bytes(shards[2].read_bytes())
    assert any(shards[2].name in problem for problem in validate(out, copy))
    table = pq.read_table(pa.BufferReader(data))
    others = pa.array(["0" * 20] * len(table), table.schema.field("clip_id").type)
    pq.write_table(table.set_column(0, table.schema.field("clip_id"), others), shards[0], row_group_size=1)
    assert any("its clips are not those of" in problem for problem in validate(out, copy))
    shards[0].write_bytes(data[:-9])
    assert any("cannot be read" in problem for problem in validate(out, copy))


# Real clips


@pytest.mark.slow
def test_grid_gives_the_same_bytes_whatever_happens_to_the_workers(shared: Path, tmp_path: Path) -> None:
    arguments = ["--source", "grid", "--root", str(shared / "grid_s1"), "--shard-size", "16"]
    for workers in ("1", "2"):
        done = command("preprocess", *arguments, "--workers", workers, "--out", tmp_path / workers)
        assert done.returncode == 0, done.stderr
    killed = preprocess_killed(tmp_path / "killed", [*arguments, "--workers", "2"], seconds=(12, 24))
    assert killed > 3
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert contents(tmp_path / "1") == contents(tmp_path / "killed")
    clips = list(read_clips(tmp_path / "1"))
    assert len({clip.source for clip in clips}) == len(clips) == 260
    # Three sources begin with twelve gray frames, broken when they were encoded: their clips begin behind them.
    short = {clip.source: clip.num_frames for clip in clips if clip.num_frames not in (74, 75)}
    assert short == {"bbizzn.mpg": 63, "brwg8p.mpg": 63, "sbbh4p.mpg": 63}
    assert validate(tmp_path / "1") == []
