"""Face tracks of a video: what becomes a clip, what does not, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from syncdiff_data.faces.backend import FaceBackend
from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.faces.linking import Linker, OpenTrack
from syncdiff_data.faces.observe import observe
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS


@dataclass(frozen=True)
class Track:
    """One face over one span of T frames without gaps."""

    track: int
    """Number of the face in its source, by first frame, then left to right. Parts of a split share it."""
    first_frame: int
    box: np.ndarray
    """float32 [T, 4]: x0, y0, x1, y1 in source pixels."""
    landmarks: np.ndarray
    """float32 [T, 68, 2]: iBUG order, source pixels."""


@dataclass(frozen=True)
class TrackReject:
    """A face, or (track None) a whole source, that gives no clip."""

    track: int | None
    reason: Reason
    detail: str


def find_tracks(
    frames: Iterable[np.ndarray], backend: FaceBackend, config: FaceConfig
) -> tuple[list[Track], list[TrackReject]]:
    """The face tracks of a video of RGB frames at 25 fps, in order of first frame, then from left to right.

    Frames are streamed: what is kept per frame and face is a box and 68 points. A source in which nothing was
    tracked gives one reject with track None.
    """
    linker = Linker(config)
    count = 0
    for faces in observe(frames, backend, config):
        linker.add(faces)
        count = faces.t + 1
    return filter_tracks(linker.finish(), count, config)


def filter_tracks(
    found: list[OpenTrack], num_frames: int, config: FaceConfig
) -> tuple[list[Track], list[TrackReject]]:
    """Tracked faces to tracks and rejects, by the filters of the options. Faces that never reach min_score
    are noise, reported only when nothing else was found."""
    faces = [f for f in found if max(f.scores) >= config.min_score]
    tracks: list[Track] = []
    rejects: list[TrackReject] = []
    for number, face in enumerate(faces):
        reason = _reject_reason(face, config)
        if reason:
            rejects.append(TrackReject(number, *reason))
        else:
            tracks.append(fill_gaps(number, face))
    if not faces:
        best = max((max(f.scores) for f in found), default=0.0)
        detail = f"no face in {num_frames} frames (best score {best:.2f}, needed {config.min_score:g})"
        rejects.append(TrackReject(None, Reason.NO_FACE, detail))
    if config.largest_face and tracks:
        tracks = [max(tracks, key=_total_area)]
    longest = round(config.max_clip_s * FPS)
    return [part for track in tracks for part in split(track, longest)], rejects


def fill_gaps(number: int, open_track: OpenTrack) -> Track:
    """A track over every frame from the first to the last one seen; gaps are interpolated linearly."""
    first, last = open_track.frames[0], open_track.frames[-1]
    every = np.arange(first, last + 1)

    def filled(values: list[np.ndarray]) -> np.ndarray:
        table = np.stack(values).reshape(len(values), -1)
        columns = [np.interp(every, open_track.frames, column) for column in table.T]
        return np.stack(columns, axis=1).astype(np.float32)

    return Track(number, first, filled(open_track.boxes), filled(open_track.landmarks).reshape(-1, 68, 2))


def split(track: Track, longest: int) -> list[Track]:
    """Parts of at most `longest` frames, as equal in length as can be, so that none is a mere remainder."""
    parts = -(-len(track.box) // longest)
    edges = [len(track.box) * i // parts for i in range(parts + 1)]
    return [
        replace(track, first_frame=track.first_frame + a, box=track.box[a:b], landmarks=track.landmarks[a:b])
        for a, b in pairwise(edges)
    ]


def roll_of_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Roll in degrees, [T], of 68 points [T, 68, 2]: the way from the eyes to the mouth, clockwise from
    straight down."""
    x, y = (landmarks[:, 48:68].mean(axis=1) - landmarks[:, 36:48].mean(axis=1)).T
    return np.degrees(np.arctan2(-x, y))


def _reject_reason(open_track: OpenTrack, config: FaceConfig) -> tuple[Reason, str] | None:
    """Why a tracked face cannot become a clip, or None."""
    first, length = open_track.frames[0], open_track.frames[-1] - open_track.frames[0] + 1
    where = f"face at frame {first}, {length} frames long"
    boxes = np.stack(open_track.boxes)
    side = float(np.median(boxes[:, 3] - boxes[:, 1]))
    if side < config.min_face_px:
        return Reason.FACE_TOO_SMALL, f"{where}: {side:.0f} pixels, needed {config.min_face_px} (min_face_px)"
    rolls = np.array(open_track.rolls)
    rolls = np.where(np.isnan(rolls), roll_of_landmarks(np.stack(open_track.landmarks)), rolls)
    roll = float(np.median(np.abs(rolls)))
    if roll > config.max_roll:
        return (
            Reason.FACE_NOT_UPRIGHT,
            f"{where}: rolled by {roll:.0f} degrees, at most {config.max_roll:g} (max_roll)",
        )
    if length < config.min_frames:
        return Reason.TRACK_TOO_SHORT, f"{where}, needed {config.min_frames} (min_frames)"
    return None


def _total_area(track: Track) -> float:
    return float(np.prod(track.box[:, 2:] - track.box[:, :2], axis=1).sum())
