"""New pictures and another sound in place of a video's own: an mp4 that keeps all else of its source."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.media.decode import WRITABLE_TAGS, Display, assumed_matrix
from syncdiff_data.media.encode import add_video_stream, yuv_of
from syncdiff_data.media.playback import Playback
from syncdiff_data.media.soundtrack import add_sound
from syncdiff_data.media.video import Video
from syncdiff_data.media.write import new_mp4, same_size


def write_redub(
    path: str | Path,
    frames: Iterable[np.ndarray],
    source: Video | Playback,
    sound: str | Path | None,
    comment: str = "",
    duration_s: float | None = None,
    crf: int = 18,
) -> None:
    """Write frames that take the place of a source's, and a sound, as an mp4. It appears only when it is complete.

    frames: RGB uint8 [H, W, 3], streamed; one for each frame of source, upright. They keep its times exactly, its size
    (as H.264 yuv420p, odd sizes as yuv444p), sample aspect ratio and colour tags.
    source: opened with fps=None, or what a Playback of it shows. sound: a file whose first audio stream is heard from
    its `sound_start` on, its packets copied where an mp4 holds them, else as AAC (media/soundtrack.py); None for no
    sound. comment: the file's comment tag. duration_s: where the dub ends, if before the end of the source: frames that
    begin later are not asked for.
    crf: 0 (best) to 51.

    Raises UserError when there are no frames or not of the source's size, ValueError when there are not as many as the
    source has, and MediaError when `sound` cannot be read; a file that was there before stays.
    """
    path = Path(path)
    if np.any(np.diff(source.pts) <= 0):
        raise ValueError("the source shows frames twice: open it with fps=None")
    end_s = Fraction(min(duration_s or source.duration_s, source.duration_s))
    # Presentation times of the frames and the end of the last, since the first, in units that an mp4 has.
    shown = source.pts[: np.searchsorted(source.times, float(end_s))]
    end = max(source.pts[0] + round(end_s / source.time_base), shown[-1] + 1)
    ticks, time_base = whole_ticks(np.append(shown, end), source.time_base)
    with new_mp4(path) as container:
        container.metadata["comment"] = comment
        pictures = same_size(frames, path.name, (source.height, source.width, 3))
        video = _video_stream(container, source, time_base, crf)
        streams = [_encoded(video, pictures, ticks, source)]
        if sound is not None:
            streams.append(add_sound(container, Path(sound), end_s))
        # Packets of both in order of decoding, so that none waits in memory for the other stream.
        for packet in heapq.merge(*streams, key=_decoding_time):
            container.mux(packet)


def whole_ticks(pts: np.ndarray, time_base: Fraction) -> tuple[np.ndarray, Fraction]:
    """Times since the first, int64 [n], in the longest unit 1/k s (k whole) that holds all of them exactly.

    An mp4 has such units only, k below 2^32. Units of less than 1 ns, which no file is known to have, are rounded to
    1 us.
    """
    times = (pts - pts[0]) * time_base.numerator
    step = int(np.gcd.reduce(times, initial=time_base.denominator))
    timescale = time_base.denominator // step
    if timescale > 10**9:
        return np.round(times * (10**6 / time_base.denominator)).astype(np.int64), Fraction(1, 10**6)
    return times // step, Fraction(1, timescale)


def _video_stream(
    container: OutputContainer, source: Video | Playback, time_base: Fraction, crf: int
) -> VideoStream:
    # H.264 in yuv420p has even sizes only.
    pix_fmt = "yuv444p" if source.width % 2 or source.height % 2 else "yuv420p"
    size = source.width, source.height
    stream = add_video_stream(container, size, pix_fmt, source.rate.limit_denominator(1001), crf)
    context, display = stream.codec_context, source.display
    context.time_base = time_base
    context.sample_aspect_ratio = display.sample_aspect_ratio
    context.color_primaries, context.color_trc = display.primaries, display.transfer
    context.colorspace, context.color_range = _matrix_tag(display, source.height), display.range
    return stream


def _matrix_tag(display: Display, height: int) -> int:
    """The source's tag, if the pictures written here are shown by the same matrix with it, else that matrix.

    It differs for RGB sources, and for untagged ones that a display matrix turns below or above HD_LINES.
    """
    kept = (
        display.matrix in WRITABLE_TAGS and assumed_matrix(display.matrix, height) == display.assumed_matrix
    )
    return display.matrix if kept else int(display.assumed_matrix)


def _encoded(
    stream: VideoStream, frames: Iterable[np.ndarray], ticks: np.ndarray, source: Video | Playback
) -> Iterator[Packet]:
    """One packet per frame, in order of decoding. ticks: when each frame is shown, and the end of the last."""
    converter, display = VideoReformatter(), source.display
    expected, count = len(ticks) - 1, 0
    durations: dict[int | None, int] = dict(zip(ticks.tolist(), np.diff(ticks).tolist()))
    for count, image in enumerate(frames, start=1):
        if count > expected:
            break
        frame = yuv_of(image, stream.pix_fmt or "", display.assumed_matrix, display.full_range, converter)
        frame.pts, frame.time_base = int(ticks[count - 1]), stream.codec_context.time_base
        yield from _lasting(stream.encode(frame), durations)
    if count != expected:
        more = "or more " if count > expected else ""
        raise ValueError(f"{count} {more}frames were given in place of {expected}")
    yield from _lasting(stream.encode(None), durations)


def _lasting(packets: list[Packet], durations: dict[int | None, int]) -> Iterator[Packet]:
    for packet in packets:
        packet.duration = durations[packet.pts]
        yield packet


def _decoding_time(packet: Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base
