"""Our preparation against the published one of AV-HuBERT, on the same clips and cores.

    python benchmarks/preprocess.py --root /data/grid/s1 --clips 60 --workers 1 2

Three things are timed as separate processes, each with one thread per worker:
    whole      pipelines/preprocess.py, decoding, audio, crops, encoding and shards included
    faces      this project's decoding, tracks, landmarks, aligned face crop and mouth crop; nothing is written
    published  the published procedure, written from its description: dlib's HOG detector with one upsampling on
               every frame, the CNN detector where it finds nothing, 68 points of the last rectangle, gaps
               interpolated, the whole frame warped to 256 x 256 by scikit-image, 96 x 96 cut; nothing is written
Then the landmarks of both are compared on the same frames. Memory is the largest proportional set size (shared pages
counted once) of the process tree, taken in runs of its own, since taking it holds up what runs. `--cpu-clips N`
compares CPU time instead, clip by clip in one process: of the pipeline's clips without Ray and shards, and of the
published procedure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro
from cpu_profile import profile_text
from skimage.transform import warp

from syncdiff_data.clips import ClipConfig, ClipExtractor
from syncdiff_data.faces import (
    FaceConfig,
    MouthCropper,
    crop_face,
    face_transforms,
    find_tracks,
    load_backend,
    mean_face,
)
from syncdiff_data.faces.embedded import packaged_file
from syncdiff_data.faces.mouth import plan_crops
from syncdiff_data.media import Video
from syncdiff_data.records import Source

SCRIPT = Path(__file__).resolve().parent.parent / "pipelines" / "preprocess.py"


@dataclass(frozen=True)
class Options:
    root: Path
    """Folder of GRID .mpg clips."""
    what: tuple[Literal["whole", "faces", "published"], ...] = ("whole", "faces", "published")
    """What is timed."""
    clips: int = 60
    """Clips for the two methods of this project."""
    published_clips: int = 12
    """Clips for the published procedure, which is slower; its figure is clips per second all the same."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of parallel workers to time."""
    memory_clips: tuple[int, ...] = (10, 40)
    """Numbers of clips for which the memory of the whole pipeline with one worker is measured."""
    cpu_clips: int = 0
    """Compare CPU time over so many clips, and nothing else."""
    detect_px: int = 0
    """Compare the landmarks of a detector at this size with those of the default, and nothing else."""
    profile: Path | None = None
    """Text file for a profile of the CPU time of --cpu-clips."""
    out: Path | None = None
    """Markdown file to write; unset only prints."""


@cache
def dlib_models() -> tuple[Any, Any, Any]:
    """HOG detector, CNN detector and 68-point predictor, once per process."""
    import dlib

    cnn = packaged_file("face_recognition_models", "models/mmod_human_face_detector.dat")
    points = packaged_file("face_recognition_models", "models/shape_predictor_68_face_landmarks.dat")
    return (
        dlib.get_frontal_face_detector(),
        dlib.cnn_face_detection_model_v1(str(cnn)),
        dlib.shape_predictor(str(points)),
    )


def decode(path: Path) -> list[np.ndarray]:
    return [np.ascontiguousarray(frame) for frame in Video(path).frames()]


def published_landmarks(frames: list[np.ndarray]) -> np.ndarray:
    """float64 [T, 68, 2], gaps interpolated and ends repeated."""
    hog, cnn, predictor = dlib_models()
    seen, points = [], []
    for t, frame in enumerate(frames):
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        rectangles = list(hog(gray, 1)) or [found.rect for found in cnn(gray)]
        if rectangles:
            seen.append(t)
            points.append([(p.x, p.y) for p in predictor(gray, rectangles[-1]).parts()])
    columns = np.array(points, np.float64).reshape(len(seen), 136).T
    filled = [np.interp(np.arange(len(frames)), seen, column) for column in columns]
    return np.stack(filled, axis=1).reshape(-1, 68, 2)


def prepare_published(path: Path) -> np.ndarray:
    """The published procedure on one clip; returns its landmarks."""
    cv2.setNumThreads(1)
    frames = decode(path)
    landmarks = published_landmarks(frames)
    inverses, corners = plan_crops(landmarks, mean_face())
    for frame, inverse, (x, y) in zip(frames, inverses, corners):
        whole = (warp(frame, inverse, output_shape=(256, 256)) * 255).astype(np.uint8)
        cv2.cvtColor(whole[y : y + 96, x : x + 96], cv2.COLOR_RGB2GRAY)
    return landmarks


@cache
def our_backend() -> Any:
    return load_backend(FaceConfig(), {})


def prepare_faces(path: Path) -> np.ndarray:
    """This project's face work on one clip; returns its landmarks, NaN in frames outside the first track."""
    cv2.setNumThreads(1)
    config = FaceConfig()
    video = Video(path)
    tracks, _ = find_tracks(video.frames(), our_backend(), config)
    landmarks = np.full((video.num_frames, 68, 2), np.nan)
    for track in tracks[:1]:
        span = slice(track.first_frame, track.first_frame + len(track.box))
        landmarks[span] = track.landmarks
        transforms = face_transforms(track.landmarks, config.crop_size, config.smooth_frames)
        mouths = MouthCropper(track.landmarks, mean_face())
        for t, frame in enumerate(video.frames(span.start, span.stop)):
            crop_face(frame, transforms[t], config.crop_size)
            mouths.crop(frame, t)
    return landmarks


@cache
def our_extractor(root: Path) -> ClipExtractor:
    return ClipExtractor(root, "grid", ClipConfig(), our_backend(), mean_face())


def prepare_whole(path: Path) -> None:
    """The clips of a source as the pipeline makes them: decoding, faces, both crops encoded, audio."""
    for _ in our_extractor(path.parent).extract_clips(Source(path.name, path.stat().st_size)):
        pass


def cpu_ratios(paths: list[Path]) -> str:
    """CPU time of both on each clip in turn: medians, and the smallest and largest ratio."""
    prepare_whole(paths[0])  # loads the networks
    dlib_models()
    rows = np.array([[cpu_ms(prepare_whole, path), cpu_ms(prepare_published, path)] for path in paths])
    ours, theirs = np.median(rows, axis=0)
    ratios = rows[:, 1] / rows[:, 0]
    return (
        f"CPU ms a frame, {len(paths)} clips: pipeline {ours:.2f}, published {theirs:.1f}; "
        f"{np.median(ratios):.1f} times ({ratios.min():.1f} to {ratios.max():.1f})"
    )


def cpu_ms(prepare: Callable[[Path], object], path: Path) -> float:
    """CPU milliseconds a frame."""
    started = time.process_time()
    prepare(path)
    return 1000 * (time.process_time() - started) / Video(path).num_frames


def moved_landmarks(paths: list[Path], detect_px: int) -> str:
    """How far the 68 points of the first track move with the detector's size."""
    shares = []
    for path in paths:
        frames = decode(path)
        configs = (FaceConfig(), FaceConfig(detect_px=detect_px))
        usual, other = (
            find_tracks(frames, load_backend(config, {}), config)[0][0].landmarks for config in configs
        )
        eyes = np.linalg.norm(usual[:, 36:42].mean(axis=1) - usual[:, 42:48].mean(axis=1), axis=-1)
        shares.append(float((np.linalg.norm(other - usual, axis=-1).mean(axis=1) / eyes).mean()))
    return f"68 points at detect_px {detect_px}: moved by {np.mean(shares):.2%} of the eye distance"


METHODS = {"faces": prepare_faces, "published": prepare_published}


def run_method(name: str, workers: int, paths: list[str]) -> None:
    """One timed run, in a process of its own (see `method_command`)."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(METHODS[name], [Path(p) for p in paths]))


def start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def check(process: subprocess.Popen[bytes], command: list[str]) -> None:
    """Wait for its end. RuntimeError where it failed."""
    if status := process.wait():
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with status {status}")


def seconds_of(command: list[str]) -> float:
    """By the clock, from start to end."""
    started = time.perf_counter()
    check(start(command), command)
    return time.perf_counter() - started


def peak_of(command: list[str]) -> float:
    """Largest proportional set size of the process tree of a command, in MiB, once a second."""
    process, peak = start(command), 0.0
    while process.poll() is None:
        peak = max(peak, tree_pss(process.pid))
        time.sleep(1.0)
    check(process, command)
    return peak


def tree_pss(root: int) -> float:
    """Proportional set size, in MiB, of a process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # It has ended meanwhile.
    tree = {root}
    while grown := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return sum(map(_pss, tree))


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def method_command(name: str, paths: list[Path], workers: int) -> list[str]:
    return [sys.executable, __file__, "run", name, str(workers), *map(str, paths)]


def pipeline_command(paths: list[Path], workers: int, scratch: Path) -> list[str]:
    """pipelines/preprocess.py on a folder that holds just these clips; shards small enough to be shared out."""
    root, out = scratch / f"root-{len(paths)}" / "s1", scratch / f"out-{len(paths)}-{workers}"
    root.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if not (root / path.name).exists():
            shutil.copy(path, root)
    where = ["--source", "grid", "--root", str(root), "--out", str(out)]
    return [
        sys.executable,
        str(SCRIPT),
        *where,
        "--workers",
        str(workers),
        "--shard-size",
        "5",
        "--overwrite",
    ]


def quality(paths: list[Path]) -> str:
    """Mean distance of the mouth points of the two, in per cent of the distance of the eyes' centres."""
    shares = []
    for path in paths:
        theirs, ours = prepare_published(path), prepare_faces(path)
        eyes = np.linalg.norm(theirs[:, 36:42].mean(axis=1) - theirs[:, 42:48].mean(axis=1), axis=-1)
        shares.append(np.linalg.norm(ours - theirs, axis=-1)[:, 48:68].mean(axis=1) / eyes * 100)
    every = np.concatenate(shares)
    return (
        f"Mouth points, ours against the published procedure's: mean {np.nanmean(every):.2f} %, 95th percentile "
        f"{np.nanpercentile(every, 95):.2f} % of the eye distance over {np.isfinite(every).sum()} frames of "
        f"{len(paths)} clips ({np.isnan(every).sum()} frames without a track of ours)."
    )


def main(options: Options) -> None:
    paths = sorted(options.root.glob("*.mpg"))[: options.clips]
    if options.detect_px:
        print(moved_landmarks(paths, options.detect_px))
        return
    if options.cpu_clips:
        cv2.setNumThreads(1)
        chosen = paths[: options.cpu_clips]
        print(cpu_ratios(chosen))
        if options.profile:
            options.profile.write_text(profile_text(lambda: [prepare_whole(path) for path in chosen]))
        return
    few = paths[: options.published_clips]
    lines = [
        "| what | workers | clips | clips/s | speed-up over 1 worker |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        commands = {
            "whole": (paths, partial(pipeline_command, paths, scratch=scratch)),
            "faces": (paths, partial(method_command, "faces", paths)),
            "published": (few, partial(method_command, "published", few)),
        }
        for name in options.what:
            clips, command = commands[name]
            single = 0.0
            for workers in options.workers:
                rate = len(clips) / seconds_of(command(workers=workers))
                single = single or rate
                lines.append(f"| {name} | {workers} | {len(clips)} | {rate:.2f} | {rate / single:.2f} |")
                print(lines[-1], flush=True)
        lines += ["", "| clips, whole pipeline, 1 worker | peak PSS, MiB |", "|---|---|"]
        for count in options.memory_clips:
            peak = peak_of(pipeline_command(paths[:count], 1, scratch / "memory"))
            lines.append(f"| {count} | {peak:.0f} |")
    lines += ["", quality(few)]
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run_method(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        main(tyro.cli(Options))
