"""The 25 fps rule: which coded frame each output frame shows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncdiff_data.media.timeline import displayed_frames, duration_and_rate, nearest_frames

TIME_BASES = [
    Fraction(1, 25),
    Fraction(1, 1000),
    Fraction(1, 12800),
    Fraction(1, 90000),
    Fraction(1001, 30000),
]


def brute_force(pts: list[int], time_base: Fraction, fps: int, count: int) -> list[int]:
    """The rule as a sentence: the nearest time, the earlier on a tie."""
    times = [(p - pts[0]) * time_base for p in pts]
    return [min(range(len(times)), key=lambda k: (abs(times[k] - Fraction(i, fps)), k)) for i in range(count)]


@given(
    first=st.integers(-(10**6), 10**9),
    gaps=st.lists(st.integers(1, 5000), max_size=60),
    time_base=st.sampled_from(TIME_BASES[1:4]),
)
def test_every_frame_shows_the_nearest_coded_frame(first: int, gaps: list[int], time_base: Fraction) -> None:
    pts = first + np.cumsum([0, *gaps])
    shown = nearest_frames(pts, time_base, 25)
    assert shown.dtype == np.int32
    assert shown.tolist() == brute_force(pts.tolist(), time_base, 25, len(shown))
    assert np.all(np.diff(shown) >= 0)
    held = np.median(np.diff(pts)) if gaps else None
    if held is not None:
        span = float((pts[-1] - pts[0] + held) * time_base)
        assert len(shown) == 1 or abs(len(shown) / 25 - span) <= 0.5 / 25 + 1e-3


@given(n=st.integers(1, 200), first=st.integers(0, 10**6), time_base=st.sampled_from(TIME_BASES[:4]))
def test_25_fps_maps_one_to_one(n: int, first: int, time_base: Fraction) -> None:
    step = int(Fraction(1, 25) / time_base)
    shown = nearest_frames(first + step * np.arange(n), time_base, 25)
    assert shown.tolist() == list(range(n))


@pytest.mark.parametrize(
    "rate", ["14.985", "22.131", "23.976", "24", "25", "29.97", "30", "50", "60", "62.5"]
)
def test_constant_rates_stay_within_half_a_source_frame(rate: str) -> None:
    gap = 1 / Fraction(rate)
    time_base = gap / 1000
    pts = 1000 * np.arange(240)
    shown = nearest_frames(pts, time_base, 25)
    wanted = np.arange(len(shown)) / 25
    inside = wanted <= float(239 * gap)
    assert np.all(np.abs(shown * float(gap) - wanted)[inside] <= float(gap) / 2 + 1e-9)
    assert len(shown) == int(240 * gap * 25 + Fraction(1, 2))


def test_ties_take_the_earlier_frame() -> None:
    # 62.5 fps: frame 1 at 40 ms lies between coded frames 2 (32 ms) and 3 (48 ms).
    assert nearest_frames(16 * np.arange(10), Fraction(1, 1000), 25).tolist() == [0, 2, 5, 7]


def test_a_hole_is_shared_by_its_two_sides() -> None:
    pts = np.array([0, 40, 80, 280, 320])
    assert nearest_frames(pts, Fraction(1, 1000), 25).tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 4]


def test_one_coded_frame_is_one_frame() -> None:
    assert nearest_frames(np.array([77]), Fraction(1, 12288), 25).tolist() == [0]


@pytest.mark.parametrize("pts", [[], [0, 80, 40]])
def test_times_that_make_no_sense_are_refused(pts: list[int]) -> None:
    with pytest.raises(ValueError, match="never decrease"):
        nearest_frames(np.array(pts, np.int64), Fraction(1, 1000), 25)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_frames_shown_for_no_time_are_left_out(gaps: list[int]) -> None:
    pts = 7 + np.cumsum([0, *gaps])
    shown = displayed_frames(pts)
    assert pts[shown].tolist() == sorted(set(pts.tolist()))
    assert all(index == len(pts) - 1 or pts[index + 1] > pts[index] for index in shown)


def test_the_last_frame_lasts_as_long_as_the_median_gap() -> None:
    assert duration_and_rate(np.array([5, 6, 6, 7, 17]), Fraction(1, 10)) == (1.3, Fraction(5, 2))
    assert duration_and_rate(np.array([9]), Fraction(1, 10)) == (0.04, 25)
