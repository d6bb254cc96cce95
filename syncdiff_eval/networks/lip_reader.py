"""AV-HuBERT as a judge: its final output for a clip's lips, its sound, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from syncdiff_data.avhubert import AVHubertEncoder, align_frames, audio_input, video_input
from syncdiff_data.features import logfbank
from syncdiff_data.records import FPS, SAMPLES_PER_FRAME
from syncdiff_data.weights import file_sha256
from syncdiff_eval.cache import FrameFeatureCache

LONGEST = 30 * FPS
"""Frames that AV-HuBERT sees at a time. Longer clips are read in parts, as those of a data set are split."""
Heartbeat = Callable[[], None]
VERSION = 1
"""Bumped by hand when mouths, their crops or their projection could change."""


class LipReader:
    """Reads each clip alone, part by part: no number depends on a batch, and memory is that of one part.

    heartbeat: called after every part.
    """

    def __init__(self, encoder: AVHubertEncoder, weights: str, device: str = "cpu"):
        """weights: the file's sha256, under which projected lips are kept."""
        self._encoder = encoder.to(device)
        self._device = device
        self._producer = {"name": "lips", "version": VERSION, "weights": weights}

    def lip_features(
        self,
        mouths: np.ndarray,
        frame_cache: FrameFeatureCache | None = None,
        heartbeat: Heartbeat = lambda: None,
    ) -> np.ndarray:
        """float32 [T, D] from gray crops uint8 [T, 96, 96]: features of the lips alone, before the fusion with audio.

        Most of the time goes here, so what comes out is kept on the frame_cache of the frames these mouths are of.
        """
        producer = self._producer | {"frames": len(mouths)}
        kept = frame_cache.read(**producer) if frame_cache else None
        if kept is not None:
            return kept["lips"]
        projected = (
            self._encoder.project_video(self._tensor(video_input(mouths[part])))
            for part in parts(len(mouths))
        )
        lips = _join(projected, heartbeat)
        if frame_cache:
            frame_cache.store({"lips": lips}, **producer)
        return lips

    def features(
        self,
        lips: np.ndarray | None = None,
        samples: np.ndarray | None = None,
        heartbeat: Heartbeat = lambda: None,
    ) -> np.ndarray:
        """float32 [T, D]: the final output for lips (float32 [T, D] of `lip_features`), for sound
        (int16 [640 T] at 16 kHz), or for both."""
        if lips is None and samples is None:
            raise ValueError("lips, samples: at least one of them must be given")
        num_frames = len(lips) if lips is not None else len(samples) // SAMPLES_PER_FRAME  # type: ignore[arg-type]
        encoded = (
            self._encoder(
                audio=None if samples is None else self._tensor(_heard(samples, part)),
                video=None if lips is None else self._tensor(lips[part]),
            )
            for part in parts(num_frames)
        )
        return _join(encoded, heartbeat)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)[None].to(self._device)


@cache
def load_reader(path: Path, device: str = "cpu") -> LipReader:
    """An AV-HuBERT checkpoint, published or converted, loaded once per process for every family that reads with it.

    UserError when the file is something else.
    """
    return LipReader(AVHubertEncoder.from_checkpoint(path), file_sha256(path), device)


def parts(num_frames: int) -> Iterator[slice]:
    """Spans of at most LONGEST frames, as equal in length as can be, so that none is a mere remainder."""
    count = -(-num_frames // LONGEST)
    for start, stop in pairwise(num_frames * i // count for i in range(count + 1)):
        yield slice(start, stop)


def _heard(samples: np.ndarray, part: slice) -> np.ndarray:
    """float32 [104, t]: AV-HuBERT's audio input for these frames."""
    sound = samples[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME]
    return audio_input(align_frames(logfbank(sound), part.stop - part.start))


def _join(states: Iterator[Tensor], heartbeat: Heartbeat) -> np.ndarray:
    """Parts [1, t, D] one after the other: float32 [T, D]."""
    rows = []
    for state in states:
        rows.append(state[0].float().cpu().numpy())
        heartbeat()
    return np.concatenate(rows)
