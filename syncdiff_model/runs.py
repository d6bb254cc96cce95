"""From a data set to a trained model on disk: the stages, the run's own settings, and going on where one stopped."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_data.cli import RayOptions
from syncdiff_data.documents import parse_json
from syncdiff_data.loader import Batch, BatchParts, ClipWindows, Loader, LoaderConfig
from syncdiff_data.loader.stream import is_lost_worker
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.ranges import AT_LEAST_0, check_ranges
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, load_dataset
from syncdiff_data.stage import exclusive
from syncdiff_data.weights import find_weights
from syncdiff_model.checkpoint import list_checkpoints, load_autoencoder, prune, tidy, write_text
from syncdiff_model.device import check_device
from syncdiff_model.distributed import Peers, run_on_workers
from syncdiff_model.presets import Settings, TrainConfig, to_plain
from syncdiff_model.sync_data import SyncBatches, hold_out, load_sync_clips
from syncdiff_model.tasks.audio import (
    AudioTask,
    Origin,
    check_origin,
    features_encoder,
    fresh_conditioner,
    load_conditioner,
)
from syncdiff_model.tasks.autoencoder import AutoencoderTask
from syncdiff_model.tasks.base import Task
from syncdiff_model.tasks.gan import GanTask
from syncdiff_model.tasks.sync import SyncTask
from syncdiff_model.tasks.syncdiff import SyncDiffTask
from syncdiff_model.training import Trainer

RUN = "run.json"
MEASURED_BATCHES = 8
"""Batches from which the scale of latents and features is taken."""
VALIDATION_WINDOWS = 32
"""Windows of the validation split, the same ones every time."""
VALIDATION_BATCH = 8
"""Most of them in a batch."""
VALIDATION_WINDOW = 40
"""Frames of their windows where clips are long enough: over fewer the opening of a mouth hardly varies."""
MAY_CHANGE = ("steps", "max_seconds", "checkpoint_every", "keep_checkpoints", "log_every", "loader_workers")
"""Options of training that a resumed run may change."""
RESUME_ADVICE = "resume with the data it began with"


@dataclass(frozen=True)
class RunOptions:
    """Where and how a training runs."""

    run: Path
    """Its folder."""
    resume: bool = False
    workers: int = 1
    """Processes of Ray Train that share every batch; 1 trains in this process, without Ray."""
    ray: RayOptions = field(default_factory=RayOptions)
    """device and ray_address; the rest is of no matter here."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Weight files that the user gave, by name."""


@dataclass(frozen=True)
class TrainingData:
    """What to train on; `features` is not needed for the autoencoder, `feature` only where there are several."""

    clips: Path
    features: Path | None = None
    feature: str | None = None
    split: str | None = None
    validation_split: str | None = None
    """Clips that only validation sees; None validates on none."""
    sync: SyncFilter | None = None
    """Which clips are in step; None takes all as they are."""


Build = Callable[["Path | None", Peers], "tuple[Task, Loader | SyncBatches]"]
"""The task and batches of one process: of a checkpoint to resume, or fresh."""


def train_autoencoder(data: TrainingData, settings: Settings, options: RunOptions) -> Path:
    """Train an autoencoder; returns its newest checkpoint."""
    config = settings.train_autoencoder
    data = replace(data, features=None, feature=None)

    def build(checkpoint: Path | None, peers: Peers) -> tuple[Task, Loader]:
        parts = AutoencoderTask.batch_parts(settings)
        loader = _loader(data, settings, config, peers, parts)
        torch.manual_seed(config.seed)
        task = AutoencoderTask(settings, _validation_batches(data, settings, config, parts))
        if not checkpoint:
            task.fit_patches(_measured(data, settings, config, parts))
        return task, loader

    with open_run(options, "autoencoder", settings, config):
        return _train(build, config, options)


@dataclass(frozen=True)
class GeneratorKind:
    """One kind of generator on SyncDiff's networks: its task and its stage's options."""

    task: type[SyncDiffTask]
    config: Callable[[Settings], TrainConfig]


GENERATORS = {
    "syncdiff": GeneratorKind(SyncDiffTask, lambda s: s.train_syncdiff),
    "gan": GeneratorKind(GanTask, lambda s: s.train_gan),
}
"""By `--model`."""


@dataclass(frozen=True)
class Stages:
    """Earlier stages that are trained already; None trains one first, in a folder of the run."""

    autoencoder: Path | None = None
    audio: Path | None = None


def train_generator(
    model: str, data: TrainingData, settings: Settings, options: RunOptions, stages: Stages | None = None
) -> Path:
    """Train one of GENERATORS, and the stages before it that are not there; returns its newest checkpoint."""
    if data.features is None:
        raise UserError(
            f"--model {model} learns from features: give --features, a folder that extract_features.py made."
        )
    kind, stages = GENERATORS[model], stages or Stages()
    config, parts = kind.config(settings), kind.task.batch_parts(settings)
    top = avhubert_top(settings, features_encoder(data.features), data, options)
    autoencoder, audio = stages.autoencoder, stages.audio

    def build(checkpoint: Path | None, peers: Peers) -> tuple[Task, Loader]:
        loader = _loader(data, settings, config, peers, parts)
        held_out = _validation_batches(data, settings, config, parts)
        origin = data_origin(data, loader)
        if checkpoint:
            saved = kind.task.saved(settings, checkpoint, held_out)
            check_origin(saved.model.conditioner, origin.of_all, RESUME_ADVICE)
            return saved, loader
        assert autoencoder is not None
        torch.manual_seed(config.seed)
        few, networks = _measured(data, settings, config, parts), load_autoencoder(autoencoder)
        reader = load_conditioner(audio) if audio else None
        if reader:
            check_origin(reader, origin.of_sound, "train an audio network on these")
        return kind.task.fresh(settings, networks, origin, few, held_out, top, reader), loader

    with open_run(options, model, settings, config) as begun:
        if autoencoder is None and not begun:
            autoencoder = train_autoencoder(data, settings, replace(options, run=options.run / "autoencoder"))
        if audio is None and autoencoder and not begun and settings.train_audio.steps and not top:
            audio = train_audio(data, settings, replace(options, run=options.run / "audio"), autoencoder)
        return _train(build, config, options)


def train_audio(data: TrainingData, settings: Settings, options: RunOptions, autoencoder: Path) -> Path:
    """Train the audio network of a generator alone; returns its newest checkpoint. autoencoder: the whole model's."""
    config, parts = settings.train_audio, AudioTask.batch_parts(settings)

    def build(checkpoint: Path | None, peers: Peers) -> tuple[Task, Loader]:
        loader = _loader(data, settings, config, peers, parts)
        held_out = _validation_batches(data, settings, config, parts)
        origin = data_origin(data, loader)
        if checkpoint:
            conditioner = load_conditioner(checkpoint)
            check_origin(conditioner, origin.of_all, RESUME_ADVICE)
            return AudioTask(conditioner, held_out), loader
        torch.manual_seed(config.seed)
        frames = replace(parts, images=("frames",))
        few = _measured(data, settings, settings.train_syncdiff, frames)
        networks = load_autoencoder(autoencoder)
        conditioner = fresh_conditioner(settings, networks, origin, few)
        return AudioTask(conditioner, held_out), loader

    with open_run(options, "audio", settings, config):
        return _train(build, config, options)


def data_origin(data: TrainingData, loader: Loader) -> Origin:
    """How the crops and features of a data set were made."""
    index = loader.dataset.index
    assert data.features is not None
    assert index.feature is not None
    faces = load_dataset(Store(data.clips), "clips").setting("faces")
    return Origin(features_encoder(data.features), index.feature, faces, index.crop_size, index.feature_dim)


@dataclass(frozen=True)
class SyncTrainingData:
    """What the sync expert is trained on: data sets of clips with mouth crops, sampled by weight."""

    clips: tuple[Path, ...]
    weights: tuple[float, ...] = ()
    """One for each data set; none samples all alike."""
    split: str | None = None
    sync: tuple[SyncFilter, ...] = ()
    """One for each data set; none takes all clips as they are."""


def train_sync(data: SyncTrainingData, settings: Settings, options: RunOptions) -> Path:
    """Train a sync expert; returns its newest checkpoint. `run/best` is the best by validation."""
    config = settings.train_sync
    weights = data.weights or (1.0,) * len(data.clips)
    if len(weights) != len(data.clips):
        raise UserError(
            f"{len(data.clips)} data sets, {len(weights)} weights: give one --clips-weight for each --clips."
        )
    check_ranges(replace(data, weights=weights), {"weights": AT_LEAST_0})
    if not sum(weights) > 0:
        raise UserError("Every --clips-weight is 0: expected at least one above.")
    if data.sync and len(data.sync) != len(data.clips):
        raise UserError(
            f"{len(data.clips)} data sets, {len(data.sync)} of --sync: give one for each --clips."
        )

    def build(checkpoint: Path | None, peers: Peers) -> tuple[Task, SyncBatches]:
        filters = data.sync or (None,) * len(data.clips)
        sets = [
            load_sync_clips(folder, data.split, settings.sync_data.window, sync)
            for folder, sync in zip(data.clips, filters)
        ]
        training, held_out = hold_out(sets, settings.sync_data.held_out)
        if peers.is_first:
            count = sum(map(len, training))
            print(f"{count} clips to train on, {len(held_out)} of held-out speakers", file=sys.stderr)
        torch.manual_seed(config.seed)
        task = SyncTask(settings.sync, held_out)
        return task, SyncBatches(training, weights, settings.sync_data, config.seed, peers)

    with open_run(options, "sync", settings, config):
        return _train(build, config, options)


@contextmanager
def open_run(
    options: RunOptions, model: str, settings: Settings, config: TrainConfig
) -> Iterator[Path | None]:
    """A run's folder for the body of a `with`, in which no other command may train there; what `start_run` returns.

    UserError when another does.
    """
    with exclusive(options.run):
        tidy(options.run)
        checkpoint = start_run(options.run, model, settings, options.resume)
        prune(options.run, config.keep_checkpoints)
        yield checkpoint


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
        changed = sorted(_changed(_read_description(run / RUN), description))
        if changed:
            raise UserError(
                f"{run} was trained with other settings ({', '.join(changed)}): resume with the same ones; only "
                f"{', '.join(MAY_CHANGE)} may change."
            )
    text = json.dumps(description, indent=2) + "\n"
    write_text(run / RUN, text)
    return checkpoints[-1] if checkpoints else None


def _read_description(path: Path) -> Any:
    try:
        description = parse_json(path.read_bytes())
        if not isinstance(description, dict):
            raise ValueError("it describes no run")
        return description
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}): put a copy of it back, or train into another --out."
        ) from error


def _changed(old: Any, new: Any, name: str = "") -> set[str]:
    """Dotted names of the values that differ and may not."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = ({*old, *new}) - set(MAY_CHANGE)
        return set().union(
            *(_changed(old.get(key), new.get(key), f"{name}.{key}".lstrip(".")) for key in keys)
        )
    return set() if old == new else {name}


def _loader(
    data: TrainingData,
    settings: Settings,
    config: TrainConfig,
    peers: Peers,
    parts: BatchParts,
) -> Loader:
    share = loader_config(data, settings, replace(config, batch_size=config.batch_size // peers.count), parts)
    windows = ClipWindows(
        str(data.clips),
        None if data.features is None else str(data.features),
        share,
        peers.rank,
        peers.count,
    )
    return Loader(windows, workers=config.loader_workers)


def _measured(data: TrainingData, settings: Settings, config: TrainConfig, parts: BatchParts) -> list[Batch]:
    """The first batches of a run alone, the same for every number of workers: scales are taken from them."""
    return list(itertools.islice(_loader(data, settings, config, Peers(), parts).dataset, MEASURED_BATCHES))


def _validation_batches(
    data: TrainingData, settings: Settings, config: TrainConfig, parts: BatchParts
) -> list[Batch]:
    """The same ones every time; none without a split for them."""
    if data.validation_split is None:
        return []
    held_out = replace(data, split=data.validation_split)
    size = min(config.batch_size, VALIDATION_BATCH)
    fixed = replace(config, batch_size=size, seed=0, flip=False, windows_per_visit=1)
    windows = _loader(held_out, settings, fixed, Peers(), parts).dataset
    longest = max(config.window, min(VALIDATION_WINDOW, int(windows.index.num_frames.min())))
    if longest > config.window and data.features is not None:
        windows = _loader(held_out, settings, replace(fixed, window=longest), Peers(), parts).dataset
    return list(itertools.islice(windows, VALIDATION_WINDOWS // size))


def loader_config(
    data: TrainingData, settings: Settings, config: TrainConfig, parts: BatchParts
) -> LoaderConfig:
    """How a stage reads its batches."""
    return LoaderConfig(
        batch_size=config.batch_size,
        window=config.window,
        pose_offset=settings.conditioning.pose_offset,
        context=settings.conditioning.context + 2 * settings.conditioning.reach,
        identity=settings.identity,
        parts=parts,
        masked_shift=settings.corruption.masked_shift,
        feature=data.feature,
        split=data.split,
        sync=data.sync,
        windows_per_visit=config.windows_per_visit,
        seed=config.seed,
        flip=config.flip,
    )


def avhubert_top(
    settings: Settings, encoder: Mapping[str, str], data: TrainingData, options: RunOptions
) -> AVHubertEncoder | None:
    """The encoder whose upper blocks are trained on, where the settings ask for it. UserError where the features are no
    hidden states of a block, or its weights are not here."""
    if not settings.conditioning.avhubert_top:
        return None
    if encoder["encoder"] != "avhubert" or data.features is None:
        raise UserError(
            "avhubert_top trains the blocks above stored hidden states: extract the features with --encoder avhubert "
            "--layers 9, or leave it out."
        )
    return AVHubertEncoder.from_checkpoint(find_weights(encoder["checkpoint"], options.weights))


def _train(build: Build, config: TrainConfig, options: RunOptions) -> Path:
    """Train in this process or on Ray's workers, from the newest checkpoint on; returns the newest afterwards."""
    run = options.run

    def train(peers: Peers, device: str) -> None:
        checkpoint = next(reversed(list_checkpoints(run)), None)
        task, loader = build(checkpoint, peers)
        trainer = Trainer(task, loader, config, run, device, peers)
        if checkpoint:
            trainer.resume(checkpoint)
        trainer.run()

    if not (config.steps or list_checkpoints(run)):
        raise UserError(f"A training of 0 steps leaves nothing in {run}: give at least one step.")
    if config.batch_size % options.workers:
        raise UserError(
            f"A batch of {config.batch_size} windows does not part evenly among {options.workers} workers: choose "
            "another batch_size or --workers."
        )
    if options.workers > 1:
        run_on_workers(train, run, options.workers, options.ray)
    else:
        check_device(options.ray.device)
        try:
            train(Peers(), options.ray.device)
        except RuntimeError as error:
            if not is_lost_worker(error):
                raise
            raise UserError(
                f"Training in {run} lost a process that reads its batches ({error}). Is there memory enough for "
                f"loader_workers {config.loader_workers} of them? Go on with --resume."
            ) from error
    return list_checkpoints(run)[-1]
