"""Lips in silence: which frames are silent, what rest and chatter score, and the detector on real sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lip_clips import context_of, feed, landmarks, opening_of, speech

from syncdiff_data.media import AudioTrack, Video
from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import MissingValue
from syncdiff_eval.metrics.silent_lips import LEAST_SILENCE_S, SILENT_LIPS, SilentLips, silent_frames
from syncdiff_eval.networks.voice import VoiceDetector

FRAMES = 100
SPOKEN = [(1.0, 1.9), (2.1, 3.0)]
"""Silence before 1 s and after 3 s; a pause of 0.2 s is none."""


class Hears:
    """Stands in for Silero."""

    def __init__(self, stretches: list[tuple[float, float]]) -> None:
        self.stretches = stretches

    def speech(self, audio: np.ndarray) -> list[tuple[float, float]]:
        return self.stretches


def silent_lips(reference: np.ndarray, generated: np.ndarray, spoken: Any = SPOKEN, **more: Any) -> Any:
    context = context_of(reference, more.pop("audio", speech(FRAMES)), **more)
    blank = [np.zeros((8, 8, 3), np.uint8)] * len(generated)
    state = SilentLips(context, Hears(spoken))  # type: ignore[arg-type]
    return feed(state, context, blank, [], 8, landmarks(generated)).compute()


def test_pauses_of_a_third_of_a_second_are_silence() -> None:
    silent = silent_frames(SPOKEN, np.arange(FRAMES) / 25, 25)
    assert np.flatnonzero(silent).tolist() == [*range(25), *range(75, 100)]
    assert silent_frames([], np.arange(8) / 25, 25).all()
    assert not silent_frames([], np.arange(7) / 25, 25).any()
    assert not silent_frames([(0, 9)], np.arange(50) / 25, 25).any()


@given(
    st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4)), max_size=6),
    st.sampled_from([25.0, 29.97, 50.0]),
    st.integers(0, 120),
)
def test_every_silent_run_is_long_and_unspoken(stretches: Any, fps: float, count: int) -> None:
    times = np.arange(count) / fps
    silent = silent_frames(stretches, times, fps)
    middle = times + 0.5 / fps
    for begin, end in stretches:
        assert not (silent & (middle >= begin) & (middle <= end)).any()
    runs = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]])))
    assert all((last - first) / fps >= LEAST_SILENCE_S - 1e-6 for first, last in zip(runs[::2], runs[1::2]))


def test_chatter_in_silence_counts_and_speech_does_not() -> None:
    silent = silent_frames(SPOKEN, np.arange(FRAMES) / 25, 25)
    mouth = opening_of(FRAMES, 0)
    resting = np.where(silent, 0.2, mouth)
    rest = silent_lips(mouth, resting)
    assert rest["silent_motion"] == pytest.approx(0, abs=1e-4)
    real = silent_lips(mouth, mouth)
    assert real["silent_motion_excess"] == pytest.approx(0, abs=1e-9)
    changes = np.abs(np.diff(mouth))[silent[1:] & silent[:-1]]
    # In percent of the eye distance; lip_clips opens the mouth by `opening` fifths of it.
    assert real["silent_motion"] == pytest.approx(20 * changes.mean(), abs=1e-3)
    assert rest["silent_motion_excess"] == pytest.approx(-real["silent_motion"], abs=1e-3)
    louder_speech_only = np.where(silent, mouth, 1 - mouth)
    assert silent_lips(mouth, louder_speech_only) == pytest.approx(real, abs=1e-6)


def test_why_there_is_no_value() -> None:
    mouth = opening_of(FRAMES, 0)
    for reason, found in {
        Reason.NO_AUDIO: silent_lips(mouth, mouth, audio=None),
        Reason.NO_SILENCE: silent_lips(mouth, mouth, [(0, 4)]),
        Reason.NO_FACE: silent_lips(mouth, mouth, regions=None),
    }.items():
        assert found == {column.name: MissingValue(reason) for column in SILENT_LIPS.columns}
    faceless_in_silence = silent_lips(mouth, mouth, present=np.abs(np.arange(FRAMES) - 50) < 24)
    assert set(faceless_in_silence.values()) == {MissingValue(Reason.NO_SILENCE)}


def test_silero_hears_speech_and_neither_hiss_nor_silence(shared: Any) -> None:
    """GRID's published alignments say where its words are."""
    detector = VoiceDetector()
    path = sorted((shared / "grid_s1").glob("*.mpg"))[0]
    video = Video(path)
    audio = AudioTrack(path).slice(video.start_s, video.num_frames)
    lines = (shared / "grid_s1_align" / f"{path.stem}.align").read_text().splitlines()
    words = [(int(a) / 25_000, int(b) / 25_000) for a, b, word in map(str.split, lines) if word != "sil"]
    found = detector.speech(audio)
    assert found[0][0] == pytest.approx(words[0][0], abs=0.25)
    assert found[-1][1] == pytest.approx(words[-1][1], abs=0.25)
    assert detector.speech(np.zeros(48_000, np.int16)) == []
    hiss = np.random.default_rng(0).integers(-300, 300, 48_000).astype(np.int16)
    assert detector.speech(hiss) == []
    assert detector.speech(audio) == found, "whatever was heard before"
    assert detector.speech(np.zeros(0, np.int16)) == []
