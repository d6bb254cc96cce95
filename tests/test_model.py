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
from syncdiff_model.conditioning import Conditioner, Pose
from syncdiff_model.denoiser import (
    DenoiserConfig,
    DiffusionConfig,
    Prediction,
    build_denoiser,
    build_scheduler,
)
from syncdiff_model.mask import MaskConfig, seen_rows, soft_mask
from syncdiff_model.patches import PatchAutoencoder
from syncdiff_model.presets import Settings, load_preset, settings_from, to_plain
from syncdiff_model.rollout import SamplingConfig, advance, start_rollout
from syncdiff_model.syncdiff import SyncDiff

SIZE, CONTEXT, DIM = 32, 3, 10


def tiny_model(kind: str = "patch", pose: Pose = "none", prediction: Prediction = "sample") -> SyncDiff:
    torch.manual_seed(0)
    widths = {"patch": (16,), "kl": (8, 16), "tiny": (8, 8)}[kind]
    factor = 4 if kind == "patch" else 2
    autoencoder = build_autoencoder(AutoencoderConfig(kind, factor, 4, widths, groups=8))  # type: ignore[arg-type]
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
        map_shape=(2, 24 // factor, SIZE // factor),
        pose=pose,
        pose_dim=3,
        pose_width=8,
    )
    more = 2 + (4 if pose == "full" else 0)
    shape = DenoiserConfig((16, 32), 1, (False, True), 2, 8)
    denoiser = build_denoiser(shape, 4, SIZE // factor, 16, more)
    # A fresh one puts out zeros, whatever its input.
    torch.nn.init.normal_(denoiser.conv_out.weight)
    zero_snr = prediction != "epsilon"
    scheduler = build_scheduler(DiffusionConfig(prediction=prediction, zero_terminal_snr=zero_snr))
    for network in (autoencoder, conditioner, denoiser):
        network.eval()
    return SyncDiff(autoencoder, conditioner, denoiser, scheduler)


def clip(frames: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crops [T, S, S, 3] and features [T, D]."""
    rng = np.random.default_rng(seed)
    crops = rng.integers(0, 256, (frames, SIZE, SIZE, 3), dtype=np.uint8)
    return crops, rng.normal(size=(frames, DIM)).astype(np.float32)


def dub(
    model: SyncDiff, crops: list[np.ndarray], features: list[np.ndarray], identity: np.ndarray
) -> list[np.ndarray]:
    rollouts = [start_rollout(model, identity, sound) for sound in features]
    return advance(model, rollouts, crops, [np.arange(len(c)) / 25 for c in crops], SamplingConfig(steps=2))


@pytest.mark.parametrize("kind", ["kl", "tiny", "patch"])
def test_latents_have_unit_variance_after_measuring(kind: str) -> None:
    autoencoder = tiny_model(kind).autoencoder
    images = to_unit(torch.from_numpy(clip(16)[0]).permute(0, 3, 1, 2))
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


@pytest.mark.parametrize("pose", ["none", "masked", "bottleneck", "full"])
def test_the_hidden_half_of_the_target_reaches_nothing(pose: Pose) -> None:
    model = tiny_model(pose=pose)
    crops, features = clip()
    other = crops.copy()
    other[:, SIZE // 2 :] = 255 - other[:, SIZE // 2 :]
    (made,), (made_other,) = (dub(model, [images], [features], crops[0]) for images in (crops, other))
    assert np.array_equal(made, made_other)
    other[:, SIZE // 4 : SIZE // 2] = 0
    assert not np.array_equal(made, dub(model, [other], [features], crops[0])[0])


def test_pose_passes_through_its_bottleneck_alone() -> None:
    conditioner = tiny_model(pose="bottleneck").conditioner
    pose, windows = torch.randn(5, 4, 8, 8), torch.randn(5, CONTEXT, DIM)
    assert conditioner.pose_code(pose).shape == (5, 3)
    known = torch.tensor([True, True, True, True, False])
    context = conditioner(windows, pose, known)
    assert context.tokens.shape == (5, CONTEXT + 1, 16)
    changed = conditioner(windows, torch.randn_like(pose), known)
    differs = (context.tokens != changed.tokens).flatten(1).any(dim=1)
    assert differs.tolist() == known.tolist(), "an unknown pose is a learned token"
    conditioner.bottleneck[-1].weight.data.zero_()
    one, other = (conditioner(windows, torch.randn(5, 4, 8, 8), known) for _ in range(2))
    assert torch.equal(one.tokens, other.tokens)


def test_sound_changes_the_face_and_no_sound_is_a_learned_token() -> None:
    model = tiny_model()
    crops, features = clip()
    (one,), (other,) = (dub(model, [crops], [sound], crops[0]) for sound in (features, -3 * features))
    assert not np.array_equal(one, other)
    windows, unknown = torch.randn(2, CONTEXT, DIM), torch.zeros(2, dtype=torch.bool)
    a, b = (model.conditioner(sound, audio_known=unknown) for sound in (windows, -windows))
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.vector, b.vector)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_clean_of_undoes_target(kind: Prediction) -> None:
    """A network that gives `target` says at any noise level what the clean latents are."""
    model = tiny_model(prediction=kind)
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    levels = torch.tensor([5, 500, 900])
    noisy = model.add_noise(clean, noise, levels)
    assert torch.allclose(noisy, model.scheduler.add_noise(clean, noise, levels), atol=1e-5)
    found = model.clean_of(model.target(clean, noise, levels), noisy, levels)
    assert torch.allclose(found, clean, atol=1e-3)


def test_the_noisiest_level_is_noise_alone() -> None:
    alpha, sigma = tiny_model().levels.at(999)
    assert (alpha, sigma) == pytest.approx((0, 1), abs=1e-6)
    with pytest.raises(ValueError, match="zero_terminal_snr"):
        DiffusionConfig(prediction="epsilon")


@pytest.mark.parametrize(("size", "unit"), [(16, 2), (16, 4), (12, 4), (32, 4), (8, 2)])
def test_the_denoiser_sees_the_mask_and_its_margin(size: int, unit: int) -> None:
    rows = seen_rows(MaskConfig(), size, unit)
    assert (rows.stop, (rows.stop - rows.start) % unit) == (size, 0)
    assert rows.start <= size / 4


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


def test_base_is_the_default_and_presets_survive_json() -> None:
    assert load_preset("base") == Settings()
    for name in ("demo", "compact", "paper"):
        preset = load_preset(name)
        assert settings_from(json.loads(json.dumps(to_plain(preset)))) == preset


@pytest.mark.parametrize("text", ["denoiser: {width: [1]}", "mask: {top: high}", "mask: 3", "["])
def test_wrong_preset_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a preset"):
        load_preset(str(path))
    with pytest.raises(UserError, match="choose one of base, compact, demo, paper"):
        load_preset("mine")


def test_features_are_standardised() -> None:
    conditioner = tiny_model().conditioner
    features = torch.from_numpy(
        np.random.default_rng(0).normal(-30, 5, (20, CONTEXT, DIM)).astype(np.float32)
    )
    conditioner.measure(features, torch.randn(20, 40))
    scaled = (features - conditioner.feature_mean) / conditioner.feature_std
    assert scaled.mean().abs() < 1e-4
    assert scaled.reshape(-1, DIM).std(0).sub(1).abs().max() < 1e-3
