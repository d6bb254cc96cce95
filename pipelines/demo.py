"""The whole chain once, on generated talkers: videos, data set, features, training, dubs, leaderboard.

    python pipelines/demo.py --out demo

Every step is the pipeline script a user would run, with the flags printed. Run it again and each step finds its work
done.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from syncdiff_data.cli import RayOptions, run, user_path
from syncdiff_data.clips import ClipConfig
from syncdiff_data.demo import LIST_NAME, make_talker, write_list
from syncdiff_data.faces import FaceConfig
from syncdiff_data.ranges import Range, check_ranges
from syncdiff_data.records import UserError
from syncdiff_data.stage import Context, Stage, ray_session, run_stage
from syncdiff_model.checkpoint import steps_done
from syncdiff_model.dubbing import DubConfig
from syncdiff_model.presets import Settings, TrainConfig, load_preset

if __package__:
    from syncdiff_pipelines import benchmark, extract_features, preprocess, synthesize, train
else:  # A script, which has its own folder on the path.
    import benchmark
    import extract_features
    import preprocess
    import synthesize
    import train

Result = TypeVar("Result")

CROP_SIZE = 128
CLIPS: Range = (7, 10_000)
"""The seventh is the first that is held out."""
SECONDS: Range = (1.0, 60.0)
DUB = DubConfig()


@dataclass(frozen=True)
class Options:
    out: Path
    """Folder of everything the demo makes."""
    clips: int = 36
    """Generated videos; a fifth of them is held out for the leaderboard."""
    seconds: float = 3.0
    """Length of each."""
    preset: str = "demo"
    """Training preset: demo, compact or a YAML file."""
    workers: int | None = None
    """Parallel tasks; unset means as many as fit into the cluster's CPUs and memory."""


def main(options: Options) -> None:
    check_ranges(options, {"clips": CLIPS, "seconds": SECONDS})
    out, settings = _folder(options.out), load_preset(options.preset)
    ray = RayOptions(workers=options.workers)
    started = time.monotonic()
    with ray_session(ray):
        videos = _step(
            "generate talkers", lambda: generate(out / "videos", options.clips, options.seconds, ray)
        )
        clips, features = str(out / "clips"), str(out / "logfbank")
        config = ClipConfig(faces=FaceConfig(crop_size=CROP_SIZE))
        _step(
            "preprocess",
            lambda: preprocess.main(
                preprocess.Options(
                    source="folder", root=videos / LIST_NAME, out=clips, shard_size=6, clips=config, ray=ray
                )
            ),
        )
        _step(
            "extract features",
            lambda: extract_features.main(
                extract_features.Options(clips=clips, encoder="logfbank", out=features, ray=ray)
            ),
        )
    data = Data((Path(clips),), Path(features), options.preset, settings)
    runs = {"syncdiff": out / "run", "gan": out / "gan"}
    _step("train SyncDiff", lambda: train_once(data, "syncdiff", runs["syncdiff"]))
    # The GAN shares what comes before: the comparison is one of training objectives.
    shared = {"autoencoder": runs["syncdiff"] / "autoencoder", "audio": runs["syncdiff"] / "audio"}
    _step("train a GAN", lambda: train_once(data, "gan", runs["gan"], **shared))
    real, pairs = hold_out(videos, out / "real")
    dubs, report = out / "dubs", out / "report"
    with ray_session(ray):
        for name, folder in runs.items():
            dub = synthesize.Options(model=str(folder), pairs=pairs, out=dubs / name, config=DUB, ray=ray)
            _step(f"dub the held-out talkers with {name}", lambda dub=dub: synthesize.main(dub))  # type: ignore[misc]
        methods = tuple(f"{name}={dubs / name}" for name in runs)
        _step(
            "benchmark",
            lambda: benchmark.main(benchmark.Options(reference=real, out=report, method=methods, ray=ray)),
        )
    print(f"\ndone in {time.monotonic() - started:.0f} s; the leaderboard lies at {report / 'index.html'}")
    for sentence in cut_short(data.settings, runs):
        print(sentence)


def _folder(path: Path) -> Path:
    """The absolute path of a folder that is there now. UserError where there can be none."""
    folder = Path(user_path("--out", path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be a folder ({error.strerror}): choose another.") from error
    return folder


@dataclass(frozen=True)
class TalkerStage(Stage[int, tuple[str, ...]]):
    """Makes one talker; a plan is its number, the result its row of the list."""

    out: str
    seconds: float

    title = "talkers"
    unit = "videos"
    plans_per_block = 1

    def process(self, plan: int, context: Context) -> tuple[str, ...]:
        row = make_talker(Path(self.out), plan, self.seconds)
        context.report({"videos": 1})
        return tuple(row)


def generate(folder: Path, count: int, seconds: float, ray: RayOptions) -> Path:
    """The talkers' folder; made only once, and only whole: the list is written last."""
    if not (folder / LIST_NAME).exists():
        made = run_stage(TalkerStage(str(folder), seconds), range(count), ray)
        write_list(folder, sorted(made))
    return folder


@dataclass(frozen=True)
class Data:
    """What the models learn from, and how."""

    clips: tuple[Path, ...]
    features: Path
    preset: str
    settings: Settings
    """Of the preset."""


def train_once(data: Data, model: Literal["syncdiff", "gan"], run_folder: Path, **stages: Path) -> None:
    """Train to the last step, or until the clock ends it: such a training would otherwise go on at every call.

    stages: earlier stages that are trained already, by their option's name.
    """
    config: TrainConfig = getattr(data.settings, f"train_{model}")
    done = steps_done(run_folder)
    if done >= config.steps or (done and config.max_seconds is not None):
        print(f"{run_folder} is trained already")
        return
    train.main(
        train.Options(
            model=model,
            clips=data.clips,
            features=data.features,
            out=run_folder,
            preset=data.preset,
            split="train",
            resume=True,
            settings=data.settings,
            **stages,
        )
    )


def cut_short(settings: Settings, runs: Mapping[str, Path]) -> list[str]:
    """A sentence for each training that the clock ended before its last step: its scores say little."""
    trainings = {
        "the autoencoder": (runs["syncdiff"] / "autoencoder", settings.train_autoencoder),
        "the audio network": (runs["syncdiff"] / "audio", settings.train_audio),
        "syncdiff": (runs["syncdiff"], settings.train_syncdiff),
        "gan": (runs["gan"], settings.train_gan),
    }
    return [
        f"The clock ended the training of {name} at step {steps_done(run)} of {config.steps}, since this machine is "
        "slow or busy: the leaderboard says little. Once it is idle, run this again with another --out."
        for name, (run, config) in trainings.items()
        if steps_done(run) < config.steps
    ]


def hold_out(videos: Path, real: Path) -> tuple[Path, Path]:
    """Copy the videos of the test split side by side, and list each with its own sound as a pair to dub."""
    real.mkdir(parents=True, exist_ok=True)
    with (videos / LIST_NAME).open(encoding="utf-8", newline="") as file:
        held_out = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    names = [path.replace("/", "-") for path in held_out]
    for path, name in zip(held_out, names):
        if not (real / name).exists():
            shutil.copyfile(videos / path, real / name)
    pairs = real.parent / "pairs.csv"
    with pairs.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("video", "audio", "output"), *((real / n, real / n, n) for n in names)])
    return real, pairs


def _step(title: str, act: Callable[[], Result]) -> Result:
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    result = act()
    print(f"   {time.monotonic() - started:.1f} s", flush=True)
    return result


def command() -> None:
    """The command line."""
    run(main, Options, __doc__)


if __name__ == "__main__":
    command()
