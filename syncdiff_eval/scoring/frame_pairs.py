"""Pairs of frames by index, and what refuses a pair of files: size, rate, times and length."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.scoring.base import ScoringError
from syncdiff_eval.videos import FileFacts, TimedFrame

TimestampOnly = tuple[float, None]
"""A frame that no metric needs: its time alone."""


class FramePairs:
    """Frames of both videos by index over the shorter length, their times checked by the protocol's pairing."""

    def __init__(
        self,
        reference: Iterator[TimedFrame] | Iterator[TimestampOnly],
        output: Iterator[TimedFrame],
        reference_facts: FileFacts,
        output_facts: FileFacts,
        protocol: ProtocolDefinition,
    ):
        self._both = zip_longest(reference, output)
        self._lengths = [0, 0]
        self._fps = (reference_facts.fps, output_facts.fps)
        self._protocol = protocol

    def __iter__(self) -> Iterator[tuple[float, np.ndarray | None, np.ndarray]]:
        """Seconds since the reference's first frame, its image if decoded, and the output's image."""
        starts: tuple[float, float] | None = None
        for ours, theirs in self._both:
            self._lengths[0] += ours is not None
            self._lengths[1] += theirs is not None
            if ours is None or theirs is None:
                continue
            starts = starts or (ours[0], theirs[0])
            self._check_times(ours[0] - starts[0], theirs[0] - starts[1])
            yield ours[0] - starts[0], ours[1], theirs[1]

    def _check_times(self, ours: float, theirs: float) -> None:
        if self._protocol.pairing == "timestamp" and abs(ours - theirs) > 0.5 / self._fps[1]:
            frame = min(self._lengths) - 1
            raise ScoringError(
                Reason.FRAME_TIMES_DIFFER,
                f"frame {frame} is shown at {ours:.3f} s in the reference and {theirs:.3f} s in the output",
            )

    def check_lengths(self, crossed: bool, audio_s: float | None) -> None:
        """Refuse what is too short or too long to be whole, after all frames were read.

        crossed: the output is as long as the shorter of reference and sound may be, or longer. audio_s: seconds of
        driving audio, None where not known. Raises ScoringError, and MediaError for an output without frames.
        """
        expected, got = self._lengths
        if got == 0:
            raise MediaError(Reason.UNREADABLE, "the video stream holds no frame that decodes")
        self._check_resampling(expected, got, crossed)
        if crossed and audio_s is not None:
            expected = min(expected, round(audio_s * self._fps[0]))
        allowed = self._protocol.allowed_gap(expected)
        too_long = got - expected > allowed and not crossed
        if expected - got > allowed or too_long:
            of = "the shorter of reference and sound" if crossed else "the reference"
            raise ScoringError(
                Reason.LENGTH_MISMATCH, f"{got} frames for {expected} of {of}; {allowed} may differ"
            )

    def _check_resampling(self, expected: int, got: int, crossed: bool) -> None:
        """Refuse a pairing by index of an output that was resampled in time: it shows the same moments in another
        number of frames, so that frame i is another moment in each."""
        if crossed or abs(self._fps[1] / self._fps[0] - 1) <= self._protocol.fps_tolerance:
            return
        by_time = abs(got - expected * self._fps[1] / self._fps[0])
        by_index = abs(got - expected)
        if by_index >= 2 and by_index > 2 * by_time:
            raise ScoringError(
                Reason.FPS_MISMATCH,
                f"{got} frames at {self._fps[1]:.3f} per second last as long as the reference's {expected} at "
                f"{self._fps[0]:.3f}: the output was resampled in time, so frames of equal index differ in time",
            )


def check_format(reference: FileFacts, output: FileFacts, protocol: ProtocolDefinition) -> None:
    """Raises ScoringError where sizes, or where times are paired the rates, differ."""
    if not (_same_side(reference.width, output.width) and _same_side(reference.height, output.height)):
        raise ScoringError(
            Reason.SIZE_MISMATCH,
            f"{output.width}x{output.height}, the reference has {reference.width}x{reference.height}",
        )
    if protocol.pairing == "timestamp" and abs(output.fps / reference.fps - 1) > protocol.fps_tolerance:
        raise ScoringError(
            Reason.FPS_MISMATCH, f"{output.fps:.3f} frames per second, the reference has {reference.fps:.3f}"
        )


def _same_side(reference: int, output: int) -> bool:
    """Codecs hold even sizes only, so that writers lengthen an odd side by one pixel, right or below."""
    return output == reference + reference % 2 or output == reference
