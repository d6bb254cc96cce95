"""Who speaks: of several faces at one time, the one whose lips fit the sound, by the sync expert.

A whole file has one AV offset, so the offset is found over all its faces, and the faces are compared at it, two
seconds at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from syncdiff_data.faces import Track
from syncdiff_data.sync_expert.scoring import MAX_SHIFT, shifted_similarities

if TYPE_CHECKING:
    from syncdiff_data.sync_expert.expert import SyncExpert

WINDOW = 51
"""Frames over which a face's fit is averaged: 2 s. Shorter windows follow turns faster and err more."""
SHORTEST = 25
"""Frames of the shortest turn; the speaker of shorter ones is whoever spoke before."""
SPEAKER_EXPERT = "training"
"""Chooses who speaks: not the one that scores, so that data are not chosen by their judge."""
Frames = Callable[[int, int], Iterable[np.ndarray]]
"""frames(first, stop): RGB frames of the source at 25 fps."""


def load_speaker_expert(device: str = "cpu") -> SyncExpert:
    from syncdiff_data.sync_expert.expert import SyncExpert

    return SyncExpert.from_pretrained(SPEAKER_EXPERT, device)


def overlapping(tracks: Sequence[Track]) -> list[Track]:
    """The tracks that share a frame with another one, in their order."""
    return [a for a in tracks if any(b is not a and _overlap(a, b) for b in tracks)]


def speaking_tracks(
    tracks: Sequence[Track],
    frames: Frames,
    sound: Callable[[int, int], np.ndarray],
    expert: SyncExpert,
    mean_face: np.ndarray,
) -> list[Track]:
    """The tracks, cut to the frames in which each is the one that speaks; alone, a track stays whole.

    sound(first, count): int16 [count * 640] of the source from frame `first` on. Returns parts in the order (track,
    first frame); a track that never speaks has none.
    """
    from syncdiff_data.sync_expert.tracks import embed_tracks  # Imports torch: seconds that others save.

    several = overlapping(tracks)
    if not several:
        return list(tracks)
    first = min(track.first_frame for track in several)
    stop = max(track.first_frame + len(track.box) for track in several)
    lips = embed_tracks(several, enumerate(frames(first, stop), start=first), expert, mean_face)
    curves = []
    for track, embedded in zip(several, lips):
        audio = expert.embed_sound(sound(track.first_frame, len(track.box)), len(track.box))
        curves.append(shifted_similarities(embedded, audio, MAX_SHIFT))
    spans = speaking_spans([track.first_frame for track in several], curves)
    parts = [part for track, found in zip(several, spans) for part in _cut(track, found)]
    alone = [track for track in tracks if not any(track is other for other in several)]
    return sorted([*alone, *parts], key=lambda track: (track.track, track.first_frame))


def speaking_spans(firsts: Sequence[int], curves: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """Frames [start, stop) of the source in which each track speaks.

    firsts: the source's frame with which each track begins. curves: float32 [31, T] of each, the similarity of every
    frame at the shifts -15 ... 15, NaN where there is no sound.
    """
    total = sum(np.nansum(curve, axis=1) for curve in curves)
    count = sum(np.isfinite(curve).sum(axis=1) for curve in curves)
    offset = int(np.argmax(total / np.maximum(count, 1)))
    start, stop = min(firsts), max(first + curve.shape[1] for first, curve in zip(firsts, curves))
    fit = np.full((len(curves), stop - start), -np.inf)
    for row, (first, curve) in enumerate(zip(firsts, curves)):
        local = uniform_filter1d(np.nan_to_num(curve), WINDOW, axis=1, mode="nearest")
        near = local[max(0, offset - 1) : offset + 2].max(axis=0)
        fit[row, first - start : first - start + curve.shape[1]] = near - np.median(local, axis=0)
    speaker = np.where(np.isfinite(fit).any(axis=0), fit.argmax(axis=0), -1)
    speaker = _without_short_turns(speaker, fit)
    return [[(start + a, start + b) for a, b in _runs(speaker == row)] for row in range(len(curves))]


def _without_short_turns(speaker: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Turns shorter than SHORTEST go to the speaker before, where that face is still there."""
    smoothed = speaker.copy()
    edges = [0, *(np.flatnonzero(np.diff(speaker)) + 1).tolist(), len(speaker)]
    for a, b in itertools.pairwise(edges):
        before = smoothed[a - 1] if a else -1
        if b - a < SHORTEST and before >= 0 and np.isfinite(fit[before, a:b]).all():
            smoothed[a:b] = before
    return smoothed


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def _cut(track: Track, spans: Sequence[tuple[int, int]]) -> list[Track]:
    return [
        replace(
            track,
            first_frame=start,
            box=track.box[start - track.first_frame : stop - track.first_frame],
            landmarks=track.landmarks[start - track.first_frame : stop - track.first_frame],
        )
        for start, stop in spans
    ]


def _overlap(a: Track, b: Track) -> bool:
    return a.first_frame < b.first_frame + len(b.box) and b.first_frame < a.first_frame + len(a.box)
