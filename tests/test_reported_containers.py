"""Reported kinds of faults: containers without presentation times, containers without an index."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from media_files import click_times, clicks

from syncdiff_data.media import Video, read_audio
from syncdiff_data.media import video as video_module

FLASH, SECONDS = 20, 2


def write_flash(path: Path, codec: str, sound_codec: str, b_frames: int, sound_format: str) -> Path:
    """50 frames at 25 fps; frame 20 is white, and a click begins with it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.max_b_frames = b_frames
        if codec == "libx264":
            stream.options = {"x264-params": f"bframes={b_frames}:b-adapt=0"}
        sound = container.add_stream(sound_codec, rate=44_100)
        sound.codec_context.layout = "mono"
        sound.codec_context.format = sound_format
        samples = clicks([FLASH / 25], SECONDS, 44_100)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 44_100, 0
        fifo, resampler = av.AudioFifo(), av.AudioResampler(sound_format, "mono", 44_100)
        for piece in resampler.resample(frame):
            fifo.write(piece)
        for i in range(SECONDS * 25):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255 * (i == FLASH), np.uint8), "rgb24")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        while block := fifo.read(sound.codec_context.frame_size or 1024, partial=True):
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec", "b_frames", "sound_format"),
    [
        ("avi", "libx264", "pcm_s16le", 0, "s16"),
        ("avi", "libx264", "pcm_s16le", 2, "s16"),
        ("avi", "mpeg4", "pcm_s16le", 0, "s16"),
        ("avi", "mpeg4", "pcm_s16le", 2, "s16"),
        ("mp4", "libx264", "aac", 2, "fltp"),
        ("mov", "libx264", "aac", 2, "fltp"),
        ("mkv", "libx264", "pcm_s16le", 2, "s16"),
        ("flv", "libx264", "aac", 2, "fltp"),
        ("ts", "libx264", "aac", 2, "fltp"),
        ("mpg", "mpeg2video", "mp2", 2, "s16"),
        ("nut", "libx264", "pcm_s16le", 2, "s16"),
        ("asf", "mpeg4", "pcm_s16le", 0, "s16"),
        ("3gp", "libx264", "aac", 2, "fltp"),
        ("webm", "libvpx", "libopus", 0, "s16"),
    ],
)
def test_kind_5_flash_and_click_are_together_in_every_container(
    tmp_path: Path, suffix: str, codec: str, sound_codec: str, b_frames: int, sound_format: str
) -> None:
    try:
        path = write_flash(tmp_path / f"a.{suffix}", codec, sound_codec, b_frames, sound_format)
    except (av.FFmpegError, ValueError) as error:
        if suffix == "webm":
            pytest.skip(f"this FFmpeg does not write it: {error}")
        raise
    video = Video(path)
    levels = [frame.mean() for frame in video.frames()]
    flash_s = video.start_s + int(np.argmax(levels)) / 25
    (click_s,) = click_times(read_audio(path, video.start_s, video.num_frames))
    assert max(levels) > 128
    # MP2's encoder delays by 481 samples, and an MPEG program stream has no field to say so.
    delay = 481 / 44_100 if suffix == "mpg" else 0
    assert abs(video.start_s + click_s - delay - flash_s) <= 0.010


def test_kind_5_the_reported_avi(shared: Path) -> None:
    video = Video(shared / "faults/avi/h264_bf0_pcm.avi")
    assert (video.start_s, video.num_frames) == (0.0, 50)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all frames that the decoder gives from now on."""
    decoded: list[float] = []
    decode = video_module.decode_video

    def counted(*args: Any) -> Iterator[av.VideoFrame]:
        for frame in decode(*args):
            decoded.append(frame.time)
            yield frame

    monkeypatch.setattr(video_module, "decode_video", counted)
    return decoded


@pytest.mark.parametrize("suffix", ["ts", "mpg", "avi", "flv"])
def test_kind_41_passes_over_a_container_without_index_go_on_where_they_ended(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 0)
    path = write_flash(
        tmp_path / f"a.{suffix}",
        "mpeg2video" if suffix == "mpg" else "libx264",
        "pcm_s16le" if suffix == "avi" else "mp2" if suffix in ("mpg", "ts") else "aac",
        2,
        "fltp" if suffix == "flv" else "s16",
    )
    beats = SimpleNamespace(count=0)
    decoded = count_decoded(monkeypatch)
    video = Video(path, heartbeat=lambda: setattr(beats, "count", beats.count + 1))
    assert beats.count >= 2 * 50, "opening, which reads every packet and frame, sends heartbeats"
    whole = list(video.frames())
    decoded.clear()
    parts = [frame for first in range(0, 50, 10) for frame in video.frames(first, first + 10)]
    assert len(decoded) <= 50 + 5, "five passes decode every frame once"
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(list(video.frames(15, 30)), whole[15:30])  # back before the cursor
    half_read = video.frames(20)
    next(half_read)
    np.testing.assert_array_equal(list(video.frames(5)), whole[5:])
    np.testing.assert_array_equal(list(half_read), whole[21:])


def test_kind_41_a_pass_far_into_an_mpeg_stream_does_not_begin_at_frame_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 0)
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        for i in range(400):
            picture = av.VideoFrame.from_ndarray(np.roll(noise, i // 2, 1), "rgb24")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    decoded = count_decoded(monkeypatch)
    video = Video(path)
    whole = list(video.frames())
    decoded.clear()
    np.testing.assert_array_equal(list(video.frames(350, 360)), whole[350:360])
    assert len(decoded) < 100
