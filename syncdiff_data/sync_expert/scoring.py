"""Offset and confidence of a clip from its embeddings.

Sign of every offset: positive where the sound comes before the mouth, in frames, as SyncNet's AV offset. The lips of
frame t are compared at shift k with the sound of frame t - k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SHIFT = 15
"""Frames by which the sound is moved either way."""


@dataclass(frozen=True)
class SyncScore:
    """How well lips and sound of one clip fit. Similarities are cosines, -1 to 1."""

    offset: int
    """Frames by which the sound comes before the mouth; negative where it comes late."""
    confidence: float
    """Mean similarity at that shift less the median over shifts. 0 means that no shift is better than another."""
    curve: np.ndarray
    """float32 [2 * max_shift + 1]: mean similarity at the shifts -max_shift ... max_shift; NaN for shifts with fewer
    than half of the frames."""
    per_frame: np.ndarray
    """float32 [T]: each frame's similarity at the offset less the median of the curve; NaN where its sound lies
    outside of the clip."""


def score_embeddings(lips: np.ndarray, audio: np.ndarray, max_shift: int = MAX_SHIFT) -> SyncScore:
    """Score embeddings of lips and sound, float32 [T, D] each, frame 0 at the same time.

    Where lengths differ the shorter counts. A shift of k has T - |k| frames; shifts with fewer than half of them are
    left out, since a shift with one frame can win by chance. ValueError when there is no frame.
    """
    frames = min(len(lips), len(audio))
    if frames == 0:
        raise ValueError("score_embeddings: expected at least one frame of lips and of sound, got none")
    lips, audio = lips[:frames], audio[:frames]
    shifts = range(-max_shift, max_shift + 1)
    curve = np.full(len(shifts), np.nan, np.float32)
    for column, shift in enumerate(shifts):
        if 2 * (frames - abs(shift)) >= frames:
            curve[column] = _similarities(lips, audio, shift).mean(dtype=np.float64)
    offset = int(np.nanargmax(curve)) - max_shift
    median = float(np.nanmedian(curve))
    per_frame = np.full(frames, np.nan, np.float32)
    at = _similarities(lips, audio, offset)
    per_frame[max(0, offset) : max(0, offset) + len(at)] = at - median
    return SyncScore(offset, float(curve[offset + max_shift]) - median, curve, per_frame)


def shifted_similarities(lips: np.ndarray, audio: np.ndarray, max_shift: int = MAX_SHIFT) -> np.ndarray:
    """float32 [2 * max_shift + 1, T]: the similarity of each frame of lips at every shift; NaN where there is no
    sound. lips, audio: [T, D]."""
    curve = np.full((2 * max_shift + 1, len(lips)), np.nan, np.float32)
    for row, shift in enumerate(range(-max_shift, max_shift + 1)):
        if abs(shift) < len(lips):
            at = _similarities(lips, audio, shift)
            curve[row, max(0, shift) : max(0, shift) + len(at)] = at
    return curve


def _similarities(lips: np.ndarray, audio: np.ndarray, shift: int) -> np.ndarray:
    """float32 [T - |shift|]: cosine of lips t and sound t - shift for every t that has both."""
    frames = len(lips)
    first, stop = max(0, shift), frames + min(0, shift)
    similarities: np.ndarray = np.einsum("td,td->t", lips[first:stop], audio[first - shift : stop - shift])
    return similarities
