"""Frames and sound to an mp4: H.264 and AAC, in step, atomically, the same bytes every time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.media.encode import add_audio_stream, add_video_stream, yuv_of
from syncdiff_data.records import FPS, SAMPLE_RATE, UserError

TEMPORARY = ".tmp"
"""Ending of a video's name while it is written."""
_MP4_OPTIONS = {"movflags": "+faststart", "movie_timescale": "48000"}
"""The second: a late start of the sound is written in its units, which would be milliseconds."""


def sweep_temporary(folders: Iterable[Path]) -> None:
    """Remove what killed writers left in these folders. Only for a moment when nobody writes there."""
    for folder in set(folders):
        for path in folder.glob(f".{'[0-9a-f]' * 32}{TEMPORARY}"):
            path.unlink(missing_ok=True)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None,
    fps: float | Fraction = FPS,
    crf: int = 18,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write an H.264 (yuv420p) + AAC mp4. It appears under `path` only when it is complete.

    frames: RGB uint8 [H, W, 3], all of one size, streamed; where H or W is odd the last row or column is
    repeated, because yuv420p holds even sizes only. audio: int16 [N], mono 16 kHz, starting with frame 0, cut
    or padded with silence to the length of the frames; None writes no audio stream. crf: 0 (best) to 51. more:
    further options of the encoder, such as encode.FOR_BROWSERS.
    Raises UserError when there are no frames or when their sizes differ.
    """
    with new_mp4(Path(path)) as container:
        pictures = same_size(frames, Path(path).name)
        _encode(container, pictures, audio, Fraction(fps).limit_denominator(1001), crf, more)


@contextmanager
def new_mp4(path: Path) -> Iterator[OutputContainer]:
    """A container to write to, index first. The file appears under `path` when the block ends without an error."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")  # short: a name may have 255 bytes already
    try:
        with av.open(str(temporary), "w", format="mp4", options=_MP4_OPTIONS) as container:
            yield container
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def same_size(
    frames: Iterable[np.ndarray], name: str, shape: tuple[int, ...] | None = None
) -> Iterator[np.ndarray]:
    """The frames as they come, all of `shape`, or of that of the first.

    UserError, naming the file `name`, when there are none or their shapes differ.
    """
    index = -1
    for index, image in enumerate(frames):
        shape = shape or image.shape
        if image.shape != shape:
            raise UserError(
                f"Frame {index} of {name} has shape {image.shape}, not {shape}: all frames of a video need one size."
            )
        yield image
    if index < 0:
        raise UserError(f"Nothing to write to {name}: a video needs at least one frame.")


def _encode(
    container: OutputContainer,
    frames: Iterator[np.ndarray],
    audio: np.ndarray | None,
    rate: Fraction,
    crf: int,
    more: Mapping[str, str],
) -> None:
    first = next(frames)
    video = _video_stream(container, first.shape, rate, crf, more)
    sound = None if audio is None else add_audio_stream(container)
    converter = VideoReformatter()
    written = 0
    for index, image in enumerate(chain([first], frames)):
        container.mux(video.encode(_picture(image, index, rate, converter)))
        if sound is not None and audio is not None:
            end = round((index + 1) / rate * SAMPLE_RATE)
            container.mux(sound.encode(_samples(audio, written, end)))
            written = end
    container.mux(video.encode(None))
    if sound is not None:
        container.mux(sound.encode(None))


def _video_stream(
    container: OutputContainer, shape: tuple[int, ...], rate: Fraction, crf: int, more: Mapping[str, str]
) -> VideoStream:
    size = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
    stream = add_video_stream(container, size, "yuv420p", rate, crf, more)
    # Said in the file, or players guess BT.709 from 720 lines on and show other colours than were given.
    stream.codec_context.colorspace = Colorspace.ITU601
    stream.codec_context.color_range = ColorRange.MPEG
    return stream


def _picture(image: np.ndarray, index: int, rate: Fraction, converter: VideoReformatter) -> VideoFrame:
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = yuv_of(even, "yuv420p", Colorspace.ITU601, False, converter)
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _samples(audio: np.ndarray, start: int, stop: int) -> AudioFrame:
    """Samples start to stop, with silence beyond the end."""
    block = np.zeros((1, stop - start), np.int16)
    given = audio[start:stop]
    block[0, : len(given)] = given
    frame = AudioFrame.from_ndarray(block, format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
    return frame
