"""The GAN: its phases, the gate of the expert's loss, resuming, and that its checkpoints dub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model_training import CONTEXT, DIM, SETTINGS, SIZE, TRAIN, Batches, batch

from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import build_autoencoder, to_unit
from syncdiff_model.checkpoint import load_syncdiff, read_index
from syncdiff_model.conditioning import ConditioningConfig
from syncdiff_model.gan import Discriminator, GanConfig, real_error
from syncdiff_model.generators import load_generator
from syncdiff_model.losses import SYNC_REACH
from syncdiff_model.patches import PatchAutoencoder
from syncdiff_model.presets import Settings, TrainConfig
from syncdiff_model.rollout import ONE_PASS, SamplingConfig, advance, start_rollout
from syncdiff_model.tasks.audio import Origin
from syncdiff_model.tasks.gan import GanTask
from syncdiff_model.training import Trainer

WINDOW = 9
PLAIN = replace(
    SETTINGS, conditioning=ConditioningConfig(context=CONTEXT, tokens_dim=16), gan=GanConfig(widths=(8, 8))
)


def long_batch(number: int) -> dict[str, Any]:
    """A batch of windows that are long enough for the sync expert."""
    made = batch(number)
    repeats = -(-WINDOW // made["frames"].shape[1])
    longer = ("frames", "pose", "features", "landmarks", "pose_known")
    made |= {name: torch.cat([made[name]] * repeats, dim=1)[:, :WINDOW] for name in longer}
    draw = torch.Generator().manual_seed(number)
    return made | {"energies": torch.randn(2, WINDOW + 2 * SYNC_REACH, 104, generator=draw)}


class LongBatches(Batches):
    def __iter__(self) -> Any:
        while True:
            self.samples += 1
            yield long_batch(0 if self.same else self.samples)


def fresh(gan: GanConfig = PLAIN.gan, held_out: int = 0) -> GanTask:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(PLAIN.autoencoder)
    assert isinstance(autoencoder, PatchAutoencoder)
    autoencoder.fit(to_unit(long_batch(1)["frames"].flatten(0, 1)))
    return GanTask.fresh(
        replace(PLAIN, gan=gan),
        autoencoder,
        Origin({"encoder": "logfbank", "checkpoint": ""}, "logfbank", {}),
        [long_batch(1), long_batch(2)],
        [long_batch(100 + number) for number in range(held_out)],
    )


def trainer(task: GanTask, run: Path, config: TrainConfig, same: bool = False) -> Trainer:
    return Trainer(task, LongBatches(same), config, run)  # type: ignore[arg-type]


def test_each_phase_changes_its_own_networks_alone(tmp_path: Path) -> None:
    task = fresh()
    state = {name: value.clone() for name, value in task.trained.state_dict().items()}
    one = trainer(task, tmp_path, TRAIN)
    moved = [long_batch(1)]
    one._phase_step("generator", one.optimizers["generator"], 1e-3, moved)
    after = task.trained.state_dict()
    parts = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, state[name])}
    # spectral norm's vectors are no parameters: they follow every pass
    weights = {name for name, _ in task.trained["discriminator"].named_parameters()}
    assert all(
        torch.equal(after[f"discriminator.{name}"], state[f"discriminator.{name}"]) for name in weights
    )
    assert {"conditioner", "denoiser"} <= parts
    before = {name: value.clone() for name, value in after.items()}
    one._phase_step("discriminator", one.optimizers["discriminator"], 1e-3, moved)
    changed = {n.split(".")[0] for n, v in task.trained.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"discriminator"}


def test_it_learns_one_batch(tmp_path: Path) -> None:
    regression = fresh(GanConfig(sync=0, adversarial=0))
    losses = trainer(regression, tmp_path, replace(TRAIN, steps=60), same=True).run()
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    assert read_index(tmp_path / "checkpoints" / "step-00000060")["_class_name"] == "Regression"


def test_a_discriminator_tells_smooth_from_noisy() -> None:
    torch.manual_seed(0)
    judge = Discriminator((8, 16))
    optimizer = torch.optim.AdamW(judge.parameters(), 1e-2)
    for _ in range(60):
        smooth, noisy = torch.zeros(4, 3, 16, 32), torch.randn(4, 3, 16, 32)
        error = real_error(judge(smooth), real=True) + real_error(judge(noisy), real=False)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert judge(torch.zeros(1, 3, 16, 32)).mean() > 0 > judge(torch.randn(1, 3, 16, 32)).mean()


def test_the_gate_opens_by_validation_and_stays_open(tmp_path: Path) -> None:
    closed, opened = fresh(GanConfig(sync_gate=0.0), held_out=1), fresh(GanConfig(sync_gate=9.0), held_out=1)
    for task in (closed, opened):
        assert "sync" not in task(long_batch(1))[1], "before validation there are no lips to judge"
        assert task.validate()["validation/sync_of_chance"] > 0
    assert "sync" not in closed(long_batch(1))[1]
    assert "sync" in opened(long_batch(1))[1]
    whole = trainer(opened, tmp_path, replace(TRAIN, steps=1))
    whole.run()
    checkpoint = tmp_path / "checkpoints" / "step-00000001"
    again = trainer(GanTask.saved(replace(PLAIN, gan=GanConfig(sync_gate=9.0)), checkpoint), tmp_path, TRAIN)
    again.resume(checkpoint)
    assert "sync" in again.task(long_batch(1))[1], "a resumed run knows"


def test_resumed_run_takes_the_same_steps(tmp_path: Path) -> None:
    config = replace(TRAIN, steps=4)
    whole = trainer(fresh(), tmp_path / "whole", config).run()
    first = trainer(fresh(), tmp_path / "parts", replace(config, steps=2)).run()
    checkpoint = tmp_path / "parts" / "checkpoints" / "step-00000002"
    second = trainer(GanTask.saved(PLAIN, checkpoint), tmp_path / "parts", config)
    second.resume(checkpoint)
    assert first + second.run() == whole


def test_its_checkpoints_dub_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncdiff_data.features.encoder.LOGFBANK_DIM", DIM)
    trainer(fresh(), tmp_path, replace(TRAIN, steps=2)).run()
    generator = load_generator(str(tmp_path), SamplingConfig(steps=25, seed=3), {})
    assert generator.name == "GAN"
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    sound = rng.standard_normal((6, DIM)).astype(np.float32)
    times = [np.arange(3) / 25]
    made = generator.advance([generator.start(crops[0], sound)], [crops], times)[0]
    model = load_syncdiff(tmp_path)
    expected = advance(model, [start_rollout(model, crops[0], sound)], [crops], times, ONE_PASS)[0]
    assert np.array_equal(made, expected)
    assert not np.array_equal(made, crops)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="shares of one loss"):
        GanConfig(adversarial=1.0)
    with pytest.raises(UserError, match="at least 9 frames, not 4"):
        Settings(train_gan=TrainConfig(steps=1, batch_size=1, window=4))
    with pytest.raises(UserError, match="sees no pose"):
        GanTask(replace(SETTINGS, gan=PLAIN.gan), fresh().model)


def test_a_window_without_sound_is_not_to_fit_any() -> None:
    task = fresh(GanConfig(sync_gate=9.0))
    task.gate.unlock()
    task.corruption = replace(PLAIN.corruption, audio_dropout=1.0)
    assert task(long_batch(1))[1]["sync"] == 0
    task.corruption = replace(PLAIN.corruption, audio_dropout=0.0)
    assert task(long_batch(1))[1]["sync"] > 0
