"""How this project encodes video and sound: the one place that decides it, so that equal input gives equal bytes.

x264 chooses its code by the processor, and its AVX-512 code gives other bytes from run to run. `cpu-independent=1`
holds it to code whose result is the same on every x86-64 processor, and one thread to one order of work.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.records import SAMPLE_RATE

PRESET = "medium"
X264_PARAMS = "cpu-independent=1"
AUDIO_BIT_RATE = 64_000
ENCODING_SETTINGS = (
    f"preset {PRESET} {X264_PARAMS}, aac {AUDIO_BIT_RATE // 1000} kbit/s mono {SAMPLE_RATE} Hz"
)
"""All that decides the coding, besides crf and pixel format: for cache keys."""
FOR_BROWSERS: Mapping[str, str] = MappingProxyType({"profile": "baseline", "g": "25"})
"""Options of pictures that a page embeds: every browser decodes the profile, and a key frame at least every 25
frames makes seeking quick."""


def add_video_stream(
    container: OutputContainer,
    size: tuple[int, int],
    pix_fmt: str,
    rate: Fraction,
    crf: int,
    more: Mapping[str, str] = MappingProxyType({}),
) -> VideoStream:
    """An H.264 stream for frames of size (width, height) at `rate`, encoded with one thread; crf: 0 (best) to 51.

    more: further options of libx264, such as FOR_BROWSERS."""
    options = {"crf": str(crf), "preset": PRESET, "x264-params": X264_PARAMS, **more}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.thread_count = 1
    return stream


def add_audio_stream(
    container: OutputContainer, rate: int = SAMPLE_RATE, layout: str = "mono", bit_rate: int = AUDIO_BIT_RATE
) -> AudioStream:
    """An AAC stream; rate in Hz, bit_rate in bit/s."""
    return container.add_stream("aac", rate=rate, layout=layout, bit_rate=bit_rate)


def yuv_of(
    image: np.ndarray, pix_fmt: str, matrix: Colorspace, full_range: bool, converter: VideoReformatter
) -> VideoFrame:
    """RGB uint8 [H, W, 3] as the encoder takes it: exact rounding, chroma the mean of its pixels.

    converter: one for many frames, since a new one costs more than the conversion.
    """
    return converter.reformat(
        VideoFrame.from_ndarray(image, format="rgb24"),
        format=pix_fmt,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,
        threads=1,
    )
