"""The faces of a video at its own frames, found once: what a dub needs to know before it generates anything."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import numpy as np

from syncdiff_data.faces import FaceBackend, FaceConfig, Track, find_tracks
from syncdiff_data.media import AudioTrack, Video
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import FPS, MediaError, UserError
from syncdiff_data.shards.store import write_atomically
from syncdiff_data.speaker import speaking_tracks
from syncdiff_data.stage.heartbeat import Heartbeat, no_heartbeat, with_heartbeat
from syncdiff_data.sync_expert.expert import SyncExpert

VERSION = 1
"""Bumped by hand when the same options give other faces."""
ENDLESS_S = 1e6


def at_rate(config: FaceConfig, rate: float) -> FaceConfig:
    """The options that mean at `rate` frames a second what `config` means at 25; a track is never split."""
    ratio = rate / FPS
    return replace(
        config,
        detect_every=max(1, round(config.detect_every * ratio)),
        min_frames=max(1, round(config.min_frames * ratio)),
        max_gap_s=config.max_gap_s * ratio,  # counted in frames of 1 / 25 s
        max_clip_s=ENDLESS_S,
    )


def find_faces(
    video: Video,
    backend: FaceBackend,
    config: FaceConfig,
    cache: Path | None = None,
    heartbeat: Heartbeat = no_heartbeat,
) -> list[Track]:
    """The face tracks of a video opened with fps=None, in order of first frame; frames are the video's own.

    cache: folder that keeps them, by the video's content and the options; None keeps nothing. MediaError with the
    reason where there is none.
    """
    path = None if cache is None else cache / f"{_key(video.path, config)}.npz"
    if path is not None and (kept := _read(path)) is not None:
        return kept
    frames = with_heartbeat(video.frames(), heartbeat)
    tracks, rejects = find_tracks(frames, backend, at_rate(config, float(video.rate)))
    if not tracks:
        raise MediaError(rejects[0].reason, rejects[0].detail)
    if path is not None:
        _keep(path, tracks)
    return tracks


def speaking_parts(
    tracks: Sequence[Track],
    video: Video,
    expert: SyncExpert,
    mean_face: np.ndarray,
    heartbeat: Heartbeat = no_heartbeat,
) -> list[Track]:
    """The parts of the tracks in which each speaks the video's own sound, at the video's own frames.

    video: opened with fps=None. MediaError where it has no sound.
    """
    steady = Video(video.path, heartbeat=heartbeat)
    audio = AudioTrack(video.path, heartbeat=heartbeat)
    # the video's frames -> 25 a second, where the expert judges -> spans of the video's frames
    shown = np.searchsorted(video.source_frame, steady.source_frame)
    resampled = [_resampled(track, shown) for track in tracks]
    parts = speaking_tracks(
        [track for track in resampled if len(track.box)],
        steady.frames,
        lambda first, count: audio.slice(steady.start_s + first / FPS, count),
        expert,
        mean_face,
    )
    whole = {track.track: track for track in tracks}
    return [_span(whole[part.track], video, part) for part in parts]


def _resampled(track: Track, shown: np.ndarray) -> Track:
    """A track at 25 frames a second. shown: int [n], the video's frame that each of those shows."""
    inside = np.flatnonzero((shown >= track.first_frame) & (shown < track.first_frame + len(track.box)))
    rows = shown[inside] - track.first_frame
    first = int(inside[0]) if len(inside) else 0
    return Track(track.track, first, track.box[rows], track.landmarks[rows])


def _span(track: Track, video: Video, part: Track) -> Track:
    """The frames of a track that are shown during a part at 25 frames a second."""
    times = video.times[track.first_frame : track.first_frame + len(track.box)]
    half = 0.5 / FPS
    begin, end = part.first_frame / FPS - half, (part.first_frame + len(part.box) - 1) / FPS + half
    rows = np.flatnonzero((times >= begin) & (times < end))
    return Track(track.track, track.first_frame + int(rows[0]), track.box[rows], track.landmarks[rows])


def _key(path: Path, config: FaceConfig) -> str:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return short_hash([content, asdict(config), VERSION])


def _keep(path: Path, tracks: Sequence[Track]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: _write(file, tracks))
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot keep the faces of videos ({error.strerror or error}): choose another --face-cache, "
            "or leave it out."
        ) from error


def _write(file: IO[bytes], tracks: Sequence[Track]) -> None:
    arrays = {"numbers": np.array([(track.track, track.first_frame) for track in tracks])}
    for number, track in enumerate(tracks):
        arrays |= {f"box{number}": track.box, f"landmarks{number}": track.landmarks}
    np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> list[Track] | None:
    """The tracks in a file of the cache; None where there is none that can be read: then it is written again."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return [
                Track(int(track), int(first), kept[f"box{number}"], kept[f"landmarks{number}"])
                for number, (track, first) in enumerate(kept["numbers"])
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
