"""Sound at 16 kHz mono on the source's presentation clock.

Every decoded block of the first audio stream goes where its time stamp says. Blocks that follow each other
are resampled as one piece by FFmpeg's swresample; a late start, a gap or a missing end is silence. FFmpeg drops
an encoder's priming samples (AAC, MP3, Opus). Downmix: swresample's matrix, scaled so that it cannot clip;
stereo becomes the mean of left and right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from syncdiff_data.media.probe import check_rate, first_audio, open_media, words
from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME, MediaError

JUMP_S = Fraction(5, 1000)
"""Containers round time stamps (Matroska to 1 ms): only a larger jump is a gap, or a clock that drifts."""
MIXED_CHANNELS = 8
"""swresample has no matrix for more: their mean is one channel."""
_AMBISONIC = "ambisonic"
_CUT_ANYWHERE = ("mpeg", "mpegts")
"""Containers that are cut at any byte (recordings, the files of a DVD): the first packet may be a part of one."""
_LATE_S = 1
"""Seconds of sound that are read behind what is wanted: the resampler holds some back."""


class AudioTrack:
    """The first audio stream of a file, decoded once; `slice` gives the audio of each clip.

    start_s, end_s: where its sound begins and ends on the presentation clock. A file of sound alone need not
    begin at 0 (MP3 begins at 0.025 s): slice it from start_s.
    until_s: what lies behind is not wanted; reading ends a second behind it.
    heartbeat: called at every block that is read.
    Memory: 32 kB per second of sound. Raises MediaError(NO_AUDIO) without sound in an audio stream, and
    MediaError(UNREADABLE) if the file does not open or the stream does not decode to its end, or to until_s.
    """

    def __init__(
        self,
        path: str | Path,
        until_s: float = math.inf,
        heartbeat: Callable[[], None] = lambda: None,
    ):
        pieces: list[tuple[Piece, _Samples]] = []
        for piece, samples in sound_pieces(Path(path)):
            heartbeat()
            if not pieces or pieces[-1][0] is not piece:
                pieces.append((piece, _Samples()))
            pieces[-1][1].append(samples[0])
            if piece.start_s <= until_s < piece.end_s - _LATE_S:
                break
        self.start_s = float(min(piece.start_s for piece, _ in pieces))
        self.end_s = float(max(piece.end_s for piece, _ in pieces))
        self._pieces = [
            (round(piece.start_s * SAMPLE_RATE) + at, samples)
            for piece, kept in pieces
            for at, samples in kept.chunks()
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


class _Samples:
    """Samples in the order in which they come, joined a minute at a time: joined at the end they would lie in memory
    twice."""

    def __init__(self) -> None:
        self._joined: list[np.ndarray] = []
        self._blocks: list[np.ndarray] = []
        self._waiting = 0

    def append(self, samples: np.ndarray) -> None:
        self._blocks.append(samples)
        self._waiting += len(samples)
        if self._waiting > 60 * SAMPLE_RATE:
            self._join()

    def chunks(self) -> list[tuple[int, np.ndarray]]:
        """(number of its first sample, samples) of each chunk."""
        self._join()
        begins = np.cumsum([0, *map(len, self._joined)])
        return list(zip(begins.tolist(), self._joined))

    def _join(self) -> None:
        self._joined.append(np.concatenate([np.zeros(0, np.int16), *self._blocks]))
        self._blocks, self._waiting = [], 0


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
    for block, following in pairwise(chain(decoded_sound(path), [None])):
        assert block is not None
        if piece is None or not (piece.continues_with(block) or piece.misdates(block, following)):
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
        _forget_odd_layout(stream)
        last = None
        try:
            for number, packet in enumerate(container.demux(stream)):
                for block in _blocks(packet, torn=number == 0 and container.format.name in _CUT_ANYWHERE):
                    check_rate(block.sample_rate)
                    last = block
                    yield block
        except av.FFmpegError as error:
            where = "at its first block" if last is None else f"after {last.time or 0:.2f} s"
            raise MediaError(Reason.UNREADABLE, f"sound does not decode {where} ({words(error)})") from error


def _blocks(packet: Packet[AudioStream], torn: bool) -> Sequence[AudioFrame]:
    """The blocks of a packet; none where it does not decode and may be torn: a part of one."""
    try:
        return packet.decode()
    except av.InvalidDataError:
        if torn:
            return []
        raise


def _forget_odd_layout(stream: AudioStream) -> None:
    """Count the channels of a layout that FFmpeg has no name for ("FL+BR"), and forget their places.

    swresample has no matrix for most of them. PyAV 18.1 copies a custom order without its map, which is freed with
    each copy: the process would abort at the second block.
    """
    layout = stream.codec_context.layout
    if "+" in layout.name:
        stream.codec_context.layout = f"{layout.nb_channels}C"


class Piece:
    """Blocks of one sample format that follow each other without a jump, resampled as one.

    start_s, end_s: on the presentation clock, of what was added.
    """

    def __init__(self, first: AudioFrame, target: SoundFormat):
        self.start_s = self.end_s = _time(first) or Fraction(0)
        self._setup = _setup(first)
        self._mixed_here = _is_mixed_here(first)
        self._resampler = AudioResampler(format=target.samples, layout=target.layout, rate=target.rate)

    def continues_with(self, block: AudioFrame) -> bool:
        time = _time(block)
        return _setup(block) == self._setup and (time is None or abs(time - self.end_s) <= JUMP_S)

    def misdates(self, block: AudioFrame, following: AudioFrame | None) -> bool:
        """Whether the block's time alone is wrong: the one behind goes on as if it had none. FFmpeg misdates Vorbis in
        Ogg by up to 9 ms where its blocks change their length, at every plosive."""
        if following is None or _setup(block) != self._setup or _setup(following) != self._setup:
            return False
        time = _time(following)
        end_s = self.end_s + Fraction(block.samples, block.sample_rate)
        return time is not None and abs(time - end_s) <= JUMP_S

    def add(self, block: AudioFrame) -> np.ndarray:
        """[channels, n]: the samples that the block completes."""
        self.end_s += Fraction(block.samples, block.sample_rate)
        if self._mixed_here:
            block = _one_channel(block)
        block.pts = None
        return self._joined(self._resampler.resample(block))

    def end(self) -> np.ndarray:
        """[channels, n]: the samples that the resampler still holds. Nothing can be added behind."""
        rest = self._joined(self._resampler.resample(None))
        del self._resampler  # It takes half a megabyte, and a sound whose clock drifts has a piece a block.
        return rest

    def _joined(self, blocks: Sequence[AudioFrame | None]) -> np.ndarray:
        # Flushing a resampler that had nothing to do gives back the None it was flushed with.
        packed = [block.to_ndarray() for block in blocks if block is not None]  # each [1, n * channels]
        channels = self._resampler.layout.nb_channels
        return np.concatenate([np.zeros((1, 0), np.int16), *packed], axis=1).reshape(-1, channels).T


def _is_mixed_here(block: AudioFrame) -> bool:
    """Whether swresample has no matrix for the block's channels."""
    layout = block.layout
    return layout.nb_channels > MIXED_CHANNELS or "+" in layout.name or layout.name.startswith(_AMBISONIC)


def _one_channel(block: AudioFrame) -> AudioFrame:
    """The mean of all channels, or the one of ambisonic sound that has no direction (the first), as 32-bit float."""
    count = block.layout.nb_channels
    if block.format.is_planar and count > MIXED_CHANNELS:
        [block] = AudioResampler(block.format.packed, block.layout, block.sample_rate).resample(block)
    samples = block.to_ndarray()  # planar [C, N], packed [1, N * C]
    channels = samples if block.format.is_planar else samples.reshape(-1, count).T
    full_scale = {1: 128.0, 2: 32768.0, 4: 2147483648.0}.get(block.format.bytes, 1.0)
    if np.issubdtype(samples.dtype, np.floating):
        full_scale = 1.0
    if samples.dtype == np.uint8:
        channels = channels.astype(np.float32) - 128
    heard = channels[:1] if block.layout.name.startswith(_AMBISONIC) else channels
    mono = (heard.mean(axis=0, dtype=np.float64) / full_scale).astype(np.float32)
    mixed = AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    mixed.sample_rate = block.sample_rate
    return mixed


def _setup(block: AudioFrame) -> tuple[str, str, int]:
    return block.format.name, block.layout.name, block.sample_rate


def _time(block: AudioFrame) -> Fraction | None:
    return None if block.pts is None or block.time_base is None else block.pts * block.time_base
