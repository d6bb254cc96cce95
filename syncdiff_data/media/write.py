"""Frames and sound to an mp4: H.264 and AAC, in step, atomically, the same bytes every time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from syncdiff_data.records import FPS, SAMPLE_RATE, UserError


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None,
    fps: float | Fraction = FPS,
    crf: int = 18,
) -> None:
    """Write an H.264 (yuv420p) + AAC mp4. It appears under `path` only when it is complete.

    frames: RGB uint8 [H, W, 3], all of one size, streamed; at odd sizes the last row or column is repeated, since
    yuv420p needs even ones. audio: int16 [N] mono 16 kHz starting with frame 0, cut or padded with silence to the
    length of the frames; None writes no sound. crf: 0 (lossless but for the colour conversion) to 51.
    Raises UserError when there are no frames or their sizes differ.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            _encode(container, path, frames, audio, Fraction(fps).limit_denominator(1001), crf)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(
    container: OutputContainer,
    path: Path,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None,
    rate: Fraction,
    crf: int,
) -> None:
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"Nothing to write to {path}: a video needs at least one frame.")
    video = _video_stream(container, first, rate, crf)
    sound = None
    if audio is not None:
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000)
    count, written = 0, 0
    for image in _chain(first, frames):
        if image.shape != first.shape:
            raise UserError(
                f"{path}: frame {count} has shape {image.shape}, the first one {first.shape}; give one size."
            )
        frame = VideoFrame.from_ndarray(_even(image), format="rgb24")
        frame.pts, frame.time_base = count, 1 / rate
        container.mux(video.encode(frame))
        count += 1
        if sound is not None and audio is not None:
            end = round(count / rate * SAMPLE_RATE)
            container.mux(sound.encode(_sound(audio, written, end)))
            written = end
    container.mux(video.encode(None))
    if sound is not None:
        container.mux(sound.encode(None))


def _chain(first: np.ndarray, rest: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    yield first
    yield from rest


def _video_stream(container: OutputContainer, first: np.ndarray, rate: Fraction, crf: int) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
    stream.height, stream.width = _even(first).shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _sound(audio: np.ndarray, start: int, stop: int) -> AudioFrame:
    """Samples start to stop, silence beyond the end."""
    block = np.zeros((1, stop - start), np.int16)
    given = audio[start:stop]
    block[0, : len(given)] = given
    frame = AudioFrame.from_ndarray(block, format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
    return frame
