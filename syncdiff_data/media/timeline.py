"""Which coded frame each frame of a constant-rate clip shows: arithmetic on presentation times.

The rule, for coded frames at times p[0] <= p[1] <= ... <= p[n-1]:

- output frame i stands at p[0] + i / fps;
- it shows the coded frame whose time is nearest; on a tie the earlier one;
- the last coded frame lasts as long as the median gap between frames;
- there are as many output frames as that span holds, rounded half up, and at least one.

So a source of the same constant rate maps one to one, and every output frame lies within half a source frame
of the one it shows, except while the last one is held to its end.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncdiff_data.records import FPS


def nearest_frames(pts: np.ndarray, time_base: Fraction, fps: int) -> np.ndarray:
    """Index of the coded frame shown by each frame of a constant-rate clip.

    pts: int64 [n], n >= 1, presentation times in units of `time_base` seconds, never decreasing.
    Returns int32 [num_frames], never decreasing. Raises ValueError for empty or decreasing times.
    """
    if len(pts) == 0 or np.any(np.diff(pts) < 0):
        raise ValueError("presentation times must be one or more and never decrease")
    # In units of 1 / (fps * time_base.denominator) s every time below is a whole number.
    times = (pts.astype(np.int64) - int(pts[0])) * (time_base.numerator * fps)
    frame = time_base.denominator
    held = int(np.median(np.diff(times))) if len(times) > 1 else frame
    num_frames = max(1, (2 * (int(times[-1]) + held) + frame) // (2 * frame))
    targets = np.arange(num_frames, dtype=np.int64) * frame
    return np.searchsorted(times[:-1] + times[1:], 2 * targets, side="left").astype(np.int32)


def displayed_frames(pts: np.ndarray) -> np.ndarray:
    """Index of every coded frame that is shown for longer than 0 s: of frames with one time only the last.

    pts: int64 [n], n >= 1, never decreasing. Returns int32 [at most n], increasing.
    """
    return np.flatnonzero(np.append(np.diff(pts) > 0, True)).astype(np.int32)


def duration_and_rate(pts: np.ndarray, time_base: Fraction) -> tuple[float, Fraction]:
    """Seconds from the first frame to the end of the last, and the mean number of frames per second.

    pts as in `nearest_frames`. The last frame lasts as long as the median gap; a single one 1/25 s.
    """
    shown = pts[displayed_frames(pts)]
    if len(shown) == 1:
        return 1 / FPS, Fraction(FPS)
    span = int(shown[-1] - shown[0]) * time_base
    return float(span) + float(np.median(np.diff(shown)) * time_base), (len(shown) - 1) / span
