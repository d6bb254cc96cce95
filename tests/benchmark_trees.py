"""Folders of methods with good and broken outputs, and a benchmark over them."""

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import skimage
import soundfile
from media_files import make_video

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import write_video
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.report.files import FILES
from syncdiff_eval.results import Results

QUICK = replace(SYNCDIFF, resamples=200, metrics=("expert", "image", "landmarks", "mouth_audio"))


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
