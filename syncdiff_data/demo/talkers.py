"""A small cast of talkers and a folder of their clips."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from syncdiff_data.demo.face import Look, render
from syncdiff_data.demo.speech import Segment, Voice, babble, speak, transcript
from syncdiff_data.media import write_video
from syncdiff_data.records import FPS
from syncdiff_data.shards.store import write_atomically

LIST_NAME = "talkers.csv"
"""Beside the speakers' folders: a `folder` source's list, with split, speaker and text."""


Row = tuple[str, str, str, str]
"""Path, split, speaker and text of a clip, as LIST_NAME has them."""


@dataclass(frozen=True)
class Speaker:
    """A name, a look and a voice."""

    name: str
    look: Look = field(default_factory=Look)
    voice: Voice = field(default_factory=lambda: Voice(200.0))


SPEAKERS = (
    Speaker("ada", Look(), Voice(205, tract=1.15)),
    Speaker(
        "ben",
        Look(
            mirror=True,
            zoom=1.22,
            stretch=1.06,
            hair=(0.42, 0.4, 0.42),
            suit_hue=100,
            backdrop=((70, 95, 110), (120, 140, 150)),
        ),
        Voice(112, tract=0.98, tempo=1.05),
    ),
    Speaker(
        "cleo",
        Look(
            zoom=1.38,
            stretch=0.95,
            hair=(1.12, 0.78, 0.6),
            skin=(1.03, 0.97, 0.93),
            suit_hue=45,
            light=0.18,
            backdrop=((225, 205, 170), (190, 160, 120)),
        ),
        Voice(230, tract=1.2, tempo=0.95, breath=0.04),
    ),
    Speaker(
        "dev",
        Look(
            mirror=True,
            zoom=1.3,
            hair=(0.3, 0.26, 0.26),
            skin=(0.74, 0.64, 0.58),
            suit_hue=150,
            contrast=1.05,
            backdrop=((215, 220, 225), (160, 185, 200)),
        ),
        Voice(128, tract=1.03),
    ),
    Speaker(
        "eve",
        Look(
            zoom=1.2,
            stretch=0.98,
            hair=(1.25, 1.2, 1.05),
            suit_hue=20,
            light=-0.2,
            contrast=0.85,
            backdrop=((60, 60, 70), (35, 40, 50)),
        ),
        Voice(185, tract=1.12, tempo=1.1),
    ),
    Speaker(
        "finn",
        Look(
            mirror=True,
            zoom=1.42,
            stretch=1.03,
            hair=(0.8, 0.85, 1.0),
            skin=(0.9, 0.82, 0.78),
            suit_hue=75,
            light=0.12,
            backdrop=((140, 165, 125), (90, 120, 95)),
        ),
        Voice(145, tract=1.07, tempo=0.92),
    ),
)


@dataclass(frozen=True)
class Take:
    """One clip and what drove it.

    frames: uint8 RGB [T, size, size, 3]; audio: int16 [T * 640]; mouth: float32 [T, 2], opening and width in
    [0, 1]; timeline: the phonemes.
    """

    frames: np.ndarray
    audio: np.ndarray
    mouth: np.ndarray
    timeline: list[Segment]


def record(speaker: Speaker, rng: np.random.Generator, num_frames: int, size: int = 256) -> Take:
    """Let a speaker babble for num_frames frames of 40 ms."""
    timeline = babble(num_frames, rng, speaker.voice)
    audio, mouth = speak(timeline, rng, speaker.voice)
    frames = render(speaker.look, mouth, _blinks(num_frames, rng), _sway(num_frames, rng), size)
    return Take(frames, audio, mouth, timeline)


def talker_clip(
    seed: int, num_frames: int = 25, size: int = 256
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A small clip for tests, spoken by SPEAKERS[seed % 6].

    Returns frames, uint8 RGB [T, size, size, 3], audio, int16 [T * 640], and opening, float32 [T] in [0, 1].
    """
    take = record(SPEAKERS[seed % len(SPEAKERS)], np.random.default_rng(seed), num_frames, size)
    return take.frames, take.audio, take.mouth[:, 0]


def make_talkers(
    out: Path, num_clips: int = 36, seconds: float = 3.0, seed: int = 0, size: int = 256
) -> list[Path]:
    """Write `out/<speaker>/<number>.mp4` and the list `out/talkers.csv` (path, split, speaker, text).

    Speakers take turns; clip k depends on k, seed, seconds and size alone. Of five clips of a speaker the second
    is in the split `test`, the others in `train`. The list is written last. Returns the videos in order.
    """
    rows = [make_talker(out, number, seconds, seed, size) for number in range(num_clips)]
    write_list(out, rows)
    return [out / row[0] for row in rows]


def make_talker(out: Path, number: int, seconds: float = 3.0, seed: int = 0, size: int = 256) -> Row:
    """Write clip `number` below `out` and return its row of the list."""
    speaker = SPEAKERS[number % len(SPEAKERS)]
    take = record(speaker, np.random.default_rng([seed, number]), round(seconds * FPS), size)
    video = out / speaker.name / f"{number:04d}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    write_video(video, take.frames, take.audio)
    split = "test" if number // len(SPEAKERS) % 5 == 1 else "train"
    return video.relative_to(out).as_posix(), split, speaker.name, transcript(take.timeline)


def write_list(out: Path, rows: list[Row]) -> None:
    """Write `out/talkers.csv`, whole or not at all."""
    write_atomically(out / LIST_NAME, lambda file: _write_list(file, rows))


def _write_list(file: IO[bytes], rows: list[Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    csv.writer(text).writerows([("path", "split", "speaker", "text"), *rows])
    text.detach()


def _sway(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Slow, small head motion as `render` takes it, float64 [T, 4]: three sine waves for each part."""
    seconds = np.arange(num_frames)[:, None, None] / FPS
    hertz = rng.uniform(0.15, 0.7, (3, 4))
    waves = np.sin(2 * np.pi * (hertz * seconds + rng.random((3, 4)))).mean(axis=1)
    return waves * np.array([8.0, 6.0, 4.0, 0.04]) + np.array([*rng.uniform(-6, 6, 2), 0.0, 0.0])


def _blinks(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """How far the lids are shut, float64 [T]: five frames down and up, every two to five seconds."""
    shut = np.zeros(num_frames)
    at = rng.integers(5, 50)
    while at + 5 <= num_frames:
        shut[at : at + 5] = [0.4, 0.9, 1.0, 0.7, 0.3]
        at += rng.integers(50, 125)
    return shut
