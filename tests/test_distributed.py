"""Training on two workers of Ray Train: the same weights as on one, and on from the last checkpoint after a kill."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_data import SIZE, make_dataset, numbered_clip

from syncdiff_data.cli import RayOptions
from syncdiff_data.images import encode_jpeg
from syncdiff_data.loader import Batch
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import AutoencoderConfig
from syncdiff_model.checkpoint import list_checkpoints, load_autoencoder
from syncdiff_model.distributed import Peers, run_on_workers
from syncdiff_model.presets import Settings, TrainConfig
from syncdiff_model.runs import RunOptions, TrainingData, train_autoencoder
from syncdiff_model.tasks.base import Loss, Task
from syncdiff_model.training import Trainer

TRAIN = TrainConfig(
    steps=6, batch_size=4, window=2, learning_rate=3e-3, warmup_steps=0, ema_decay=0.9, checkpoint_every=2,
    flip=False, loader_workers=0,
)  # fmt: skip
SETTINGS = Settings(autoencoder=AutoencoderConfig("patch", 4, 4, (16,)), train_autoencoder=TRAIN)
RAY = RayOptions(workers=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random pixels: of a flat crop the loss is rounding alone, which Adam would make as large as any gradient."""
    made = [
        replace(numbered_clip(i, 12), face_jpeg=tuple(map(encode_jpeg, random_crops(i, 12))))
        for i in range(6)
    ]
    return Path(make_dataset(tmp_path_factory.mktemp("data"), [made])[0])


def random_crops(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.slow
def test_two_workers_with_half_the_batch_agree_with_one(
    clips: Path, tmp_path: Path, ray_session: None
) -> None:
    """The tolerance that docs/model.md states: sums in another order."""
    for workers in (1, 2):
        options = RunOptions(tmp_path / str(workers), workers=workers, ray=RAY)
        train_autoencoder(TrainingData(clips), SETTINGS, options)
    one, two = (load_autoencoder(tmp_path / str(workers)).state_dict() for workers in (1, 2))
    differences = torch.cat([(two[name] - value).abs().flatten() for name, value in one.items()])
    # Adam divides by the gradient's own size, so that a tiny gradient's rounding is seen in a weight or two.
    assert differences.mean() < 1e-6
    assert differences.max() < 1e-3


def test_a_batch_that_cannot_be_shared_is_a_sentence(clips: Path, tmp_path: Path) -> None:
    odd = replace(SETTINGS, train_autoencoder=replace(TRAIN, batch_size=3))
    with pytest.raises(UserError, match="does not part evenly among 2 workers"):
        train_autoencoder(TrainingData(clips), odd, RunOptions(tmp_path / "run", workers=2, ray=RAY))


class Line(Task):
    """y = 2 x, learnt. One of its workers is killed once, at step 5."""

    def __init__(self, mark: Path, peers: Peers):
        super().__init__({"line": torch.nn.Linear(1, 1)})
        self.mark, self.peers = mark, peers

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        if step == 5 and not self.peers.is_first and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ((self.trained["line"](batch["x"]) - 2 * batch["x"]) ** 2).mean(), {}

    def save(self, folder: Path) -> None:
        torch.save(self.trained.state_dict(), folder / "line.pt")


@dataclass
class Numbers:
    peers: Peers
    number: int = 0

    def __iter__(self) -> Any:
        while True:
            draw = torch.Generator().manual_seed(self.number * self.peers.count + self.peers.rank)
            self.number += 1
            yield {"x": torch.randn(4, 1, generator=draw), "clip_id": ["a"] * 4}

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def line_in(run: Path, mark: Path, config: TrainConfig) -> dict[str, torch.Tensor]:
    def train(peers: Peers, device: str) -> None:
        torch.manual_seed(0)
        trainer = Trainer(Line(mark, peers), Numbers(peers), config, run, device, peers)  # type: ignore[arg-type]
        found = list_checkpoints(run)
        if found:
            trainer.resume(found[-1])
        trainer.run()

    run_on_workers(train, run, 2, RAY)
    weights: dict[str, torch.Tensor] = torch.load(list_checkpoints(run)[-1] / "line.pt", weights_only=True)
    return weights


@pytest.mark.parametrize(("workers", "device", "asked"), [(2, "cuda", "2 GPUs"), (9999, "cpu", "9999 CPUs")])
def test_workers_that_no_cluster_has_room_for_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, device: str, asked: str
) -> None:
    monkeypatch.setattr("syncdiff_model.distributed.ray_session", lambda *_, **__: nullcontext())
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr("syncdiff_data.stage.resources.may_grow", lambda: False)
    monkeypatch.setattr("syncdiff_data.stage.resources.ROOM_WITHIN_S", 0)
    with pytest.raises(UserError, match=f"asks for {asked} at once, and Ray has"):
        run_on_workers(lambda peers, device: None, tmp_path, workers, RayOptions(device=device))


@pytest.mark.slow
def test_a_killed_worker_goes_on_from_the_last_checkpoint(tmp_path: Path, ray_session: None) -> None:
    config = replace(TRAIN, steps=8)
    (tmp_path / "kept").touch()
    whole = line_in(tmp_path / "whole", tmp_path / "kept", config)
    killed = line_in(tmp_path / "killed", tmp_path / "killed-once", config)
    assert (tmp_path / "killed-once").exists()
    for name, value in whole.items():
        assert torch.equal(killed[name], value), "the very same steps"


@pytest.mark.slow
def test_what_a_restart_cannot_mend_is_a_sentence_at_once(tmp_path: Path, ray_session: None) -> None:
    def train(peers: Peers, device: str) -> None:
        (tmp_path / f"{peers.rank}-{os.getpid()}").touch()
        raise UserError("the loss of step 3 is nan")

    with pytest.raises(UserError, match="the loss of step 3 is nan"):
        run_on_workers(train, tmp_path / "run", 2, RAY)
    assert len(list(tmp_path.glob("?-*"))) == 2, "tried once"
