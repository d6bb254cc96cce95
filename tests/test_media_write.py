"""Writing: in step, complete or not there, the same bytes every time; and the bytes a shard holds."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import click_times, clicks, numbered, read_number

from syncdiff_data.images import decode_jpeg, encode_jpeg
from syncdiff_data.media import (
    Video,
    decode_flac,
    encode_flac,
    read_audio,
    write_video,
)
from syncdiff_data.records import MediaError, UserError


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(50)])
def test_a_click_and_its_flash_stay_together(tmp_path: Path, fps: Fraction) -> None:
    """Both begin with frame 10, 31 and 70; at 25 fps the flash may move by half a frame, the click may not."""
    marks = [10, 31, 70]
    times = [float(mark / fps) for mark in marks]
    frames = [np.full((64, 96, 3), 255 * any(m <= i < m + 4 for m in marks), np.uint8) for i in range(100)]
    path = tmp_path / "a.mp4"
    write_video(path, frames, clicks(times, 4.0, 16_000)[0], fps)
    video = Video(path)
    assert video.start_s == 0.0
    assert video.num_frames == round(100 / fps * 25)
    lit = [i for i, frame in enumerate(video.frames()) if frame.mean() > 128]
    seen = [i / 25 for i in lit if i - 1 not in lit]
    assert seen == pytest.approx(times, abs=0.5 / 25 + 1e-6)
    assert click_times(read_audio(path, video.start_s, video.num_frames)) == pytest.approx(times, abs=1e-3)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    frames = [numbered(number) for number in range(40)]
    sound = (np.random.default_rng(0).standard_normal(40 * 640) * 3000).astype(np.int16)
    write_video(tmp_path / "a.mp4", frames, sound, crf=10)
    video = Video(tmp_path / "a.mp4")
    shown = list(video.frames())
    assert [read_number(frame) for frame in shown] == list(range(40)) == video.source_frame.tolist()
    assert np.abs(np.stack(shown).astype(int) - np.stack(frames)).mean() < 2
    heard = read_audio(tmp_path / "a.mp4", 0.0, 40)
    assert np.corrcoef(heard, sound)[0, 1] > 0.9


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120)]
    write_video(tmp_path / "a.mp4", [np.full((720, 64, 3), c, np.uint8) for c in colours], None, crf=5)
    for colour, frame in zip(colours, Video(tmp_path / "a.mp4").frames()):
        assert np.abs(frame[32, 32].astype(int) - colour).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (5, 1), "BT.601, limited range, as written"


@pytest.mark.parametrize(("height", "width"), [(65, 96), (64, 97), (33, 35)])
def test_odd_sizes_gain_a_repeated_edge(tmp_path: Path, height: int, width: int) -> None:
    frames = [np.full((height, width, 3), 60 + 10 * i, np.uint8) for i in range(5)]
    write_video(tmp_path / "a.mp4", frames, None, crf=5)
    video = Video(tmp_path / "a.mp4")
    assert (video.height, video.width) == (height + height % 2, width + width % 2)
    for given_frame, frame in zip(frames, video.frames()):
        assert np.abs(frame.astype(int) - given_frame[0, 0, 0]).max() <= 4


@pytest.mark.parametrize("samples", [0, 1000, 20 * 640, 50_000])
def test_sound_is_cut_or_padded_to_the_frames(tmp_path: Path, samples: int) -> None:
    write_video(tmp_path / "a.mp4", [numbered(i) for i in range(20)], np.full(samples, 9000, np.int16))
    heard = read_audio(tmp_path / "a.mp4", 0.0, 25).astype(int)
    loud = np.flatnonzero(np.abs(heard) > 4500)
    kept = min(samples, 20 * 640)
    assert (loud.max() + 1 if loud.size else 0) == pytest.approx(kept, abs=1024)


def test_no_sound_no_stream(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [numbered(0)], None)
    assert not Video(tmp_path / "a.mp4").has_audio
    with pytest.raises(MediaError):
        read_audio(tmp_path / "a.mp4", 0.0, 1)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (12, 64, 96, 3), dtype=np.uint8)
    sound = rng.integers(-9000, 9000, 12 * 640).astype(np.int16)
    for name in ["a.mp4", "b.mp4"]:
        write_video(tmp_path / name, iter(frames), sound)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"what was there")

    def breaking():  # type: ignore[no-untyped-def]
        yield numbered(0)
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        write_video(path, breaking(), None)
    assert path.read_bytes() == b"what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [([], "at least one frame"), ([numbered(0), numbered(1, 32, 96)], r"Frame 1 of a\.mp4 has shape")],
)
def test_frames_that_make_no_video_are_refused(
    tmp_path: Path, frames: list[np.ndarray], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_video(tmp_path / "a.mp4", frames, None)
    assert not list(tmp_path.iterdir())


@settings(max_examples=30)
@given(st.integers(1, 20_000), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 300, 32_768]))
def test_flac_gives_back_every_sample(count: int, seed: int, loudness: int) -> None:
    sound = np.random.default_rng(seed).integers(-loudness, max(loudness, 1), count).astype(np.int16)
    data = encode_flac(sound)
    back = decode_flac(data)
    assert back.dtype == np.int16
    assert np.array_equal(back, sound)
    assert encode_flac(sound) == data


@pytest.mark.parametrize("shape", [(64, 96, 3), (1, 1, 3), (33, 65, 3)])
def test_jpeg_keeps_the_picture(shape: tuple[int, ...]) -> None:
    image = np.resize(numbered(341), shape)
    data = encode_jpeg(image)
    back = decode_jpeg(data)
    assert back.shape == image.shape
    assert back.dtype == np.uint8
    assert encode_jpeg(image) == data
    smooth = np.full(shape, 77, np.uint8)
    assert np.abs(decode_jpeg(encode_jpeg(smooth)).astype(int) - smooth).max() <= 1


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert np.abs(decode_jpeg(encode_jpeg(red)).astype(int) - red).max() <= 3


def test_bytes_that_are_no_picture() -> None:
    with pytest.raises(ValueError, match="not an image"):
        decode_jpeg(b"\xff\xd8 not really")
