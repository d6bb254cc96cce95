"""The frames of a video in the order in which a dub shows them, for as long as its sound lasts."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import Literal

import numpy as np

from syncdiff_data.media.decode import Display
from syncdiff_data.media.video import Video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

LongerAudio = Literal["stop", "hold", "loop"]
AT_ONCE = 32
"""Frames that are held while a video is shown backward."""
MOST_FPS = 1000
"""Frames a second at which a video is shown again and again; its last one alone is held at HELD_FPS at most."""
HELD_FPS = 120


class Playback:
    """A video (opened with fps=None) of at least one frame, shown for `seconds`.

    longer_audio says what is seen of a sound that lasts longer than the video. stop: the sound is cut there. hold: the
    last frame. loop: the video backward, then forward again, and so on; so nothing jumps. A shorter sound changes
    nothing: the video is seen to its end.

    order: int64 [n], which frame of the video each shows; pts: int64 [n], when, in units of time_base; times: the same
    in seconds from the first; duration_s: to the end of the last. width, height, rate, time_base, display: the video's.
    Raises MediaError(BROKEN_TIMESTAMPS) for "loop" where a frame lasts less than half of 1 / MOST_FPS, mean.
    """

    def __init__(self, video: Video, seconds: float, longer_audio: LongerAudio = "stop"):
        self.video = video
        self.width, self.height, self.rate = video.width, video.height, video.rate
        self.time_base: Fraction = video.time_base
        self.display: Display = video.display
        end = round(Fraction(video.duration_s) / self.time_base)
        starts = video.pts - video.pts[0]
        lasting = np.diff(np.append(starts, max(end, int(starts[-1]) + 1)))
        wanted = seconds / float(self.time_base)
        order = np.arange(video.num_frames)
        if longer_audio == "hold" and wanted > lasting.sum():
            step = max(int(lasting[-1]), round(1 / (HELD_FPS * self.time_base)))
            more = int(np.ceil((wanted - lasting.sum()) / step))
            order = np.append(order, np.full(more, len(lasting) - 1))
            lasting = np.append(lasting[:-1], step)
        elif longer_audio == "loop" and wanted > lasting.sum():
            if lasting.sum() * self.time_base * 2 * MOST_FPS < len(lasting):
                detail = f"its {len(lasting)} frames last {video.duration_s:.1e} s: too short to be repeated"
                raise MediaError(Reason.BROKEN_TIMESTAMPS, detail)
            order = _back_and_forth(lasting, wanted)
        shown = np.append(0, np.cumsum(lasting[order]))
        self.order = order
        self.pts = video.pts[0] + shown[:-1]
        self.times = shown[:-1] * float(self.time_base)
        self.duration_s = float(shown[-1] * self.time_base)

    @property
    def num_frames(self) -> int:
        return len(self.order)

    def frames(self) -> Iterator[np.ndarray]:
        """All frames in order, each RGB uint8 [height, width, 3] that may be written to."""
        steps = np.append(1, np.diff(self.order))
        position = 0
        for step, group in groupby(steps.tolist()):
            count = len(list(group))
            yield from self._run(self.order[position : position + count], step)
            position += count

    def _run(self, order: np.ndarray, step: int) -> Iterator[np.ndarray]:
        """Frames of a run in which each is `step` after the one before: 1, -1, or 0 (held)."""
        first, last = int(order[0]), int(order[-1])
        if step > 0:
            yield from self.video.frames(first, last + 1)
        elif step == 0:
            (held,) = self.video.frames(first, first + 1)
            for _ in order:
                yield held.copy()
        else:
            for stop in range(first + 1, last, -AT_ONCE):
                yield from reversed(list(self.video.frames(max(last, stop - AT_ONCE), stop)))


def _back_and_forth(lasting: np.ndarray, wanted: float) -> np.ndarray:
    """Frames 0 ... n - 1, n - 2 ... 1, 0 ... until they last long enough; lasting: int64 [n], how long each is
    shown."""
    count = len(lasting)
    cycle = np.append(np.arange(count), np.arange(count - 2, 0, -1))
    repeats = int(np.ceil(wanted / lasting[cycle].sum())) + 1
    order = np.tile(cycle, repeats)
    enough = int(np.searchsorted(np.cumsum(lasting[order]), wanted)) + 1
    return order[: max(enough, count)]
