"""How this project encodes video and sound: the one place that decides it, so that equal input gives equal bytes.

x264 chooses its code by the processor, and its AVX-512 code gives other bytes from run to run. `cpu-independent=1`
holds it to code whose result is the same on every x86-64 processor, and one thread to one order of work.
"""

from __future__ import annotations

from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from syncdiff_data.records import SAMPLE_RATE

PRESET = "medium"
X264_PARAMS = "cpu-independent=1"
AUDIO_BIT_RATE = 64_000
ENCODING_SETTINGS = (
    f"preset {PRESET} {X264_PARAMS}, aac {AUDIO_BIT_RATE // 1000} kbit/s mono {SAMPLE_RATE} Hz"
)
"""All that decides the coding, besides crf and pixel format: for cache keys."""


def add_video_stream(
    container: OutputContainer, size: tuple[int, int], pix_fmt: str, rate: Fraction, crf: int
) -> VideoStream:
    """An H.264 stream for frames of size (width, height) at `rate`, encoded with one thread; crf: 0 (best) to 51."""
    options = {"crf": str(crf), "preset": PRESET, "x264-params": X264_PARAMS}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.thread_count = 1
    return stream


def add_audio_stream(container: OutputContainer) -> AudioStream:
    """An AAC stream, mono 16 kHz."""
    return container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=AUDIO_BIT_RATE)
