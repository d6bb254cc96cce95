"""The sound of one file as an audio stream of an mp4: its own packets where an mp4 holds them, else AAC.

What players know in an mp4 is copied packet by packet. All else (PCM, Vorbis, MP2, ...) and sound with holes, which an
mp4 has no silence for, is decoded and encoded as AAC, at its own rate and channels: ALAC and FLAC would lose nothing,
but not every browser and player decodes them, while at 4 bits per sample AAC's losses are not heard.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from syncdiff_data.media.audio import JUMP_S, SoundFormat, decoded_sound, sound_pieces
from syncdiff_data.media.decode import decode_video
from syncdiff_data.media.encode import add_audio_stream
from syncdiff_data.media.probe import first_audio, open_media, words
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

COPIED_CODECS = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
_PREROLL_S = Fraction(1, 10)
"""Packets of so long before the beginning are copied too, hidden by the edit list: decoders start up on them."""
_BITS_PER_SAMPLE = 4
_LOUDEST = 16
"""Times full scale: no sound is louder, damaged samples are."""
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def sound_start(path: Path) -> Fraction:
    """Seconds on a file's presentation clock at which its sound begins to drive a video.

    A file with pictures begins at its first picture, any other at its first sound. Raises MediaError.
    """
    try:
        first = next(decode_video(path), None)
    except MediaError as error:
        if error.reason != Reason.NO_VIDEO_STREAM:
            raise
        return next(sound_pieces(path))[0].start_s
    if first is None or first.pts is None or first.time_base is None:
        raise MediaError(Reason.UNREADABLE, "the video stream has no frame with a presentation time")
    return first.pts * first.time_base


def add_sound(container: OutputContainer, path: Path, seconds: Fraction) -> Iterator[Packet]:
    """Add an audio stream with the first one of `path` from its `sound_start` on; gives its packets in order of time.

    Sound beyond `seconds` is left out, by whole packets where they are copied; a shorter one ends before, and a late
    one begins late. Raises MediaError when there is no sound or it does not decode, here or between packets.
    """
    start_s = sound_start(path)
    stamps = _copied_stamps(path, start_s, seconds)
    if stamps is not None and _mp4_takes(path, stamps):
        with open_media(path) as source:
            return _copied(container.add_stream_from_template(_audio(source)), path, stamps)
    target = _encoded_format(path)
    channels = AudioLayout(target.layout).nb_channels
    stream = add_audio_stream(
        container, target.rate, target.layout, _BITS_PER_SAMPLE * target.rate * channels
    )
    return _encoded(stream, path, target, start_s, seconds)


def _copied_stamps(path: Path, start_s: Fraction, seconds: Fraction) -> dict[int, tuple[int, int]] | None:
    """Of each packet to copy, by its number in the stream: (presentation time after start_s, duration) in samples.

    None where they cannot be copied: an mp4 does not hold the codec, packets lack times, sound is missing or hidden
    between them, or none of it falls into these seconds.
    """
    with open_media(path) as container:
        stream = _audio(container)
        context = stream.codec_context
        if (
            context.codec.canonical_name not in COPIED_CODECS
            or not context.sample_rate
            or not stream.time_base
        ):
            return None
        unit = stream.time_base * context.sample_rate  # samples in a tick
        first, end = -_PREROLL_S * context.sample_rate, seconds * context.sample_rate
        stamps: dict[int, tuple[int, int]] = {}
        expected: Fraction | None = None
        heard = hidden = False
        for number, packet in _packets(container, stream):
            if packet.pts is None:
                return None
            at = packet.pts * unit - start_s * context.sample_rate
            length = Fraction(context.frame_size or (packet.duration or 0) * unit)
            if at >= end:
                break
            if at + length <= first:
                continue
            # An edit list of the source hides packets before the sound begins, which decoders start up on, or after
            # its end. Others lie in holes.
            hidden |= heard and packet.is_discard
            heard |= not packet.is_discard
            if hidden and packet.is_discard:
                continue
            if hidden or (expected is not None and abs(at - expected) > JUMP_S * context.sample_rate):
                return None
            if expected is not None and unit > 1 and context.frame_size:
                at = expected  # The container rounds times; the packets' lengths are exact.
            expected = at + length
            stamps[number] = (round(at), round(min(length, end - at)))
    return stamps if any(at + length > 0 for at, length in stamps.values()) else None


def _mp4_takes(path: Path, stamps: dict[int, tuple[int, int]]) -> bool:
    """Whether the muxer takes these packets: of damaged files it refuses headers and times that decoders pass over."""
    try:
        with open_media(path) as source, av.open(os.devnull, "w", format="mp4") as container:
            for packet in _copied(container.add_stream_from_template(_audio(source)), path, stamps):
                container.mux(packet)
    except (av.FFmpegError, ValueError, OverflowError):
        return False
    return True


def _copied(stream: AudioStream, path: Path, stamps: dict[int, tuple[int, int]]) -> Iterator[Packet]:
    last = max(stamps)
    with open_media(path) as container:
        for number, packet in _packets(container, _audio(container)):
            if number > last:
                break
            if number in stamps:
                packet.pts, packet.duration = stamps[number]
                packet.dts, packet.time_base, packet.stream = packet.pts, Fraction(1, stream.rate), stream
                yield packet


def _packets(container: InputContainer, stream: AudioStream) -> Iterator[tuple[int, Packet]]:
    try:
        yield from enumerate(packet for packet in container.demux(stream) if packet.size)
    except av.FFmpegError as error:
        raise MediaError(Reason.UNREADABLE, f"the file breaks off in its sound ({words(error)})") from error


def _encoded_format(path: Path) -> SoundFormat:
    """What the AAC encoder takes that is nearest to the file's sound: rates from 7.35 to 96 kHz, up to 8 channels."""
    block = next(decoded_sound(path), None)
    if block is None:
        raise MediaError(Reason.NO_AUDIO, "the audio stream holds no sound")
    rates = sorted(av.Codec("aac", "w").audio_rates or [])
    rate = next((rate for rate in rates if rate >= block.sample_rate), rates[-1])
    return SoundFormat("flt", _LAYOUTS.get(block.layout.nb_channels, "mono"), rate)


def _encoded(
    stream: AudioStream, path: Path, target: SoundFormat, start_s: Fraction, seconds: Fraction
) -> Iterator[Packet]:
    """Sound at its place on the clock, silence where none is."""
    written, end = 0, round(seconds * target.rate)
    piece, at = None, 0
    for part, samples in sound_pieces(path, target):
        if part is not piece:
            piece, at = part, round((part.start_s - start_s) * target.rate)
        new = samples[:, max(0, written - at) : max(0, end - at)]
        if new.shape[1]:
            for block in _silence(written, at, target):
                yield from stream.encode(block)
            written = max(written, at)
            yield from stream.encode(_block(new, target, written))
            written += new.shape[1]
        at += samples.shape[1]
        if at >= end:
            break
    # Nothing is heard while pictures are shown: a stream without a packet would not play.
    for block in _silence(written, 0 if written else end, target):
        yield from stream.encode(block)
    yield from stream.encode(None)


def _silence(start: int, stop: int, target: SoundFormat) -> Iterator[AudioFrame]:
    """Blocks of at most a second."""
    channels = AudioLayout(target.layout).nb_channels
    for at in range(start, stop, target.rate):
        yield _block(np.zeros((channels, min(target.rate, stop - at)), np.float32), target, at)


def _block(samples: np.ndarray, target: SoundFormat, at: int) -> AudioFrame:
    # The encoder refuses what is not finite, which damaged files of floating point hold.
    samples = np.clip(np.nan_to_num(samples, posinf=0, neginf=0), -_LOUDEST, _LOUDEST)
    packed = np.ascontiguousarray(samples.T).reshape(1, -1)
    block = AudioFrame.from_ndarray(packed, format=target.samples, layout=target.layout)
    block.sample_rate, block.pts, block.time_base = target.rate, at, Fraction(1, target.rate)
    return block


def _audio(container: InputContainer) -> AudioStream:
    stream = first_audio(container)
    if stream is None:
        raise MediaError(Reason.NO_AUDIO, "no audio stream")
    return stream
