"""What dubbing asks of any model: where its crops lie, its audio input, and new crops for old ones, in order of time.

Shapes: n or T frames, S crop size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from syncdiff_data.faces import FaceConfig, face_transforms

FRAMES_AT_ONCE = 32
"""Crops of a clip that are held at a time."""


@dataclass(frozen=True)
class FaceClip:
    """One face over one span, and the sound that it is to speak."""

    crops: Iterable[np.ndarray]
    """uint8 RGB [S, S, 3] each, streamed."""
    times: np.ndarray
    """float64 [T], s from the beginning of the sound, rising."""
    identity: np.ndarray
    """uint8 RGB [S, S, 3]: the same face in another frame."""
    sound: np.ndarray
    """What `Generator.encode_audio` made of the sound."""


class Generator(ABC):
    """A model that turns the faces of a video into faces that speak another sound."""

    name: str
    """As the files that it makes call it."""
    faces_config: FaceConfig
    """How faces are found and cropped, the way the model knows them."""
    mask: np.ndarray
    """float32 [S, S], 0 to 1: how much of a generated crop is shown."""

    @property
    def crop_size(self) -> int:
        return self.faces_config.crop_size

    def transforms(
        self, landmarks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], frame_rate: float
    ) -> np.ndarray:
        """Where the crops of a track lie: affines from crop to source pixels, float32 [T, 2, 3].

        landmarks: [T, 68, 2]; boxes: [T, 4]; size: width and height of the frames; frame_rate: frames a second, by
        which the smoothing over time is as long as in training, at 25.
        """
        return face_transforms(landmarks, self.crop_size, smoothing_window(self.faces_config, frame_rate))

    @abstractmethod
    def encode_audio(self, sound: np.ndarray) -> np.ndarray:
        """The audio features that the model takes: of int16 [N] at 16 kHz mono, N a multiple of 640, any array."""

    @abstractmethod
    def start(self, identity: np.ndarray, sound: np.ndarray) -> Any:
        """The state of a clip before its first frame; arguments as in FaceClip."""

    @abstractmethod
    def advance(
        self,
        states: Sequence[Any],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        """The next frames of each clip: uint8 [n, S, S, 3] for crops of that shape and times float64 [n]."""

    def faces(self, clips: Sequence[FaceClip]) -> Iterator[tuple[int, int, np.ndarray]]:
        """(clip, frame, uint8 [S, S, 3]) of all clips side by side, in order of frames within each; memory does not
        grow with their length."""
        states = [self.start(clip.identity, clip.sound) for clip in clips]
        streams = [iter(clip.crops) for clip in clips]
        done = [0] * len(clips)
        while True:
            parts = [list(islice(stream, FRAMES_AT_ONCE)) for stream in streams]
            live = [i for i, part in enumerate(parts) if part]
            if not live:
                return
            times = [clips[i].times[done[i] : done[i] + len(parts[i])] for i in live]
            made = self.advance([states[i] for i in live], [np.stack(parts[i]) for i in live], times)
            for i, images in zip(live, made):
                for image in images:
                    yield i, done[i], image
                    done[i] += 1


def smoothing_window(config: FaceConfig, frame_rate: float) -> int:
    """The odd number of frames that lasts as long as config.smooth_frames do at 25 a second, or nearly."""
    half = round((config.smooth_frames - 1) / 2 * frame_rate / 25)
    return 2 * max(half, 1 if config.smooth_frames > 1 else 0) + 1
