"""A file encoded once more, as tools and platforms on its way would: the same frames at the same times, new losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from syncdiff_data.media import read_audio
from syncdiff_data.media.encode import ENCODING_SETTINGS, add_audio_stream, add_video_stream
from syncdiff_data.media.probe import words
from syncdiff_data.media.video import display_matrix, upright
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, SAMPLE_RATE, MediaError, UserError
from syncdiff_eval.videos import FileFacts, coded_frames, read_facts

CRF = 23
TimedFrame = tuple[int, VideoFrame]
"""Ticks of the frame's time base since the first frame, and the frame."""
ENCODER = f"libx264 crf {CRF} yuv420p (yuv444p for odd sizes), {ENCODING_SETTINGS}"
"""All that decides what `reencode` makes of a file; part of the cache's keys."""


def reencode(path: Path, out: Path, heartbeat: Callable[[], None] = lambda: None) -> None:
    """Encode the first video and audio stream of a file once more, as `ENCODER` says, to an mp4.

    Every coded frame stays, upright and of the same size, at the same time after the first; so does the average rate.
    The sound runs from the first frame to the end of the last. yuv420p holds even sizes only: a picture of odd width
    or height becomes yuv444p. heartbeat: called once per frame. Raises MediaError for a file that does not decode or
    whose presentation times do not increase, UserError where `out` cannot be written.
    """
    facts = read_facts(path)
    frames = _timed(coded_frames(path))
    head = next(frames)
    try:
        with av.open(str(out), "w", format="mp4") as container:
            video = _video_stream(container, head[1], facts)
            sound_stream = None
            if facts.has_audio:
                sound_stream = add_audio_stream(container)
            packets = _encoded(video, chain([head], frames), facts, heartbeat)
            seconds = _mux(container, packets, facts.fps, video.codec_context.time_base)
            if sound_stream is not None:
                samples = read_audio(path, head[1].time or 0.0, math.ceil(seconds * FPS))
                container.mux(sound_stream.encode(_sound(samples[: math.ceil(seconds * SAMPLE_RATE)])))
                container.mux(sound_stream.encode(None))
    except OSError as error:
        raise UserError(f"{out} could not be written ({words(error)}): make room there.") from error
    except av.FFmpegError as error:
        raise MediaError(Reason.UNREADABLE, f"could not be encoded again ({words(error)})") from error


def _timed(frames: Iterable[VideoFrame]) -> Iterator[TimedFrame]:
    """The frames with their times since the first, known to increase."""
    first = last = None
    for index, frame in enumerate(frames):
        if frame.pts is None or (last is not None and frame.pts <= last):
            raise MediaError(
                Reason.UNREADABLE, f"frame {index} has no presentation time after its predecessor's"
            )
        first, last = frame.pts if first is None else first, frame.pts
        yield frame.pts - first, frame


def _video_stream(container: OutputContainer, first: VideoFrame, facts: FileFacts) -> VideoStream:
    rate = Fraction(facts.fps).limit_denominator(1001)
    pix_fmt = "yuv444p" if facts.width % 2 or facts.height % 2 else "yuv420p"
    stream = add_video_stream(container, (facts.width, facts.height), pix_fmt, rate, CRF)
    picture, context = _picture(first, pix_fmt), stream.codec_context
    context.time_base = first.time_base or 1 / rate
    # What the file says of its colours is said again, or players show others.
    context.colorspace, context.color_range = picture.colorspace, picture.color_range
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
    return stream


def _picture(frame: VideoFrame, pix_fmt: str) -> VideoFrame:
    """The upright picture, never by way of RGB: swscale's fast conversion darkens by one level each time."""
    matrix = display_matrix(frame)
    colorspace = Colorspace.ITU601 if frame.format.is_rgb else None

    def converted(picture: VideoFrame, name: str) -> VideoFrame:
        return picture.reformat(
            format=name, dst_colorspace=colorspace, dst_color_range=ColorRange.MPEG, threads=1
        )

    if matrix is None:
        return converted(frame, pix_fmt)
    planes = converted(frame, "yuv444p")
    turned = upright(planes.to_ndarray().transpose(1, 2, 0), matrix).transpose(2, 0, 1)
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="yuv444p")
    picture.colorspace, picture.color_range = planes.colorspace, planes.color_range
    return converted(picture, pix_fmt)


def _encoded(
    stream: VideoStream, frames: Iterable[TimedFrame], facts: FileFacts, heartbeat: Callable[[], None]
) -> Iterator[Packet]:
    """One packet per frame, in decoding order."""
    for index, (time, frame) in enumerate(frames):
        heartbeat()
        picture = _picture(frame, stream.pix_fmt or "")
        if (picture.width, picture.height) != (facts.width, facts.height):
            raise MediaError(Reason.UNREADABLE, f"the picture's size changes at frame {index}")
        picture.pts, picture.time_base = time, frame.time_base
        picture.pict_type = PictureType.NONE  # the encoder's choice, not that of the file before
        yield from stream.encode(picture)
    yield from stream.encode(None)


def _mux(container: OutputContainer, packets: Iterator[Packet], fps: float, time_base: Fraction) -> float:
    """Write all packets; returns the seconds they show, their number over the average rate.

    An mp4's average rate follows from its decoding times and the duration of the last packet, so that one carries
    what the times leave open.
    """
    held = next(packets)
    start, count = held.dts or 0, 1
    for packet in packets:
        container.mux(held)
        held, count = packet, count + 1
    held.duration = max(1, round(count / fps / time_base) - ((held.dts or 0) - start))
    container.mux(held)
    return count / fps


def _sound(samples: np.ndarray) -> AudioFrame:
    frame = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    return frame
