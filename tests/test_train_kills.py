"""train.py killed in the middle and gone on with: the same losses and weights as a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from loader_data import make_dataset, numbered_clip
from runs import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from syncdiff_model.checkpoint import fingerprint, load_state, load_syncdiff
from syncdiff_model.event_log import EVENTS

pytestmark = pytest.mark.slow
PRESET = """
autoencoder: {kind: patch, factor: 4, latent_channels: 4, widths: [16]}
conditioning: {context: 3, tokens_dim: 16, pose: none, pose_dim: 3, pose_width: 8}
denoiser: {widths: [16, 32], layers: 1, attention: [false, true], heads: 2, groups: 8}
diffusion: {prediction: sample}
gan: {sync: 0, widths: [8, 8]}
"""
STAGE = (
    "{steps: %d, batch_size: 4, window: 2, learning_rate: 3.0e-3, warmup_steps: 0, ema_decay: 0.9, flip: false, "
    "loader_workers: 0, checkpoint_every: %d, validate_every: 0, log_every: 1}"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/, features/ and preset.yaml: the autoencoder and the audio network take 4 steps, the generators 20."""
    folder = tmp_path_factory.mktemp("data")
    sets = make_dataset(folder, [[numbered_clip(number, 12) for number in range(6)]])
    made = {"faces": {}, "encoder": "logfbank", "checkpoint": "", "modality": "audio"}
    for path in (Path(root) / "dataset.json" for root in sets):
        described = json.loads(path.read_text())
        described["recipe"]["config"] |= made
        path.write_text(json.dumps(described))
    stages = {"autoencoder": (4, 100), "audio": (4, 100), "syncdiff": (20, 10), "gan": (20, 10)}
    lines = [f"train_{name}: {STAGE % numbers}" for name, numbers in stages.items()]
    (folder / "preset.yaml").write_text(PRESET + "\n".join(lines))
    return folder


def start(data: Path, model: str, out: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "pipelines/train.py", "--model", model, "--preset", str(data / "preset.yaml")]
    line += [
        "--clips",
        str(data / "clips"),
        "--features",
        str(data / "features"),
        "--out",
        str(out),
        "--resume",
    ]
    return subprocess.Popen(
        line, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("model", ["syncdiff", "gan"])
def test_ten_steps_a_kill_and_ten_more_are_twenty_steps(data: Path, tmp_path: Path, model: str) -> None:
    assert start(data, model, tmp_path / "whole").wait() == 0
    killed = start(data, model, tmp_path / "killed")
    first = tmp_path / "killed" / "checkpoints" / "step-00000010"
    while killed.poll() is None and not first.exists():
        time.sleep(0.002)
    killed.kill()
    assert killed.wait() != 0, "the kill came too late to test anything"
    assert not (first.parent / "step-00000020").exists()
    assert start(data, model, tmp_path / "killed").wait() == 0
    one, other = (tmp_path / name / "checkpoints" / "step-00000020" for name in ("whole", "killed"))
    for part in ("denoiser", "conditioner"):
        pairs = zip(*(getattr(load_syncdiff(folder), part).state_dict().values() for folder in (one, other)))
        assert all(torch.equal(a, b) for a, b in pairs), part
    states = [load_state(folder / "training_state.pt") for folder in (one, other)]
    assert states[0]["step"] == states[1]["step"] == 20
    weights = [state["trained"] for state in states]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert fingerprint(one) == fingerprint(other)
    names = ("loss",) if model == "syncdiff" else ("generator/loss", "discriminator/loss")
    for name in names:
        losses = [logged(tmp_path / run, name) for run in ("whole", "killed")]
        assert list(losses[0]) == list(range(1, 21))
        assert losses[0] == losses[1]


def logged(run: Path, name: str) -> dict[int, float]:
    """A scalar of every step, as TensorBoard shows it."""
    events = EventAccumulator(str(run / EVENTS), size_guidance={"scalars": 0})
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}
