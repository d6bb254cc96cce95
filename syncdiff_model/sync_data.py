"""Training batches of the sync expert: long windows of mouth crops, landmarks and audio features, augmented.

Shapes: B clips, T frames of a window, S = 48 the side of the network's pictures, P = 54 landmark numbers,
104 filterbank energies a frame. Clips are kept in memory, 2.9 KB a frame (a day of video is 6 GB).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features import logfbank
from syncdiff_data.landmarks import MIRROR
from syncdiff_data.loader import Batch
from syncdiff_data.loader.sync import SyncFilter, shift_sound
from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, SHARE, check_ranges
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards import Store, load_dataset, read_clips
from syncdiff_data.sync_expert.network import BANDS, LANDMARK_DIM
from syncdiff_data.sync_expert.prepare import (
    CHIN,
    MOUTH,
    halve,
    landmark_motion,
    picture_statistics,
    standard_energies,
)
from syncdiff_model.distributed import Peers

_POINTS = [*range(MOUTH.start, MOUTH.stop), *range(CHIN.start, CHIN.stop)]
MIRRORED_POINTS = np.array([_POINTS.index(int(MIRROR[point])) for point in _POINTS])
"""Order of the 27 landmarks in a mirrored picture."""


@dataclass(frozen=True)
class SyncDataConfig:
    """Windows and augmentation; strengths are those of the longest useful training on one real speaker."""

    window: int = 28
    """Frames of a window: negatives within a clip need many."""
    batch_clips: int = 10
    """Windows per step, each of another clip; all of one data set, so that its look does not tell clips apart."""
    held_out: float = 0.2
    """Share of the speakers (at least one, where there are three) that only validation sees."""
    geometry: float = 0.15
    """Spread of scale, rotation (radians) and shift (of the half side) of the pictures."""
    warp: float = 0.05
    """Smooth displacement, of the half side: another mouth shape at rest."""
    light: float = 0.25
    """Smooth change of brightness over the picture, in the picture's spread."""
    band_shift: float = 1.0
    """Mel bands by which the sound is moved and stretched: another voice."""
    noise: float = 0.5
    """Share of the windows whose sound gets noise."""
    drop_landmarks: float = 0.25
    """Share of the windows without landmarks, so that the expert works without."""

    def __post_init__(self) -> None:
        check_ranges(self, {"window": AT_LEAST_1, "batch_clips": AT_LEAST_1, "held_out": (0.001, 1)})
        check_ranges(self, dict.fromkeys(("geometry", "warp", "light", "band_shift"), AT_LEAST_0))
        check_ranges(self, dict.fromkeys(("noise", "drop_landmarks"), SHARE))


@dataclass(frozen=True)
class SyncClip:
    """What training keeps of a clip of T frames."""

    clip_id: str
    speaker: str
    pictures: np.ndarray
    """uint8 [T, 48, 48]."""
    mean: np.ndarray
    """float32 [48, 48], the mean picture; `gray` and `spread` standardise it and the pictures."""
    gray: float
    spread: float
    motion: np.ndarray
    """float32 [T, 54]."""
    logfbank: np.ndarray
    """float32 [T, 104]."""

    def __len__(self) -> int:
        return len(self.pictures)


def sync_clip(clip: Clip, late: int = 0) -> SyncClip:
    """Of a stored clip with mouth crops, whose sound comes `late` frames late. UserError without crops."""
    if clip.mouth is None:
        raise UserError("The sync expert learns from mouth crops: preprocess without --no-mouth.")
    mean, gray, spread = picture_statistics(clip.mouth)
    return SyncClip(
        clip_id=clip.clip_id,
        speaker=clip.speaker or clip.source,
        pictures=halve(clip.mouth).round().astype(np.uint8),
        mean=mean,
        gray=gray,
        spread=spread,
        motion=landmark_motion(clip.landmarks),
        logfbank=shift_sound(align_frames(logfbank(clip.audio), clip.num_frames), late),
    )


def load_sync_clips(
    folder: Path, split: str | None, shortest: int, sync: SyncFilter | None = None
) -> list[SyncClip]:
    """The clips of a data set that have sound and at least `shortest` frames, and that `sync` keeps, their sound
    brought into step. UserError where none is left."""
    shifts = None if sync is None else sync.shifts(load_dataset(Store(folder), "clips"))
    clips = [
        sync_clip(clip, shifts[clip.clip_id] if shifts else 0)
        for clip in read_clips(folder, split)
        if clip.num_frames >= shortest and np.any(clip.audio) and (shifts is None or clip.clip_id in shifts)
    ]
    if not clips:
        raise UserError(f"{folder} has no clip in step with sound and {shortest} frames or more to train on.")
    return clips


def hold_out(sets: Sequence[Sequence[SyncClip]], share: float) -> tuple[list[list[SyncClip]], list[SyncClip]]:
    """Training sets, and the clips for validation alone: of each data set some evenly spaced speakers, or, where it has
    fewer than three, every tenth clip."""
    training, held_out = [], []
    for clips in sets:
        speakers = sorted({clip.speaker for clip in clips})
        chosen = set(speakers[1 :: max(2, round(1 / share))]) if len(speakers) >= 3 else set()
        for_validation = [c.speaker in chosen if chosen else i % 10 == 5 for i, c in enumerate(clips)]
        training.append([c for c, held in zip(clips, for_validation) if not held])
        held_out += [c for c, held in zip(clips, for_validation) if held]
    return training, held_out


@dataclass
class SyncBatches:
    """Endless batches. Batch number n depends on the seed and n alone, so a resumed run repeats none and skips none."""

    sets: Sequence[Sequence[SyncClip]]
    weights: Sequence[float]
    """How often each data set is sampled from."""
    config: SyncDataConfig
    seed: int = 0
    peers: Peers = field(default_factory=Peers)
    """Each of them takes a batch of its own, of its share of the windows."""
    number: int = field(default=0)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.batch(self.number)
            self.number += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not isinstance(state["number"], int) or state["number"] < 0:
            raise ValueError(f"it counts {state['number']!r} batches")
        self.number = state["number"]

    def batch(self, number: int) -> Batch:
        """pictures [B, T, S, S], mean [B, S, S], landmarks [B, T, P], energies [B, T, 104], clip_id."""
        share_of = self.peers.count
        rng = np.random.default_rng((self.seed, number * share_of + self.peers.rank))
        share = np.array(self.weights) / sum(self.weights)
        clips = self.sets[rng.choice(len(self.sets), p=share)]
        chosen = rng.choice(
            len(clips), min(max(2, self.config.batch_clips // share_of), len(clips)), replace=False
        )
        windows = [window_of(clips[i], self.config, rng) for i in chosen]
        stacked = {key: torch.from_numpy(np.stack([w[key] for w in windows])) for key in windows[0]}
        pictures = augment_pictures(stacked.pop("pictures"), self.config, rng)
        return {
            "pictures": pictures[:, :-1].contiguous(),
            "mean": pictures[:, -1].contiguous(),
            **stacked,
            "clip_id": [clips[i].clip_id for i in chosen],
        }


def window_of(clip: SyncClip, config: SyncDataConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random window of a clip, its pictures standardised, with the mean picture behind them: [T + 1, S, S]."""
    first = int(rng.integers(len(clip) - config.window + 1))
    span = slice(first, first + config.window)
    pictures = np.concatenate([clip.pictures[span].astype(np.float32), clip.mean[None]])
    points = clip.motion[span].reshape(config.window, -1, 2)
    if rng.random() < 0.5:
        pictures = pictures[:, :, ::-1]
        points = points[:, MIRRORED_POINTS] * np.array([-1, 1], np.float32)
    pictures = (pictures - clip.gray) / clip.spread
    # contrast curve, gain, offset
    pictures = np.sign(pictures) * np.abs(pictures) ** np.exp(rng.uniform(-0.3, 0.3))
    pictures = pictures * np.exp(rng.uniform(-0.4, 0.4)) + rng.normal(0, 0.3)
    points = points * np.exp(rng.uniform(-0.4, 0.4, (1, 1, 2))) + rng.normal(0, 0.15, points.shape)
    if rng.random() < config.drop_landmarks:
        points = np.zeros_like(points)
    return {
        "pictures": pictures.astype(np.float32),
        "landmarks": points.reshape(config.window, LANDMARK_DIM).astype(np.float32),
        "energies": augment_sound(clip.logfbank, config, rng)[span],
    }


def augment_sound(features: np.ndarray, config: SyncDataConfig, rng: np.random.Generator) -> np.ndarray:
    """Energies [T, 104] of another voice, in another room, standardised."""
    energies = features.reshape(-1, BANDS)
    stretch = np.exp(rng.uniform(-0.18, 0.18) * config.band_shift)
    bands = np.clip(np.arange(BANDS) * stretch + rng.uniform(-1, 1) * config.band_shift, 0, BANDS - 1)
    low = np.floor(bands).astype(int)
    part = (bands - low).astype(np.float32)
    energies = energies[:, low] * (1 - part) + energies[:, np.minimum(low + 1, BANDS - 1)] * part
    if rng.random() < config.noise:
        level = np.quantile(energies, 0.95) - rng.uniform(3, 9)
        noise = level + np.cumsum(rng.normal(0, 0.4, BANDS))
        energies = np.logaddexp(energies, noise + rng.normal(0, 0.3, energies.shape))
    energies = energies + rng.normal(0, 1) * np.linspace(-1, 1, BANDS)
    return standard_energies(energies.reshape(features.shape).astype(np.float32))


def augment_pictures(
    pictures: torch.Tensor, config: SyncDataConfig, rng: np.random.Generator
) -> torch.Tensor:
    """The same geometry, light and noise for all pictures of a window: [B, T + 1, S, S] to the same."""
    count, side = len(pictures), pictures.shape[-1]
    random = torch.Generator().manual_seed(int(rng.integers(2**62)))

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random) * 2 - 1

    def smooth(channels: int, knots: int) -> torch.Tensor:
        coarse = torch.randn((count, channels, knots, knots), generator=random)
        return functional.interpolate(coarse, size=(side, side), mode="bicubic")

    scale, angle = torch.exp(uniform(count, 2) * config.geometry), uniform(count) * config.geometry
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 0, 1] = scale[:, 0] * angle.cos(), -scale[:, 0] * angle.sin()
    affine[:, 1, 0], affine[:, 1, 1] = scale[:, 1] * angle.sin(), scale[:, 1] * angle.cos()
    affine[:, :, 2] = uniform(count, 2) * config.geometry
    grid = functional.affine_grid(affine, [count, 1, side, side], align_corners=False)
    grid = grid + config.warp * smooth(2, 4).movedim(1, -1)
    moved = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    blurred = functional.avg_pool2d(functional.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    choose = torch.rand((count, 3), generator=random)
    moved = torch.where((choose[:, 0] < 0.3)[:, None, None, None], blurred, moved)
    moved = moved + config.light * smooth(1, 3)
    moved = (
        moved
        + torch.randn(moved.shape, generator=random) * torch.rand((count, 1, 1, 1), generator=random) * 0.2
    )
    for row in range(count):
        if choose[row, 1] < 0.1:  # landmarks alone
            moved[row] = 0
        elif choose[row, 2] < 0.3:  # a hand, a microphone
            y, x = (int(v) for v in rng.integers(0, side - 12, 2))
            moved[row, :, y : y + 12, x : x + 12] = 0
    return moved
