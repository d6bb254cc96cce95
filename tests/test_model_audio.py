"""The first stage: lips read from the sound alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model_training import CONTEXT, DIM, SETTINGS, SIZE, TRAIN, Batches, batch

from syncdiff_data.loader import BatchParts, LoaderConfig
from syncdiff_data.loader.sample import choose_frames
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import build_autoencoder
from syncdiff_model.conditioning import mouth_shape
from syncdiff_model.tasks.audio import AudioTask, Origin, fresh_conditioner, load_conditioner
from syncdiff_model.tasks.syncdiff import SyncDiffTask
from syncdiff_model.training import Trainer

AUTOENCODER = build_autoencoder(SETTINGS.autoencoder)
ORIGIN = Origin({"encoder": "logfbank", "checkpoint": ""}, "logfbank", {})


class Speaking(Batches):
    """Batches whose lower lip goes with the first feature of the frame, while the head moves at random."""

    def __iter__(self) -> Any:
        for number, made in enumerate(super().__iter__()):
            yield speak(made, number)


def speak(made: dict[str, Any], number: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(number)
    shape = torch.linspace(0, 1, 68)[:, None] * torch.tensor([1.0, 0.5]) * SIZE
    head = 8 * torch.randn(2, 2, 1, 2, generator=draw)
    made["features"] = torch.randn(2, 2, CONTEXT, DIM, generator=draw)
    made["landmarks"] = shape + head
    made["landmarks"][..., 66, 1] += 3 * made["features"][:, :, CONTEXT // 2, 0]
    return made


def fresh() -> AudioTask:
    torch.manual_seed(0)
    few = [speak(batch(number), number) for number in range(90, 98)]
    return AudioTask(fresh_conditioner(SETTINGS, AUTOENCODER, ORIGIN, few), [speak(batch(50), 50)])


def test_it_learns_and_hands_on_what_it_learnt(tmp_path: Path) -> None:
    task = fresh()
    before = {name: weight.clone() for name, weight in task.conditioner.state_dict().items()}
    config = replace(TRAIN, steps=300, learning_rate=5e-3)
    losses = Trainer(task, Speaking(), config, tmp_path).run()  # type: ignore[arg-type]
    assert np.mean(losses[-50:]) < 0.75 * np.mean(losses[:50])
    learnt = load_conditioner(tmp_path / "checkpoints" / "step-00000300")
    changed = {name for name, value in learnt.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} <= {"audio", "mouth"}, "the rest is not this stage's"
    whole = SyncDiffTask.fresh(SETTINGS, AUTOENCODER, ORIGIN, [batch(1)], reader=learnt)
    assert torch.equal(whole.model.conditioner.mouth[1].weight, learnt.mouth[1].weight)
    assert torch.equal(whole.model.conditioner.feature_mean, learnt.feature_mean)
    assert all(weight.requires_grad for weight in whole.model.conditioner.parameters())


def test_what_it_learnt_serves_any_pose_and_no_other_size() -> None:
    reader = fresh().conditioner
    assert reader.config.pose == "bottleneck"
    blind = replace(SETTINGS, conditioning=replace(SETTINGS.conditioning, pose="none"))
    model = SyncDiffTask.fresh(blind, AUTOENCODER, ORIGIN, [batch(1)], reader=reader).model
    assert model.conditioner.config.pose == "none", "the settings decide, not the first stage's"
    assert torch.equal(model.conditioner.audio.enter.weight, reader.audio.enter.weight)
    wider = replace(SETTINGS, conditioning=replace(SETTINGS.conditioning, tokens_dim=32))
    with pytest.raises(UserError, match="does not fit"):
        SyncDiffTask.fresh(wider, AUTOENCODER, ORIGIN, [batch(1)], reader=reader)


def test_lips_are_told_wherever_the_mouth_lies() -> None:
    landmarks = torch.rand(3, 68, 2) * 100
    moved = landmarks + torch.tensor([7.0, -4.0])
    assert torch.allclose(mouth_shape(landmarks, 128), mouth_shape(moved, 128), atol=1e-6)
    assert not torch.allclose(mouth_shape(landmarks, 128), mouth_shape(landmarks * 1.1, 128), atol=1e-3)


@pytest.mark.parametrize("most", [1, 3])
def test_masked_frames_are_the_window_moved(most: int) -> None:
    config = LoaderConfig(window=2, parts=BatchParts(("frames", "masked")), masked_shift=most)
    rng = np.random.default_rng(0)
    moves = set()
    for _ in range(400):
        chosen = choose_frames(12, 2, config, rng)
        assert chosen.masked.min() >= 0
        assert chosen.masked.max() <= 11
        if most <= chosen.window[0] <= 10 - most:
            moves |= set((chosen.masked - chosen.window).tolist())
    assert moves == set(range(-most, most + 1))


def test_other_samples_do_not_depend_on_the_shift() -> None:
    """Where nobody asks for masked frames, no random number is spent on them."""
    plain, shifted = (LoaderConfig(window=2, masked_shift=most) for most in (0, 3))
    one, other = (choose_frames(40, 2, config, np.random.default_rng(5)) for config in (plain, shifted))
    assert np.array_equal(one.window, other.window)
    assert np.array_equal(other.masked, other.window)
    assert one.identity == other.identity
