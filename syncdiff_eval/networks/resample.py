"""Frames at 25 per second out of frames at any times, one by one: SyncNet knows no other rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from syncdiff_data.records import FPS

_TIE = 1e-6
"""Seconds: times are floats, and a tie goes to the earlier frame."""


class Resampler:
    """The rule of `syncdiff_data.media.timeline`: each output frame shows the nearest in time, the earlier on a tie;
    the last one lasts as long as the median gap. Output frame 0 stands at the first frame's time."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._frame: np.ndarray | None = None
        self._sent = 0

    def add(self, time: float, frame: np.ndarray) -> Iterator[np.ndarray]:
        """The output frames that are certain once this one, at `time` seconds, is known."""
        self._times.append(time)
        if self._frame is not None:
            yield from self._until((self._times[-2] + time) / 2 - self._times[0] + _TIE)
        self._frame = frame

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        if self._frame is None:
            return
        held = float(np.median(np.diff(self._times))) if len(self._times) > 1 else 1 / FPS
        end = self._times[-1] - self._times[0] + held
        # As many as the span holds, rounded half up, and at least one.
        count = max(1, int(np.floor(end * FPS + 0.5 + _TIE)))
        yield from self._until((count - 1) / FPS + _TIE)

    def _until(self, time: float) -> Iterator[np.ndarray]:
        assert self._frame is not None
        while self._sent / FPS <= time:
            yield self._frame
            self._sent += 1
