"""The one place where tests and benchmarks make a clip: every column as long as the clip, nobody's face, no sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from syncdiff_data.records import SAMPLES_PER_FRAME, Clip


def made_clip(num_frames: int, **columns: Any) -> Clip:
    """A silent clip of `num_frames` frames without pictures, all landmarks and boxes zero.

    columns: the columns a test is about, in place of these.
    """
    plain = Clip(
        clip_id="clip",
        source="a.mp4",
        split=None,
        speaker=None,
        text=None,
        track=0,
        start_s=0.0,
        source_frame=np.arange(num_frames, dtype=np.int32),
        face_jpeg=(),
        mouth_png=None,
        audio=np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16),
        landmarks=np.zeros((num_frames, 68, 2), np.float32),
        box=np.zeros((num_frames, 4), np.float32),
        face_to_source=np.zeros((num_frames, 2, 3), np.float32),
    )
    return replace(plain, **columns)


def speech_like(num_frames: int, seed: int = 0) -> np.ndarray:
    """int16 [640 frames]: noise whose loudness and colour change every 40 to 200 ms, as sounds of speech do."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(num_frames * SAMPLES_PER_FRAME)
    sounds = []
    while len(noise):
        sound, noise = np.split(noise, [random.integers(640, 3200)])
        sounds.append(np.convolve(sound, random.standard_normal(8), "same") * random.uniform(100, 3000))
    return np.clip(np.concatenate(sounds), -32768, 32767).astype(np.int16)


def spoken_clip(num_frames: int, seed: int = 0, mouth: bool = True) -> Clip:
    """A clip with a random mouth and a sound that changes as speech does, but no face."""
    random = np.random.default_rng(seed)
    crops = random.integers(0, 256, (num_frames, 12, 12), dtype=np.uint8)
    pngs = tuple(cv2.imencode(".png", cv2.resize(crop, (96, 96)))[1].tobytes() for crop in crops)
    return made_clip(
        num_frames,
        clip_id=f"{seed:016x}",
        source=f"talker{seed}.mp4",
        mouth_png=pngs if mouth else None,
        audio=speech_like(num_frames, seed),
    )
