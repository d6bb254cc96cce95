"""From a data set to a trained model on disk: the stages, the run's own settings, and going on where one stopped."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from syncdiff_data.loader import ClipWindows, Loader
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.records import UserError
from syncdiff_model.checkpoint import list_checkpoints, load_autoencoder, write_text
from syncdiff_model.presets import Settings, TrainConfig, to_plain
from syncdiff_model.sync_data import SyncBatches, hold_out, load_sync_clips
from syncdiff_model.sync_task import SyncTask
from syncdiff_model.tasks import AutoencoderTask, SyncDiffTask, Task, features_encoder, loader_config
from syncdiff_model.training import Trainer

RUN = "run.json"
MEASURED_BATCHES = 8
"""Batches from which the scale of latents and features is taken."""
MAY_CHANGE = ("steps", "max_seconds", "checkpoint_every", "keep_checkpoints", "log_every", "loader_workers")
"""Options of training that a resumed run may change."""


@dataclass(frozen=True)
class TrainingData:
    """What to train on; `features` is not needed for the autoencoder, `feature` only where there are several."""

    clips: Path
    features: Path | None = None
    feature: str | None = None
    split: str | None = None
    sync: SyncFilter | None = None
    """Which clips are in step; None takes all as they are."""


def train_autoencoder(data: TrainingData, settings: Settings, run: Path, device: str, resume: bool) -> Path:
    """Train an autoencoder in `run`; returns its newest checkpoint."""
    config = settings.train_autoencoder
    checkpoint = start_run(run, "autoencoder", settings, resume)
    loader = _loader(data, None, settings, config)
    torch.manual_seed(config.seed)
    task = AutoencoderTask(settings)
    if not checkpoint:
        task.fit_patches(itertools.islice(loader.dataset, MEASURED_BATCHES))
    return _train(task, loader, config, run, device, checkpoint)


def train_syncdiff(
    data: TrainingData,
    settings: Settings,
    run: Path,
    device: str,
    resume: bool,
    autoencoder: Path | None = None,
) -> Path:
    """Train a SyncDiff in `run`; returns its newest checkpoint.

    autoencoder: a trained one; unset trains one first, in run/autoencoder.
    """
    if data.features is None:
        raise UserError(
            "SyncDiff learns from features: give --features, a folder that extract_features.py made."
        )
    config, encoder = settings.train_syncdiff, features_encoder(data.features)
    checkpoint = start_run(run, "syncdiff", settings, resume)
    loader = _loader(data, data.features, settings, config)
    if checkpoint:
        return _train(SyncDiffTask.saved(settings, checkpoint), loader, config, run, device, checkpoint)
    if autoencoder is None:
        autoencoder = train_autoencoder(data, settings, run / "autoencoder", device, resume)
    feature = loader.dataset.index.feature
    assert feature is not None
    torch.manual_seed(config.seed)
    few = itertools.islice(loader.dataset, MEASURED_BATCHES)
    task = SyncDiffTask.fresh(settings, load_autoencoder(autoencoder), encoder, feature, few)
    return _train(task, loader, config, run, device, None)


@dataclass(frozen=True)
class SyncTrainingData:
    """What the sync expert is trained on: data sets of clips with mouth crops, sampled by weight."""

    clips: tuple[Path, ...]
    weights: tuple[float, ...] = ()
    """One for each data set; none samples all alike."""
    split: str | None = None
    sync: tuple[SyncFilter, ...] = ()
    """One for each data set; none takes all clips as they are."""


def train_sync(data: SyncTrainingData, settings: Settings, run: Path, device: str, resume: bool) -> Path:
    """Train a sync expert in `run`; returns its newest checkpoint. `run/best` is the best by validation."""
    config = settings.train_sync
    weights = data.weights or (1.0,) * len(data.clips)
    if len(weights) != len(data.clips):
        raise UserError(
            f"{len(data.clips)} data sets, {len(weights)} weights: give one --clips-weight for each --clips."
        )
    if data.sync and len(data.sync) != len(data.clips):
        raise UserError(
            f"{len(data.clips)} data sets, {len(data.sync)} of --sync: give one for each --clips."
        )
    checkpoint = start_run(run, "sync", settings, resume)
    filters = data.sync or (None,) * len(data.clips)
    sets = [
        load_sync_clips(folder, data.split, settings.sync_data.window, sync)
        for folder, sync in zip(data.clips, filters)
    ]
    training, held_out = hold_out(sets, settings.sync_data.held_out)
    print(
        f"{sum(map(len, training))} clips to train on, {len(held_out)} of held-out speakers", file=sys.stderr
    )
    torch.manual_seed(config.seed)
    task = SyncTask(settings.sync, held_out)
    batches = SyncBatches(training, weights, settings.sync_data, config.seed)
    return _train(task, batches, config, run, device, checkpoint)


def start_run(run: Path, model: str, settings: Settings, resume: bool) -> Path | None:
    """Note what the run is, or check that it is the one to resume; its newest checkpoint, None at the start.

    UserError when the folder holds a run and `resume` was not asked for, or a run of another model or settings.
    """
    description = {"model": model, "settings": to_plain(settings)}
    checkpoints = list_checkpoints(run)
    if not resume:
        if checkpoints:
            raise UserError(
                f"{run} holds a training run already: --resume goes on with it, or choose another --out."
            )
    elif (run / RUN).is_file():
        changed = sorted(_changed(json.loads((run / RUN).read_text()), description))
        if changed:
            raise UserError(
                f"{run} was trained with other settings ({', '.join(changed)}): resume with the same ones; only "
                f"{', '.join(MAY_CHANGE)} may change."
            )
    text = json.dumps(description, indent=2) + "\n"
    write_text(run / RUN, text)
    return checkpoints[-1] if checkpoints else None


def _changed(old: Any, new: Any, name: str = "") -> set[str]:
    """Dotted names of the values that differ and may not."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = ({*old, *new}) - set(MAY_CHANGE)
        return set().union(
            *(_changed(old.get(key), new.get(key), f"{name}.{key}".lstrip(".")) for key in keys)
        )
    return set() if old == new else {name}


def _loader(data: TrainingData, features: Path | None, settings: Settings, config: TrainConfig) -> Loader:
    windows = ClipWindows(
        str(data.clips),
        None if features is None else str(features),
        replace(
            loader_config(settings, config, data.feature if features else None, data.split), sync=data.sync
        ),
    )
    return Loader(windows, workers=config.loader_workers)


def _train(
    task: Task,
    loader: Loader | SyncBatches,
    config: TrainConfig,
    run: Path,
    device: str,
    checkpoint: Path | None,
) -> Path:
    trainer = Trainer(task, loader, config, run, device)
    if checkpoint:
        trainer.resume(checkpoint)
    trainer.run()
    return list_checkpoints(run)[-1]
