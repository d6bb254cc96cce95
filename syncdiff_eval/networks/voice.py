"""When somebody speaks, by Silero's voice detector, whose network is inside its wheel."""

from __future__ import annotations

import warnings

import numpy as np

from syncdiff_data.records import SAMPLE_RATE


class VoiceDetector:
    """Silero VAD with its own settings, on the CPU. What it finds does not depend on what it heard before."""

    def __init__(self) -> None:
        import torch

        threads = torch.get_num_threads()
        from silero_vad import load_silero_vad

        torch.set_num_threads(threads)  # the import sets it to one, for every network of this process
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
            self._network = load_silero_vad()

    def speech(self, audio: np.ndarray) -> list[tuple[float, float]]:
        """Seconds at which each stretch of speech in int16 [N], 16 kHz mono, begins and ends."""
        import torch
        from silero_vad import get_speech_timestamps

        samples = torch.from_numpy(audio.astype(np.float32) / 32768)
        found = get_speech_timestamps(samples, self._network, sampling_rate=SAMPLE_RATE)
        return [(stretch["start"] / SAMPLE_RATE, stretch["end"] / SAMPLE_RATE) for stretch in found]
