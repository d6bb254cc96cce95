"""The sync expert: embeddings in any batch and length, the sign of offsets, training that learns, resumes and stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_clips import made_clip as stored_clip

from syncdiff_data.records import UserError
from syncdiff_data.sync_expert.expert import CHUNK, SyncExpert
from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork
from syncdiff_data.sync_expert.scoring import score_embeddings
from syncdiff_model.presets import TrainConfig
from syncdiff_model.sync_data import SyncBatches, SyncClip, SyncDataConfig, hold_out, sync_clip, window_of
from syncdiff_model.tasks.sync import SyncConfig, SyncTask, area_under_curve, contrast
from syncdiff_model.training import Trainer, lr_lambda

SMALL = NetworkConfig(dim=16, widths=(8, 8, 8, 8), landmark_width=8, audio_width=16)


@pytest.fixture(scope="module")
def expert() -> SyncExpert:
    torch.manual_seed(0)
    return SyncExpert(SyncNetwork(SMALL))


def made_inputs(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mouth = rng.integers(0, 256, (frames, 96, 96), dtype=np.uint8)
    return (
        mouth,
        rng.normal(100, 10, (frames, 68, 2)).astype(np.float32),
        rng.normal(0, 2, (frames, 104)).astype(np.float32),
    )


def made_clip(number: int, frames: int = 40, speaker: str = "a") -> SyncClip:
    """A mouth whose brightness, landmarks and sound follow one random curve."""
    rng = np.random.default_rng(number)
    curve = np.convolve(rng.normal(size=frames + 4), np.ones(5) / 2, mode="valid").astype(np.float32)
    pictures = np.full((frames, 48, 48), 100, np.uint8)
    pictures[:, 20:40, 12:36] = np.clip(100 + 30 * curve, 0, 255).astype(np.uint8)[:, None, None]
    motion = np.repeat(curve[:, None], 54, axis=1) * np.tile([0.0, 1.0], 27).astype(np.float32)
    features = curve[:, None] * 2 + rng.normal(0, 0.2, (frames, 104)).astype(np.float32)
    return SyncClip(
        str(number),
        speaker,
        pictures,
        pictures.mean(0).astype(np.float32),
        100.0,
        20.0,
        motion,
        features.astype(np.float32),
    )


# The expert


def test_embeddings_do_not_depend_on_the_length_of_chunks(
    expert: SyncExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    mouth, points, sound = made_inputs(60)
    whole = expert.embed_lips(mouth, points), expert.embed_audio(sound)
    monkeypatch.setattr("syncdiff_data.sync_expert.expert.CHUNK", 16)
    assert CHUNK > 60
    for together, in_parts in zip(whole, (expert.embed_lips(mouth, points), expert.embed_audio(sound))):
        assert np.allclose(together, in_parts, atol=1e-5)
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.embed_lips(np.zeros((5, 48, 48), np.uint8)),
        lambda e: e.embed_lips(np.zeros((5, 96, 96), np.float32)),
        lambda e: e.embed_lips(np.zeros((5, 96, 96), np.uint8), np.zeros((4, 68, 2))),
        lambda e: e.embed_audio(np.zeros((5, 26))),
    ],
)
def test_wrong_shapes_are_refused(expert: SyncExpert, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected"):
        call(expert)


def test_a_saved_expert_is_the_same_and_a_folder_without_one_is_a_sentence(
    expert: SyncExpert, tmp_path: Path
) -> None:
    expert.save_pretrained(tmp_path / "expert")
    again = SyncExpert.from_pretrained(tmp_path / "expert")
    mouth, points, _ = made_inputs(12)
    assert np.array_equal(again.embed_lips(mouth, points), expert.embed_lips(mouth, points))
    assert again.sha256
    with pytest.raises(UserError, match="holds no sync expert"):
        SyncExpert.from_pretrained(tmp_path)


@settings(max_examples=40, deadline=None)
@given(shift=st.integers(-12, 12), seed=st.integers(0, 1000))
def test_the_offset_is_positive_where_the_sound_comes_first(shift: int, seed: int) -> None:
    """Sound of frame t - shift belongs to the lips of frame t, as SyncNet's AV offset has it."""
    vectors = np.random.default_rng(seed).normal(size=(80, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lips = vectors[15:65]
    audio = vectors[15 + shift : 65 + shift]  # audio[t - shift] is lips[t]
    score = score_embeddings(lips, audio)
    assert score.offset == shift
    assert score.confidence > 0.8
    assert np.isnan(score.per_frame).sum() == abs(shift)


# Training


def test_contrast_is_least_where_lips_and_sound_agree() -> None:
    vectors = torch.nn.functional.normalize(
        torch.randn(3, 20, 16, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    scale = torch.tensor(20.0)
    right, wrong = contrast(vectors, vectors, scale), contrast(vectors, vectors.roll(4, dims=1), scale)
    assert all(r < 0.2 < w for r, w in zip(right, wrong))


def test_batches_depend_on_their_number_alone() -> None:
    clips = [made_clip(i) for i in range(12)]
    one, two = (SyncBatches([clips], [1.0], SyncDataConfig(batch_clips=4), seed=3) for _ in range(2))
    first = one.batch(5)
    two.load_state_dict({"number": 5})
    second = next(iter(two))
    assert first["clip_id"] == second["clip_id"]
    assert all(torch.equal(first[k], second[k]) for k in ("pictures", "mean", "landmarks", "energies"))
    assert first["pictures"].shape == (4, 28, 48, 48)


def test_whole_speakers_are_held_out() -> None:
    several = [made_clip(i, speaker="abcdef"[i % 6]) for i in range(24)]
    single = [made_clip(i) for i in range(20)]
    training, held = hold_out([several, single], 0.2)
    assert {c.speaker for c in training[0]}.isdisjoint({c.speaker for c in held if c in several})
    assert [len(clips) for clips in training] == [20, 18]
    assert len(held) == 6


def test_a_window_is_long_enough_and_mirrored_points_stay_a_face() -> None:
    window = window_of(made_clip(0), SyncDataConfig(), np.random.default_rng(0))
    assert window["pictures"].shape == (29, 48, 48)
    assert window["landmarks"].shape == (28, 54)
    assert window["energies"].shape == (28, 104)


def small_trainer(run: Path, steps: int) -> Trainer:
    torch.manual_seed(0)
    clips = [made_clip(i, speaker="ab"[i % 2]) for i in range(16)]
    task = SyncTask(SyncConfig(SMALL), [made_clip(100 + i) for i in range(6)])
    batches = SyncBatches([clips], [1.0], SyncDataConfig(batch_clips=6, drop_landmarks=0.0))
    config = TrainConfig(
        steps, 6, 28, 3e-3, warmup_steps=5, checkpoint_every=1000, validate_every=20, ema_decay=0.9
    )
    return Trainer(task, batches, config, run)


def test_training_learns_and_keeps_the_best(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", 60)
    losses = trainer.run()
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert trainer.best > 0.7
    best = SyncExpert.from_pretrained(tmp_path / "run" / "best")
    assert best.network.config == SMALL


def test_a_resumed_run_repeats_the_losses(tmp_path: Path) -> None:
    straight = small_trainer(tmp_path / "straight", 8).run()
    first = small_trainer(tmp_path / "parts", 4)
    losses = first.run()
    second = small_trainer(tmp_path / "parts", 8)
    second.resume(next((tmp_path / "parts" / "checkpoints").glob("step-*")))
    assert losses + second.run() == straight


def test_a_gradient_that_is_not_finite_names_its_clips(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", 4)
    batch = trainer.loader.batch(0)  # type: ignore[union-attr]
    batch["energies"][0, 0, 0] = torch.inf
    with pytest.raises(UserError, match=rf"clips {batch['clip_id'][0]}, "):
        trainer.train_step(batch)


def test_the_rate_falls_by_the_clock_where_the_clock_ends_the_run() -> None:
    config = TrainConfig(100, 1, 1, warmup_steps=0, decay_steps=50, max_seconds=10.0)
    assert [lr_lambda(0, config, s) for s in (0, 5, 7.5, 10)] == [1, 1, 0.5, 0]
    assert lr_lambda(0, replace(config, max_seconds=None), 1e9) == 1


def test_area_under_the_curve() -> None:
    assert area_under_curve([3, 4], [1, 2]) == 1
    assert area_under_curve([1, 2], [1, 2]) == 0.5


def test_a_stored_clip_without_mouths_is_a_sentence() -> None:
    with pytest.raises(UserError, match="without --no-mouth"):
        sync_clip(stored_clip(30))
