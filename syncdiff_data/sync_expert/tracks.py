"""Embeddings of the lips of face tracks, from one pass over the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from syncdiff_data.faces import MouthCropper, Track
from syncdiff_data.sync_expert.expert import SyncExpert


def embed_tracks(
    tracks: Sequence[Track],
    frames: Iterable[tuple[int, np.ndarray]],
    expert: SyncExpert,
    mean_face: np.ndarray,
) -> list[np.ndarray]:
    """float32 [T, D] of each track. frames: (index, RGB frame) in order, all that the tracks cover.

    The mouth crops of a track, 9 kB a frame, are held until its last frame has come.
    """
    croppers = [MouthCropper(track.landmarks, mean_face) for track in tracks]
    mouths: list[list[np.ndarray]] = [[] for _ in tracks]
    embedded: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(tracks)
    for index, frame in frames:
        for number, (track, cropper, mouth) in enumerate(zip(tracks, croppers, mouths)):
            t = index - track.first_frame
            if 0 <= t < len(track.box):
                mouth.append(cropper.crop(frame, t))
            if t == len(track.box) - 1:
                embedded[number] = expert.embed_lips(np.stack(mouth), track.landmarks)
                mouth.clear()
    return embedded
