"""Opening a media file, and saying plainly what is wrong with one that does not open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from syncdiff_data.records import MediaError, Reason

_LFS_HEADER = b"version https://git-lfs.github.com/spec/"


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """An open PyAV container. Raises MediaError(UNREADABLE) that says why the file does not open."""
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaError(Reason.UNREADABLE, _why_unreadable(Path(path), error)) from error
    with container:
        yield container


def first_video(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture. Raises MediaError(NO_VIDEO_STREAM)."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise MediaError(Reason.NO_VIDEO_STREAM, f"no video stream (the file holds: {kinds})")


def first_audio(container: InputContainer) -> AudioStream | None:
    """The first audio stream, or None."""
    return next(iter(container.streams.audio), None)


def _why_unreadable(path: Path, error: Exception) -> str:
    """The likely cause, found by looking at the bytes: FFmpeg says only that the data are invalid."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            if size == 0:
                return "the file is empty (0 bytes)"
            if head.startswith(_LFS_HEADER):
                return f"a Git LFS pointer of {size} bytes, not the media itself (git lfs pull fetches it)"
            if head[4:8] == b"ftyp" and b"moov" not in _top_level_boxes(file, size):
                return "an MP4 without its index (no moov box): the file was cut off or never finished"
    except OSError as problem:
        return f"cannot be read: {problem.strerror}"
    return f"not a media file FFmpeg can open ({words(error)})"


def _top_level_boxes(file: BinaryIO, size: int) -> list[bytes]:
    """Types of the boxes an MP4 consists of (ISO/IEC 14496-12, 4.2)."""
    boxes, at = [], 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        boxes.append(header[4:8])
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            break
        at += length
    return boxes


def words(error: Exception) -> str:
    """FFmpeg's own words without the errno and the path."""
    return str(getattr(error, "strerror", None) or error)
