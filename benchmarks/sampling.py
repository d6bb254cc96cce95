"""Frames a second against quality, by sampler and number of steps: the table of docs/results.md, "Sampling".

    python benchmarks/sampling.py --model RUN --videos LIST.csv --split test --out DIR [--threads 2]

Every setting generates the same clips. `one` and `many` count generation alone, one clip at a time and eight side by
side; `whole` counts a dub from decoding to coded file, faces found before; with detection in the last line. The opening
correlation is measured on generated crops, with the driving sound's own clip.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from syncdiff_data.faces import crop_face
from syncdiff_data.landmarks import opening
from syncdiff_data.media import AudioTrack, Video, sound_start
from syncdiff_data.prepared import find_faces
from syncdiff_data.tables import videos_of_split
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair, typical_frame
from syncdiff_model.generator import Generator
from syncdiff_model.generators import load_generator
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig

SETTINGS = (
    ("ddim", 1, 1.0), ("ddim", 1, 1.3), ("ddim", 2, 1.0), ("ddim", 2, 1.3), ("ddim", 4, 1.0), ("ddim", 4, 1.3),
    ("dpmpp_2m", 4, 1.3), ("ddim", 10, 1.3), ("dpmpp_2m", 10, 1.3), ("ddim", 25, 1.3), ("ddim", 50, 1.0),
    ("ddim", 50, 1.3),
)  # fmt: skip
"""Sampler, steps, guidance."""


@dataclass(frozen=True)
class Options:
    model: str
    videos: Path
    out: Path
    split: str = "test"
    clips: int = 8
    threads: int = 2


@dataclass(frozen=True)
class Prepared:
    crops: np.ndarray
    identity: np.ndarray
    sound: np.ndarray
    opening: np.ndarray


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    paths = videos_of_split(options.videos, options.split)[: options.clips]
    generator = load_generator(options.model, SamplingConfig(), {})
    assert isinstance(generator, SyncDiffPipeline)
    cache = options.out / "faces"
    clips = [prepare(generator, path, cache) for path in paths]
    print(
        f"{len(clips)} clips, {sum(len(c.crops) for c in clips)} frames, {options.threads} threads; frames a second"
    )
    print("sampler      steps  guidance    one   many  whole  opening corr.  spread")
    for sampler, steps, guidance in SETTINGS:
        generator.sampling = SamplingConfig(sampler=sampler, steps=steps, guidance=guidance)
        one, _ = generate(generator, clips[:2], 1)
        many, made = generate(generator, clips, len(clips))
        whole = dub_rate(generator, paths[:2], options.out / "dubs", cache)
        follow, spread = lips(generator, clips, made)
        print(
            f"{sampler:12} {steps:5} {guidance:9} {one:6.1f} {many:6.1f} {whole:6.1f} {follow:14.3f} {spread:7.3f}",
            flush=True,
        )
    generator.sampling = SamplingConfig(guidance=1.3)
    rate = dub_rate(generator, paths[:2], options.out / "dubs", None)
    print(f"{generator.sampling.steps} steps with guidance, detection included: {rate:.1f}")


def prepare(generator: SyncDiffPipeline, path: Path, cache: Path) -> Prepared:
    video = Video(path, fps=None)
    backend = Dubber(generator, DubConfig()).backend
    track = max(find_faces(video, backend, generator.faces_config, cache), key=lambda track: len(track.box))
    size = video.width, video.height
    where = generator.transforms(track.landmarks, track.box, size, float(video.rate))
    frames = video.frames(track.first_frame, track.first_frame + len(where))
    crops = np.stack([crop_face(frame, one, generator.crop_size) for frame, one in zip(frames, where)])
    sound = AudioTrack(path).slice(float(sound_start(path)), video.num_frames)
    return Prepared(
        crops,
        crops[typical_frame(track.landmarks)],
        generator.encode_audio(sound[track.first_frame * 640 :]),
        opening(track.landmarks),
    )


def generate(
    generator: SyncDiffPipeline, clips: list[Prepared], at_once: int
) -> tuple[float, list[np.ndarray]]:
    """Frames a second, and the crops; 32 frames of each clip at a time."""
    started, made = time.perf_counter(), []
    for first in range(0, len(clips), at_once):
        group = clips[first : first + at_once]
        states = [generator.start(clip.identity, clip.sound) for clip in group]
        times = [np.arange(len(clip.crops)) / 25 for clip in group]
        parts: list[list[np.ndarray]] = [[] for _ in group]
        for start in range(0, max(len(clip.crops) for clip in group), 32):
            span = slice(start, start + 32)
            new = generator.advance(states, [clip.crops[span] for clip in group], [t[span] for t in times])
            for part, images in zip(parts, new):
                part.append(images)
        made += [np.concatenate(part) for part in parts]
    return sum(map(len, made)) / (time.perf_counter() - started), made


def dub_rate(generator: Generator, paths: list[Path], out: Path, cache: Path | None) -> float:
    """Frames a second of whole dubs."""
    dubber = Dubber(generator, DubConfig(face_cache=cache))
    started, frames = time.perf_counter(), 0
    for path in paths:
        failure = dubber.dub(DubPair(path, path, out / f"{path.stem}.mp4"))
        if failure:
            raise SystemExit(f"{path.name}: {failure.reason} ({failure.detail})")
        frames += Video(out / f"{path.stem}.mp4", fps=None).num_frames
    rate = frames / (time.perf_counter() - started)
    shutil.rmtree(out)
    return rate


def lips(generator: SyncDiffPipeline, clips: list[Prepared], made: list[np.ndarray]) -> tuple[float, float]:
    """Mean over clips of the opening's correlation with the real one, and of the ratio of their spreads."""
    backend = Dubber(generator, DubConfig()).backend
    found = []
    for clip, crops in zip(clips, made):
        boxes = backend.detect([clip.crops[0]])[0]
        landmarks = backend.landmarks(list(crops), np.repeat(boxes[:1, :4], len(crops), axis=0))
        mine = opening(landmarks)
        found.append((np.corrcoef(mine, clip.opening)[0, 1], mine.std() / clip.opening.std()))
    follow, spread = np.mean(found, axis=0)
    return float(follow), float(spread)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
