"""Everything that decides a training run, and the named presets in syncdiff_model/configs/ that fill it in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from syncdiff_data.documents import first_error, parse_yaml
from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, SHARE, WIDTH, Range, check_ranges
from syncdiff_data.records import UserError
from syncdiff_data.tables import is_file
from syncdiff_model.autoencoder import AutoencoderConfig
from syncdiff_model.conditioning import ConditioningConfig, CorruptionConfig
from syncdiff_model.denoiser import DenoiserConfig, DiffusionConfig
from syncdiff_model.gan import GanConfig
from syncdiff_model.losses import LEAST_SYNC_WINDOW, LossConfig
from syncdiff_model.mask import MaskConfig
from syncdiff_model.sync_data import SyncDataConfig
from syncdiff_model.tasks.sync import SyncConfig

CONFIGS = Path(__file__).resolve().parent / "configs"
STEPS: Range = (0, 99_999_999)
"""Of a training: names of checkpoints have 8 digits."""


@dataclass(frozen=True)
class TrainConfig:
    """One training loop. The paper's optimiser, batch and steps are not stated in the sources available."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Windows per batch, over all workers."""
    window: int
    """Consecutive frames per window; a step sees batch_size * window frames."""
    learning_rate: float = 1e-4
    warmup_steps: int = 500
    """Steps over which the learning rate rises from 0; 0 starts at full rate."""
    decay_steps: int = 0
    """Last steps, over which the learning rate falls to 0; 0 keeps it."""
    weight_decay: float = 0.01
    accumulate: int = 1
    """Batches whose gradients one step averages: a larger batch in the memory of a small one."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.9999
    """Decay of the averaged weights that are sampled from, reached slowly; 0 samples from the last weights."""
    max_seconds: float | None = None
    """Stop early, with a whole checkpoint, after so many seconds of training; unset never does. A run that stops
    by the clock cannot be repeated exactly."""
    checkpoint_every: int = 5000
    """Steps between checkpoints; the last step always makes one."""
    keep_checkpoints: int = 2
    validate_every: int = 0
    """Steps between validations, for tasks that have one; 0: never."""
    log_every: int = 50
    """Steps between TensorBoard scalars."""
    flip: bool = True
    """Mirror half of the windows."""
    windows_per_visit: int = 2
    """Windows cut from a clip each time it is read."""
    loader_workers: int = 2
    """Processes that read and decode; 0 does it in between steps."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("batch_size", "window", "accumulate", "windows_per_visit"), WIDTH))
        every = ("checkpoint_every", "keep_checkpoints", "log_every")
        check_ranges(self, dict.fromkeys(every, AT_LEAST_1))
        check_ranges(self, {"steps": STEPS, "seed": (0, 2**32 - 1)})
        rates = ("learning_rate", "weight_decay", "clip_norm", "max_seconds")
        or_none = ("warmup_steps", "decay_steps", "validate_every")
        check_ranges(self, dict.fromkeys((*rates, *or_none), AT_LEAST_0))
        check_ranges(self, {"ema_decay": SHARE, "loader_workers": (0, 1000)})


@dataclass(frozen=True)
class Settings:
    """Shape and training of SyncDiff. The defaults are the preset `base`: one GPU, crops of 256 pixels."""

    mask: MaskConfig = field(default_factory=MaskConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    identity: Literal["random", "similar"] = "random"
    """The identity frame of a window: any at a distance, or one of the same head pose and another mouth."""
    train_autoencoder: TrainConfig = TrainConfig(
        steps=100_000, batch_size=16, window=1, learning_rate=1e-4, windows_per_visit=4
    )
    train_audio: TrainConfig = TrainConfig(
        steps=4000, batch_size=16, window=8, learning_rate=1.5e-3, warmup_steps=50, decay_steps=2000, ema_decay=0.998,
        flip=False, windows_per_visit=4, loader_workers=0, validate_every=1000,
    )  # fmt: skip
    """The audio network alone, before the rest of SyncDiff; 0 steps leave it out."""
    train_syncdiff: TrainConfig = TrainConfig(steps=200_000, batch_size=4, window=10)
    gan: GanConfig = field(default_factory=GanConfig)
    train_gan: TrainConfig = TrainConfig(steps=200_000, batch_size=4, window=10)
    sync: SyncConfig = field(default_factory=SyncConfig)
    sync_data: SyncDataConfig = field(default_factory=SyncDataConfig)
    train_sync: TrainConfig = TrainConfig(
        steps=20_000, batch_size=10, window=28, learning_rate=1e-3, warmup_steps=50, weight_decay=0.02,
        decay_steps=10_000, ema_decay=0.995, validate_every=500, checkpoint_every=2000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        self._check_window("loss", self.loss.sync, "train_syncdiff", self.train_syncdiff.window)
        self._check_window("gan", self.gan.sync, "train_gan", self.train_gan.window)

    @staticmethod
    def _check_window(section: str, weight: float, stage: str, window: int) -> None:
        if weight and window < LEAST_SYNC_WINDOW:
            raise UserError(
                f"the sync expert's loss ({section}.sync) needs windows of at least {LEAST_SYNC_WINDOW} frames, not "
                f"{window} ({stage}.window)."
            )


def load_preset(preset: str) -> Settings:
    """Settings of a preset by name, or from a YAML file. UserError for an unknown name, key or type."""
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else CONFIGS / f"{preset}.yaml"
    if not is_file(path):
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise UserError(f"There is no preset {preset}: choose one of {names}, or give a YAML file.")
    try:
        return settings_from(parse_yaml(path.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, TypeError, UserError) as error:
        raise UserError(f"{path} is not a preset: {error}") from error


def settings_from(given: dict[str, Any]) -> Settings:
    """Settings with the given values, nested by section, in place of the defaults.

    ValueError for a wrong one, UserError for one outside its range.
    """
    try:
        return TypeAdapter(Settings).validate_python(_merge(asdict(Settings()), given))
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


def to_plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON's types, the inverse of settings_from."""
    return TypeAdapter(Settings).dump_python(settings, mode="json")


def _merge(default: dict[str, Any], given: Any) -> dict[str, Any]:
    """`default` with what is given in its place; ValueError for a name that is not there."""
    if not isinstance(given, dict):
        raise ValueError(f"expected names and values, found {given!r}")
    if unknown := sorted(str(name) for name in set(given) - set(default)):
        raise ValueError(f"unknown {', '.join(unknown)}; there are {', '.join(default)}")
    nested = {
        key: _merge(value, given[key])
        for key, value in default.items()
        if key in given and isinstance(value, dict)
    }
    return default | given | nested
