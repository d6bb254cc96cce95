"""What a dub keeps of a whole video, and what a long one costs: the tables of docs/results.md, "Whole videos".

    python benchmarks/whole_videos.py keep --model RUN --audio SPEECH --out DIR VIDEO [VIDEO ...]
    python benchmarks/whole_videos.py long --model RUN --videos LIST.csv --out DIR [--seconds 180]

keep: frames, times and size against the source's, the sound's packets against the given ones, the mean difference
outside the mask before coding, and how much the picture changes from frame to frame along the seam, as a ratio to the
source's. long: videos of one speaker joined to one of 60 s and one of `seconds`, dubbed with their own sound in
processes of their own: peak memory, and the opening's correlation in the first and the last 30 s.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import av
import cv2
import numpy as np
import tyro

from syncdiff_data.faces import load_backend
from syncdiff_data.landmarks import opening
from syncdiff_data.media import AudioTrack, Video, write_video
from syncdiff_data.prepared import find_faces
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair, chosen_faces_config
from syncdiff_model.generators import load_generator
from syncdiff_model.rollout import SamplingConfig


@dataclass(frozen=True)
class Keep:
    model: str
    audio: Path
    out: Path
    videos: tyro.conf.Positional[tuple[Path, ...]]


@dataclass(frozen=True)
class Long:
    model: str
    videos: Path
    out: Path
    seconds: int = 180


@dataclass(frozen=True)
class Dub:
    """One dub in this process, which prints its peak memory in MiB."""

    model: str
    video: Path
    out: Path


class Recording(Dubber):
    """Keeps, of every frame before coding, how far it is from the source outside the mask, and along the seam."""

    def __init__(self, *arguments, **options):  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **options)
        self.outside: list[float] = []
        self.seams: list[tuple[float, float]] = []
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def _pasted(
        self, frame: np.ndarray, original: np.ndarray, face: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        made = super()._pasted(frame, original, face, where)
        size = frame.shape[1], frame.shape[0]
        weight = cv2.warpAffine(self.generator.mask, where.astype(np.float64), size)
        self.outside.append(float(np.abs(made.astype(int) - frame)[weight == 0].mean()))
        seam = (weight > 0) & (weight < 1)
        if self._before is not None and self._before[0].shape == frame.shape:
            old, new = (
                float(np.abs(now.astype(int) - then)[seam].mean())
                for now, then in ((frame, self._before[0]), (made, self._before[1]))
            )
            self.seams.append((old, new))
        self._before = frame, made
        return made


def keep(options: Keep) -> None:
    generator = load_generator(options.model, SamplingConfig(), {})
    print("video | frames | times | size | sound | outside | seam change (dub, source)")
    for path in options.videos:
        dubber = Recording(generator, DubConfig())
        out = options.out / f"{path.stem}.mp4"
        failure = dubber.dub(DubPair(path, options.audio, out))
        if failure:
            print(f"{path.name} | {failure.reason} ({failure.detail})")
            continue
        source, dub = Video(path, fps=None), Video(out, fps=None)
        late = (
            float(np.abs(source.times - dub.times).max()) if source.num_frames == dub.num_frames else np.inf
        )
        old, new = np.mean(dubber.seams, axis=0)
        print(
            f"{path.name} | {dub.num_frames} of {source.num_frames} | {1000 * late:.3f} ms off at most | "
            f"{(dub.width, dub.height) == (source.width, source.height)} | {same_packets(options.audio, out)} | "
            f"{np.mean(dubber.outside):.4f} | {new:.2f}, {old:.2f}: {new / old:.2f}",
            flush=True,
        )


def same_packets(sound: Path, dub: Path) -> str:
    """How many of the dub's sound packets are the given file's, byte by byte."""
    packets = []
    for path in (sound, dub):
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            packets.append((stream.codec_context.name, [bytes(p) for p in container.demux(stream) if p.size]))
    (codec, given), (made, found) = packets
    if codec != made:
        return f"{codec} as {made}"
    return f"{sum(packet in set(given) for packet in found)} of {len(found)} packets"


def long(options: Long) -> None:
    with options.videos.open(newline="") as file:
        rows = [row["path"] for row in csv.DictReader(file) if row["split"] != "train"]
    paths = [options.videos.parent / path for path in rows]
    for seconds in (60, options.seconds):
        joined = options.out / f"{seconds}s.mp4"
        if not joined.exists():
            join(paths, seconds, joined)
        dub = options.out / f"dub_{seconds}s.mp4"
        line = [
            sys.executable,
            __file__,
            "dub",
            "--model",
            options.model,
            "--video",
            str(joined),
            "--out",
            str(dub),
        ]
        memory = subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip().split()[-1]
        first, last = ends(joined, dub, options.model)
        print(
            f"{seconds} s: peak {memory} MiB; opening correlation {first:.3f} in the first 30 s, {last:.3f} in the last"
        )


def join(paths: list[Path], seconds: int, out: Path) -> None:
    """Videos of one size and rate after each other, as often as it takes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    sounds: list[np.ndarray] = []
    total = seconds * 25

    def frames() -> Iterator[np.ndarray]:
        done = 0
        for number in count():
            video = Video(paths[number % len(paths)])
            take = min(video.num_frames, total - done)
            sounds.append(AudioTrack(video.path).slice(video.start_s, take))
            yield from video.frames(0, take)
            done += take
            if done == total:
                return

    # The sound is known only when all frames were read: pictures first, then both.
    write_video(out.with_suffix(".silent.mp4"), frames(), None)
    silent = Video(out.with_suffix(".silent.mp4"))
    write_video(out, silent.frames(), np.concatenate(sounds))
    out.with_suffix(".silent.mp4").unlink()


def ends(source: Path, dub: Path, model: str) -> tuple[float, float]:
    """The opening's correlation with the source's in the first and the last 30 s of the tracks."""
    # Training may have kept the largest face of a video alone; here every track counts, as in the dub.
    faces = chosen_faces_config(load_generator(model, SamplingConfig(), {}).faces_config, DubConfig())
    backend = load_backend(faces, {})
    video = Video(source, fps=None)
    real, made = np.full(video.num_frames, np.nan), np.full(video.num_frames, np.nan)
    for track in find_faces(video, backend, faces):
        span = slice(track.first_frame, track.first_frame + len(track.box))
        real[span] = opening(track.landmarks)
        for start in range(0, len(track.box), 250):
            boxes = track.box[start : start + 250]
            at = track.first_frame + start
            frames = list(Video(dub, fps=None).frames(at, at + len(boxes)))
            made[at : at + len(boxes)] = opening(backend.landmarks(frames, boxes))
    seen = np.isfinite(real)
    parts = [np.flatnonzero(seen[:750]), len(seen) - 750 + np.flatnonzero(seen[-750:])]
    first, last = (float(np.corrcoef(real[part], made[part])[0, 1]) for part in parts)
    return first, last


def dub_one(options: Dub) -> None:
    dubber = Dubber(load_generator(options.model, SamplingConfig(), {}), DubConfig())
    failure = dubber.dub(DubPair(options.video, options.video, options.out))
    if failure:
        raise SystemExit(f"{failure.reason}: {failure.detail}")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main(options: Keep | Long | Dub) -> None:
    if isinstance(options, Keep):
        keep(options)
    elif isinstance(options, Long):
        long(options)
    else:
        dub_one(options)


if __name__ == "__main__":
    main(tyro.cli(Keep | Long | Dub, description=__doc__))  # type: ignore[arg-type]
