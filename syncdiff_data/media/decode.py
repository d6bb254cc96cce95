"""Coded frames of a video stream with their presentation times, and their conversion to RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.media.probe import first_video, open_media, words
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

UNTAGGED = 2
"""Of primaries, transfer and matrix (ITU-T H.273)."""
RESERVED = 3
"""A tag without a meaning, which VP9 files may carry: untagged."""
HD_LINES = 720
"""Untagged pictures of so many lines or more are BT.709, as players take them to be; smaller ones are BT.601."""
TIMELESS_FORMATS = ("avi",)
"""Containers that store no presentation times: FFmpeg makes them up from the decoder's delay, a frame late."""

_REORDERED = 64
"""Frames among which one that is shown before the first key frame is decoded, if there is one."""

FAST_ROUNDING = Interpolation.BILINEAR
"""Conversion to RGB as most readers do it: about a grey level too dark where the source has limited range."""
EXACT_ROUNDING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Conversion to RGB without that bias, but slower: for pictures that are written again."""
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
WRITABLE_TAGS = {UNTAGGED, *_MATRICES}
"""Matrix tags that pictures can be written with: FFmpeg converts to what they mean."""


@dataclass(frozen=True)
class Display:
    """What a source says of how it is shown. Colour values are FFmpeg's numbers (ITU-T H.273); 2: not said."""

    sample_aspect_ratio: Fraction
    """Width over height of a pixel of the upright picture; 1 where the file does not say."""
    primaries: int
    transfer: int
    matrix: int
    range: int
    """0: not said, 1: limited, 2: full."""
    assumed_matrix: Colorspace
    """By which the pictures become RGB: the tagged one, or what players assume."""
    pix_fmt: str
    """FFmpeg's name of the coded pixel format."""
    bit_depth: int
    """Bits of a sample of luma, or of a colour."""

    @property
    def full_range(self) -> bool:
        return self.range == int(ColorRange.JPEG)


def display_of(aspect: Fraction | None, frame: VideoFrame) -> Display:
    """aspect: the stream's sample aspect ratio, of the upright picture; frame: its first."""
    return Display(
        sample_aspect_ratio=Fraction(aspect or 1),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        matrix=int(frame.colorspace),
        range=int(frame.color_range),
        assumed_matrix=assumed_matrix(int(frame.colorspace), frame.height),
        pix_fmt=frame.format.name,
        bit_depth=frame.format.components[0].bits,
    )


def assumed_matrix(tag: int, height: int) -> Colorspace:
    """The matrix that a picture of `height` coded lines with this tag is shown by; RGB's tag counts as none."""
    return _MATRICES.get(tag, Colorspace.ITU709 if height >= HD_LINES else Colorspace.ITU601)


def rgb_of(
    frame: VideoFrame, converter: VideoReformatter | None = None, rounding: Interpolation = FAST_ROUNDING
) -> np.ndarray:
    """RGB uint8 [H, W, 3] as coded, not turned. converter: one for many frames, since a new one costs more than
    decoding. Raises MediaError for the rare matrices that FFmpeg does not convert by (ICtCp, YCgCo)."""
    tag = int(frame.colorspace)
    matrix = assumed_matrix(UNTAGGED, frame.height) if tag in (UNTAGGED, RESERVED) else None
    reformat = (converter or VideoReformatter()).reformat
    try:
        rgb = reformat(frame, format="rgb24", src_colorspace=matrix, interpolation=rounding, threads=1)
    except av.FFmpegError as error:
        detail = f"its colours cannot be converted to RGB: their matrix is number {tag} of ITU-T H.273"
        raise MediaError(Reason.UNREADABLE, detail) from error
    return rgb.to_ndarray()


def decode_video(
    path: Path, seek_pts: int | None = None, heartbeat: Callable[[], None] = lambda: None
) -> Iterator[VideoFrame]:
    """The coded frames in order of presentation, from the start or from a key frame's time. Raises MediaError."""
    with open_media(path) as container:
        stream = first_video(container)
        yield from decode_stream(path, container, stream, seek_pts, heartbeat)


def decode_stream(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    seek_pts: int | None = None,
    heartbeat: Callable[[], None] = lambda: None,
) -> Iterator[VideoFrame]:
    """The same from an open container; one thread, since frames must not depend on their number."""
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    times = None if seek_pts is not None else frame_times(path, container.format.name, heartbeat)
    late = edit_delay(path, container, stream)
    last_s = None
    try:
        if seek_pts is not None:
            container.seek(seek_pts - late, stream=stream)
        for index, frame in enumerate(container.decode(stream)):
            heartbeat()
            if late and frame.pts is not None:
                frame.pts += late
            if times is not None and index < len(times):
                frame.pts = times[index]
            last_s = frame.time
            yield frame
    except av.FFmpegError as error:
        where = "at its first frame" if last_s is None else f"after {last_s:.2f} s"
        raise MediaError(Reason.UNREADABLE, f"video does not decode {where} ({words(error)})") from error


def frame_times(
    path: Path, format_name: str, heartbeat: Callable[[], None] = lambda: None
) -> list[int] | None:
    """Presentation times, in order, of a container that stores none: frame i is shown at the i-th packet's time of
    decoding. None for all other containers."""
    if format_name not in TIMELESS_FORMATS:
        return None
    with open_media(path) as container:
        packets = container.demux(first_video(container))
        try:
            times = []
            for packet in packets:
                heartbeat()
                if packet.size and packet.dts is not None:
                    times.append(packet.dts)
            return sorted(times)
        except av.FFmpegError as error:
            raise MediaError(Reason.UNREADABLE, f"the file breaks off ({words(error)})") from error


def edit_delay(path: Path, container: InputContainer, stream: VideoStream) -> int:
    """What FFmpeg takes off the presentation times where the edit list of an MP4 begins between two frames, in units of
    the stream's time_base: it moves the first frame behind that to the edit's beginning, and so all pictures before
    their sound. 0 for nearly all files: those that were cut without new encoding have it."""
    if not container.format.name.startswith("mov"):
        return 0
    # Hidden frames before the first shown one lie at the beginning, in order of decoding.
    if not any(entry.is_discard for entry in islice(stream.index_entries, _REORDERED)):
        return 0
    first = _first_packet(path, lambda packet: not packet.is_discard)
    exact = first and _first_packet(path, lambda packet: packet.pos == first.pos, advanced_edits=False)
    if not first or not exact or first.pts is None or exact.pts is None:
        return 0
    return max(0, exact.pts - first.pts)


def _first_packet(
    path: Path, wanted: Callable[[Packet[VideoStream]], bool], advanced_edits: bool = True
) -> Packet[VideoStream] | None:
    """The first packet of the video that is wanted; None where there is none before the file ends or breaks off."""
    with open_media(path, advanced_edits) as container:
        try:
            return next(filter(wanted, container.demux(first_video(container))), None)
        except av.FFmpegError:
            return None
