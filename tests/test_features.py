"""Features of clips: parity with the published audio code, one clock, batches that change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import python_speech_features
from hypothesis import given
from hypothesis import strategies as st
from made_clips import speech_like, spoken_clip
from tiny_avhubert import TINY

from syncdiff_data.avhubert import AVHubertEncoder, align_frames, audio_input, video_input
from syncdiff_data.features import encoder_weights, load_encoder, logfbank, mel, mel_windows
from syncdiff_data.features.avhubert import (
    BATCH_FRAMES,
    LONGEST_TO_SHORTEST,
    AVHubertFeatures,
    pad_batch,
    padding_mask,
    similar_lengths,
)
from syncdiff_data.features.base import EncoderOptions
from syncdiff_data.records import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = ("n16000", "n12800", "n12801", "n13199", "n13361", "n400", "n399", "n1")


# --- Parity with the published code ----------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_golden_logfbank_and_its_normalisation(shared: Path, length: str) -> None:
    golden = np.load(shared / "golden" / "preproc_av.npz")
    stacked = logfbank(golden[f"audio/{length}/wav_i16"])
    np.testing.assert_array_equal(stacked, golden[f"audio/{length}/stacked"])
    np.testing.assert_allclose(audio_input(stacked).T, golden[f"audio/{length}/normalized"], atol=5e-6)


@pytest.mark.parametrize("seconds", [29, 30.01, 75])
def test_long_sound_in_pieces_is_the_whole_sound_to_the_bit(seconds: float) -> None:
    """Spectra of 30 s at a time: a dub's memory does not grow with its sound."""
    sound = np.random.default_rng(0).integers(-3000, 3000, int(seconds * 16000)).astype(np.int16)
    expected = python_speech_features.logfbank(sound, samplerate=16000).astype(np.float32)
    stacked = logfbank(sound).reshape(-1, 26)
    np.testing.assert_array_equal(stacked[: len(expected)], expected)
    assert not stacked[len(expected) :].any()
    assert len(stacked) - len(expected) < 4


def test_golden_video_input(shared: Path) -> None:
    golden = np.load(shared / "golden" / "preproc_av.npz")
    gray = golden["video/gray_u8"]
    expected = golden["video/normalized_f32"][: len(gray), :, :, 0]
    np.testing.assert_allclose(video_input(gray)[0], expected, atol=1e-6)


@pytest.mark.parametrize("case", ["trim", "pad", "equal"])
def test_golden_alignment(shared: Path, case: str) -> None:
    golden = np.load(shared / "golden" / "preproc_av.npz")
    frames = int(golden[f"align/{case}/T_video"])
    expected = golden[f"align/{case}/audio"]
    candidates = [golden[f"audio/{length}/stacked"] for length in LENGTHS]
    made = [audio_input(align_frames(stacked, frames)).T for stacked in candidates]
    assert any(np.allclose(array, expected, atol=5e-6) for array in made)


def test_golden_collation(shared: Path) -> None:
    golden = np.load(shared / "golden" / "preproc_av.npz")
    audio, mask = golden["collate/audio"], golden["collate/padding_mask"]
    lengths = [int(length) for length in (~mask).sum(axis=1)]
    np.testing.assert_array_equal(padding_mask(lengths), mask)
    np.testing.assert_array_equal(pad_batch([row[:, :length] for row, length in zip(audio, lengths)]), audio)


def test_golden_mel(shared: Path) -> None:
    golden = np.load(shared / "golden" / "wav2lip_mel.npz")
    np.testing.assert_allclose(mel(golden["samples_i16"]).T, golden["mel"], atol=1e-5)


# --- Sound: one clock, all lengths -------------------------------------------------------------------------


@given(frames=st.integers(1, 60))
def test_a_row_of_features_for_every_frame_of_video(frames: int) -> None:
    audio = speech_like(frames)
    assert logfbank(audio).shape == (frames, 104)
    windows = mel_windows(audio, frames)
    assert windows.shape == (frames, 1280)
    assert windows.dtype == np.float32
    assert np.abs(windows).max() <= 4


def test_mel_windows_start_at_their_frame_and_stop_at_the_end() -> None:
    audio = speech_like(25)
    frames, windows = mel(audio), mel_windows(audio, 25).reshape(25, 16, 80)
    assert len(frames) == 81
    np.testing.assert_array_equal(windows[0], frames[:16])
    np.testing.assert_array_equal(windows[7], frames[22:38])
    np.testing.assert_array_equal(windows[24], frames[-16:])


def test_silence_and_loudness() -> None:
    silence = np.zeros(640 * 20, np.int16)
    np.testing.assert_allclose(logfbank(silence)[:-1], np.log(np.finfo(float).eps), atol=1e-5)
    np.testing.assert_array_equal(mel(silence), -4.0)
    assert np.isfinite(audio_input(logfbank(silence))).all()


@pytest.mark.parametrize("audio", [np.zeros(640), np.zeros((2, 640), np.int16), np.zeros(0, np.int16)])
def test_anything_but_int16_samples_is_refused(audio: np.ndarray) -> None:
    for function in (logfbank, mel):
        with pytest.raises(ValueError, match=r"audio: expected int16 \[N\]"):
            function(audio)


def test_inputs_of_the_encoder_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="logfbank: expected"):
        audio_input(np.zeros((4, 26)))
    with pytest.raises(ValueError, match="mouth: expected uint8"):
        video_input(np.zeros((4, 96, 96), np.float32))


# --- Encoders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("logfbank", 104), ("mel", 1280)])
def test_sound_encoders(name: str, width: int) -> None:
    encoder = load_encoder(name)
    assert encoder.columns == {name: width}
    for clip, features in zip(clips := [spoken_clip(12), spoken_clip(30, 1)], encoder.encode(clips)):
        assert features[name].shape == (clip.num_frames, width)
        assert features[name].dtype == np.float32


@pytest.mark.parametrize("modality", ["audio", "av"])
def test_avhubert_in_a_batch_equals_avhubert_alone(encoder: AVHubertEncoder, modality: str) -> None:
    features = AVHubertFeatures(encoder, [2, None], modality)
    assert features.columns == {"layer2": 32, "final": 32}
    clips = [spoken_clip(frames, seed) for seed, frames in enumerate((6, 10, 9, 10))]
    for clip, together in zip(clips, features.encode(clips)):
        (alone,) = features.encode([clip])
        for name in features.columns:
            assert together[name].shape == (clip.num_frames, 32)
            assert together[name].dtype == np.float32
            np.testing.assert_allclose(together[name], alone[name], atol=1e-5, rtol=1e-5)


def test_avhubert_is_loaded_by_name(checkpoint: Path) -> None:
    encoder = load_encoder("avhubert", EncoderOptions(layers=(3,), weights={"avhubert-base": checkpoint}))
    assert encoder.columns == {"layer3": TINY.width}
    (features,) = encoder.encode([spoken_clip(10, mouth=False)])
    assert features["layer3"].shape == (10, TINY.width)
    assert load_encoder("avhubert", EncoderOptions(weights={"avhubert-base": checkpoint})).columns == {
        "final": TINY.width
    }
    assert encoder_weights("avhubert") == ("avhubert-base",)
    assert encoder_weights("mel") == ()


@pytest.mark.parametrize("modality", ["video", "av"])
def test_a_clip_without_mouth_crops_is_named(encoder: AVHubertEncoder, modality: str) -> None:
    features = AVHubertFeatures(encoder, [1], modality)
    with pytest.raises(UserError, match=r"talker7.mp4\) has no mouth crops.*--no-mouth"):
        features.encode([spoken_clip(10, 7, mouth=False)])


def test_wrong_names_and_layers_are_told(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="no encoder 'hubert': choose one of logfbank, mel, avhubert"):
        load_encoder("hubert")
    with pytest.raises(UserError, match="mel has no layers"):
        load_encoder("mel", EncoderOptions(layers=(9,)))
    for layer in (0, 4):
        with pytest.raises(UserError, match=f"layers 1 to 3 and its final output; there is no {layer}"):
            load_encoder("avhubert", EncoderOptions(layers=(layer,), weights={"avhubert-base": checkpoint}))


@given(lengths=st.lists(st.integers(1, 750), max_size=40))
def test_batches_hold_every_clip_once_and_stay_within_bounds(lengths: list[int]) -> None:
    batches = list(similar_lengths(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = (edge(lengths[index] for index in batch) for edge in (max, min))
        assert len(batch) == 1 or longest * len(batch) <= BATCH_FRAMES
        assert longest <= LONGEST_TO_SHORTEST * shortest
