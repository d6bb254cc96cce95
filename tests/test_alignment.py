"""Features keep the clock of the video: sound later by k frames gives features later by k frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_clips import spoken_clip
from tiny_avhubert import write_tiny_checkpoint

from syncdiff_data.avhubert import BASE, AVHubertEncoder
from syncdiff_data.demo import SPEAKERS
from syncdiff_data.demo.speech import babble, speak
from syncdiff_data.features import logfbank, mel_windows
from syncdiff_data.features.avhubert import AVHubertFeatures
from syncdiff_data.media import read_audio
from syncdiff_data.records import SAMPLES_PER_FRAME

FRAMES = 75
SEARCHED = range(-8, 9)
INNER = slice(12, FRAMES - 16)
"""Frames whose windows of sound lie inside the clip at every lag searched."""
SHIFTS = (1, 2, 3, 5, 7)


def talker_speech() -> Iterator[np.ndarray]:
    for seed, speaker in enumerate(SPEAKERS):
        random = np.random.default_rng(seed)
        yield speak(babble(FRAMES, random, speaker.voice), random, speaker.voice)[0]


def real_speech(shared: Path) -> Iterator[np.ndarray]:
    for video in sorted((shared / "grid_s1").rglob("*.mpg")):
        yield read_audio(video, 0.0, FRAMES)


def delay(audio: np.ndarray, frames: int) -> np.ndarray:
    """The sound, later by so many frames of silence; as long as before."""
    return np.concatenate([np.zeros(frames * SAMPLES_PER_FRAME, np.int16), audio])[: len(audio)]


def best_lag(features: np.ndarray, later: np.ndarray) -> int:
    """The lag at which the inner frames of `later` are nearest to those of `features`, both [75, D]."""
    distances = [
        np.linalg.norm(later[INNER.start + lag : INNER.stop + lag] - features[INNER]) for lag in SEARCHED
    ]
    return SEARCHED[int(np.argmin(distances))]


def check_sound_features(audio: np.ndarray) -> None:
    """logfbank moves by exactly k. Five frames of video are 16 mel frames: mel moves exactly where 5 divides k, and
    else by k and a part of a mel frame that the best lag rounds away.
    """
    energies, windows = logfbank(audio), mel_windows(audio, FRAMES)
    for shift in SHIFTS:
        later = delay(audio, shift)
        np.testing.assert_array_equal(logfbank(later)[shift + 1 : -1], energies[1 : -1 - shift])
        moved = mel_windows(later, FRAMES)
        assert best_lag(windows, moved) == shift
        if shift % 5 == 0:
            np.testing.assert_array_equal(moved[shift + 1 : -8], windows[1 : -8 - shift])


def check_avhubert(features: AVHubertFeatures, audio: np.ndarray) -> None:
    clip = spoken_clip(FRAMES, mouth=False)
    heard = [audio, *(delay(audio, shift) for shift in (2, 5))]
    plain, *later = features.encode([replace(clip, audio=sound) for sound in heard])
    for column, values in plain.items():
        assert [best_lag(values, moved[column]) for moved in later] == [2, 5], column


def test_sound_features_move_with_generated_speech() -> None:
    for audio in talker_speech():
        check_sound_features(audio)


def test_avhubert_moves_with_generated_speech(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    encoder = AVHubertEncoder.from_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.pt"))
    for audio in talker_speech():
        check_avhubert(AVHubertFeatures(encoder, [1, 2, None]), audio)


@pytest.mark.slow
def test_sound_features_move_with_real_speech(shared: Path) -> None:
    for audio in real_speech(shared):
        check_sound_features(audio)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["golden", "base"])
def test_avhubert_moves_with_real_speech(shared: Path, size: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if size == "golden":
        encoder, layers = AVHubertEncoder.from_checkpoint(shared / "golden" / "tiny_plain.pt"), [1, None]
    else:
        encoder, layers = AVHubertEncoder(BASE).eval(), [9, 12, None]
    for audio in list(real_speech(shared))[::22]:
        check_avhubert(AVHubertFeatures(encoder, layers), audio)
