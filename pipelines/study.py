"""GAN against diffusion: train every generator of the study with one budget, dub the test clips, score, compare.

    python pipelines/study.py --videos LIST.csv --clips CLIPS --features FEATURES --out STUDY

LIST.csv has the columns path and split (`preprocess.py --source folder`). Every generator has SyncDiff's networks,
shards, crops, mask and sound, the same autoencoder and the same first stage of its audio network. Stopped and started
again it goes on where it was, to the same report. docs/study.md has what came of it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from syncdiff_data.cli import RayOptions, run, user_path
from syncdiff_data.records import UserError
from syncdiff_data.shards import read_clips
from syncdiff_data.shards.store import write_atomically, write_text
from syncdiff_data.stage import Context, Stage, ray_session, run_stage
from syncdiff_data.tables import videos_of_split
from syncdiff_eval.methods import MethodType
from syncdiff_eval.statistics import Inference, paired_difference
from syncdiff_model.checkpoint import steps_done
from syncdiff_model.dubbing import DubConfig
from syncdiff_model.presets import Settings, TrainConfig, load_preset, settings_from, to_plain
from syncdiff_model.rollout import SamplingConfig

if __package__:
    from syncdiff_pipelines import benchmark, synthesize, train
else:  # A script, which has its own folder on the path.
    import benchmark
    import synthesize
    import train

METRICS = ("silent-lips", "mouth_audio")
"""What is scored beside the default protocol: all else that needs no download."""
INFERENCE = Inference(resamples=10_000, confidence=0.95, seed=0)
TRUE_POSE = {"corruption": {"pose_source": "true"}}


@dataclass(frozen=True)
class Row:
    """A generator of the study."""

    model: str
    """As train.py calls it."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Values of the preset that differ, nested by section."""
    steps: tuple[int, ...] = ()
    """Numbers of sampling steps, a leaderboard row each; () for one pass."""
    main: bool = False
    """Trained with every seed; the others with the first one."""

    @property
    def stage(self) -> str:
        """The settings' section that its training goes by."""
        return "train_gan" if self.model == "gan" else "train_syncdiff"

    @property
    def type(self) -> MethodType:
        """The regression is neither."""
        if self.model == "syncdiff":
            return MethodType.DIFFUSION
        adversarial = self.changes.get("gan", {}).get("adversarial", True)
        return MethodType.GAN if adversarial else MethodType.OTHER


ROWS = {
    "syncdiff": Row("syncdiff", {}, (1, 4, 25), main=True),
    "gan": Row("gan", {}, main=True),
    "regression": Row("gan", {"gan": {"sync": 0, "adversarial": 0}}, main=True),
    "bottleneck": Row("syncdiff", {"conditioning": {"pose": "bottleneck"}, **TRUE_POSE}, (4,)),
    "full": Row("syncdiff", {"conditioning": {"pose": "full"}, **TRUE_POSE}, (4,)),
    "sync": Row(
        "syncdiff", {"loss": {"sync": 0.003}, "train_syncdiff": {"batch_size": 2, "window": 9}}, (4,)
    ),
}
CLAIMS = (
    (
        "a bottlenecked pose prior helps sync",
        "bottleneck-4",
        "syncdiff-4",
        ("opening_corr", "expert_confidence"),
    ),
    ("an open pose prior helps sync", "full-4", "syncdiff-4", ("opening_corr", "expert_confidence")),
    (
        "diffusion looks better than a GAN",
        "syncdiff-4",
        "gan",
        ("ssim_mouth", "psnr_mouth", "sharpness_mouth"),
    ),
    ("diffusion is in better sync than a GAN", "syncdiff-4", "gan", ("opening_corr", "expert_confidence")),
    (
        "a GAN looks better than regression",
        "gan",
        "regression",
        ("ssim_mouth", "psnr_mouth", "sharpness_mouth"),
    ),
    ("a GAN is in better sync than regression", "gan", "regression", ("opening_corr", "expert_confidence")),
    ("more steps look better", "syncdiff-25", "syncdiff-1", ("ssim_mouth", "psnr_mouth", "sharpness_mouth")),
    ("more steps are in better sync", "syncdiff-25", "syncdiff-1", ("opening_corr", "expert_confidence")),
    ("the sync expert's loss helps sync", "sync-4", "syncdiff-4", ("opening_corr", "expert_confidence")),
)
"""What is claimed, of which row against which, and the columns that decide it, larger being better."""


@dataclass(frozen=True)
class Options:
    videos: Path
    """CSV with the columns path and split."""
    clips: Path
    """Data set that preprocess.py made of them."""
    features: Path
    """Features of these clips."""
    out: Path
    """Folder of runs, dubs and reports."""
    preset: str = "compact"
    share: float = 1.0
    """Of the preset's steps, for every generator alike."""
    seeds: int = 2
    """Trainings of the main rows."""
    limit: int | None = None
    """Test clips; unset takes all."""
    workers: int | None = None
    """Parallel tasks, a CPU each; unset means as many as fit."""


@dataclass(frozen=True)
class Training:
    """One run of a generator."""

    name: str
    row: str
    settings: Settings
    run: Path

    @property
    def config(self) -> TrainConfig:
        """Of its generator."""
        config: TrainConfig = getattr(self.settings, ROWS[self.row].stage)
        return config


def main(options: Options) -> None:
    out = Path(user_path("--out", options.out))
    clips, features, videos = (
        Path(user_path(flag, path))
        for flag, path in (
            ("--clips", options.clips),
            ("--features", options.features),
            ("--videos", options.videos),
        )
    )
    trainings, ray = list_trainings(options, out), RayOptions(workers=options.workers)
    paths = test_videos(videos, options.limit)
    check_splits(clips)
    lists = write_pairs(out / "real", paths, videos.parent)
    announce(trainings, len(paths), options.workers or os.cpu_count() or 1)
    data = Data(clips, features, load_preset(options.preset), out)
    with ray_session(ray):
        run_stage(SharedStage(data), [0], ray)
        took = run_stage(
            TrainingStage(data), [training for training in trainings if not training_done(training)], ray
        )
        keep_times(out / "times.csv", took)
        for kind, pairs in lists.items():
            for name, training, sampling in dub_rows(trainings):
                config = DubConfig(sampling=sampling, face_cache=out / "faces")
                dubs = out / "dubs" / kind / name
                synthesize.main(
                    synthesize.Options(model=str(training.run), pairs=pairs, out=dubs, config=config, ray=ray)
                )
            benchmark.main(
                benchmark.Options(
                    reference=out / "real",
                    pairs=pairs,
                    methods=write_methods(out, kind, trainings),
                    metric=METRICS,
                    out=out / kind,
                    ray=ray,
                )
            )
    text = "\n".join(
        claims(out / kind / "per_clip.parquet", kind, options.seeds) for kind in ("own", "foreign")
    )
    write_atomically(out / "claims.md", lambda file: file.write(text.encode()))
    print(f"{text}\n{out / 'own' / 'index.html'}\n{out / 'foreign' / 'index.html'}\n{out / 'claims.md'}")


def list_trainings(options: Options, out: Path) -> list[Training]:
    """Every run, main rows and first seeds first."""
    base = load_preset(options.preset)
    runs = []
    for seed in range(options.seeds):
        for name, row in sorted(ROWS.items(), key=lambda item: not item[1].main):
            if seed and not row.main:
                continue
            stage = row.stage
            settings = settings_from(merged(to_plain(base), row.changes))
            config = scaled(getattr(settings, stage), options.share, seed, VALIDATIONS[stage])
            full = f"{name}-seed{seed}" if row.main else name
            runs.append(Training(full, name, replace(settings, **{stage: config}), out / "runs" / full))
    return runs


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the nested values of `changes` in place of its own."""
    nested = {
        key: merged(base[key], value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return {**base, **nested}


def scaled(config: TrainConfig, share: float, seed: int, validations: int) -> TrainConfig:
    """A share of a stage's steps, validated so many times. UserError for a share that leaves no step."""
    steps = round(config.steps * share)
    if steps < 1:
        raise UserError(f"--share {share} leaves {steps} of {config.steps} steps: give a larger one.")
    return replace(
        config,
        steps=steps,
        decay_steps=round(config.decay_steps * share),
        validate_every=max(1, steps // validations),
        seed=seed,
    )


def training_done(training: Training) -> bool:
    return steps_done(training.run) >= training.config.steps


@dataclass(frozen=True)
class Data:
    """What all trainings share."""

    clips: Path
    features: Path
    settings: Settings
    out: Path

    def train(self, **options: Any) -> None:
        """train.py on these clips, going on where it stopped."""
        train.main(
            train.Options(clips=(self.clips,), features=self.features, split="train", resume=True, **options)
        )


@dataclass(frozen=True)
class SharedStage(Stage[int, None]):
    """Trains the autoencoder and the audio network that all generators begin with."""

    data: Data

    title = "autoencoder and audio network"
    plans_per_block = 1

    def process(self, plan: int, context: Context) -> None:
        out, settings = self.data.out, self.data.settings
        self.data.train(model="autoencoder", out=out / "autoencoder", settings=settings)
        if settings.train_audio.steps:
            self.data.train(
                model="audio", autoencoder=out / "autoencoder", out=out / "audio", settings=settings
            )


@dataclass(frozen=True)
class TrainingStage(Stage[Training, tuple[str, float]]):
    """Trains one generator; the result is its name and the seconds that this took."""

    data: Data

    title = "training"
    unit = "runs"
    plans_per_block = 1

    def process(self, plan: Training, context: Context) -> tuple[str, float]:
        started, out = time.monotonic(), self.data.out
        audio = out / "audio" if self.data.settings.train_audio.steps else None
        self.data.train(
            model=ROWS[plan.row].model,
            validation_split="validation",
            autoencoder=out / "autoencoder",
            audio=audio,
            out=plan.run,
            settings=plan.settings,
        )
        context.report({"runs": 1})
        return plan.name, time.monotonic() - started


def keep_times(path: Path, took: Sequence[tuple[str, float]]) -> None:
    """Add the seconds of finished trainings to a CSV; the report does not depend on them."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(
            [*([("run", "seconds")] if new else []), *((n, f"{s:.0f}") for n, s in took)]
        )


def test_videos(videos: Path, limit: int | None) -> list[Path]:
    """The videos of the test split. UserError for fewer than two: a foreign sound is another one's."""
    paths = videos_of_split(videos, "test")[:limit]
    if len(paths) < 2:
        raise UserError(f"{videos} has {len(paths)} videos of the split test: expected two or more.")
    return paths


def check_splits(clips: Path) -> None:
    """UserError for a data set without clips to train on or to validate with, before anything is trained."""
    for split in ("train", "validation"):
        if next(read_clips(clips, split), None) is None:
            raise UserError(
                f"{clips} has no clip of the split {split}: make it with preprocess.py of the list given as --videos, "
                "whose splits are train, validation and test."
            )


def write_pairs(real: Path, paths: Sequence[Path], below: Path) -> dict[str, Path]:
    """Copies of the videos side by side, and lists of every one with its own sound and with the next one's, by kind.

    Copies are named by the folders below `below` and the file: people call every speaker's first video 00001.mp4.
    UserError where two names are one all the same.
    """
    names = [copy_name(path, below) for path in paths]
    stems = [Path(name).stem for name in names]
    if same := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(
            f"Two videos of the split test are called {same[0]}: rename one, or leave it out of the list."
        )
    real.mkdir(parents=True, exist_ok=True)
    for path, name in zip(paths, names, strict=True):
        if not (real / name).exists():
            copy_whole(path, real / name)
    tables = {}
    for kind, ahead in (("own", 0), ("foreign", 1)):
        rows = [
            (name, names[(number + ahead) % len(names)], f"{Path(name).stem}.mp4")
            for number, name in enumerate(names)
        ]
        tables[kind] = real / f"{kind}.csv"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("video", "audio", "output"), *rows])
        write_text(tables[kind], text.getvalue())
    return tables


def copy_name(path: Path, below: Path) -> str:
    """`speaker_00001.mp4` of `speaker/00001.mp4`."""
    inner = path.relative_to(below) if path.is_relative_to(below) else path.relative_to(path.anchor)
    return "_".join(inner.parts)


def copy_whole(source: Path, target: Path) -> None:
    """A copy that is whole or not there. UserError where there is no such video."""
    try:
        with source.open("rb") as file:
            write_atomically(target, lambda out: shutil.copyfileobj(file, out))
    except FileNotFoundError as error:
        raise UserError(f"{source}, which --videos lists, does not exist.") from error


def dub_rows(trainings: Sequence[Training]) -> list[tuple[str, Training, SamplingConfig]]:
    """Leaderboard rows: name, run, sampling."""
    rows = []
    for training in trainings:
        row = ROWS[training.row]
        _, dash, seed = training.name.partition("-")
        for steps in row.steps or (0,):
            name = f"{training.row}-{steps}" if steps else training.row
            rows.append((f"{name}{dash}{seed}", training, SamplingConfig(steps=steps or 1)))
    return rows


def announce(trainings: Sequence[Training], videos: int, workers: int) -> None:
    """What is to be done, and about how long it takes."""
    left = [training for training in trainings if not training_done(training)]
    rows = len(dub_rows(trainings))
    print(
        f"{len(left)} of {len(trainings)} trainings, then {rows} rows of {videos} videos with two sounds each"
    )
    print(f"about {estimate(left, rows * videos, workers) / 60:.0f} minutes on {workers} CPUs", flush=True)


def write_methods(out: Path, kind: str, trainings: Sequence[Training]) -> Path:
    """A registry of the rows with their types, by which the report compares GAN and diffusion."""
    methods = [
        {"name": name, "type": str(ROWS[training.row].type), "folder": f"dubs/{kind}/{name}"}
        for name, training, _ in dub_rows(trainings)
    ]
    path = out / f"{kind}.yaml"
    write_atomically(path, lambda file: file.write(yaml.safe_dump({"methods": methods}).encode()))
    return path


VALIDATIONS = {"train_syncdiff": 1, "train_gan": 5}
"""Of a training; a GAN's open the gate of the sync expert's loss."""
SECONDS_A_FRAME = {"train_syncdiff": 0.016, "train_gan": 0.029}
SECONDS_A_FILE, SECONDS_OF_SHARED_STAGES = 8.0, 200
"""On one core of a laptop: a training frame of compact; dubbing and scoring a file of 3 s; what all trainings share."""


def estimate(trainings: Sequence[Training], files: int, workers: int) -> float:
    """Seconds."""
    work = 0.0
    for training in trainings:
        config, seconds = training.config, SECONDS_A_FRAME[ROWS[training.row].stage]
        work += config.steps * config.batch_size * config.window * seconds
    shared = SECONDS_OF_SHARED_STAGES if trainings else 0
    return shared + (work + 2 * files * SECONDS_A_FILE) / workers


def claims(table: Path, kind: str, seeds: int) -> str:
    """CLAIMS as a table: paired differences over clips, of the mean over seeds."""
    rows = pq.read_table(table).to_pandas()
    lines = [
        f"## {kind} sound",
        "",
        "| claim | column | difference [95 % interval] | p | |",
        "|---|---|---|---|---|",
    ]
    for claim, one, other, columns in CLAIMS:
        for column in columns:
            if column not in rows or rows[column].isna().all():
                continue
            a, b = (over_seeds(rows, name, column, seeds) for name in (one, other))
            both = a.dropna().index.intersection(b.dropna().index)
            found = paired_difference(a[both].to_numpy(), b[both].to_numpy(), list(both), INFERENCE)
            if found is None or found.low is None or found.high is None or found.p is None:
                continue
            verdict = "confirmed" if found.low > 0 else "denied" if found.high < 0 else "undecided"
            interval = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            lines.append(f"| {claim} ({one}, {other}) | {column} | {interval} | {found.p:.4f} | {verdict} |")
    return "\n".join(lines) + "\n"


def over_seeds(rows: Any, name: str, column: str, seeds: int) -> Any:
    """A column of a row by clip, the mean over its seeds."""
    names = [name, *(f"{name}-seed{seed}" for seed in range(seeds))]
    return rows[rows.method.isin(names)].groupby("clip")[column].mean()


def command() -> None:
    """The command line."""
    run(main, Options, __doc__)


if __name__ == "__main__":
    command()
