"""Kind 26: the best of many lags is searched only where enough frames overlap, on clips long enough for it."""

import numpy as np
import pytest

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions, Values
from syncdiff_eval.metrics.mouth_audio import LEAST_FRAMES, MAX_LAG, MouthAudio, lagged_correlation

SAMPLES = 640
"""Of sound, in a frame at 25 fps."""


def sound_of(levels: np.ndarray) -> np.ndarray:
    """int16 [640 T] whose level follows float [T]."""
    return np.repeat(np.round(1000 * 10**levels), SAMPLES).astype(np.int16)


def scored(opening: np.ndarray, levels: np.ndarray, present: np.ndarray | None = None) -> Values:
    """The family's values of a clip whose mouth opens as float [T] says."""
    count = len(opening)
    present = np.ones(count, bool) if present is None else present
    landmarks = np.zeros((count, 68, 2), np.float32)
    landmarks[:, [67, 66, 65], 1] = opening[:, None]
    nothing = np.zeros((count, 4))
    regions = Regions(present, landmarks, nothing, nothing, nothing, 1.0)
    metric = MouthAudio(ClipContext(25, count, sound_of(levels), 1.0, regions))
    metric.update(FrameBatch(0, [], [np.zeros((1, 1, 3), np.uint8)] * count, regions, landmarks))
    return metric.compute()


@pytest.mark.parametrize("count", [3, 12, LEAST_FRAMES - 1])
def test_kind_26_a_short_clip_has_no_best_lag(count: int) -> None:
    rng = np.random.default_rng(count)
    values = scored(rng.random(count), rng.random(count))
    assert isinstance(values["mouth_audio_corr"], float)
    for name in ("mouth_audio_peak", "mouth_audio_lag"):
        assert values[name] == MissingValue(Reason.TOO_SHORT_FOR_LAG)


def test_kind_26_frames_without_a_face_do_not_count() -> None:
    rng = np.random.default_rng(0)
    present = np.arange(80) < LEAST_FRAMES - 1
    values = scored(rng.random(80), rng.random(80), present)
    assert values["mouth_audio_peak"] == MissingValue(Reason.TOO_SHORT_FOR_LAG)
    present[-1] = True
    assert isinstance(scored(rng.random(80), rng.random(80), present)["mouth_audio_peak"], float)


def test_kind_26_an_unrelated_mouth_does_not_fit_by_chance() -> None:
    rng = np.random.default_rng(1)
    found = [
        scored(rng.random(LEAST_FRAMES), rng.random(LEAST_FRAMES))["mouth_audio_peak"] for _ in range(40)
    ]
    assert np.mean(found) < 0.35  # type: ignore[arg-type]


@pytest.mark.parametrize("lag", [-10, -3, 0, 10])
def test_kind_26_a_true_lag_is_found_on_the_shortest_clip(lag: int) -> None:
    mouth = np.random.default_rng(2).random(LEAST_FRAMES)
    values = scored(mouth, np.roll(mouth, lag))
    assert values["mouth_audio_lag"] == lag
    assert values["mouth_audio_peak"] == pytest.approx(1, abs=0.02)


def test_kind_26_lags_that_under_half_of_the_frames_see_are_left_out() -> None:
    curve = lagged_correlation(*np.random.default_rng(3).random((2, 12)))
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    assert list(np.isfinite(curve)) == list(np.abs(lags) <= 6)


def test_kind_26_a_still_mouth_has_a_peak_of_zero_and_no_lag() -> None:
    values = scored(np.full(LEAST_FRAMES, 2.0), np.random.default_rng(5).random(LEAST_FRAMES))
    assert values["mouth_audio_peak"] == 0
    assert values["mouth_audio_lag"] == MissingValue(Reason.MOUTH_STILL)
