"""Running a benchmark: files encoded once more, a cache that reports share, clips that hang."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_trees import sound, talker
from media_files import click_times, clicks, make_video
from rich.console import Console
from test_eval_sync import ToyNetwork

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import read_audio, write_video
from syncdiff_data.records import MediaError, UserError
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.cache import forget_all, open_run
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType, baselines
from syncdiff_eval.metrics.base import ClipContext, Column, MetricFamily
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.metrics.lse_face import COLUMNS
from syncdiff_eval.metrics.lse_published import (
    FileSync,
    OwnFrames,
    best_of_tracks,
    embed_tracks,
    mean_of_tracks,
)
from syncdiff_eval.pairing import Pairing, pair_by_list, pair_by_name
from syncdiff_eval.protocols import LATENTSYNC, MOCHABENCH, SYNCDIFF
from syncdiff_eval.reencode import reencode
from syncdiff_eval.report.tables import terminal
from syncdiff_eval.results import MetricInfo, Results
from syncdiff_eval.summary import reencoding_results
from syncdiff_eval.validate import validate_report
from syncdiff_eval.videos import frames, read_facts

PICTURES = replace(SYNCDIFF, metrics=("image",), resamples=200)
ALONE = replace(LATENTSYNC, metrics=("loudness",), resamples=200)

pytestmark = pytest.mark.usefixtures("same_checkout")


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Method]:
    """Three clips of 12, 9 and 10 frames, and a method that blurs and lacks the last."""
    reference, folder = tmp_path / "reference", tmp_path / "m"
    reference.mkdir()
    folder.mkdir()
    for name, num_frames in (("long", 12), ("short", 9), ("unmade", 10)):
        write_video(reference / f"{name}.mp4", talker(1, num_frames), sound(num_frames))
        if name != "unmade":
            write_video(folder / f"{name}.mp4", talker(1, num_frames, blur=1), None)
    return reference, Method("m", MethodType.GAN, "someone", folder)


def run(
    reference: Path,
    methods: list[Method],
    out: Path,
    workers: int = 2,
    pairing: Pairing | None = None,
    **more: Any,
) -> tuple[Results, pd.DataFrame]:
    results = benchmark(BenchmarkConfig(
        reference, pairing or pair_by_name(reference), methods, more.pop("protocol", PICTURES), out,
        more.pop("weights", {}), RayOptions(workers=workers), **more,
    ))  # fmt: skip
    return results, pd.read_parquet(out / "per_clip.parquet")


def entries(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}


UNEVEN = [4 * i + 3 * (i in (11, 13)) for i in range(40)]
TURNED = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    ("pts", "options"),
    [
        (range(30), {}),
        (UNEVEN, {"time_base": Fraction(1, 100)}),
        ([7 * i + i % 3 for i in range(30)], {"time_base": Fraction(1, 90)}),
        (range(100, 130), {}),
        ([0], {}),
        (range(30), {"size": (63, 97), "pix_fmt": "yuv444p"}),
        (range(30), {"matrix": TURNED}),
        (range(30), {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
    ids=["even", "one late frame", "uneven", "late start", "one frame", "odd size", "turned", "full range"],
)
def test_a_file_encoded_again_has_the_same_frames_at_the_same_times(
    tmp_path: Path, pts: Any, options: dict[str, Any]
) -> None:
    before, after = make_video(tmp_path / "a.mov", pts, **options), tmp_path / "b.mp4"
    reencode(before, after)
    was, now = read_facts(before), read_facts(after)
    assert (now.width, now.height, now.codec) == (was.width, was.height, "h264")
    assert now.fps == pytest.approx(was.fps, rel=1e-6)
    ours, theirs = list(frames(before)), list(frames(after))
    assert [time - theirs[0][0] for time, _ in theirs] == pytest.approx(
        [time - ours[0][0] for time, _ in ours]
    )
    error = np.stack([image for _, image in theirs]).astype(float) - np.stack([image for _, image in ours])
    assert 0 < np.abs(error).mean() < 4
    assert abs(error.mean()) < 0.7
    assert was.sha256 != now.sha256
    reencode(before, tmp_path / "c.mp4")
    assert (tmp_path / "c.mp4").read_bytes() == after.read_bytes()


def test_sound_encoded_again_stays_in_step_and_broken_files_say_so(tmp_path: Path) -> None:
    """Bug 4: AAC priming fakes an offset."""
    times = [0.2, 0.9, 1.7]
    path, after = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_video(path, talker(0, 50), clicks(times, 2, 16_000)[0])
    reencode(path, after)
    assert click_times(read_audio(after, 0, 50)) == pytest.approx(times, abs=2e-3)
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(MediaError):
        reencode(tmp_path / "cut.mp4", tmp_path / "d.mp4")
    with pytest.raises(UserError, match="could not be written"):
        reencode(path, tmp_path / "nowhere" / "b.mp4")


def test_reencoding_moves_numbers_apart_from_the_leaderboard_and_alike_from_any_number_of_workers(
    tmp_path: Path, ray_session: None, small: tuple[Path, Method]
) -> None:
    reference, method = small
    heavy = MetricFamily(
        "heavy", (Column("lse_d", "LSE-D", "", False, 3),), 1, lambda w, d: IMAGE.load(w, d), ("syncnet",)
    )
    setting: dict[str, Any] = {
        "protocol": replace(PICTURES, metrics=("heavy", "image")),
        "families": {"image": IMAGE, "heavy": heavy},
    }
    methods = [*baselines(True, (2,), False), method]
    plain, _ = run(reference, methods, tmp_path / "plain", **setting)
    assert plain.reencoding == []
    two, _ = run(reference, methods, tmp_path / "two", reencode_check=True, **setting)
    assert two.model_copy(update={"reencoding": []}) == plain
    truth, moved = two.reencoding
    assert (truth.method, truth.n_attempted, moved.method, moved.n_attempted) == ("ground_truth", 3, "m", 2)
    ceiling = truth.shifts["psnr_full"]
    assert (ceiling.n, ceiling.mean, ceiling.reason) == (0, None, "identical_to_reference")
    assert ceiling.n_reencoded == 3
    assert ceiling.reencoded is not None
    assert 25 < ceiling.reencoded < 50
    shift, score = moved.shifts["psnr_full"], plain.methods[-1].scores["psnr_full"]
    assert (shift.n, shift.reason) == (2, None)
    assert None not in (shift.mean, shift.mean_abs, shift.largest_abs, shift.reencoded, score.mean)
    assert shift.reencoded == pytest.approx(score.mean + shift.mean)  # type: ignore[operator]
    assert shift.mean < 0 < shift.mean_abs <= shift.largest_abs  # type: ignore[operator]
    assert str(moved.shifts["lse_d"].reason).startswith("not available: ")
    validate_report(tmp_path / "two")
    run(reference, methods, tmp_path / "one", workers=1, reencode_check=True, **setting)
    for name in ("results.json", "leaderboard.md", "per_clip.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not [name for name in entries(tmp_path / "one" / "cache") if name.endswith(".tmp")]
    console = Console(record=True, width=120)
    terminal(two, console)
    for text in (console.export_text(), (tmp_path / "two" / "leaderboard.md").read_text()):
        assert "libx264 crf 23" in text
        assert f"{ceiling.reencoded:.2f} once re-encoded" in text

    made = entries(tmp_path / "two" / "cache")
    run(reference, methods, tmp_path / "plain", cache=tmp_path / "two" / "cache", overwrite=True, **setting)
    assert entries(tmp_path / "two" / "cache") == made, (
        "a shared cache is used, and not emptied by --overwrite"
    )
    assert list((tmp_path / "plain" / "cache").iterdir()) == [tmp_path / "plain" / "cache" / "lock"]


def test_files_lost_in_re_encoding_are_counted() -> None:
    """Bug 3 once more: what cannot be scored must not leave a mean silently."""
    metric = MetricInfo(
        name="x", title="X", unit="", higher_is_better=True, decimals=1, pooled=False, not_available=None
    )

    def record(clip: str, **more: Any) -> dict[str, Any]:
        return {
            "method": "m",
            "clip": clip,
            "status": "scored",
            "reason": None,
            "values": {},
            "missing": {},
            **more,
        }

    before = [record(clip, values={"x": 1.0}) for clip in "abc"] + [record("d", missing={"x": "no_face"})]
    after = [
        record("a", values={"x": 1.5}),
        record("b", values={"x": 0.0}),
        record("c", status="failed", reason="fps_mismatch"),
        record("d", values={"x": 9.0}),
    ]
    (found,) = reencoding_results([Method("m", MethodType.OTHER)], [metric], before, after)
    assert (found.n_attempted, found.failures) == (4, {"fps_mismatch": 1})
    shift = found.shifts["x"]
    assert (shift.n, shift.mean, shift.mean_abs, shift.largest_abs) == (2, -0.25, 0.75, 1.0)
    assert (shift.n_reencoded, shift.reencoded) == (3, 3.5)
    (lost,) = reencoding_results([Method("m", MethodType.OTHER)], [metric], before[2:3], after[2:3])
    assert (lost.shifts["x"].n, lost.shifts["x"].reason) == (0, "fps_mismatch")


def tracking(log: Path, protocol: str, reduce: Any, network: Any) -> MetricFamily:
    """A published protocol of face tracks with a made-up detector and network, which writes down each detection."""

    def load(weights: object, device: str) -> Any:
        def detect(image: np.ndarray) -> np.ndarray:
            with log.open("a") as file:
                file.write("x")
            return np.array([[8.0, 8, 120, 120]])

        def embed(frames: OwnFrames) -> Any:
            return embed_tracks(frames, network(), detect)

        return lambda context: FileSync(context, network(), embed, {"name": "toy"}, 50, reduce)

    return MetricFamily(protocol, COLUMNS, 1, load)


def test_a_shared_cache_lets_the_next_protocol_read_no_frame_again(tmp_path: Path, ray_session: None) -> None:
    log = tmp_path / "log"
    for folder in ("reference", "m"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "a.mp4", talker(len(folder), 60, size=128), sound(60))
    methods = [GROUND_TRUTH, Method("m", MethodType.GAN, None, tmp_path / "m")]
    counts, scores = [], []
    for protocol, reduce in ((LATENTSYNC, mean_of_tracks), (MOCHABENCH, best_of_tracks)):
        (name,) = protocol.metrics
        results, _ = run(
            tmp_path / "reference", methods, tmp_path / protocol.name, cache=tmp_path / "cache", protocol=protocol,
            families={name: tracking(log, name, reduce, ToyNetwork)},
        )  # fmt: skip
        counts.append(len(log.read_text()))
        scores.append([row.scores["lse_d"].mean for row in results.methods])
    assert counts == [2 * 60, 2 * 60]
    assert scores[0] == scores[1]
    assert None not in scores[0]
    assert not (tmp_path / "latentsync" / "cache").exists()


def loudness_family() -> MetricFamily:
    """How loud the sound is that a clip is scored with."""

    def load(weights: object, device: str) -> Any:
        def start(context: ClipContext) -> Any:
            peak = -1.0 if context.audio is None else float(np.abs(context.audio).max())
            return SimpleNamespace(compute=lambda: {"peak": peak})

        return start

    return MetricFamily("loudness", (Column("peak", "Peak", "", None, 0),), 1, load)


def test_files_scored_alone_need_no_driving_audio_and_baselines_do(tmp_path: Path, ray_session: None) -> None:
    reference, folder = tmp_path / "reference", tmp_path / "m"
    reference.mkdir()
    folder.mkdir()
    for name in "ab":
        write_video(reference / f"{name}.mp4", talker(1), sound(12))
        write_video(folder / f"{name}.mp4", talker(1), sound(12) * 2)
        (reference / f"{name}.wav").write_bytes(b"not a sound")
    (tmp_path / "pairs.csv").write_text("video,audio,output\na.mp4,b.wav,a.mp4\nb.mp4,a.wav,b.mp4\n")
    methods = [*baselines(True, (), False), Method("m", MethodType.GAN, None, folder)]
    results, rows = run(
        reference, methods, tmp_path / "out", protocol=ALONE, families={"loudness": loudness_family()},
        pairing=pair_by_list(reference, tmp_path / "pairs.csv", "csv"), reencode_check=True,
    )  # fmt: skip
    rows = rows.set_index(["method", "clip"])
    assert rows.loc[("m", "a"), "peak"] > 1.5 * rows.loc[("ground_truth", "a"), "peak"] > 3000
    assert [(row.n_attempted, row.failures) for row in results.reencoding] == [(2, {}), (2, {})]
    assert rows.loc[("frozen_first_frame", "a"), "reason"] == "audio_unreadable"
    made = entries(tmp_path / "out" / "cache")
    for name in "ab":
        (reference / f"{name}.wav").write_bytes(b"another thing that is no sound")
    run(
        reference, methods[:1] + methods[2:], tmp_path / "out", protocol=ALONE,
        families={"loudness": loudness_family()}, reencode_check=True,
        pairing=pair_by_list(reference, tmp_path / "pairs.csv", "csv"),
    )  # fmt: skip
    assert entries(tmp_path / "out" / "cache") == made, "what says nothing of a number does not enter its key"


@pytest.mark.slow
def test_a_clip_that_hangs_is_a_row_and_a_long_one_is_not_taken_for_it(
    tmp_path: Path, ray_session: None, small: tuple[Path, Method]
) -> None:
    def load(weights: object, device: str) -> Any:
        def start(context: ClipContext) -> Any:
            metric = IMAGE.load({}, "cpu")(context)

            def update(batch: Any) -> None:
                generated = not np.array_equal(batch.reference[0], batch.generated[0])
                time.sleep(3600 if generated and context.num_frames == 9 else 1.2)
                metric.update(batch)

            return SimpleNamespace(update=update, compute=metric.compute)

        return start

    reference, method = small
    write_video(reference / "long.mp4", talker(1, 40), sound(40))
    write_video(Path(str(method.folder)) / "long.mp4", talker(1, 40, blur=1), None)
    # Another version: workers keep the networks of one for the next benchmark.
    family = replace(IMAGE, load=load, version=IMAGE.version + 1)
    _, rows = run(
        reference, [GROUND_TRUTH, method], tmp_path / "out", families={"image": family}, clip_timeout=4
    )
    by_clip = rows.set_index(["method", "clip"])
    assert by_clip.loc[("m", "short"), "reason"] == "worker_crashed"
    assert by_clip.loc[("m", "long"), "status"] == "scored", "five batches of 1.2 s each are more than 4 s"
    assert by_clip.loc["ground_truth"]["status"].tolist() == ["scored"] * 3


def test_runs_at_once_on_one_cache_leave_each_other_alone(tmp_path: Path) -> None:
    folder, key = tmp_path / "cache", "0" * 32
    with open_run(folder) as first:
        first.write(key, {"reason": "worker_crashed"})
        half = folder / "x.json.host-1.tmp"
        half.touch()
        with open_run(folder) as second:
            assert half.exists(), "another run may be writing it"
            assert second.read(key)
        with pytest.raises(UserError, match="in use by another run"):
            forget_all(folder)
    with open_run(folder, retry={"worker_crashed"}) as third:
        assert third.read(key) is None
        assert [path.name for path in folder.iterdir()] == ["lock"]
    forget_all(folder)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another --cache"), open_run(tmp_path / "file"):
        pass


def test_a_killed_run_holds_no_lock(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from syncdiff_eval.cache import open_run\n"
        "with open_run(Path(sys.argv[1])) as cache:\n"
        "  (cache.folder / ('a' * 32 + '.tmp')).touch(); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with open_run(tmp_path):
        assert list(tmp_path.glob("*.tmp"))
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with open_run(tmp_path):
        assert not list(tmp_path.glob("*.tmp"))
