"""PSNR and SSIM are scikit-image's, whatever the size, the batch and the number of parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions
from syncdiff_eval.metrics.image import IMAGE, ImageQuality, psnr, similarity_map, ssim


def pair(height: int, width: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return reference, np.clip(reference + rng.normal(0, noise, reference.shape), 0, 255).astype(np.uint8)


def batch(reference: list[np.ndarray], generated: list[np.ndarray], first: int = 0) -> FrameBatch:
    n = len(reference)
    size = np.array([reference[0].shape[1], reference[0].shape[0]])
    boxes = np.tile(np.concatenate([size // 4, size - size // 4]).astype(np.int32), (n, 1))
    regions = Regions(
        np.ones(n, bool), np.zeros((n, 68, 2), np.float32), boxes.astype(np.float32), boxes, boxes, 10.0
    )
    return FrameBatch(first, reference, generated, regions, None)


@settings(max_examples=25, deadline=None)
@given(st.integers(11, 150), st.integers(11, 150), st.floats(0.5, 80), st.integers(0, 99))
def test_equals_scikit_image(height: int, width: int, noise: float, seed: int) -> None:
    reference, generated = pair(height, width, noise, seed)
    expected = structural_similarity(
        reference, generated, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(reference, generated) == pytest.approx(expected, abs=1e-6)
    assert psnr(reference, generated) == pytest.approx(
        peak_signal_noise_ratio(reference, generated, data_range=255), abs=1e-10
    )


@pytest.mark.parametrize("level", [0, 3, 128, 250, 255])
def test_equals_scikit_image_where_rounding_is_worst(level: int) -> None:
    """Squares of nearly white or black pictures are large beside their variances."""
    reference = np.full((120, 90, 3), level, np.uint8)
    for noise in (0.5, 2, 8):
        generated = np.clip(
            reference + np.random.default_rng(0).normal(0, noise, reference.shape), 0, 255
        ).astype(np.uint8)
        expected = structural_similarity(
            reference, generated, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert ssim(reference, generated) == pytest.approx(expected, abs=1e-5)


def test_the_map_of_a_region_is_that_part_of_the_whole_map() -> None:
    reference, generated = pair(90, 70, 9)
    whole = similarity_map(reference, generated)
    part = similarity_map(reference[20:64, 13:50], generated[20:64, 13:50])
    np.testing.assert_allclose(part, whole[20:54, 13:40], rtol=0, atol=1e-6)


def test_psnr_does_not_wrap_as_talklips_did() -> None:
    """Bug 1: a difference taken in uint8 reads about 28 dB for unrelated images."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(2))
    wrapped = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    assert wrapped > 25
    assert 7 < psnr(a, b) < 8.5
    assert psnr(np.zeros_like(a), np.full_like(a, 255)) == 0


def test_equal_images() -> None:
    image, _ = pair(20, 30, 1)
    assert psnr(image, image) == float("inf")
    assert ssim(image, image) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("wrong", [np.zeros((20, 21, 3), np.uint8), np.zeros((20, 20, 3), np.float32)])
def test_other_shapes_and_types_are_refused(wrong: np.ndarray) -> None:
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"shape|uint8"):
            metric(np.zeros((20, 20, 3), np.uint8), wrong)


def test_ssim_refuses_less_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        ssim(*pair(10, 40, 5))


def test_clip_value_is_the_mean_over_frames_however_it_is_cut() -> None:
    frames = [pair(40, 44, 5 + i, i) for i in range(7)]
    whole, parts = ImageQuality(), [ImageQuality(), ImageQuality()]
    whole.update(batch([r for r, _ in frames], [g for _, g in frames]))
    for part, chunk in zip(parts, (frames[:3], frames[3:])):
        for reference, generated in chunk:
            part.update(batch([reference], [generated]))
    parts[0].merge(parts[1])
    assert whole.compute() == pytest.approx(parts[0].compute(), abs=1e-12)
    assert whole.compute()["psnr_full"] == pytest.approx(np.mean([psnr(r, g) for r, g in frames]))
    inner = np.mean([ssim(r[10:30, 11:33], g[10:30, 11:33]) for r, g in frames])
    assert whole.compute()["ssim_face"] == pytest.approx(inner)


def test_a_frame_equal_to_the_reference_is_not_infinity() -> None:
    reference, generated = pair(30, 30, 10)
    state = ImageQuality()
    state.update(batch([reference, reference], [reference, generated]))
    assert state.compute()["psnr_full"] == psnr(reference, generated)
    same = ImageQuality()
    same.update(batch([reference], [reference]))
    assert (
        same.compute()["psnr_full"]
        == same.compute()["ssim_face"]
        == MissingValue(Reason.IDENTICAL_TO_REFERENCE)
    )


def test_without_a_face_only_the_whole_frame_counts() -> None:
    reference, generated = pair(30, 30, 10)
    state = IMAGE.load({}, "cpu")(ClipContext(25, 1, None, None))
    state.update(FrameBatch(0, [reference], [generated], None, None))
    values = state.compute()
    assert values["psnr_full"] == psnr(reference, generated)
    assert values["psnr_face"] == values["ssim_mouth"] == MissingValue(Reason.NO_FACE)
