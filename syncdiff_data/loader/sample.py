"""From a clip's stored columns to one training sample: choose the frames, decode those alone.

Shapes: F frames of the clip, T of the window, K feature frames around each, D feature width, S crop size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from syncdiff_data.images import decode_jpeg_into
from syncdiff_data.loader.config import LoaderConfig


@dataclass(frozen=True)
class StoredClip:
    """What is read of a clip, faces still encoded; None where no batch needs it."""

    clip_id: str
    num_frames: int
    """F"""
    face_jpeg: pa.BinaryArray | None
    """F crops."""
    landmarks: np.ndarray | None
    """float32 [F, 68, 2], crop pixels."""
    features: np.ndarray | None
    """float16 [F, D]"""
    energies: np.ndarray | None = None
    """float32 [F, 104], the sync expert's audio input."""


@dataclass(frozen=True)
class Frames:
    """The frames of a clip that one sample shows."""

    window: np.ndarray
    """int64 [T], consecutive."""
    identity: int
    pose: np.ndarray
    """int64 [T]: window - pose_offset, kept inside the clip."""
    pose_known: np.ndarray
    """bool [T]: whether that frame is there, and is not the window's own first frame repeated."""
    masked: np.ndarray
    """int64 [T]: the window moved in time."""


@dataclass(frozen=True)
class EncodedWindow:
    """All that one sample needs of its clip, faces still encoded, so that many can be held in memory."""

    clip_id: str
    frames: Frames
    face_jpeg: dict[int, bytes]
    landmarks: np.ndarray | None
    """float32 [T, 68, 2], crop pixels."""
    features: np.ndarray | None
    """float16 [T, K, D]"""
    energies: np.ndarray | None
    """float32 [T + 2 * energies, 104]"""
    num_frames: int
    """Of the clip."""
    rng: np.random.Generator
    """Random state of the augmentation of this sample."""


def choose_frames(
    num_frames: int,
    window: int,
    config: LoaderConfig,
    rng: np.random.Generator,
    landmarks: np.ndarray | None = None,
) -> Frames:
    """A random window and its identity frame, `config.identity_distance` away from it where the clip is long enough,
    else as far away as it can be.

    landmarks: [F, 68, 2] in crop pixels, for config.identity "similar".
    """
    first = int(rng.integers(num_frames - window + 1))
    frames = np.arange(first, first + window)
    # identity: a frame at least `distance` before the window (1: beside it) or as much behind
    distance = min(config.identity_distance + 1, max(first, num_frames - window - first))
    before, behind = max(first - distance + 1, 0), first + window - 1 + distance
    allowed = np.concatenate([np.arange(before), np.arange(behind, num_frames)])
    if not distance:  # the clip is as long as the window
        allowed = np.arange(num_frames)
    if config.identity == "similar" and landmarks is not None:
        allowed = similar_pose(landmarks, frames, allowed)
    identity = int(allowed[rng.integers(len(allowed))])  # as rng.choice, which takes five times as long
    pose = frames - config.pose_offset
    most = config.masked_shift if "masked" in config.parts.images else 0
    shift = int(rng.integers(-most, most + 1)) if most else 0
    return Frames(
        window=frames,
        identity=identity,
        pose=_inside(pose, num_frames),
        pose_known=(pose >= 0) & (pose < num_frames),
        masked=_inside(frames + shift, num_frames),
    )


def similar_pose(landmarks: np.ndarray, window: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Of the `allowed` frames those whose head is turned as in the window and whose mouth is another.

    landmarks: [F, 68, 2] in crop pixels; window, allowed: int. The quarter nearest in brows, nose, eyes and cheeks, and
    of that the half farthest in the mouth. Zhang et al. 2024 (MuseTalk, arXiv:2410.10122), "Selective Information
    Sampling".
    """
    points = landmarks - landmarks[:, 27:31].mean(axis=1, keepdims=True)
    change = np.abs(points[allowed] - points[window].mean(axis=0)).mean(axis=-1)  # [A, 68]
    nearest = np.argsort(change[:, :48].mean(axis=1), kind="stable")[: max(1, len(allowed) // 4)]
    farthest = np.argsort(-change[nearest, 48:].mean(axis=1), kind="stable")[: max(1, len(nearest) // 2)]
    return allowed[nearest[farthest]]


def feature_windows(features: np.ndarray, frames: np.ndarray, context: int) -> np.ndarray:
    """The `context` feature frames around each frame, edge frames repeated.

    features: [F, D]; frames: int [T]. Returns [T, K, D]: frame t sees t - K // 2 ... t - K // 2 + K - 1, so an odd K
    is centred and an even one looks one further back than ahead.
    """
    around = frames[:, None] + np.arange(context)[None] - context // 2
    return features[_inside(around, len(features))]


def _inside(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """Frame numbers, those before or after the clip moved to its first and last. np.clip takes seven times as long."""
    return np.minimum(np.maximum(frames, 0), num_frames - 1)


def crop_landmarks(landmarks: np.ndarray, face_to_source: np.ndarray) -> np.ndarray:
    """Landmarks in crop pixels: the inverse of face_to_source applied to source pixels.

    landmarks: [T, 68, 2]; face_to_source: [T, 2, 3]. Returns float32 [T, 68, 2].
    """
    back = np.linalg.inv(face_to_source[:, :, :2].astype(np.float64))[..., None]  # [T, 2, 2, 1]
    # x and y [T, 68] by themselves, contiguous and of one type: thrice as fast as pairs
    x, y = ((landmarks[..., i] - face_to_source[:, i, 2:]).astype(np.float64) for i in (0, 1))
    points = np.empty(landmarks.shape, np.float32)
    points[..., 0] = back[:, 0, 0] * x + back[:, 0, 1] * y
    points[..., 1] = back[:, 1, 0] * x + back[:, 1, 1] * y
    return points


def sample_window(clip: StoredClip, config: LoaderConfig, rng: np.random.Generator) -> EncodedWindow:
    """One random sample of a clip, copied out of it, nothing decoded yet."""
    # clip columns [F, ...] -> window [T, ...]; the encoded crops of all frames that are asked for
    chosen = choose_frames(clip.num_frames, config.window, config, rng, clip.landmarks)
    numbers = {
        "frames": chosen.window.tolist(),
        "pose": chosen.pose.tolist(),
        "masked": chosen.masked.tolist(),
        "identity": [chosen.identity],
    }
    wanted = {number for name in config.parts.images for number in numbers[name]}
    return EncodedWindow(
        clip_id=clip.clip_id,
        frames=chosen,
        face_jpeg={} if clip.face_jpeg is None else {t: clip.face_jpeg[t].as_py() for t in wanted},
        landmarks=None if clip.landmarks is None else clip.landmarks[chosen.window],
        features=None
        if clip.features is None
        else feature_windows(clip.features, chosen.window, config.context),
        energies=None
        if clip.energies is None
        else _around(clip.energies, chosen.window, config.parts.energies),
        num_frames=clip.num_frames,
        rng=rng,
    )


def _around(values: np.ndarray, window: np.ndarray, more: int) -> np.ndarray:
    """Rows of the window and of `more` frames on either side, edge rows repeated."""
    wanted = np.arange(window[0] - more, window[-1] + more + 1)
    return values[_inside(wanted, len(values))]


def decode_window(encoded: EncodedWindow, sample: dict[str, np.ndarray]) -> None:
    """Write a window into its place in a batch, each crop decoded once and straight into place.

    sample: what `empty_batch` makes, without the first axis. ValueError when a face cannot be decoded to that size.
    """
    chosen = encoded.frames
    places: list[tuple[int, np.ndarray]] = []
    for name, numbers in (("frames", chosen.window), ("pose", chosen.pose), ("masked", chosen.masked)):
        if name in sample:
            places += zip(numbers.tolist(), sample[name])
    if "identity" in sample:
        places.append((chosen.identity, sample["identity"]))
    decoded: dict[int, np.ndarray] = {}
    for frame, place in places:
        if frame in decoded:
            place[:] = decoded[frame]
        else:
            decode_jpeg_into(encoded.face_jpeg[frame], place)
            decoded[frame] = place
    sample["first_frame"][...] = chosen.window[0]
    sample["num_frames"][...] = encoded.num_frames
    sample["pose_known"][:] = chosen.pose_known
    for name in {"landmarks", "features", "energies"} & sample.keys():
        sample[name][:] = getattr(encoded, name)
