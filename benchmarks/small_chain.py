"""Every pipeline on a dozen generated talkers, small enough to be run a thousand times.

What the proofs of kills, of full disks and of long runs have in common.
`Chain(folder).prepare()` runs each command once, undisturbed; a proof then runs one command into another folder and
compares. Faces, features, training, dubs and scores are the real code; models and talkers are tiny.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from syncdiff_data.demo import make_talkers
from syncdiff_data.demo.talkers import LIST_NAME
from syncdiff_model.checkpoint import load_state
from syncdiff_model.training import STATE

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("preprocess", "extract_features", "train", "train_on_workers", "synthesize", "benchmark")
SCRIPTS = {"train_on_workers": "train"}
CLIPS, SECONDS, SIZE = 12, 1.0, 128
MADE_BY_RAY = "ray_train"
"""Below a run: Ray Train's own notes, with times and names of processes."""
EVENTS = "tensorboard"
"""Below a run: compared by the losses in it, since it holds times."""
LOCK = "cache/lock"
PRESET = """
autoencoder: {kind: patch, factor: 8, latent_channels: 4, widths: [8]}
conditioning: {context: 3, tokens_dim: 16, pose: none, pose_dim: 3, pose_width: 8}
denoiser: {widths: [8, 16], layers: 1, attention: [false, true], heads: 2, groups: 8}
diffusion: {prediction: sample}
loss: {sync: 0}
gan: {sync: 0, widths: [8, 8]}
"""
TRAINING = (
    "{steps: %d, batch_size: 4, window: 2, learning_rate: 3.0e-3, warmup_steps: 0, ema_decay: 0.9, flip: false, "
    "loader_workers: %d, checkpoint_every: %d, validate_every: 0, log_every: 1}"
)
STEPS = {"autoencoder": (60, 0, 10), "audio": (20, 0, 5), "syncdiff": (60, 2, 10)}
"""Steps, processes that load, steps between checkpoints."""


@dataclass(frozen=True)
class Chain:
    """What the commands read and what undisturbed runs of them left, below one folder."""

    folder: Path
    clips: int = CLIPS

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    def whole(self, stage: str) -> Path:
        """The output of the undisturbed run."""
        return self.folder / "whole" / stage

    def prepare(self, stages: tuple[str, ...], ray_address: str, variables: dict[str, str]) -> None:
        """Make talkers, list and preset, and run the commands up to the last of `stages` once; what is there stays.
        FOLDER/STAGE.done holds a run's seconds. ray_address, variables: of a Ray that runs, and what a command there
        needs in its environment."""
        if not (self.videos / LIST_NAME).exists():
            make_talkers(self.videos, self.clips, SECONDS, size=SIZE)
        names = sorted(path.relative_to(self.videos).as_posix() for path in self.videos.rglob("*.mp4"))
        with (self.folder / "pairs.csv").open("w", newline="") as file:
            sounds = [*names[1:], names[0]]
            rows = [(f"videos/{name}", f"videos/{sound}", name) for name, sound in zip(names, sounds)]
            csv.writer(file).writerows([("video", "audio", "output"), *rows])
        trained = "\n".join(f"train_{name}: {TRAINING % numbers}" for name, numbers in STEPS.items())
        (self.folder / "preset.yaml").write_text(PRESET + trained)
        last = max(STAGES.index(stage) for stage in stages)
        for stage in STAGES[: last + 1]:
            if stage in (*stages, "preprocess", "extract_features", "train", "synthesize"):
                self._run_once(stage, ray_address, variables)

    def _run_once(self, stage: str, ray_address: str, variables: dict[str, str]) -> None:
        done = self.folder / f"{stage}.done"
        if done.exists():
            return
        shutil.rmtree(self.whole(stage), ignore_errors=True)
        began = time.monotonic()
        line = self.line(stage, self.whole(stage), "--ray-address", ray_address)
        run = subprocess.run(line, cwd=ROOT, env=variables)
        if run.returncode:
            raise SystemExit(f"the undisturbed {stage} ended with status {run.returncode}")
        done.write_text(f"{time.monotonic() - began:.1f}")

    def line(self, stage: str, out: Path, *more: str) -> list[str]:
        """The command line of a stage that writes `out`."""
        clips, features = self.whole("preprocess"), self.whole("extract_features")
        training: list[str | Path] = [
            "--clips",
            clips,
            "--preset",
            self.folder / "preset.yaml",
            "--resume",
            "--model",
        ]
        arguments: dict[str, list[str | Path]] = {
            "preprocess": ["--source", "folder", "--root", self.videos, "--crop-size", "64", "--shard-size", "1"],
            "extract_features": ["--clips", clips, "--encoder", "logfbank"],
            "train": [*training, "syncdiff", "--features", features],
            "train_on_workers": [*training, "autoencoder"],
            "synthesize": [
                "--model", self.whole("train"), "--pairs", self.folder / "pairs.csv", "--sampling.steps", "2",
            ],
            "benchmark": [
                "--reference", self.videos, "--method", f"ours={self.whole('synthesize')}", "--previews", "1",
            ],
        }  # fmt: skip
        script = ROOT / "pipelines" / f"{SCRIPTS.get(stage, stage)}.py"
        workers = [] if stage == "train" else ["--workers", "2"]
        return list(map(str, [sys.executable, script, *arguments[stage], "--out", out, *workers, *more]))

    def differences(self, stage: str, out: Path) -> list[str]:
        """What is not as the undisturbed run left it; nothing where every file is the same and no other is there."""
        one, other = outputs(self.whole(stage)), outputs(out)
        found = [f"{name} is missing" for name in sorted(one.keys() - other.keys())]
        found += [f"{name} is left" for name in sorted(other.keys() - one.keys())]
        found += [f"{name} differs" for name in sorted(one.keys() & other.keys()) if one[name] != other[name]]
        if stage.startswith("train"):
            folders = [path.parent for path in self.whole(stage).rglob(EVENTS)]
            names = [folder.relative_to(self.whole(stage)) for folder in folders]
            found += [
                f"losses of {name}"
                for name in names
                if losses(self.whole(stage) / name) != losses(out / name)
            ]
        return found


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file below a stage's output but those that hold times: relative path to bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = {path.relative_to(folder).as_posix(): content(path) for path in files}
    aside = {MADE_BY_RAY, EVENTS}
    return {name: data for name, data in found.items() if not aside & set(Path(name).parts) and name != LOCK}


def content(path: Path) -> bytes:
    """A file's bytes; of a training state its values, since equal values are pickled differently after a resume."""
    if path.name != STATE:
        return path.read_bytes()
    return b"".join(flat(load_state(path)))


def flat(value: Any, name: str = "") -> Iterator[bytes]:
    """Names and values of a nested state."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from flat(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from flat(part, f"{name}[{number}]")
    elif isinstance(value, torch.Tensor):
        yield f"{name} {value.dtype} {list(value.shape)} ".encode() + value.numpy().tobytes()
    else:
        yield f"{name} {value!r} ".encode()


def losses(run: Path) -> dict[int, float]:
    """A training run's loss of every step, as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not (run / EVENTS).is_dir():
        return {}
    events = EventAccumulator(str(run / EVENTS), size_guidance={"scalars": 0})
    events.Reload()
    if "loss" not in events.Tags()["scalars"]:
        return {}
    return {event.step: event.value for event in events.Scalars("loss")}


def environment(**more: str) -> dict[str, str]:
    """Of every command: this checkout's code, one thread."""
    code = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": code, "OMP_NUM_THREADS": "1", **more}


def family(pid: int) -> Iterator[psutil.Process]:
    """A process and all that it and its children started, children first."""
    try:
        process = psutil.Process(pid)
        yield from reversed(process.children(recursive=True))
        yield process
    except psutil.NoSuchProcess:
        return


def title(process: psutil.Process) -> str:
    """The command line's first word, which Ray's workers set to what they do; empty for a process that ended."""
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""
