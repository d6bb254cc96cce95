"""From a clip's stored columns to one training sample: choose the frames, decode those alone.

Shapes: F frames of the clip, T of the window, K feature frames around each, D feature width, S crop size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from syncdiff_data.images import decode_jpeg_into


@dataclass(frozen=True)
class StoredClip:
    """A clip's columns as read, faces still encoded."""

    clip_id: str
    face_jpeg: pa.BinaryArray
    """F crops."""
    landmarks: np.ndarray
    """float32 [F, 68, 2], source pixels."""
    face_to_source: np.ndarray
    """float32 [F, 2, 3]"""
    features: np.ndarray | None
    """float16 [F, D]"""


@dataclass(frozen=True)
class Frames:
    """The frames of a clip that one sample shows."""

    window: np.ndarray
    """int64 [T], consecutive."""
    identity: int
    pose: np.ndarray
    """int64 [T]: window - pose_offset, kept inside the clip."""


@dataclass(frozen=True)
class EncodedWindow:
    """All that one sample needs of its clip, faces still encoded, so that many can be held in memory."""

    clip_id: str
    frames: Frames
    face_jpeg: dict[int, bytes]
    landmarks: np.ndarray
    """float32 [T, 68, 2], crop pixels."""
    features: np.ndarray | None
    """float16 [T, K, D]"""
    rng: np.random.Generator
    """Random state of the augmentation of this sample."""


def choose_frames(num_frames: int, window: int, pose_offset: int, rng: np.random.Generator) -> Frames:
    """A random window and identity frame; the identity lies outside the window where the clip is long enough."""
    first = int(rng.integers(num_frames - window + 1))
    outside = num_frames - window
    identity = int(rng.integers(outside or num_frames))
    if outside and identity >= first:
        identity += window
    frames = np.arange(first, first + window)
    return Frames(frames, identity, np.clip(frames - pose_offset, 0, num_frames - 1))


def feature_windows(features: np.ndarray, frames: np.ndarray, context: int) -> np.ndarray:
    """The `context` feature frames around each frame, edge frames repeated.

    features: [F, D]; frames: int [T]. Returns [T, K, D]: frame t sees t - K // 2 ... t - K // 2 + K - 1, so an odd K
    is centred and an even one looks one further back than ahead.
    """
    around = frames[:, None] + np.arange(context)[None] - context // 2
    return features[np.clip(around, 0, len(features) - 1)]


def crop_landmarks(landmarks: np.ndarray, face_to_source: np.ndarray) -> np.ndarray:
    """Landmarks in crop pixels: the inverse of face_to_source applied to source pixels.

    landmarks: [T, 68, 2]; face_to_source: [T, 2, 3]. Returns float32 [T, 68, 2].
    """
    turn, shift = face_to_source[:, :, :2].astype(np.float64), face_to_source[:, None, :, 2]
    return np.einsum("tij,tnj->tni", np.linalg.inv(turn), landmarks - shift).astype(np.float32)


def sample_window(
    clip: StoredClip, window: int, pose_offset: int, context: int, rng: np.random.Generator
) -> EncodedWindow:
    """One random sample of a clip, copied out of it, nothing decoded yet."""
    # clip columns [F, ...] -> window [T, ...]; the encoded crops of window, pose and identity frames
    chosen = choose_frames(len(clip.face_jpeg), window, pose_offset, rng)
    wanted = {*chosen.window.tolist(), *chosen.pose.tolist(), chosen.identity}
    return EncodedWindow(
        clip_id=clip.clip_id,
        frames=chosen,
        face_jpeg={frame: clip.face_jpeg[frame].as_py() for frame in wanted},
        landmarks=crop_landmarks(clip.landmarks[chosen.window], clip.face_to_source[chosen.window]),
        features=None if clip.features is None else feature_windows(clip.features, chosen.window, context),
        rng=rng,
    )


def decode_window(encoded: EncodedWindow, sample: dict[str, np.ndarray]) -> None:
    """Write a window into its place in a batch, each crop decoded once and straight into place.

    sample: frames and pose uint8 [T, S, S, 3], identity uint8 [S, S, 3], landmarks float32 [T, 68, 2], first_frame
    int64 [], features float32 [T, K, D] if any. ValueError when a face cannot be decoded to that size.
    """
    frames = [*encoded.frames.window.tolist(), *encoded.frames.pose.tolist(), encoded.frames.identity]
    decoded: dict[int, np.ndarray] = {}
    for frame, place in zip(frames, [*sample["frames"], *sample["pose"], sample["identity"]]):
        if frame in decoded:
            place[:] = decoded[frame]
        else:
            decode_jpeg_into(encoded.face_jpeg[frame], place)
            decoded[frame] = place
    sample["landmarks"][:] = encoded.landmarks
    sample["first_frame"][...] = encoded.frames.window[0]
    if encoded.features is not None:
        sample["features"][:] = encoded.features
