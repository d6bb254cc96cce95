"""LSE-D, LSE-C and the AV offset of embeddings, as SyncNet's evaluate computes them, and without its zero padding.

The published arithmetic pads the sound with vectors of zeros and takes their distances into the mean, so that LSE-C
depends on the clip's length. "valid" compares existing windows only. A shift of k frames is then seen by W - |k| of
the W windows, and a shift that only one window sees can win by chance: shifts count that at least half of the windows
see, |k| <= W / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from syncdiff_eval.networks.syncnet_windows import WINDOW, num_windows

if TYPE_CHECKING:
    from syncdiff_eval.networks.syncnet import SyncNet

Padding = Literal["zero", "valid"]
VSHIFT = 15
"""Frames by which the sound is moved either way."""
EPS = 1e-6
"""torch's pairwise_distance adds it to every difference before the norm."""


@dataclass(frozen=True)
class Sync:
    """What SyncNet says of one clip."""

    offset: int
    """Frames by which the sound comes before the mouth; 0 in step. SyncNet's sign."""
    lse_d: float
    """Distance at the best shift; lower is better."""
    lse_c: float
    """Median over shifts less that distance; higher is better."""
    windows: int
    confidence: np.ndarray
    """float32 [windows]: median over shifts less each window's distance at the best shift, for plots."""


def distances(lips: np.ndarray, sound: np.ndarray, vshift: int = VSHIFT) -> np.ndarray:
    """float32 [W, 2 * vshift + 1]: distance of lip window i from the sound vshift - k frames before it, in column k.

    Beyond the ends the sound is a vector of zeros (SyncNetInstance.calc_pdist).
    """
    padded = np.pad(sound, ((vshift, vshift), (0, 0)))
    shifted = np.lib.stride_tricks.sliding_window_view(padded, 2 * vshift + 1, axis=0)
    out = np.empty((len(lips), 2 * vshift + 1), np.float32)
    for i, lip in enumerate(lips):
        out[i] = np.linalg.norm(lip[:, None] - shifted[i] + np.float32(EPS), axis=0)
    return out


def score(table: np.ndarray, padding: Padding = "zero") -> Sync:
    """Offset, LSE-D and LSE-C of a table of distances [W, 2 * vshift + 1], W > 0.

    padding "zero": the mean of a shift takes in the windows whose sound lies beyond the ends, as published. "valid"
    leaves them out, and shifts that fewer than half of the windows see.
    """
    vshift = table.shape[1] // 2
    means = table.mean(axis=0) if padding == "zero" else _valid_means(table, vshift)
    best = int(np.nanargmin(means))
    finite = means[np.isfinite(means)]
    # torch.median takes the lower of two middle values.
    median = float(np.sort(finite)[(len(finite) - 1) // 2])
    confidence = (median - table[:, best]).astype(np.float32)
    return Sync(vshift - best, float(means[best]), median - float(means[best]), len(table), confidence)


def lse_from_arrays(
    frames_bgr: np.ndarray,
    samples: np.ndarray,
    network: SyncNet,
    vshift: int = VSHIFT,
    padding: Padding = "zero",
) -> tuple[int, float, float]:
    """(offset, LSE-D, LSE-C) of frames uint8 [T, 224, 224, 3], BGR at 25 fps, and sound int16 [N] at 16 kHz.

    Equal to `syncnet_python.SyncNetInstance.evaluate` on the same frames and sound to 1e-4 with padding "zero".
    Raises ValueError when fewer than six frames are covered by both, where the original crashes.
    """
    if frames_bgr.shape[1:] != (224, 224, 3) or frames_bgr.dtype != np.uint8:
        raise ValueError(
            f"frames_bgr must be uint8 [T, 224, 224, 3], got {frames_bgr.dtype} {frames_bgr.shape}"
        )
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"samples must be int16 [N], got {samples.dtype} {samples.shape}")
    count = num_windows(len(frames_bgr), len(samples))
    if count == 0:
        raise ValueError(
            f"{len(frames_bgr)} frames and {len(samples)} samples leave no window: 6 frames of both needed"
        )
    lips = network.embed_lips(frames_bgr[: count + WINDOW - 1])
    sync = score(distances(lips, network.embed_sound(samples, count), vshift), padding)
    return sync.offset, sync.lse_d, sync.lse_c


def sync_of(lips: np.ndarray, samples: np.ndarray, network: SyncNet, padding: Padding) -> Sync | None:
    """Scores of lip embeddings [T - 4, 1024] with the sound, int16 [N], that starts with their first frame; None
    where fewer than six frames are covered by both."""
    count = num_windows(len(lips) + WINDOW - 1, len(samples))
    if count == 0:
        return None
    return score(distances(lips[:count], network.embed_sound(samples, count)), padding)


def _valid_means(table: np.ndarray, vshift: int) -> np.ndarray:
    """float64 [2 * vshift + 1], NaN for the shifts that are left out."""
    window, shift = np.indices(table.shape)
    at = window + shift - vshift
    inside = (at >= 0) & (at < len(table))
    counts = inside.sum(axis=0)
    sums = np.where(inside, table, 0).sum(axis=0, dtype=np.float64)
    return np.where(2 * counts >= len(table), sums / np.maximum(counts, 1), np.nan)
