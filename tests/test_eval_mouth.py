"""Landmark distance, mouth opening and its fit with the sound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions
from syncdiff_eval.metrics.landmarks import LandmarkMetrics, landmark_distance, mouth_opening
from syncdiff_eval.metrics.mouth_audio import MAX_LAG, MouthAudio, lagged_correlation, loudness
from syncdiff_eval.metrics.sums import PairSums

EYES = 50.0


def face(opening: np.ndarray) -> np.ndarray:
    """float32 [T, 68, 2]: one face whose inner lips are `opening` pixels apart."""
    points = np.random.default_rng(0).uniform(20, 80, (68, 2))
    faces = np.tile(points, (len(opening), 1, 1)).astype(np.float32)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        faces[:, lower] = faces[:, upper]
        faces[:, lower, 1] += opening
    return faces


def batch(
    reference: np.ndarray, generated: np.ndarray, first: int = 0, present: np.ndarray | None = None
) -> FrameBatch:
    n = len(reference)
    boxes = np.zeros((n, 4), np.int32)
    seen = np.ones(n, bool) if present is None else present
    regions = Regions(seen, reference, boxes.astype(np.float32), boxes, boxes, EYES)
    return FrameBatch(first, [], [], regions, generated)


def tone(level: np.ndarray, fps: float = 25) -> np.ndarray:
    """int16 at 16 kHz whose loudness follows level [T], 0 to 1."""
    samples = np.repeat(level, round(16_000 / fps))
    return (8000 * samples * np.sin(np.arange(len(samples)) * 0.7)).astype(np.int16)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(1, 59), st.integers(0, 999))
def test_sums_give_pearsons_r_in_any_parts(n: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(3, 1, (n, 1)), rng.normal(-2, 2, (n, 1))
    a, b = PairSums(), PairSums()
    a.add(x[:cut], y[:cut])
    b.add(x[cut:], y[cut:])
    a.merge(b)
    assert a.correlation()[0] == pytest.approx(stats.pearsonr(x[:, 0], y[:, 0]).statistic, abs=1e-9)


def test_mouth_opening_and_distance() -> None:
    faces = face(np.array([0.0, 4.0]))
    assert mouth_opening(faces) == pytest.approx([0, 4], abs=1e-5)
    moved = faces + np.float32([3, 4])
    assert landmark_distance(faces, moved, centred=False) == pytest.approx([5, 5], abs=1e-4)
    assert landmark_distance(faces, moved, centred=True) == pytest.approx([0, 0], abs=1e-4)


def test_landmark_metrics_are_relative_to_the_eyes_and_skip_absent_faces() -> None:
    opening = np.array([1.0, 5, 2, 8, 3])
    reference = face(opening)
    generated = reference + np.float32([3, 4])
    generated[2] = np.nan
    metrics = LandmarkMetrics(EYES)
    metrics.update(batch(reference, generated, present=np.array([1, 1, 0, 1, 1], bool)))
    values = metrics.compute()
    assert values["lmd_face"] == pytest.approx(10, abs=1e-3)
    assert values["lmd_mouth"] == pytest.approx(0, abs=1e-3)
    assert values["opening_corr"] == pytest.approx(1, abs=1e-6)


def test_a_frozen_mouth_scores_nothing_and_a_still_reference_has_no_number() -> None:
    moving, still = face(np.array([1.0, 5, 2, 8])), face(np.full(4, 2.0))
    frozen = LandmarkMetrics(EYES)
    frozen.update(batch(moving, still))
    assert frozen.compute()["opening_corr"] == 0
    undefined = LandmarkMetrics(EYES)
    undefined.update(batch(still, moving))
    assert undefined.compute()["opening_corr"] == MissingValue(Reason.REFERENCE_MOUTH_STILL)


def test_loudness_is_the_level_while_a_frame_is_shown() -> None:
    level = loudness(tone(np.array([1.0, 0.1, 0, 1])), 25, 5)
    assert level[0] - level[1] == pytest.approx(20, abs=0.1)
    assert level[2] == level[4] == 20
    assert len(loudness(np.zeros(16_000, np.int16), 29.97, 30)) == 30
    uneven = loudness(tone(np.array([1.0, 1, 0.1, 0.01])), 20, 3, np.array([0, 0.08, 0.12]))
    assert uneven == pytest.approx([level[0], level[0] - 20, uneven[2]], abs=0.1)
    assert uneven[2] < uneven[1] - 19


@pytest.mark.parametrize("shift", [-10, -3, 0, 4, 10])
def test_the_best_lag_is_the_shift_of_the_sound(shift: int) -> None:
    signal = np.abs(np.convolve(np.random.default_rng(3).normal(size=240), np.ones(4), "same"))
    opening, level = signal[20:220], signal[20 - shift : 220 - shift]
    curve = lagged_correlation(opening, level)
    assert int(np.argmax(curve)) - MAX_LAG == shift
    assert curve.max() == pytest.approx(1, abs=1e-9)


def test_mouth_audio_does_not_depend_on_the_batches() -> None:
    rng = np.random.default_rng(5)
    opening = np.abs(rng.normal(size=60)) * 5
    reference, audio = face(opening), tone(rng.uniform(0.1, 1, 60))
    context = ClipContext(25, 60, audio, EYES)
    whole, parts = MouthAudio(context), [MouthAudio(context), MouthAudio(context)]
    whole.update(batch(reference, reference))
    for i in range(0, 60, 7):
        parts[i > 20].update(batch(reference[i : i + 7], reference[i : i + 7], first=i))
    parts[0].merge(parts[1])
    assert whole.compute() == pytest.approx(parts[0].compute(), abs=1e-9)
    level = loudness(audio, 25, 60) / 100
    expected = stats.pearsonr(mouth_opening(reference), level).statistic
    assert whole.compute()["mouth_audio_corr"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("audio", "opening", "corr", "lag"),
    [
        (None, [1.0, 5, 2], MissingValue(Reason.NO_AUDIO), MissingValue(Reason.NO_AUDIO)),
        (
            np.zeros(1920, np.int16),
            [1.0, 5, 2],
            MissingValue(Reason.SILENT_AUDIO),
            MissingValue(Reason.SILENT_AUDIO),
        ),
        (tone(np.array([0.1, 1, 0.3])), [2.0, 2, 2], 0.0, MissingValue(Reason.TOO_SHORT_FOR_LAG)),
    ],
)
def test_sound_or_mouth_that_tell_nothing(
    audio: np.ndarray | None, opening: list[float], corr: float | MissingValue, lag: MissingValue
) -> None:
    metric = MouthAudio(ClipContext(25, 3, audio, EYES))
    faces = face(np.array(opening))
    metric.update(batch(faces, faces))
    assert metric.compute()["mouth_audio_corr"] == corr
    assert metric.compute()["mouth_audio_lag"] == lag
