"""Sound at 16 kHz mono on the source's presentation clock.

Every decoded block of the first audio stream goes where its time stamp says. Blocks that follow each other
are resampled as one piece by FFmpeg's swresample; a late start, a gap or a missing end is silence. FFmpeg drops
an encoder's priming samples (AAC, MP3, Opus). Downmix: swresample's matrix, scaled so that it cannot clip;
stereo becomes the mean of left and right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from syncdiff_data.media.probe import first_audio, open_media, words
from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME, MediaError

JUMP_S = Fraction(5, 1000)
"""Containers round time stamps (Matroska to 1 ms): only a larger jump is a gap, or a clock that drifts."""
MIXED_CHANNELS = 8
"""swresample has no matrix for more: their mean is one channel."""


class AudioTrack:
    """The first audio stream of a file, decoded once; `slice` gives the audio of each clip.

    start_s, end_s: where its sound begins and ends on the presentation clock. A file of sound alone need not
    begin at 0 (MP3 begins at 0.025 s): slice it from start_s.
    Memory: 32 kB per second of sound. Raises MediaError(NO_AUDIO) without sound in an audio stream, and
    MediaError(UNREADABLE) if the file does not open or the stream does not decode to its end.
    """

    def __init__(self, path: str | Path):
        pieces: list[tuple[Piece, list[np.ndarray]]] = []
        for piece, samples in sound_pieces(Path(path)):
            if not pieces or pieces[-1][0] is not piece:
                pieces.append((piece, []))
            pieces[-1][1].append(samples[0])
        self.start_s = float(min(piece.start_s for piece, _ in pieces))
        self.end_s = float(max(piece.end_s for piece, _ in pieces))
        self._pieces = [
            (round(piece.start_s * SAMPLE_RATE), np.concatenate(samples)) for piece, samples in pieces
        ]

    def longest_gap(self, start_s: float) -> float:
        """The most seconds from `start_s` or a sound's end to the next sound, by the time stamps."""
        at, longest = round(start_s * SAMPLE_RATE), 0
        for begin, samples in sorted(self._pieces, key=lambda piece: piece[0]):
            longest, at = max(longest, begin - at), max(at, begin + len(samples))
        return longest / SAMPLE_RATE

    def slice(self, start_s: float, num_frames: int) -> np.ndarray:
        """int16 [num_frames * 640] from `start_s` on the presentation clock, silence where none is."""
        first = round(start_s * SAMPLE_RATE)
        out = np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16)
        for at, samples in self._pieces:
            lo, hi = max(at, first), min(at + len(samples), first + len(out))
            if lo < hi:
                out[lo - first : hi - first] = samples[lo - at : hi - at]
        return out


def read_audio(path: str | Path, start_s: float, num_frames: int) -> np.ndarray:
    """The audio of one clip: int16 [num_frames * 640], mono 16 kHz, from `start_s` on the presentation clock.

    Raises as AudioTrack, which is the one to keep for several clips of one source.
    """
    return AudioTrack(path).slice(start_s, num_frames)


@dataclass(frozen=True)
class SoundFormat:
    """What decoded sound is converted to, in FFmpeg's names; samples packed (PyAV crashes on 8 planes)."""

    samples: str = "s16"
    layout: str = "mono"
    rate: int = SAMPLE_RATE


def sound_pieces(path: Path, target: SoundFormat = SoundFormat()) -> Iterator[tuple[Piece, np.ndarray]]:
    """The first audio stream, decoded and resampled as it is read: samples [channels, n] and the piece they continue.

    Raises as AudioTrack.
    """
    piece = None
    for block in decoded_sound(path):
        if piece is None or not piece.continues_with(block):
            if piece is not None:
                yield piece, piece.end()
            piece = Piece(block, target)
        yield piece, piece.add(block)
    if piece is None:
        raise MediaError(Reason.NO_AUDIO, "the audio stream holds no sound")
    yield piece, piece.end()


def decoded_sound(path: Path) -> Iterator[AudioFrame]:
    """The blocks of the first audio stream. Raises as AudioTrack, but not for a stream without any."""
    with open_media(path) as container:
        stream = first_audio(container)
        if stream is None:
            raise MediaError(Reason.NO_AUDIO, "no audio stream")
        stream.codec_context.thread_count = 1
        last = None
        try:
            for block in container.decode(stream):
                last = block
                yield block
        except av.FFmpegError as error:
            where = "at its first block" if last is None else f"after {last.time or 0:.2f} s"
            raise MediaError(Reason.UNREADABLE, f"sound does not decode {where} ({words(error)})") from error


class Piece:
    """Blocks of one sample format that follow each other without a jump, resampled as one.

    start_s, end_s: on the presentation clock, of what was added.
    """

    def __init__(self, first: AudioFrame, target: SoundFormat):
        self.start_s = self.end_s = _time(first) or Fraction(0)
        self._setup = _setup(first)
        self._resampler = AudioResampler(format=target.samples, layout=target.layout, rate=target.rate)

    def continues_with(self, block: AudioFrame) -> bool:
        time = _time(block)
        return _setup(block) == self._setup and (time is None or abs(time - self.end_s) <= JUMP_S)

    def add(self, block: AudioFrame) -> np.ndarray:
        """[channels, n]: the samples that the block completes."""
        self.end_s += Fraction(block.samples, block.sample_rate)
        if block.layout.nb_channels > MIXED_CHANNELS:
            block = _mean_of_channels(block)
        block.pts = None
        return self._joined(self._resampler.resample(block))

    def end(self) -> np.ndarray:
        """[channels, n]: the samples that the resampler still holds."""
        return self._joined(self._resampler.resample(None))

    def _joined(self, blocks: Sequence[AudioFrame | None]) -> np.ndarray:
        # Flushing a resampler that had nothing to do gives back the None it was flushed with.
        packed = [block.to_ndarray() for block in blocks if block is not None]  # each [1, n * channels]
        channels = self._resampler.layout.nb_channels
        return np.concatenate([np.zeros((1, 0), np.int16), *packed], axis=1).reshape(-1, channels).T


def _mean_of_channels(block: AudioFrame) -> AudioFrame:
    """The mean of all channels as one channel of 32-bit float."""
    if block.format.is_planar:
        [block] = AudioResampler(block.format.packed, block.layout, block.sample_rate).resample(block)
    samples = block.to_ndarray()  # [1, N * C]
    full_scale = {1: 128.0, 2: 32768.0, 4: 2147483648.0}.get(block.format.bytes, 1.0)
    if np.issubdtype(samples.dtype, np.floating):
        full_scale = 1.0
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) - 128
    mean = samples.reshape(-1, block.layout.nb_channels).mean(axis=1, dtype=np.float64)
    mono = (mean / full_scale).astype(np.float32)
    mixed = AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    mixed.sample_rate = block.sample_rate
    return mixed


def _setup(block: AudioFrame) -> tuple[str, str, int]:
    return block.format.name, block.layout.name, block.sample_rate


def _time(block: AudioFrame) -> Fraction | None:
    return None if block.pts is None or block.time_base is None else block.pts * block.time_base
