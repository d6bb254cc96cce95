"""Audio features of the published models: AV-HuBERT's log filterbank energies and Wav2Lip's mel windows."""

from __future__ import annotations

from functools import cache

import numpy as np
import python_speech_features

from syncdiff_data.records import FPS, SAMPLE_RATE

LOGFBANK_BANDS = 26
LOGFBANK_STACK = 4
"""Frames of 10 ms in one frame of video."""
LOGFBANK_DIM = LOGFBANK_BANDS * LOGFBANK_STACK

MEL_BANDS = 80
MEL_FFT = 800
MEL_HOP = 200
MEL_RANGE_HZ = (55.0, 7600.0)
MEL_RATE = SAMPLE_RATE // MEL_HOP
"""Mel frames a second: 3.2 for each frame of video."""
MEL_WINDOW = 16
"""Mel frames of Wav2Lip's window for one video frame: 0.2 s."""
MEL_DIM = MEL_WINDOW * MEL_BANDS
PREEMPHASIS = 0.97
INT16_SCALE = 32768
LOGFBANK_WINDOW, LOGFBANK_HOP, LOGFBANK_PREEMPHASIS = 400, 160, 0.97
LOGFBANK_AT_ONCE = 3000
"""Windows whose spectra are in memory together."""


def logfbank(audio: np.ndarray) -> np.ndarray:
    """float32 [T, 104]: log filterbank energies of int16 [N] at 16 kHz, four frames of 10 ms side by side.

    The defaults of python_speech_features (26 bands, windows of 25 ms, pre-emphasis 0.97, natural logarithm),
    as AV-HuBERT's hubert_dataset.py calls it, before its normalisation per frame. N = 640 T gives exactly T
    rows. Silence is -36.04. Raises ValueError for anything but int16: samples in [-1, 1] would be 20.8 lower.
    """
    _check_int16(audio)
    # The windows of 30 s at a time: their spectra take 40 times the memory of the sound.
    samples = python_speech_features.sigproc.preemphasis(audio, LOGFBANK_PREEMPHASIS)
    last = max(0, -(-(len(samples) - LOGFBANK_WINDOW) // LOGFBANK_HOP))
    pieces = [
        python_speech_features.logfbank(_windows_from(samples, first), samplerate=SAMPLE_RATE, preemph=0)
        for first in range(0, last + 1, LOGFBANK_AT_ONCE)
    ]
    energies = np.concatenate(pieces).astype(np.float32)
    missing = -len(energies) % LOGFBANK_STACK
    return np.pad(energies, ((0, missing), (0, 0))).reshape(-1, LOGFBANK_DIM)


def _windows_from(samples: np.ndarray, first: int) -> np.ndarray:
    """The samples of LOGFBANK_AT_ONCE windows, or as many as there are, from window `first` on."""
    start = first * LOGFBANK_HOP
    return samples[start : start + (LOGFBANK_AT_ONCE - 1) * LOGFBANK_HOP + LOGFBANK_WINDOW]


def mel(audio: np.ndarray) -> np.ndarray:
    """float32 [1 + N // 200, 80] in [-4, 4]: Wav2Lip's mel spectrogram of int16 [N] at 16 kHz, 80 frames a
    second.

    As Wav2Lip's audio.py with its hparams: pre-emphasis 0.97, magnitudes of 800-point Hann windows centred
    every 200 samples (zeros beyond the ends), 80 Slaney bands from 55 to 7600 Hz, decibels mapped from [-100,
    0] to [-4, 4].
    """
    _check_int16(audio)
    samples = audio.astype(np.float64) / INT16_SCALE
    samples[1:] -= PREEMPHASIS * samples[:-1]
    padded = np.pad(samples, MEL_FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEL_FFT)[::MEL_HOP]
    magnitudes = np.abs(np.fft.rfft(windows * _hann()))
    decibels = 20 * np.log10(np.maximum(1e-5, magnitudes @ _slaney_filters().T)) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4).astype(np.float32)


def mel_windows(audio: np.ndarray, num_frames: int) -> np.ndarray:
    """float32 [num_frames, 1280]: for each video frame the 16 mel frames from its time on, flattened from
    [16, 80].

    Window i starts at mel frame int(3.2 i); those that would run over the end stop at the end. Sound shorter
    than one window is followed by silence. Reshape to [16, 80] and transpose for Wav2Lip's networks, which
    take [80, 16].
    """
    return mel_windows_at(audio, np.arange(num_frames) / FPS)


def mel_windows_at(audio: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """float32 [N, 1280]: as `mel_windows`, for frames at any times [N], in seconds from the sound's beginning.

    A window starts at mel frame int(80 t): what Wav2Lip's inference.py computes as int(i * (80 / fps)) for frame i of
    its video; where its doubles fall short of a whole number (one frame in 1,200 at 23.976 fps), ours do not.
    Times before the beginning get the first window.
    """
    shortest = MEL_WINDOW * MEL_HOP
    frames = mel(np.pad(audio, (0, max(0, shortest - len(audio)))))
    # A millionth of a mel frame is 13 ns: no time falls short of a whole number by a double's last bit.
    starts = np.floor(np.asarray(times_s, np.float64) * MEL_RATE + 1e-6).astype(np.int64)
    starts = np.clip(starts, 0, len(frames) - MEL_WINDOW)
    return frames[starts[:, None] + np.arange(MEL_WINDOW)].reshape(len(starts), MEL_DIM)


@cache
def _hann() -> np.ndarray:
    """The periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL_FFT) / MEL_FFT)


@cache
def _slaney_filters() -> np.ndarray:
    """[80, 401] triangles of equal area on the mel scale of Slaney's Auditory Toolbox (1998)."""
    low, high = _hz_to_slaney(np.array(MEL_RANGE_HZ))
    corners = _slaney_to_hz(np.linspace(low, high, MEL_BANDS + 2))[:, None]
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.fft.rfftfreq(MEL_FFT, 1 / SAMPLE_RATE)
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(0, triangles) * 2 / (right - left)


# Slaney's scale is linear up to 1 kHz (15 mel) and logarithmic above, 27 steps to a factor of 6.4.
_LINEAR_HZ, _BREAK_HZ, _BREAK_MEL = 200 / 3, 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def _hz_to_slaney(hz: np.ndarray) -> np.ndarray:
    above = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, above)


def _slaney_to_hz(mels: np.ndarray) -> np.ndarray:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, above)


def _check_int16(audio: np.ndarray) -> None:
    if audio.dtype != np.int16 or audio.ndim != 1 or not len(audio):
        raise ValueError(f"audio: expected int16 [N] at 16 kHz, got {audio.dtype} {list(audio.shape)}")
