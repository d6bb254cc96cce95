"""What training asks of the loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from syncdiff_data.loader.sync import SyncFilter


@dataclass(frozen=True)
class BatchParts:
    """What a task uses of a batch. Nothing else is read or decoded; what is there is the same either way."""

    images: tuple[str, ...] = ("frames", "identity", "pose")
    """Crops; beside these three there is "masked"."""
    landmarks: bool = True
    energies: int = 0
    """Frames of the sync expert's audio input on either side of the window (batch["energies"]); 0 leaves it out."""


@dataclass(frozen=True)
class LoaderConfig:
    """What a batch is made of and in which order samples come."""

    batch_size: int = 8
    """Windows per batch and rank."""
    window: int = 5
    """Frames per window; shorter clips are left out."""
    pose_offset: int = 1
    """The pose frame of t is t minus this; where that lies before the clip, pose_known is False."""
    identity_distance: int = 5
    """Frames that lie at least between the identity frame and the window, where the clip is long enough."""
    identity: Literal["random", "similar"] = "random"
    """Any frame, or one of the same head pose and another mouth, as MuseTalk's authors choose it."""
    parts: BatchParts = field(default_factory=BatchParts)
    """What the task uses of a batch."""
    masked_shift: int = 1
    """The "masked" frames are the window moved by up to so many frames, all by the same, inside the clip."""
    context: int = 5
    """Feature frames around each frame."""
    feature: str | None = None
    """Column of the features; None takes the only one."""
    sync: SyncFilter | None = None
    """Leave out clips that are out of step, and shift the sound of the rest; None takes all as they are."""
    split: str | None = None
    """Only clips of this split; None takes all."""
    windows_per_visit: int = 4
    """Windows sampled from a clip each time it is read, in different batches. See docs/loader.md."""
    spread: int = 384
    """About how many samples after one window of a visit the next one comes, and how many visits are under way at a
    time. A multiple of workers x ranks x batch_size lets each worker read a clip once."""
    shuffle_shards: int = 16
    """Clips are shuffled within this many shards, and the shards among themselves; 0 keeps the stored order."""
    seed: int = 0
    epochs: int = 0
    """Passes over the clips; 0 never ends."""
    flip: bool = False
    """Mirror half of the samples."""
    colour_jitter: float = 0.0
    """Change brightness, contrast and saturation by up to ± this; 0 turns it off."""
    damaged: Literal["fail", "skip"] = "fail"
    """A damaged shard stops training, or its clips are replaced by others with a warning that names it."""
