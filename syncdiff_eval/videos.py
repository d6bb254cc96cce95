"""Video files as the benchmark sees them: coded frames one by one, their times, and the facts of the file.

Frames are those of a sequential decode by PyAV in one thread, never resampled in time: outputs of generators
align with their source by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.media import AudioTrack
from syncdiff_data.media.decode import decode_stream, rgb_of
from syncdiff_data.media.probe import first_audio, first_video, open_media, words
from syncdiff_data.media.video import INDEXED_FORMATS, MAX_GAP_S, display_matrix, upright
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError
from syncdiff_data.weights import file_sha256

DECODER = "pyav"

TimedFrame = tuple[float, np.ndarray]
"""Presentation time in seconds and RGB uint8 [H, W, 3]."""


@dataclass(frozen=True)
class FileFacts:
    """What a file is made of.

    fps: mean rate of its presentation times (see `frame_rate`). bit_rate: of the whole file in bit/s, from
    size and duration. sound_late_s: seconds by which the audio stream starts after the video stream (negative: before
    it), as the container declares; silence that is encoded does not count. None where it does not declare both, and in
    a record from before this fact. sound_lag_s: seconds by which the sound of an output lies after the driving audio,
    measured (`sound_lag`); None without one, and in a record from before this fact."""

    sha256: str
    codec: str
    width: int
    height: int
    fps: float
    bit_rate: int
    has_audio: bool
    decoder: str = DECODER
    sound_late_s: float | None = None
    sound_lag_s: float | None = None


def read_facts(path: Path) -> FileFacts:
    """Facts of the first video stream; width and height are those of the upright frame. Raises MediaError."""
    with open_media(path) as container:
        stream = first_video(container)
        first = next(_decode(path, container, stream), None)
        if first is None:
            raise MediaError(Reason.UNREADABLE, "the video stream holds no frame that decodes")
        sound = first_audio(container)
        turned = first.rotation % 180 != 0
        return FileFacts(
            sha256=file_sha256(path),
            codec=stream.codec_context.name,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=float(frame_rate(*_presentation_times(path), stream.average_rate or stream.guessed_rate)),
            bit_rate=int(container.bit_rate or 0),
            has_audio=sound is not None,
            sound_late_s=_late_s(stream, sound),
        )


def _late_s(video: VideoStream, sound: AudioStream | None) -> float | None:
    """Seconds from the declared start of the video stream to that of the audio stream."""
    video_s, sound_s = _declared_start(video), _declared_start(sound)
    return None if video_s is None or sound_s is None else float(sound_s - video_s)


def _declared_start(stream: VideoStream | AudioStream | None) -> Fraction | None:
    """Seconds on the file's clock."""
    if stream is None or stream.start_time is None or stream.time_base is None:
        return None
    return stream.start_time * stream.time_base


def frame_rate(pts: Sequence[int], time_base: Fraction, declared: Fraction | None) -> Fraction:
    """Frames per second of ascending presentation times in units of time_base seconds.

    The declared rate where every frame is within one unit of the time it gives, since the times of a container may be
    rounded; else n - 1 frames over the time from the first to the last, because a container of variable rate declares a
    default (Matroska, WebM). Raises MediaError: broken_timestamps for a gap over MAX_GAP_S, unreadable for no rate.
    """
    gap_s = max((after - before for before, after in pairwise(pts)), default=0) * time_base
    if len(pts) < 2 and declared:
        gap_s = 1 / declared  # so long a single frame is held
    if gap_s > MAX_GAP_S:
        raise MediaError(
            Reason.BROKEN_TIMESTAMPS,
            f"the clock jumps by {float(gap_s):.1f} s; at most {MAX_GAP_S} s may lie between two frames",
        )
    fits = declared and all(
        abs((t - pts[0]) * time_base - i / declared) <= time_base for i, t in enumerate(pts)
    )
    if declared and (fits or len(pts) < 2 or pts[-1] <= pts[0]):
        return declared
    if len(pts) < 2 or pts[-1] <= pts[0]:
        raise MediaError(Reason.UNREADABLE, "the video stream has neither presentation times nor a rate")
    return (len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)


def frames(path: Path) -> Iterator[TimedFrame]:
    """Presentation time in seconds and upright RGB uint8 [H, W, 3] of every coded frame, all of one size. Raises
    MediaError."""
    size: tuple[int, ...] | None = None
    converter = VideoReformatter()
    for number, frame in enumerate(coded_frames(path)):
        image = upright_rgb(frame, converter)
        size = size or image.shape
        if image.shape != size:
            raise MediaError(Reason.UNREADABLE, f"the picture's size changes at frame {number}")
        if frame.time is None:
            raise MediaError(Reason.UNREADABLE, f"frame {number} has no presentation time")
        yield frame.time, image


def sound_start(path: Path) -> float:
    """Seconds on a file's presentation clock from which its sound drives a video: at its first picture, or, of sound
    alone, at its first sound, which in an MP3 comes after the encoder's delay. Raises MediaError."""
    try:
        first = next(frames(path), None)
    except MediaError as error:
        if error.reason != Reason.NO_VIDEO_STREAM:
            raise
        first = None
    return first[0] if first else AudioTrack(path).start_s


def coded_frames(path: Path) -> Iterator[VideoFrame]:
    """Every coded frame as the decoder gives it. Raises MediaError."""
    with open_media(path) as container:
        yield from _decode(path, container, first_video(container))


def upright_rgb(frame: VideoFrame, converter: VideoReformatter | None = None) -> np.ndarray:
    """RGB uint8 [H, W, 3] of a decoded frame, turned by its display matrix. converter: one for many frames."""
    return np.ascontiguousarray(upright(rgb_of(frame, converter), display_matrix(frame)))


def _presentation_times(path: Path) -> tuple[list[int], Fraction]:
    """Of every frame, in order, in units of the second value's seconds; no times where a frame has none.

    Packets tell them without decoding where each is one shown frame with its own time."""
    with open_media(path) as container:
        stream = first_video(container)
        time_base = stream.time_base or Fraction(1, FPS)
        indexed = container.format.name.startswith(INDEXED_FORMATS)
        try:
            packets = [(packet.pts, packet.is_discard) for packet in container.demux(stream) if packet.size]
        except av.FFmpegError as error:
            raise MediaError(Reason.UNREADABLE, f"the file breaks off ({words(error)})") from error
    times = [pts for pts, discarded in packets if pts is not None and not discarded]
    if not indexed or len(set(times)) < len(packets):
        times = [frame.pts for frame in coded_frames(path) if frame.pts is not None]
    return sorted(times), time_base


def _decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for number, frame in enumerate(decode_stream(path, container, stream)):
        if frame.is_corrupt:
            # The decoder fills what it cannot read from what lies around; nobody made that picture.
            raise MediaError(Reason.UNREADABLE, f"frame {number} is damaged")
        yield frame
