"""The model: shapes, leaks, the bottleneck, checkpoints and their damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import (
    AutoencoderConfig,
    build_autoencoder,
    decode,
    encode,
    measure_scale,
    to_unit,
)
from syncdiff_model.checkpoint import PARTS, find_checkpoint, load_syncdiff, save_parts, write_checkpoint
from syncdiff_model.conditioning import Conditioner, MaskConfig, soft_mask
from syncdiff_model.denoiser import DenoiserConfig, DiffusionConfig, build_denoiser, build_scheduler
from syncdiff_model.patches import PatchAutoencoder
from syncdiff_model.presets import Settings, load_preset, settings_from, to_plain
from syncdiff_model.sampling import SamplingConfig, conditions, ddim, generate
from syncdiff_model.syncdiff import SyncDiff

SIZE, CONTEXT, DIM = 32, 3, 10


def tiny_model(kind: str = "patch") -> SyncDiff:
    torch.manual_seed(0)
    widths = (16,) if kind == "patch" else (8, 16)
    factor = 4 if kind == "patch" else 2
    autoencoder = build_autoencoder(AutoencoderConfig(kind, factor, 4, widths, groups=8))
    conditioner = Conditioner(
        crop_size=SIZE,
        latent_channels=4,
        encoder="logfbank",
        checkpoint="",
        feature="logfbank",
        feature_dim=DIM,
        mask={"top": 0.5},
        context=CONTEXT,
        tokens_dim=16,
        pose_dim=3,
        pose_width=8,
    )
    denoiser = build_denoiser(DenoiserConfig((16, 32), 1, (False, True), 2, 8), 4, SIZE // factor, 16)
    # A fresh one puts out zeros, whatever its input.
    torch.nn.init.normal_(denoiser.conv_out.weight)
    scheduler = build_scheduler(DiffusionConfig(prediction="sample"))
    for network in (autoencoder, conditioner, denoiser):
        network.eval()
    return SyncDiff(autoencoder, conditioner, denoiser, scheduler)


def clip(frames: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw)
    return images, torch.randn(frames, CONTEXT, DIM, generator=draw)


@pytest.mark.parametrize("kind", ["kl", "patch"])
def test_latents_have_unit_variance_after_measuring(kind: str) -> None:
    autoencoder = tiny_model(kind).autoencoder
    images = to_unit(clip(16)[0])
    measure_scale(autoencoder, [images[:8], images[8:]])
    with torch.no_grad():
        latents = encode(autoencoder, images)
    assert latents.mean().item() == pytest.approx(0, abs=1e-4)
    assert latents.std().item() == pytest.approx(1, abs=1e-3)
    assert decode(autoencoder, latents).shape == images.shape


def test_patch_autoencoder_starts_at_the_principal_components() -> None:
    """Images whose patches span as many dimensions as there are latent channels come back exactly."""
    torch.manual_seed(0)
    basis = torch.randn(4, 3 * 16)
    patches = torch.randn(2, 8, 8, 4) @ basis * 0.1
    images = torch.nn.functional.pixel_shuffle(patches.movedim(-1, 1), 4)
    autoencoder = PatchAutoencoder(patch=4, latent_channels=4, width=8)
    autoencoder.fit(images)
    with torch.no_grad():
        assert torch.allclose(autoencoder.decode(autoencoder.encode(images)), images, atol=1e-4)


def test_the_hidden_half_of_the_target_reaches_nothing() -> None:
    model = tiny_model()
    frames, features = clip()
    other = frames.clone()
    other[1:-1, :, SIZE // 2 :] = 255 - other[1:-1, :, SIZE // 2 :]
    conditioned, conditioned_other = conditions(model, frames, features), conditions(model, other, features)
    assert torch.equal(conditioned.masked, conditioned_other.masked)
    assert torch.equal(conditioned.identity, conditioned_other.identity)
    config = SamplingConfig(steps=2)
    (made,), (made_other,) = (
        generate(model, [conditioned], config),
        generate(model, [conditioned_other], config),
    )
    assert torch.equal(made, made_other)
    other[1:-1, :, : SIZE // 2] = 0
    assert not torch.equal(conditioned.masked, conditions(model, other, features).masked)


def test_no_frame_is_its_own_identity() -> None:
    model = tiny_model()
    frames, features = clip()
    own = model.frame_latents(frames)
    identity = conditions(model, frames, features).identity
    assert all(not torch.allclose(identity[t], own[t]) for t in range(len(frames)))


def test_pose_passes_through_its_bottleneck_alone() -> None:
    conditioner = tiny_model().conditioner
    pose, features = torch.randn(5, 4, 8, 8), torch.randn(5, CONTEXT, DIM)
    assert conditioner.pose_code(pose).shape == (5, 3)
    conditioner.bottleneck[-1].weight.data.zero_()
    context = conditioner(features, pose)
    assert context.shape == (5, CONTEXT + 1, 16)
    assert torch.equal(context, conditioner(features, torch.randn_like(pose)))


def test_sound_changes_the_face() -> None:
    model = tiny_model()
    frames, features = clip()
    config = SamplingConfig(steps=2)
    (one,) = generate(model, [conditions(model, frames, features)], config)
    (other,) = generate(model, [conditions(model, frames, -3 * features)], config)
    assert not torch.equal(one, other)


def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    model = tiny_model()
    conditioned = [conditions(model, *clip(frames, seed)) for seed, frames in enumerate((3, 6, 4))]
    together = list(generate(model, conditioned, SamplingConfig(steps=2, batch_clips=2)))
    for alone, made in zip(conditioned, together):
        (single,) = generate(model, [alone], SamplingConfig(steps=2))
        assert len(made) == len(alone)
        assert (made.int() - single.int()).abs().max() <= 1


def test_segments_begin_anew_and_keep_the_length() -> None:
    model = tiny_model()
    conditioned = conditions(model, *clip(7))
    (made,) = generate(model, [conditioned], SamplingConfig(steps=2, segment_frames=3))
    assert made.shape == (7, 3, SIZE, SIZE)
    (tail,) = generate(model, [conditioned.span(3, 6)], SamplingConfig(steps=2))
    assert (made[3:6].int() - tail.int()).abs().max() <= 1


def test_ddim_finds_the_only_clean_image_there_is() -> None:
    clean = torch.full((2, 1, 4, 4), 0.7)
    scheduler = build_scheduler(DiffusionConfig(prediction="sample"))
    made = ddim(lambda noisy, timestep: clean, scheduler, torch.randn(2, 1, 4, 4), steps=3)
    assert torch.allclose(made, clean, atol=1e-2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_target_is_what_the_scheduler_undoes(kind: str) -> None:
    """A network that gives `target` takes one DDIM step from any noise level to the clean latents."""
    model = tiny_model()
    model = SyncDiff(
        model.autoencoder,
        model.conditioner,
        model.denoiser,
        build_scheduler(DiffusionConfig(prediction=kind)),
    )  # type: ignore[arg-type]
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    level = torch.tensor([500])
    noisy = model.scheduler.add_noise(clean, noise, level)
    model.scheduler.set_timesteps(4)
    found = model.scheduler.step(model.target(clean, noise, level), 500, noisy).pred_original_sample
    assert torch.allclose(found, clean, atol=1e-4)


def test_soft_mask_is_zero_outside_and_at_the_rim() -> None:
    shown = soft_mask(MaskConfig(top=0.5, feather=0.1), 100)
    assert shown[:50].max() == 0
    assert shown[75, 50] == 1
    assert 0 < shown[50, 50] < 0.1
    assert torch.all(shown.diff(dim=0)[50:60, 50] >= 0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = tiny_model("kl")
    parts = {part: getattr(model, part) for part in PARTS}
    return write_checkpoint(tmp_path, 7, lambda folder: save_parts(folder, "SyncDiff", parts), keep=1)


def test_checkpoint_loads_through_diffusers(checkpoint: Path, tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) == checkpoint
    model = load_syncdiff(tmp_path)
    for kind, part in (
        (AutoencoderKL, "autoencoder"),
        (UNet2DConditionModel, "denoiser"),
        (Conditioner, "conditioner"),
    ):
        theirs = kind.from_pretrained(checkpoint, subfolder=part, low_cpu_mem_usage=False)
        ours = getattr(model, part).state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    assert DDIMScheduler.from_pretrained(checkpoint, subfolder="scheduler").config.prediction_type == "sample"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "index"])
def test_damaged_checkpoint_is_refused_with_a_sentence(checkpoint: Path, damage: str) -> None:
    weights = checkpoint / "denoiser" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
        weights.write_bytes(data)
    elif damage == "cut":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "remove":
        weights.unlink()
    else:
        (checkpoint / "model_index.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged|missing|cannot be read"):
        load_syncdiff(checkpoint)


def test_no_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        load_syncdiff(tmp_path)


def test_failed_checkpoint_leaves_the_last_one(checkpoint: Path, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_checkpoint(tmp_path, 8, fill, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [checkpoint.name]


def test_compact_is_the_default_and_demo_loads() -> None:
    assert load_preset("compact") == Settings()
    demo = load_preset("demo")
    assert settings_from(json.loads(json.dumps(to_plain(demo)))) == demo


@pytest.mark.parametrize("text", ["denoiser: {width: [1]}", "mask: {top: high}", "mask: 3", "["])
def test_wrong_preset_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a preset"):
        load_preset(str(path))
    with pytest.raises(UserError, match="choose one of compact, demo"):
        load_preset("mine")


def test_features_are_standardised() -> None:
    conditioner = tiny_model().conditioner
    features = torch.from_numpy(
        np.random.default_rng(0).normal(-30, 5, (20, CONTEXT, DIM)).astype(np.float32)
    )
    conditioner.measure_features(features)
    scaled = (features - conditioner.feature_mean) / conditioner.feature_std
    assert scaled.mean().abs() < 1e-4
    assert scaled.reshape(-1, DIM).std(0).sub(1).abs().max() < 1e-3
