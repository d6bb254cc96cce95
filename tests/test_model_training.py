"""Training: it learns, it resumes to the very same losses, and it refuses what it should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import AutoencoderConfig, build_autoencoder
from syncdiff_model.checkpoint import load_syncdiff
from syncdiff_model.conditioning import ConditioningConfig
from syncdiff_model.denoiser import DenoiserConfig, DiffusionConfig
from syncdiff_model.presets import Settings, TrainConfig
from syncdiff_model.runs import start_run
from syncdiff_model.tasks.audio import Origin, features_encoder
from syncdiff_model.tasks.autoencoder import AutoencoderTask
from syncdiff_model.tasks.syncdiff import SyncDiffTask
from syncdiff_model.training import Trainer, lr_lambda

SIZE, WINDOW, CONTEXT, DIM = 32, 2, 3, 10
SETTINGS = Settings(
    autoencoder=AutoencoderConfig("patch", 4, 4, (16,)),
    conditioning=ConditioningConfig(
        context=CONTEXT, tokens_dim=16, pose="bottleneck", pose_dim=3, pose_width=8
    ),
    denoiser=DenoiserConfig((16, 32), 1, (False, True), 2, 8),
    diffusion=DiffusionConfig(prediction="sample"),
)
TRAIN = TrainConfig(
    steps=6, batch_size=2, window=WINDOW, learning_rate=3e-3, warmup_steps=0, weight_decay=0.0, ema_decay=0.9
)


def batch(number: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(number)

    def images(*shape: int) -> torch.Tensor:
        coarse = torch.rand(*shape, 3, 4, 4, generator=draw).flatten(0, -4)
        smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
        return (smooth * 255).byte().reshape(*shape, 3, SIZE, SIZE)

    return {
        "frames": images(2, WINDOW),
        "identity": images(2),
        "pose": images(2, WINDOW),
        "features": torch.randn(2, WINDOW, CONTEXT, DIM, generator=draw),
        "landmarks": SIZE * torch.rand(2, WINDOW, 68, 2, generator=draw),
        "pose_known": torch.ones(2, WINDOW, dtype=torch.bool),
        "first_frame": torch.tensor([0, 3]),
        "num_frames": torch.tensor([9, 9]),
        "clip_id": ["a", "b"],
    }


class Batches:
    """Numbered batches with the loader's memory of its place."""

    def __init__(self, same: bool = False):
        self.samples, self.same = 0, same
        self.dataset = SimpleNamespace()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            self.samples += 1
            yield batch(0 if self.same else self.samples)

    def state_dict(self) -> dict[str, int]:
        return {"samples": self.samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.samples = state["samples"]


def fresh_task() -> SyncDiffTask:
    torch.manual_seed(0)
    origin = Origin({"encoder": "logfbank", "checkpoint": ""}, "logfbank", {})
    autoencoder = build_autoencoder(SETTINGS.autoencoder)
    return SyncDiffTask.fresh(SETTINGS, autoencoder, origin, [batch(1), batch(2)])


def trainer(run: Path, config: TrainConfig, same: bool = False) -> Trainer:
    return Trainer(fresh_task(), Batches(same), config, run)  # type: ignore[arg-type]


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    """The mean loss of the last ten steps falls below half of the first step's."""
    losses = trainer(tmp_path, replace(TRAIN, steps=40), same=True).run()
    assert sum(losses[-10:]) / 10 < losses[0] / 2


def test_autoencoder_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = AutoencoderTask(SETTINGS)
    losses = Trainer(task, Batches(same=True), replace(TRAIN, steps=40), tmp_path).run()  # type: ignore[arg-type]
    assert losses[-1] < losses[0] / 2


def test_resumed_run_takes_the_same_steps(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", TRAIN).run()
    first = trainer(tmp_path / "parts", replace(TRAIN, steps=3)).run()
    checkpoint = tmp_path / "parts" / "checkpoints" / "step-00000003"
    second = Trainer(SyncDiffTask.saved(SETTINGS, checkpoint), Batches(), TRAIN, tmp_path / "parts")  # type: ignore[arg-type]
    second.resume(checkpoint)
    assert first + second.run() == whole
    weights = [load_syncdiff(tmp_path / name).denoiser.state_dict().values() for name in ("whole", "parts")]
    assert all(torch.equal(one, other) for one, other in zip(*weights))


def test_fewer_steps_than_are_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = trainer(tmp_path, replace(TRAIN, steps=2))
    trained.run()
    trained.config = replace(TRAIN, steps=1)
    assert trained.run() == []
    assert "nothing to train: step 2 is done, of 1 that are asked for" in capsys.readouterr().err


def test_clock_stops_training_with_a_checkpoint(tmp_path: Path) -> None:
    stopped = trainer(tmp_path, replace(TRAIN, steps=10_000, max_seconds=0.01))
    assert 1 <= len(stopped.run()) < 10_000
    assert load_syncdiff(tmp_path).conditioner.config.feature == "logfbank"


def test_damaged_state_is_a_sentence(tmp_path: Path) -> None:
    done = trainer(tmp_path, replace(TRAIN, steps=1))
    done.run()
    checkpoint = tmp_path / "checkpoints" / "step-00000001"
    state = checkpoint / "training_state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        done.resume(checkpoint)


def test_loss_that_is_not_finite_is_a_sentence(tmp_path: Path) -> None:
    one = trainer(tmp_path, TRAIN)
    broken = batch(1)
    broken["features"][:] = float("nan")
    with pytest.raises(UserError, match="lower the learning rate"):
        one.train_step(broken)


def test_runs_are_neither_mixed_nor_overwritten(tmp_path: Path) -> None:
    assert start_run(tmp_path, "syncdiff", SETTINGS, resume=False) is None
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(UserError, match="--resume"):
        start_run(tmp_path, "syncdiff", SETTINGS, resume=False)
    longer = replace(SETTINGS, train_syncdiff=replace(SETTINGS.train_syncdiff, steps=9))
    assert start_run(tmp_path, "syncdiff", longer, resume=True) is not None
    other = replace(SETTINGS, diffusion=DiffusionConfig(prediction="v_prediction"))
    with pytest.raises(UserError, match=r"settings\.diffusion\.prediction"):
        start_run(tmp_path, "syncdiff", other, resume=True)


def test_rate_rises_stays_and_falls() -> None:
    config = replace(TRAIN, steps=100, warmup_steps=10, decay_steps=20)
    rates = [lr_lambda(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == 1
    assert rates[99] == pytest.approx(0.05)


def test_crops_must_fit(tmp_path: Path) -> None:
    wide = replace(SETTINGS, denoiser=DenoiserConfig((16,) * 5, 1, (False,) * 5, 2, 8))
    with pytest.raises(UserError, match="multiple of 64"):
        SyncDiffTask.fresh(
            wide,
            build_autoencoder(wide.autoencoder),
            Origin({"encoder": "mel", "checkpoint": ""}, "mel", {}),
            [batch(1)],
        )


@pytest.mark.parametrize("text", ["{", '{"recipe": {}}'])
def test_features_without_an_encoder_are_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="does not say which encoder"):
        features_encoder(tmp_path)


def test_features_that_saw_lips_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(
        '{"recipe": {"config": {"encoder": "avhubert", "checkpoint": "x", "modality": "av"}}}'
    )
    with pytest.raises(UserError, match="audio features alone"):
        features_encoder(tmp_path)


def test_a_batch_of_the_parts_that_a_task_asks_for_is_enough() -> None:
    always = ("features", "pose_known", "first_frame", "num_frames", "clip_id")
    for task in (fresh_task(), AutoencoderTask(SETTINGS)):
        parts = task.batch_parts(SETTINGS)
        names = (*always, *parts.images, *(["landmarks"] if parts.landmarks else []))
        asked = {
            name: batch(3)[name] for name in names if name != "masked"
        }  # moved frames are not in these batches
        losses = [torch.random.manual_seed(1) and task(made)[0] for made in (asked, batch(3))]
        assert torch.equal(*losses)
