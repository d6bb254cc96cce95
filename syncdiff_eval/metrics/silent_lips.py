"""Do the lips rest where nobody speaks?

After THEval's silent-lip stability (CVPR 2026 Findings, Synchronization/silent_lip_stability.py): the same detector,
the same least silence, the opening over the eye distance. THEval takes the median deviation from the mean opening over
all silent frames of a file, which one slow change of a resting mouth moves as much as chatter does; this is the mean
change from one frame to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import (
    ClipContext,
    Column,
    MetricFactory,
    MetricFamily,
    MissingValue,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.dynamics import opening_speed
from syncdiff_eval.metrics.openings import ClipOpenings

if TYPE_CHECKING:
    from syncdiff_eval.networks.voice import VoiceDetector

LEAST_SILENCE_S = 0.3
"""Shorter pauses are part of speech: plosives, and breaths in which lips prepare the next word."""


def silent_frames(speech: Sequence[tuple[float, float]], times: np.ndarray, fps: float) -> np.ndarray:
    """Which frames, shown from float [T] seconds on, lie in a silence of at least LEAST_SILENCE_S: bool [T].

    speech: begin and end of each stretch, in seconds. A frame belongs to what is heard at its middle.
    """
    middle = times + 0.5 / fps
    silent = np.ones(len(times), bool)
    for begin, end in speech:
        silent &= (middle < begin) | (middle > end)
    # Runs of silent frames: from each rise to the next fall.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    for first, last in zip(edges[::2], edges[1::2] - 1):
        if times[last] - times[first] + 1 / fps < LEAST_SILENCE_S - 1e-9:
            silent[first : last + 1] = False
    return silent


class SilentLips(ClipOpenings):
    """Mean absolute change of the opening from frame to frame in silence, in percent of the eye distance, and that less
    the reference's in the same frames."""

    def __init__(self, context: ClipContext, detector: VoiceDetector):
        super().__init__(context)
        self._detector = detector

    def _own(self) -> Values:
        generated, reference = self.openings()
        silence = self._silence(len(generated))
        if isinstance(silence, MissingValue):
            return {column.name: silence for column in SILENT_LIPS.columns}
        # Speech is cut out, so that no change reaches from one silence to the next.
        resting, real = (np.where(silence, opening, np.nan) for opening in (generated, reference))
        if np.isfinite(resting).sum() < LEAST_SILENCE_S * self.context.fps:
            reason = Reason.NO_SILENCE if np.isfinite(generated).any() else Reason.NO_FACE
            return {column.name: MissingValue(reason) for column in SILENT_LIPS.columns}
        motion = 100 * opening_speed(resting)
        return {"silent_motion": motion, "silent_motion_excess": motion - 100 * opening_speed(real)}

    def _silence(self, count: int) -> np.ndarray | MissingValue:
        """Of the first `count` frames."""
        audio = self.context.audio
        if audio is None:
            return MissingValue(Reason.NO_AUDIO)
        sound = hashlib.sha256(audio.tobytes()).digest()
        speech = self.context.once(("speech", sound), lambda: self._detector.speech(audio))
        return silent_frames(speech, self.context.shown_at(count), self.context.fps)


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.voice import VoiceDetector

    del weights, device
    detector = VoiceDetector()
    return lambda context: SilentLips(context, detector)


SILENT_LIPS = MetricFamily(
    name="silent-lips",
    group=ReportGroup.MOUTH_AUDIO,
    columns=(
        Column("silent_motion", "Lip motion in silence", "% of eye distance per frame", False, 3),
        Column(
            "silent_motion_excess",
            "Lip motion in silence, less the real one",
            "% of eye distance per frame",
            None,
            3,
            compares_with_reference=True,
        ),
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"landmarks"}),
)
