"""Small media files that tests make: frames that carry their number, sound that clicks at known times."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_BITS = 10


def numbered(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """A frame with its number in black and white bars below a shaded upper half."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = np.linspace(0, 200, width, dtype=np.uint8)[:, None]
    bars = np.repeat([(number >> bit) & 1 for bit in range(_BITS)], width // _BITS) * 255
    image[height // 2 :, : len(bars)] = bars[:, None]
    return image


def read_number(image: np.ndarray) -> int:
    """The number a frame carries, after any compression."""
    height, width = image.shape[:2]
    step = width // _BITS
    row = image[3 * height // 4, :, 1]
    return sum(1 << bit for bit in range(_BITS) if row[bit * step + step // 2] > 128)


def make_video(
    path: Path,
    pts: Sequence[int],
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    size: tuple[int, int] = (64, 96),
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Frames 0, 1, ... at the presentation times `pts`; matrix: the nine numbers of a display matrix."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=codec_options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if matrix is not None:
            stream.set_display_matrix(list(matrix))
        for number, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def clicks(times: Sequence[float], seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """int16 [channels, seconds * rate]: short bursts of 2 kHz at the times, silence between."""
    sound = np.zeros(int(seconds * rate))
    burst = np.sin(2 * np.pi * 2000 * np.arange(int(0.01 * rate)) / rate) * 20_000
    for time in times:
        at = round(time * rate)
        sound[at : at + len(burst)] = burst[: len(sound) - at]
    return np.tile(sound.astype(np.int16), (channels, 1))


def click_times(audio: np.ndarray, rate: int = 16_000) -> list[float]:
    """Where bursts of `clicks` begin, in seconds: the best match of the burst at each loud place."""
    burst = np.sin(2 * np.pi * 2000 * np.arange(int(0.01 * rate)) / rate)
    match = np.correlate(audio.astype(np.float64), burst, "full")[len(burst) - 1 :]
    found = []
    while match.max(initial=0) > 0.4 * 20_000 * (burst**2).sum():
        at = int(match.argmax())
        found.append(at / rate)
        match[max(0, at - len(burst) * 4) : at + len(burst) * 4] = 0
    return sorted(found)


def make_audio(
    path: Path,
    sound: np.ndarray,
    rate: int,
    codec: str,
    start_s: float = 0.0,
    holes: Sequence[tuple[float, float]] = (),
    video_pts: Sequence[int] = (),
    container_options: dict[str, str] | None = None,
) -> Path:
    """int16 [channels, n] at `rate` from `start_s` on; packets inside a hole (from, to) in seconds are left out.

    video_pts: times in 1/25 s of frames of a picture stream beside it (none: no such stream).
    """
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        video = container.add_stream("mpeg4", rate=25) if video_pts else None
        if video is not None:
            video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout="mono" if len(sound) == 1 else "stereo")
        format_name = stream.codec_context.codec.audio_formats[0].name
        packets = []
        if video is not None:
            for number, time in enumerate(video_pts):
                picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
                picture.pts, picture.time_base = time, Fraction(1, 25)
                packets += video.encode(picture)
            packets += video.encode(None)
        block = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound), format="s16p", layout="mono" if len(sound) == 1 else "stereo"
        )
        block.sample_rate, block.time_base = rate, Fraction(1, rate)
        block.pts = round(start_s * rate)
        resampler = av.AudioResampler(
            format=format_name, rate=rate, frame_size=stream.codec_context.frame_size or 1024
        )
        for piece in resampler.resample(block) + resampler.resample(None):
            packets += stream.encode(piece)
        packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            time = float(packet.pts * packet.time_base)
            if packet.stream is video or not any(lo <= time < hi for lo, hi in holes):
                container.mux(packet)
    return path
