"""How much and how fast the mouth moves, and how sharp it is, against the reference's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lip_clips import SIDE, context_of, feed, landmarks, opening_of, pictures
from scipy.ndimage import gaussian_filter

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions
from syncdiff_eval.metrics.dynamics import DYNAMICS, Dynamics, opening_speed, opening_spread
from syncdiff_eval.metrics.sharpness import Sharpness, detail_energy

NO_FACE = MissingValue(Reason.NO_FACE)

# --- Dynamics --------------------------------------------------------------------------------------------------


def dynamics(reference: np.ndarray, generated: np.ndarray, batch: int = 8, **more: Any) -> Any:
    context = context_of(reference, None, **more)
    blank = [np.zeros((8, 8, 3), np.uint8)] * len(generated)
    return feed(Dynamics(context), context, blank, [], batch, landmarks(generated)).compute()


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_half_the_motion_is_half_of_both(batch: int) -> None:
    mouth = opening_of(60, 0)
    assert dynamics(mouth, 0.5 * mouth, batch) == pytest.approx(
        {"opening_spread": 0.5, "opening_speed": 0.5}, abs=1e-3
    )
    assert dynamics(mouth, np.full(60, 0.4), batch) == pytest.approx(
        {"opening_spread": 0, "opening_speed": 0}, abs=1e-3
    )


def test_speed_tells_trembling_from_moving() -> None:
    mouth = opening_of(60, 0)
    same_values_in_another_order = np.random.default_rng(0).permutation(mouth)
    found = dynamics(mouth, same_values_in_another_order)
    assert found["opening_spread"] == pytest.approx(1, abs=1e-3)
    assert found["opening_speed"] > 1.5


def test_functional_twins_leave_out_frames_without_a_face() -> None:
    opening = np.array([0.1, 0.3, np.nan, 0.2, 0.6])
    assert opening_spread(opening) == pytest.approx(np.std([0.1, 0.3, 0.2, 0.6]))
    assert opening_speed(opening) == pytest.approx((0.2 + 0.4) / 2)
    nobody = np.full(3, np.nan)
    assert opening_spread(nobody) == opening_speed(nobody) == 0


def test_without_a_moving_reference_there_is_no_ratio() -> None:
    mouth = opening_of(60, 0)
    still = MissingValue(Reason.REFERENCE_MOUTH_STILL)
    assert set(dynamics(np.full(60, 0.5), mouth).values()) == {still}
    assert set(dynamics(mouth, mouth[:1]).values()) == {still}
    assert set(dynamics(mouth, mouth, regions=None).values()) == {NO_FACE}
    absent = dynamics(mouth, mouth, present=np.arange(60) < 30)
    assert absent == pytest.approx({"opening_spread": 1, "opening_speed": 1}, abs=1e-9)


def test_clips_merge_to_their_mean() -> None:
    context = context_of(mouth := opening_of(40, 1), None)
    blank = [np.zeros((8, 8, 3), np.uint8)] * 40
    first, second = (feed(Dynamics(context), context, blank, [], 8, landmarks(k * mouth)) for k in (1, 0.5))
    first.merge(second)
    assert first.compute()["opening_spread"] == pytest.approx(0.75, abs=1e-3)


# --- Sharpness --------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(11, 60), st.integers(11, 60), st.integers(0, 99))
def test_detail_is_what_scipys_gaussian_takes_away(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    luma = image @ np.array([0.299, 0.587, 0.114])
    detail = (luma - gaussian_filter(luma, 1.5, truncate=3.5))[5:-5, 5:-5]
    assert detail_energy(image) == pytest.approx((detail**2).sum(), rel=1e-5)


def sharpness(generated: list[np.ndarray], reference: list[np.ndarray], batch: int = 8) -> Any:
    state = Sharpness()
    box = np.tile(np.array([90, 130, 170, 200], np.int32), (len(reference), 1))
    present = np.ones(len(reference), bool)
    regions = Regions(
        present, np.zeros((len(box), 68, 2), np.float32), box.astype(np.float32), box, box, 60.0
    )
    for first in range(0, len(generated), batch):
        cut = slice(first, first + batch)
        count = len(generated[cut])
        here = regions.span(first, first + count)
        state.update(FrameBatch(first, reference[cut], generated[cut], here, None))
    return state.compute()["sharpness_mouth"]


def test_a_blurred_mouth_is_less_sharp_and_a_noisy_one_more() -> None:
    real = pictures(opening_of(12, 0))
    assert sharpness(real, real) == 1
    blurred = [sharpness([cv2.GaussianBlur(i, (0, 0), s) for i in real], real) for s in (0.5, 1, 2, 4)]
    assert 1 > blurred[0] > blurred[1] > blurred[2] > blurred[3] > 0
    rng = np.random.default_rng(0)
    noisy = [np.clip(i + rng.normal(0, 20, i.shape), 0, 255).astype(np.uint8) for i in real]
    assert sharpness(noisy, real) > 1.2
    assert sharpness(noisy, real, 5) == pytest.approx(sharpness(noisy, real), abs=1e-12)


def test_only_the_mouth_counts() -> None:
    real = pictures(opening_of(6, 0))
    elsewhere = [image.copy() for image in real]
    for image in elsewhere:
        image[:120] = cv2.GaussianBlur(image, (0, 0), 4)[:120]
    assert sharpness(elsewhere, real) == 1


def test_a_mouth_without_structure_and_a_clip_without_a_face() -> None:
    real, flat = pictures(opening_of(4, 0)), [np.full((SIDE, SIDE, 3), 90, np.uint8)] * 4
    assert sharpness(flat, real) == pytest.approx(0, abs=1e-12)
    assert sharpness(real, flat) == MissingValue(Reason.REFERENCE_FLAT)
    nobody = Sharpness()
    nobody.update(FrameBatch(0, real, real, None, None))
    assert nobody.compute()["sharpness_mouth"] == NO_FACE


@pytest.mark.parametrize("name", ["dynamics", "sharpness"])
def test_families_start_a_clip(name: str) -> None:
    family = FAMILIES[name]
    state = family.load({}, "cpu")(ClipContext(25, 0, None, None))
    assert set(state.compute()) == {column.name for column in family.columns}
    assert set(state.compute().values()) == {NO_FACE}
    assert all(column.compares_with_reference for column in DYNAMICS.columns)
