"""The whole benchmark on Ray: broken files, lost workers, any number of workers, a report that holds together."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import skimage
import soundfile
from media_files import make_video

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage import ray_session
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType, baselines
from syncdiff_eval.metrics.base import ClipContext, Column, MetricFamily, MissingValue, Pool, Values
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX
from syncdiff_eval.results import Results, read_results
from syncdiff_eval.validate import validate_report

QUICK = replace(SYNCDIFF, resamples=200)
FILES = ("results.json", "per_clip.parquet", "leaderboard.md", "leaderboard.csv", "index.html")


@pytest.fixture(autouse=True)
def _same_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between two runs of a test is no difference between them."""
    monkeypatch.setattr("syncdiff_eval.benchmark._git_commit", lambda: None)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with ray_session(RayOptions(workers=2)):
        yield


def talker(seed: int, num_frames: int = 12, blur: float = 0, size: int = 128) -> list[np.ndarray]:
    """A real face whose lower half moves."""
    face = skimage.data.astronaut()[20:240, 120:340]
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(num_frames):
        image = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
        stretch = 1 + 0.1 * rng.random()
        lower = cv2.resize(image[size // 2 :], None, fx=1, fy=stretch)[: size // 2]
        image = np.vstack([image[: size // 2], lower])
        images.append(cv2.GaussianBlur(image, (0, 0), blur) if blur else image)
    return images


def sound(num_frames: int) -> np.ndarray:
    return (3000 * np.sin(np.arange(num_frames * 640) * 0.3)).astype(np.int16)


FAULTS = {
    "missing": "missing_output",
    "empty": "unreadable",
    "cut off": "unreadable",
    "git lfs pointer": "unreadable",
    "web page": "unreadable",
    "sound only": "no_video_stream",
    "no frames": "unreadable",
    "damaged in the middle": "unreadable",
    "bits flipped": "unreadable",
    "reference": "reference_unreadable",
    "disk error": "read_error",
    "other rate": "fps_mismatch",
    "variable rate": "frame_times_differ",
    "other size": "size_mismatch",
    "too long": "length_mismatch",
    "too short": "length_mismatch",
    "one frame": "length_mismatch",
    "two files": "ambiguous_output",
    "folder": "missing_output",
    "link to nowhere": "unreadable",
}


def break_file(path: Path, fault: str) -> None:
    """Break a video in the way of that name."""
    images, whole = talker(0), path.read_bytes()
    path.unlink()
    match fault:
        case "empty":
            path.touch()
        case "cut off":
            path.write_bytes(whole[:1500])
        case "git lfs pointer":
            path.write_text("version https://git-lfs.github.com/spec/v1\n")
        case "web page":
            path.write_text("<!doctype html><title>404 Not Found</title>")
        case "sound only":
            soundfile.write(path, sound(12), 16_000, format="WAV")
        case "no frames":
            with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
                container.add_stream("libx264", rate=25)
                container.start_encoding()
        case "damaged in the middle" | "bits flipped":
            path.write_bytes(damaged(whole, fault == "bits flipped"))
        case "disk error":
            path.symlink_to("/proc/self/mem")  # opens, and then cannot be read, by root neither
        case "other rate":
            write_video(path, images, None, fps=30)
        case "variable rate":
            make_video(
                path, [4 * i + 3 * (i in (5, 7)) for i in range(12)], Fraction(1, 100), size=(128, 128)
            )
        case "other size":
            write_video(path, talker(0, size=96), None)
        case "too long" | "too short" | "one frame":
            count = {"too long": 30, "too short": 5, "one frame": 1}[fault]
            write_video(path, talker(0, num_frames=count), None)
        case "two files":
            path.write_bytes(whole)
            path.with_suffix(".mov").write_bytes(whole)
        case "folder":
            path.mkdir()
        case "link to nowhere":
            path.symlink_to("nowhere.mp4")
        case "reference":
            path.write_bytes(b"not a video")


def damaged(whole: bytes, flip: bool) -> bytes:
    """The same length, with bits flipped here and there in the coded pictures, or a hole in them."""
    start = whole.index(b"mdat") + 4
    if not flip:
        middle = (start + len(whole)) // 2
        return whole[:middle] + bytes(300) + whole[middle + 300 :]
    flipped = bytearray(whole)
    for at in np.random.default_rng(1).integers(start, len(whole), 12):
        flipped[at] ^= 0x55
    return bytes(flipped)


def make_tree(root: Path, num_clips: int) -> tuple[Path, list[Method], dict[tuple[str, str], str]]:
    """References, three methods' outputs, and what must become of every row that is not scored.

    Clip k has fault k; methods b and c have it one and two clips further, so that no two methods fail alike. A broken
    reference hits all. The last clip of method c is black from end to end, which is no fault.
    """
    reference = root / "reference"
    seeds = range(5)
    reference.mkdir(parents=True)
    for seed in seeds:
        write_video(root / f"talker{seed}.mp4", talker(seed), sound(12))
    folders = {name: root / name for name in "abc"}
    for (name, folder), blur in zip(folders.items(), (0.6, 1.2, 2.5)):
        folder.mkdir()
        for seed in seeds:
            write_video(root / f"{name}{seed}.mp4", talker(seed, blur=blur), None)
    clips = [f"clip{i:03d}" for i in range(num_clips)]
    for i, clip in enumerate(clips):
        shutil.copy(root / f"talker{i % 5}.mp4", reference / f"{clip}.mp4")
        for name, folder in folders.items():
            shutil.copy(root / f"{name}{i % 5}.mp4", folder / f"{clip}.mp4")
    write_video(folders["c"] / f"{clips[-1]}.mp4", [np.zeros((128, 128, 3), np.uint8)] * 12, None)
    expected = {}
    for i, (fault, reason) in enumerate(FAULTS.items()):
        if fault == "reference":
            break_file(reference / f"{clips[i]}.mp4", fault)
            expected |= {(name, clips[i]): reason for name in folders}
            continue
        for clip, (name, folder) in zip(clips[i:], folders.items()):
            break_file(folder / f"{clip}.mp4", fault)
            expected[name, clip] = reason
    methods = [Method(name, MethodType.OTHER, None, folder) for name, folder in folders.items()]
    return reference, methods, expected


def run(
    reference: Path, methods: list[Method], out: Path, workers: int = 2, **more: Any
) -> tuple[Results, pd.DataFrame]:
    results = benchmark(BenchmarkConfig(
        reference, pair_by_name(reference), [GROUND_TRUTH, *methods], more.pop("protocol", QUICK), out, {},
        RayOptions(workers=workers), **more,
    ))  # fmt: skip
    return results, pd.read_parquet(out / "per_clip.parquet")


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def check_rows(rows: pd.DataFrame, expected: dict[tuple[str, str], str], num_clips: int) -> None:
    rows = rows[rows["method"] != "ground_truth"].set_index(["method", "clip"])
    assert len(rows) == 3 * num_clips
    failed = rows[rows["status"] == "failed"]
    assert failed["reason"].to_dict() == expected
    numbers = [
        column for column in rows.columns if column.startswith(("psnr", "ssim", "lmd", "mouth", "opening"))
    ]
    assert failed[numbers].isna().all(axis=None)
    scored = rows[rows["status"] == "scored"]
    assert scored.loc[("c", f"clip{num_clips - 1:03d}"), "psnr_full"] < 10  # the black one
    assert scored[["psnr_full", "ssim_mouth", "lmd_mouth", "mouth_audio_corr"]].notna().all(axis=None)


def test_broken_files_are_rows_with_reasons_and_the_table_is_the_same_however_it_is_made(
    tmp_path: Path, ray_here: None
) -> None:
    """Bug 3: a failed clip never leaves the table silently."""
    reference, methods, expected = make_tree(tmp_path, num_clips=30)
    results, rows = run(reference, methods, tmp_path / "two", workers=2)
    check_rows(rows, expected, 30)
    for method in results.methods:
        assert method.n_scored + sum(method.failures.values()) == method.n_attempted == 30
    for metric in ("psnr_face", "ssim_mouth", "ssim_full"):
        means = [method.scores[metric].mean_shared for method in results.methods[1:]]
        assert means == sorted(means, reverse=True), metric
        assert [method.scores[metric].rank for method in results.methods[1:]] == [1, 2, 3]
    truth = results.methods[0].scores["psnr_full"]
    assert (truth.mean, truth.reason) == (None, "identical_to_reference")
    assert "30 clips" in validate_report(tmp_path / "two")
    run(reference, methods, tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "cache").iterdir()}
    run(reference, methods, tmp_path / "two", workers=2)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "cache").iterdir()} == made
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, list[Method]]:
    """Two clips, of 12 and 9 frames, and one method."""
    reference, folder = tmp_path / "reference", tmp_path / "m"
    for name, num_frames in (("long", 12), ("short", 9)):
        for parent in (reference, folder):
            parent.mkdir(exist_ok=True)
        write_video(reference / f"{name}.mp4", talker(1, num_frames), sound(num_frames))
        write_video(folder / f"{name}.mp4", talker(1, num_frames, blur=1), None)
    return reference, [Method("m", MethodType.GAN, "someone", folder)]


def test_a_clip_that_kills_its_worker_is_a_row_and_the_rest_is_scored(
    tmp_path: Path, ray_here: None, small: tuple[Path, list[Method]]
) -> None:
    def load(weights: object, device: str) -> Any:
        from types import SimpleNamespace

        def start(context: ClipContext) -> Any:
            metric = IMAGE.load({}, "cpu")(context)

            def update(batch: Any) -> None:
                if context.num_frames == 9 and not np.array_equal(batch.reference[0], batch.generated[0]):
                    os.kill(os.getpid(), signal.SIGKILL)
                metric.update(batch)

            return SimpleNamespace(update=update, compute=metric.compute)

        return start

    deadly = replace(IMAGE, load=load)
    protocol = replace(QUICK, metrics=("image",))
    families = {"image": deadly}
    _, rows = run(*small, tmp_path / "out", protocol=protocol, families=families)
    by_clip = rows[rows["method"] == "m"].set_index("clip")
    assert by_clip.loc["short", "reason"] == "worker_crashed"
    assert by_clip.loc["long", "status"] == "scored"
    validate_report(tmp_path / "out")
    _, again = run(*small, tmp_path / "out", protocol=protocol, families={"image": IMAGE}, retry_failed=True)
    assert (again["status"] == "scored").all()


def test_missing_weights_say_so_in_their_cell_and_pooled_metrics_see_every_clip(
    tmp_path: Path, ray_here: None, small: tuple[Path, list[Method]]
) -> None:
    def load(weights: object, device: str) -> Any:
        from types import SimpleNamespace

        def start(context: ClipContext) -> Any:
            seen = []
            return SimpleNamespace(
                update=lambda batch: seen.extend(batch.generated),
                compute=lambda: {"frames": float(len(seen))},
                arrays=lambda: {"n": np.array(len(seen))},
            )

        return start

    def compare(generated: int, reference: int) -> Values:
        return {
            "all_frames": float(generated) if generated == reference else MissingValue(Reason.LENGTH_MISMATCH)
        }

    pool = Pool(lambda clips: sum(int(clip["n"]) for clip in clips), compare)
    count = MetricFamily(
        "count",
        (Column("frames", "Frames", "", None, 0), Column("all_frames", "All", "", None, 0, pooled=True)),
        1,
        load,
        pool=pool,
    )
    heavy = MetricFamily("heavy", (Column("lse_d", "LSE-D", "", False, 3),), 1, load, weights=("syncnet",))
    results, rows = run(
        *small, tmp_path / "out", protocol=replace(QUICK, metrics=("count", "heavy")),
        families={"count": count, "heavy": heavy},
    )  # fmt: skip
    truth, method = results.methods
    assert method.scores["all_frames"].mean == 21
    assert truth.scores["all_frames"].reason == "identical_to_reference"
    assert method.scores["lse_d"].mean is None
    assert str(method.scores["lse_d"].reason).startswith("not available: ")
    assert "weights" in str(method.scores["lse_d"].reason)
    assert rows["lse_d"].isna().all()
    assert sorted(rows["frames"]) == [9, 9, 12, 12]
    for name in ("leaderboard.md", "index.html"):
        assert "not available: " in (tmp_path / "out" / name).read_text()
    validate_report(tmp_path / "out")


def test_other_weights_make_another_report(
    tmp_path: Path, ray_here: None, small: tuple[Path, list[Method]]
) -> None:
    """Bug 7: numbers of different weights look alike; the report holds the hash, and a rerun scores every clip anew."""

    def load(weights: Any, device: str) -> Any:
        from types import SimpleNamespace

        value = float(weights["syncnet"].read_text())
        return lambda context: SimpleNamespace(update=lambda batch: None, compute=lambda: {"lse_d": value})

    family = MetricFamily("lse", (Column("lse_d", "LSE-D", "", False, 3),), 1, load, weights=("syncnet",))
    reference, methods = small
    for content in ("6.742", "5.353"):
        file = tmp_path / f"{content}.model"
        file.write_text(content)
        results = benchmark(BenchmarkConfig(
            reference, pair_by_name(reference), [GROUND_TRUTH, *methods], replace(QUICK, metrics=("lse",)),
            tmp_path / "out", {"syncnet": file}, RayOptions(workers=2), families={"lse": family},
        ))  # fmt: skip
        rows = pd.read_parquet(tmp_path / "out" / "per_clip.parquet")
        assert set(rows["lse_d"]) == {float(content)}
        assert results.weights == {"syncnet": hashlib.sha256(content.encode()).hexdigest()}
        assert results == read_results(tmp_path / "out")


def test_report_is_self_contained_typed_and_refuses_what_does_not_fit(
    tmp_path: Path, ray_here: None, small: tuple[Path, list[Method]]
) -> None:
    reference, methods = small
    out = tmp_path / "out"
    benchmark(
        BenchmarkConfig(
            reference,
            pair_by_name(reference),
            baselines(True, (3,), True) + methods,
            QUICK,
            out,
            {},
            RayOptions(),
        )
    )
    page = (out / "index.html").read_text()
    assert not any(
        word in page for word in ("http://", "https://", "<script", "src=", "@import", str(tmp_path))
    )
    text = (out / "results.json").read_text()
    assert str(tmp_path) not in text
    rows = pd.read_parquet(out / "per_clip.parquet").set_index(["method", "clip"])
    assert {"codec", "fps", "bit_rate", "decoder", "sha256"} <= set(rows.columns)
    assert rows.loc[("m", "long"), "codec"] == "h264"
    frozen = rows.loc[("frozen_first_frame", "long")]
    assert np.isfinite(frozen["psnr_full"])
    assert frozen["psnr_mouth"] < 60
    assert rows.loc["ground_truth"]["psnr_full"].isna().all()
    assert dict(rows.loc[("audio_shift_+3", "long"), "null_reasons"])["ssim_face"] == "identical_to_reference"
    with pytest.raises(UserError, match=r"syncdiff-v2 version 2.*--overwrite"):
        run(reference, methods, out, protocol=SYNCDIFF_INDEX)

    for change, message in (
        (lambda r: r.update(surprise=1), "surprise"),
        (lambda r: r["methods"][0].pop("failures"), "failures"),
        (lambda r: r["methods"][-1]["scores"]["psnr_full"].update(mean="28"), r"psnr_full\.mean"),
    ):
        broken = json.loads(text)
        change(broken)
        (out / "results.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=message):
            read_results(out)
    lying = json.loads(text)
    lying["methods"][-1]["scores"]["psnr_full"]["mean"] += 1
    (out / "results.json").write_text(json.dumps(lying))
    with pytest.raises(UserError, match="psnr_full: mean"):
        validate_report(out)
    (out / "results.json").write_text(text)
    table = pd.read_parquet(out / "per_clip.parquet")
    assert "is valid" in validate_report(out)
    table.iloc[:-1].to_parquet(out / "per_clip.parquet")
    with pytest.raises(UserError):
        validate_report(out)


def busy_workers() -> list[int]:
    """Process ids of this process's own Ray workers that run a task."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                titles[int(entry.name)] = (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # ended while we looked

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid, title in titles.items() if title.startswith(b"ray::Map") and ours(pid)]


def run_under_fire(reference: Path, methods: list[Method], out: Path) -> int:
    """Run on two workers and kill one after every eight new pieces of work; returns how many died.

    By work and not by the clock: on a busy machine a worker may take longer to start than any interval. Equal files
    are one piece of work, of which there are about seventy.
    """
    stop = threading.Event()
    killed: list[int] = []
    rng = np.random.default_rng(0)

    def kill_as_the_work_goes_on() -> None:
        while not stop.wait(0.1):
            finished, busy = len(list(out.glob("cache/*.json"))), busy_workers()
            if busy and finished >= 8 * len(killed) + 4:
                killed.append(busy[int(rng.integers(len(busy)))])
                with contextlib.suppress(ProcessLookupError):  # ended by itself meanwhile
                    os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill_as_the_work_goes_on)
    killer.start()
    try:
        run(reference, methods, out, workers=2)
    finally:
        stop.set()
        killer.join()
    return len(killed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_200_files_with_20_broken_survive_kills(tmp_path: Path, ray_here: None) -> None:
    """Bug 3: 600 rows, the right reasons, the same table from one worker, from two, and after killing workers."""
    reference, methods, expected = make_tree(tmp_path, num_clips=200)
    _, rows = run(reference, methods, tmp_path / "one", workers=1)
    check_rows(rows, expected, 200)
    run(reference, methods, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    killed = run_under_fire(reference, methods, tmp_path / "killed")
    assert killed > 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "one")
