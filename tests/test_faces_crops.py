"""The aligned face crop and AV-HuBERT's mouth crop."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform, warp

from syncdiff_data.faces import (
    MouthCropper,
    crop_face,
    face_transforms,
    load_mean_face,
    mean_face,
    mouth_crops,
)
from syncdiff_data.faces.alignment import EYE_DISTANCE, EYE_LINE, fit_similarity, smooth
from syncdiff_data.faces.mean_face import derive_mean_face
from syncdiff_data.faces.mouth import cut_corner, plan_crops, warp_region
from syncdiff_data.landmarks import MIRROR
from syncdiff_data.records import UserError

RNG = np.random.default_rng(0)


def moving_face(frames: int, scale: float = 1.0, angle: float = 0.0, shift: tuple = (0.0, 0.0)) -> np.ndarray:
    """The mean face, turned, scaled and drifting, as landmarks [T, 68, 2]."""
    a = scale * np.exp(1j * np.radians(angle))
    points = ((mean_face() - 128) @ (1, 1j)) * a + complex(*shift)
    drift = points[None] + np.arange(frames)[:, None] * (0.7 + 0.3j)
    return np.stack([drift.real, drift.imag], axis=-1)


def assert_same_crop(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding: the similarity comes from a singular value decomposition, whose last bit depends on the
    processor's instructions, and the published code cuts its colours to whole numbers. On the golden file's kind of
    processor nothing differs; on another one 10 of 27,648 values by 1, on one held to SSE up to 400."""
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_mouth_crops_are_those_of_the_published_procedure(shared: Path, case: str) -> None:
    golden = np.load(shared / "golden" / "mouth_crop.npz")
    cropper = MouthCropper(golden[f"{case}/landmarks_interp"], golden["mean_face"])
    frames, expected = golden[f"{case}/frames_bgr"], golden[f"{case}/crop_bgr"]
    for t, frame in enumerate(frames):
        assert_same_crop(cropper.crop_colour(frame, t), expected[t])
    rgb = np.ascontiguousarray(frames[..., ::-1])
    gray = mouth_crops(rgb, golden[f"{case}/landmarks_interp"], golden["mean_face"])
    for found, crop in zip(gray, expected, strict=True):
        assert_same_crop(found, cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY))


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(0.05, 6),
    angle=st.floats(-180, 180),
    x=st.floats(-400, 400),
    y=st.floats(-400, 400),
    corner=st.tuples(st.integers(0, 160), st.integers(0, 160)),
)
def test_warped_region_is_that_of_scikit_image(
    scale: float, angle: float, x: float, y: float, corner: tuple[int, int]
) -> None:
    """Any transform, even one that leaves the image: the same bytes as the whole frame warped, then cut."""
    image = RNG.integers(0, 256, (50, 70, 3), np.uint8)
    transform = SimilarityTransform(scale=scale, rotation=np.radians(angle), translation=(x, y))
    whole = (warp(image, transform.inverse, output_shape=(256, 256)) * 255).astype(np.uint8)
    region = warp_region(image, transform.inverse.params, np.array(corner))
    np.testing.assert_array_equal(region, whole[corner[1] : corner[1] + 96, corner[0] : corner[0] + 96])


@pytest.mark.parametrize(
    ("centre", "corner"),
    [((20, 300), (0, 160)), ((100.5, 101.5), (52, 54)), ((48, 208), (0, 160)), ((128.4, 128.6), (80, 81))],
)
def test_the_cut_is_pushed_back_and_halves_round_to_even(
    centre: tuple[float, float], corner: tuple[int, int]
) -> None:
    assert tuple(cut_corner(np.array(centre))) == corner


def test_the_cut_is_the_published_one(shared: Path) -> None:
    golden = np.load(shared / "golden" / "mouth_crop.npz")
    for centre, top_left in zip(golden["cut/centers_xy"], golden["cut/topleft_yx"]):
        np.testing.assert_array_equal(cut_corner(centre)[::-1], top_left)


def test_the_last_frames_of_a_clip_reuse_the_last_transform() -> None:
    inverses, _ = plan_crops(moving_face(20), mean_face())
    assert not np.array_equal(inverses[7], inverses[8])
    assert all(np.array_equal(inverses[8], later) for later in inverses[9:])
    assert len(plan_crops(moving_face(1), mean_face())[0]) == 1


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 20), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500))
def test_similarity_is_recovered(scale: float, angle: float, x: float, y: float) -> None:
    source = mean_face()[[27, 30, 33, 36, 45]]
    truth = SimilarityTransform(scale=scale, rotation=np.radians(angle), translation=(x, y))
    [found] = fit_similarity(source, truth(source)[None])
    np.testing.assert_allclose(found, truth.params[:2], atol=1e-8)


@pytest.mark.parametrize("size", [128, 256])
def test_eyes_lie_where_the_template_says(size: int) -> None:
    landmarks = moving_face(1, scale=2.3, angle=20, shift=(300, 200))
    matrix = face_transforms(landmarks, size)[0].astype(np.float64)
    assert face_transforms(landmarks, size).dtype == np.float32
    inverse = cv2.invertAffineTransform(matrix)
    points = landmarks[0] @ inverse[:, :2].T + inverse[:, 2]
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    np.testing.assert_allclose((left + right) / 2, np.array([0.5, EYE_LINE]) * (size - 1), atol=0.01)
    np.testing.assert_allclose(right - left, [EYE_DISTANCE * (size - 1), 0], atol=0.01)
    assert points[8, 1] < 0.93 * size  # The chin, with room for an open mouth.


@given(st.integers(1, 40), st.integers(0, 10))
def test_smoothing_keeps_constants_and_the_range(length: int, half: int) -> None:
    window = 2 * half + 1
    np.testing.assert_allclose(smooth(np.full((length, 2), 7.0), window), 7.0)
    values = RNG.normal(size=(length, 3))
    smoothed = smooth(values, window)
    assert smoothed.shape == values.shape
    assert (smoothed <= values.max(axis=0) + 1e-12).all()
    assert (smoothed >= values.min(axis=0) - 1e-12).all()
    np.testing.assert_array_equal(smooth(values, 1), values)


def test_smoothing_is_the_documented_triangle() -> None:
    impulse = np.zeros(11)
    impulse[5] = 1
    np.testing.assert_allclose(smooth(impulse, 5)[2:9] * 9, [0, 1, 2, 3, 2, 1, 0])
    with pytest.raises(ValueError, match="odd"):
        smooth(impulse, 4)


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5, 4.7])
def test_crop_shows_what_the_affine_says(scale: float) -> None:
    """A smooth picture whose colour is its position: each crop pixel must show its own source position."""
    y, x = np.mgrid[:600, :800]
    frame = np.stack([x / 4, y / 4, (x + y) / 8], axis=-1).astype(np.uint8)
    matrix = np.array([[scale * 0.98, -scale * 0.17, 150], [scale * 0.17, scale * 0.98, 20]], np.float32)
    crop = crop_face(frame, matrix, 96)
    v, u = np.mgrid[:96, :96]
    at = np.stack([u, v, np.ones_like(u)], axis=-1) @ matrix.T
    np.testing.assert_allclose(crop[..., 0], at[..., 0] / 4, atol=1.3)
    np.testing.assert_allclose(crop[..., 1], at[..., 1] / 4, atol=1.3)


def test_outside_the_frame_the_border_is_repeated() -> None:
    frame = np.full((40, 40, 3), 90, np.uint8)
    for scale in (0.5, 3.0):
        matrix = np.array([[scale, 0, -30], [0, scale, 25]], np.float32)
        assert (crop_face(frame, matrix, 64) == 90).all()


def test_mean_face_is_symmetric_and_derived_from_any_copies_of_itself() -> None:
    face = mean_face()
    np.testing.assert_allclose(face[MIRROR] * (-1, 1) + (2 * 129.2, 0), face, atol=2e-3)
    copies = np.stack([moving_face(1, s, a, (50, 60))[0] for s, a in [(1, 0), (2, 30), (0.3, -40)]])
    np.testing.assert_allclose(derive_mean_face(copies), face, atol=5e-3)


def test_a_wrong_mean_face_file_is_refused(tmp_path: Path) -> None:
    good, bad, text = tmp_path / "good.npy", tmp_path / "bad.npy", tmp_path / "text.npy"
    np.save(good, mean_face())
    np.save(bad, np.zeros((5, 2)))
    text.write_text("not numpy")
    np.testing.assert_array_equal(load_mean_face(good), mean_face())
    for path in (bad, text, tmp_path / "absent.npy"):
        with pytest.raises(UserError, match=path.name):
            load_mean_face(path)
