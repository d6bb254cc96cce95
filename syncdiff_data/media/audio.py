"""Sound at 16 kHz mono on the source's presentation clock.

Every decoded block of the first audio stream is put where its time stamp says. Runs of blocks that follow each
other are resampled as one piece (FFmpeg's swresample); a late start, a gap or a missing end is silence. FFmpeg drops
the encoder's priming samples (AAC, MP3, Opus) before they come here. Downmix: swresample's matrix, scaled so that it
cannot clip; stereo becomes the mean of left and right.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from syncdiff_data.media.probe import first_audio, open_media, reason_of
from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME, MediaError, Reason

# Containers round time stamps (Matroska to 1 ms), so only a larger jump is a real gap or overlap.
_JUMP = Fraction(5, 1000)


class AudioTrack:
    """The first audio stream of a file, decoded once; `cut` takes the sound of a clip out of it.

    Memory: 32 kB per second of sound. Raises MediaError(NO_AUDIO) without an audio stream, MediaError(UNREADABLE)
    if the file does not open or does not decode to its end.
    """

    def __init__(self, path: str | Path):
        self._pieces: list[tuple[int, np.ndarray]] = []
        """(first sample on the 16 kHz presentation clock, int16 [n])"""
        piece = _Piece()
        with open_media(path) as container:
            stream = first_audio(container)
            if stream is None:
                raise MediaError(Reason.NO_AUDIO, "no audio stream")
            stream.codec_context.thread_count = 1
            try:
                for frame in container.decode(stream):
                    if not piece.follows(frame):
                        self._close(piece)
                        piece = _Piece()
                    piece.add(frame)
            except av.FFmpegError as error:
                detail = f"sound does not decode after {float(piece.end_s):.2f} s ({reason_of(error)})"
                raise MediaError(Reason.UNREADABLE, detail) from error
        self._close(piece)

    def _close(self, piece: _Piece) -> None:
        if piece.resampler is not None:
            self._pieces.append((round(piece.start_s * SAMPLE_RATE), piece.samples()))

    def cut(self, start_s: float, num_frames: int) -> np.ndarray:
        """int16 [num_frames * 640]: the sound from `start_s` on the presentation clock, silence where none is."""
        first = round(start_s * SAMPLE_RATE)
        out = np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16)
        for at, samples in self._pieces:
            lo, hi = max(at, first), min(at + len(samples), first + len(out))
            if lo < hi:
                out[lo - first : hi - first] = samples[lo - at : hi - at]
        return out


def read_audio(path: str | Path, start_s: float, num_frames: int) -> np.ndarray:
    """int16 [num_frames * 640], mono 16 kHz, of the first audio stream from `start_s` on the presentation clock.

    Raises as AudioTrack. For several clips of one source, keep an AudioTrack and `cut` them from it.
    """
    return AudioTrack(path).cut(start_s, num_frames)


class _Piece:
    """Blocks that follow each other without a jump, resampled as one."""

    def __init__(self) -> None:
        self.resampler: AudioResampler | None = None
        self.start_s = self.end_s = Fraction(0)
        self._setup: tuple[str, str, int] | None = None
        self._blocks: list[np.ndarray] = []

    def follows(self, frame: AudioFrame) -> bool:
        """Whether the block goes on where this piece ends, in the same sample format."""
        return self.resampler is None or (
            _setup(frame) == self._setup and (frame.pts is None or abs(_time(frame) - self.end_s) <= _JUMP)
        )

    def add(self, frame: AudioFrame) -> None:
        if self.resampler is None:
            self.resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._setup = _setup(frame)
            self.start_s = self.end_s = _time(frame) if frame.pts is not None else Fraction(0)
        self.end_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        self._blocks += [block.to_ndarray()[0] for block in self.resampler.resample(frame)]

    def samples(self) -> np.ndarray:
        assert self.resampler is not None
        rest = [] if self.resampler.is_passthrough else self.resampler.resample(None)
        return np.concatenate([*self._blocks, *(block.to_ndarray()[0] for block in rest)])


def _setup(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _time(frame: AudioFrame) -> Fraction:
    return frame.pts * frame.time_base
