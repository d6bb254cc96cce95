"""Losses: weights by noise level, details, and the sync expert's view of a generated crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.demo import talker_clip
from syncdiff_data.faces import FaceConfig, MouthCropper, crop_face, face_transforms, load_backend, mean_face
from syncdiff_data.features import logfbank
from syncdiff_data.loader.sample import crop_landmarks
from syncdiff_data.records import UserError
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_data.sync_expert.prepare import halve, standard_energies
from syncdiff_model.autoencoder import to_unit
from syncdiff_model.conditioning import ConditioningConfig
from syncdiff_model.losses import SYNC_REACH, LossConfig, SyncLoss, detail_error, level_weight, mouth_pictures
from syncdiff_model.presets import Settings, load_preset

SIZE, FRAMES = 128, 40


@pytest.fixture(scope="module")
def talker() -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Crops [T, 3, S, S] in [-1, 1], landmarks in crop pixels, the expert's own pictures [T, 48, 48], and the sound."""
    frames, audio, _ = talker_clip(1, num_frames=FRAMES)
    images = list(frames)
    backend = load_backend(FaceConfig(), {})
    box = backend.detect(images[:1])[0][:1, :4]
    landmarks = backend.landmarks(images, np.repeat(box, FRAMES, axis=0))
    where = face_transforms(landmarks, SIZE)
    crops = np.stack([crop_face(image, one, SIZE) for image, one in zip(images, where)])
    cropper = MouthCropper(landmarks, mean_face())
    mouths = np.stack([cropper.crop(image, t) for t, image in enumerate(images)])
    inside = torch.from_numpy(crop_landmarks(landmarks, where))
    return to_unit(torch.from_numpy(crops).permute(0, 3, 1, 2)), inside, halve(mouths), audio


def test_a_crop_shows_the_expert_the_picture_it_knows(talker) -> None:  # type: ignore[no-untyped-def]
    """AV-HuBERT's mouth crop smooths its alignment otherwise: the same place within two pixels of 48."""
    crops, landmarks, real, _ = talker
    found = mouth_pictures(crops, landmarks).numpy()
    assert found.shape == real.shape
    corner = 2
    same = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, real)])
    assert same > 0.95
    moved = np.roll(found, 4 * corner, axis=2)
    assert same > np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(moved, real)]) + 0.05
    assert np.abs(found.mean() - real.mean()) < 5, "gray levels, 0 to 255"


def test_the_sync_loss_prefers_the_own_sound_and_has_gradients(talker) -> None:  # type: ignore[no-untyped-def]
    crops, landmarks, _, audio = talker
    loss = SyncLoss(SyncExpert.from_pretrained("training"))
    energies = standard_energies(align_frames(logfbank(audio), FRAMES))
    made = crops[None, 10:30].clone().requires_grad_()

    def value(first: int) -> torch.Tensor:
        heard = torch.from_numpy(energies[first - SYNC_REACH : first + 20 + SYNC_REACH])[None]
        return loss(made, crops[None, 10:30], landmarks[None, 10:30], heard).sum()

    own = value(10)
    assert own < value(12)
    own.backward()
    assert made.grad is not None
    assert made.grad[..., SIZE // 2 :, :].abs().sum() > 0
    assert made.grad[..., : SIZE // 4, :].abs().sum() == 0, "the eyes do not count"


def test_weights_by_noise_level() -> None:
    alpha = torch.tensor([0.0, 0.6, 0.999]).view(3, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    assert level_weight("none", "sample", alpha, sigma).flatten().tolist() == [1, 1, 1]
    snr = level_weight("min_snr", "sample", alpha, sigma).flatten()
    assert snr.tolist() == pytest.approx([0, 0.5625, 5])
    jit = level_weight("jit", "sample", alpha, sigma).flatten()
    assert jit.tolist() == pytest.approx([1, 1 / 0.64, 20])
    velocity = level_weight("jit", "v_prediction", alpha, sigma)
    assert torch.equal(velocity, torch.ones_like(velocity))


def test_detail_error_is_blind_to_light_and_sees_blur() -> None:
    real = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert detail_error(real, real) == 0
    assert detail_error(real + 0.3, real) == pytest.approx(0, abs=1e-5)
    blurred = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    assert detail_error(blurred, real) > 0.1


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(UserError, match="windows of at least 9 frames, not 1"):
        replace(load_preset("compact"), loss=LossConfig(sync=0.01))
    assert Settings(loss=LossConfig(sync=0.01)).train_syncdiff.window >= 9
    with pytest.raises(UserError, match="pose_offset is 0: expected 1 to"):
        ConditioningConfig(pose_offset=0)
