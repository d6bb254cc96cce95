"""Train a model on a data set of clips and its features.

    python pipelines/train.py --model syncdiff --clips CLIPS --features FEATURES --out RUN
    python pipelines/train.py --model gan --clips CLIPS --features FEATURES --out RUN
    python pipelines/train.py --model autoencoder --clips CLIPS --out RUN
    python pipelines/train.py --model sync --clips CLIPS [--clips MORE] --out RUN
    python pipelines/train.py --describe --preset compact

`syncdiff` and `gan` train their autoencoder and audio network first, unless --autoencoder and --audio name them. `gan`
with --gan.adversarial 0 --gan.sync 0 is regression. Every value of the preset is a flag of its own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from syncdiff_data.cli import RayOptions, WeightFlags, exit_with_sentence, optional_path, user_path
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.records import UserError
from syncdiff_data.weights import given_weights
from syncdiff_model.checkpoint import BEST
from syncdiff_model.describe import check_networks, describe
from syncdiff_model.presets import Settings, load_preset
from syncdiff_model.runs import (
    GENERATORS,
    RunOptions,
    Stages,
    SyncTrainingData,
    TrainingData,
    train_audio,
    train_autoencoder,
    train_generator,
    train_sync,
)


@dataclass(frozen=True)
class Options:
    model: Literal["autoencoder", "audio", "syncdiff", "gan", "sync"] = "syncdiff"
    clips: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Data set of clips; repeatable for `sync`."""
    clips_weight: Annotated[tuple[float, ...], tyro.conf.UseAppendAction] = ()
    """How often each of several data sets is sampled from; unset samples all alike."""
    sync: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Offsets of these clips, as `extract_features.py --encoder sync` makes them: clips that are out of step are left
    out, the sound of the others is shifted into step. Unset takes all as they are; one for each --clips."""
    max_offset: int = 15
    """--sync: leave out clips that are out of step by more frames."""
    min_confidence: float = 0.0
    """--sync: leave out clips of less confidence; docs/sync.md says what is usual."""
    features: Path | None = None
    """Features of these clips; the autoencoder needs none."""
    feature: str | None = None
    """Column of the features; unset takes the only one."""
    out: Path | None = None
    """Folder of the run: checkpoints/, tensorboard/, run.json."""
    preset: str = "compact"
    """demo, compact (a laptop's CPU), base (one GPU), paper (syncdiff_model/configs/), or a YAML file."""
    split: str | None = None
    """Only clips of this split; unset takes all."""
    autoencoder: Path | None = None
    """A trained autoencoder for `syncdiff` and `gan`; unset trains one first, in OUT/autoencoder."""
    audio: Path | None = None
    """An audio network trained on the same clips (`--model audio`, or OUT/audio of another run); unset trains one
    first, in OUT/audio."""
    resume: bool = False
    """Go on from the newest checkpoint in OUT; without one, begin."""
    validation_split: str | None = None
    """Clips of this split are for validation alone: loss and pictures in TensorBoard, RUN/best (see validate_every);
    unset validates on none. `sync` holds speakers out by itself."""
    weights: WeightFlags = ()
    """Use this file for a weight, as avhubert-base of conditioning.avhubert_top; repeatable."""
    device: str = "cpu"
    """Torch device: cpu or cuda."""
    workers: int = 1
    """Processes of Ray Train that share every batch, restarted from the last checkpoint when one is lost; 1 trains in
    this process, without Ray."""
    ray_address: str | None = None
    """Address of a running Ray for --workers; unset means $RAY_ADDRESS, else a local Ray."""
    describe: bool = False
    """Print the preset with the networks' sizes and do nothing else."""
    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)


def main(options: Options) -> None:
    if options.describe:
        print(describe(options.preset, options.settings))
        return
    if not options.clips or options.out is None:
        raise UserError(
            "Training needs --clips, a data set that preprocess.py made, and --out, a folder for the run."
        )
    check_networks(options.settings)
    out = Path(user_path("--out", options.out))
    clips = tuple(Path(user_path("--clips", folder)) for folder in options.clips)
    run = RunOptions(
        out,
        options.resume,
        options.workers,
        RayOptions(options.workers, options.ray_address, options.device),
        given_weights(options.weights),
    )
    sync = tuple(
        SyncFilter(user_path("--sync", folder), options.max_offset, options.min_confidence)
        for folder in options.sync
    )
    if options.model == "sync":
        data_sets = SyncTrainingData(clips, options.clips_weight, options.split, sync)
        checkpoint = train_sync(data_sets, options.settings, run)
        best = out / BEST
        print(f"sync: {checkpoint}" + (f", the best by validation {best}" if best.exists() else ""))
        return
    if len(clips) > 1 or options.clips_weight or len(sync) > 1:
        raise UserError(
            f"--model {options.model} learns from one data set: give --clips and --sync once, without a weight."
        )
    features = optional_path("--features", options.features)
    autoencoder = optional_path("--autoencoder", options.autoencoder)
    data = TrainingData(
        clips[0], features, options.feature, options.split, options.validation_split, next(iter(sync), None)
    )
    if options.model in GENERATORS:
        stages = Stages(autoencoder, optional_path("--audio", options.audio))
        checkpoint = train_generator(options.model, data, options.settings, run, stages)
    elif options.model == "audio":
        if autoencoder is None or features is None:
            raise UserError(
                "--model audio needs --features, and --autoencoder, for which the whole model is built."
            )
        checkpoint = train_audio(data, options.settings, run, autoencoder)
    else:
        checkpoint = train_autoencoder(data, options.settings, run)
    print(f"{options.model}: {checkpoint}")


def parse(arguments: list[str]) -> Options:
    """Options, with the preset named by --preset as the other flags' defaults."""
    preset = Options.preset
    for flag, value in zip(arguments, [*arguments[1:], ""]):
        name, equals, rest = flag.partition("=")
        if name == "--preset":
            preset = rest if equals else value
    default = Options(preset=preset, settings=load_preset(preset))
    return tyro.cli(Options, description=__doc__, default=default, args=arguments)


def command() -> None:
    """The command line."""
    exit_with_sentence(lambda: main(parse(sys.argv[1:])))


if __name__ == "__main__":
    command()
