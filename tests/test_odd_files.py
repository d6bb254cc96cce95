"""Odd files that ended a run, hung it or took gigabytes when they were first tried; now a clip or a plain word."""

from __future__ import annotations

import io
import os
import struct
import weakref
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from av.bitstream import BitStreamFilterContext
from media_files import click_times, clicks, make_audio, make_video
from rich.console import Console
from shard_data import SOURCES, build

from syncdiff_data.cli import for_console, shared_path
from syncdiff_data.media import AudioTrack, Playback, Video, read_audio
from syncdiff_data.media import audio as audio_module
from syncdiff_data.media import probe as media_probe
from syncdiff_data.media import video as video_module
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.shards.inspect import summarise
from syncdiff_data.sources.adapter import media_files
from syncdiff_data.stage.faults import failure_of
from syncdiff_data.stage.probe import sample


def patched(path: Path, old: bytes, new: bytes) -> Path:
    """The file with the one place of `old` overwritten."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def make_pcm(path: Path, layout: str, channels: int) -> Path:
    """A second of 48 kHz with a click at 0.5 s in each channel."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout=layout)
        sound = np.ascontiguousarray(clicks([0.5], 1, 48_000, channels).T).reshape(1, -1)
        block = av.AudioFrame.from_ndarray(sound, format="s16", layout=layout)
        block.sample_rate, block.pts = 48_000, 0
        container.mux([*stream.encode(block), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("layout", "channels", "old", "new"),
    [
        # centre, left, right: an order of its own, whose map PyAV frees twice
        pytest.param("3.0", 3, b"chan\0\0\0\0\0\x71\0\x03", b"chan\0\0\0\0\0\x72\0\x03", id="custom order"),
        # left and centre: swresample has no matrix
        pytest.param(
            "FL+BR", 2, b"\0\x01\0\0\0\0\0\x21", b"\0\x01\0\0\0\0\0\x05", id="channels that cannot be mixed"
        ),
    ],
)
def test_channels_at_odd_places_are_mixed(
    tmp_path: Path, layout: str, channels: int, old: bytes, new: bytes
) -> None:
    path = patched(make_pcm(tmp_path / "a.mov", layout, channels), old, new)
    for _ in range(3):  # memory that is freed twice is not noticed each time
        assert click_times(read_audio(path, 0.0, 25)) == pytest.approx([0.5], abs=1e-3)


def test_ambisonic_sound_is_its_channel_without_direction(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        layout, options = "ambisonic 1", {"mapping_family": "2"}
        stream = container.add_stream("libopus", rate=48_000, layout=layout, options=options)
        sound = np.zeros((48_000, 4), np.float32)
        sound[:, 0], sound[:, 1] = clicks([0.3], 1, 48_000)[0] / 32768, clicks([0.7], 1, 48_000)[0] / 32768
        block = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout=layout)
        block.sample_rate, block.pts = 48_000, 0
        container.mux([*stream.encode(block), *stream.encode(None)])
    assert click_times(read_audio(path, 0.0, 25)) == pytest.approx([0.3], abs=2e-3)


def test_the_rate_of_every_block_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample a second in the middle of a file was hours of sound."""
    parts = [
        make_audio(tmp_path / f"{rate}.aac", clicks([], 1, rate), rate, "aac") for rate in (48_000, 16_000)
    ]
    both = tmp_path / "both.aac"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert AudioTrack(both).end_s > 1.1
    monkeypatch.setattr(media_probe, "LOWEST_RATE", 32_000)
    with pytest.raises(MediaError, match="a sample rate of 16000 Hz"):
        AudioTrack(both)


def test_sound_behind_the_end_is_not_read(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "a.flac", clicks([0.5, 59.999, 60.0, 125.0], 130, 8000), 8000, "flac")
    beats: list[None] = []
    whole, part = AudioTrack(path, heartbeat=lambda: beats.append(None)), AudioTrack(path, 70.0)
    assert len(beats) > 100
    assert whole.end_s == pytest.approx(130)
    assert 71 < part.end_s < 73
    assert np.array_equal(whole.slice(0, 70 * 25), part.slice(0, 70 * 25))
    assert click_times(whole.slice(124, 50)) == pytest.approx([1.0], abs=1e-3)
    assert whole.longest_gap(0.0) == part.longest_gap(0.0) == 0


def test_a_sound_of_many_pieces_holds_one_resampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of half a megabyte was kept for every jump of the clock: 200 kB of sound that drifts took over 11 GiB."""
    resamplers: weakref.WeakSet[Counted] = weakref.WeakSet()

    class Counted:
        def __init__(self, **options: Any) -> None:
            self.inner = AudioResampler(**options)
            resamplers.add(self)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr(audio_module, "AudioResampler", Counted)
    holes = [(second + 0.4, second + 0.6) for second in range(12)]
    sound = clicks([7.0], 12, 16_000)
    path = make_audio(tmp_path / "a.mkv", sound, 16_000, "pcm_s16le", holes=holes)
    counts: list[int] = []
    track = AudioTrack(path, heartbeat=lambda: counts.append(len(resamplers)))
    assert len(track._pieces) > 10
    assert max(counts) == 1
    assert click_times(track.slice(0, 300)) == pytest.approx([7.0], abs=1e-3)


@pytest.mark.parametrize("open_file", [Video, AudioTrack])
def test_a_named_pipe_is_no_media_file(tmp_path: Path, open_file: Callable[[Path], object]) -> None:
    """Opening it waits for somebody who writes."""
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="not a regular file") as caught:
        open_file(tmp_path / "a.mp4")
    assert caught.value.reason is Reason.UNREADABLE


def test_links_that_lead_nowhere_are_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_bytes(b"good")
    for name, target in (
        ("round.mp4", "round.mp4"),
        ("nowhere.mp4", "nowhere"),
        ("through.mp4", "good.mp4/x"),
        ("long.mp4", "l" * 300),
    ):
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "a.mp4")
    found = dict(media_files(tmp_path))
    assert found == {
        "a.mp4": 0,
        "good.mp4": 4,
        "long.mp4": 0,
        "nowhere.mp4": 0,
        "round.mp4": 0,
        "through.mp4": 0,
    }
    absolute = [tmp_path / name for name in found]
    assert sample(absolute) == {str(tmp_path / "good.mp4"): 4}, "what cannot be read says nothing of a mount"
    (tmp_path / "good.mp4").write_bytes(b"has grown since")
    assert sample(absolute) == {str(tmp_path / "good.mp4"): 15}


def test_encryption_is_said(tmp_path: Path) -> None:
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "7" * 32, "encryption_kid": "a" * 32}
    video, sound = tmp_path / "video.mp4", tmp_path / "sound.mp4"
    with pytest.raises(MediaError, match="it is encrypted"):
        Video(make_video(video, range(2), container_options=options))
    with pytest.raises(MediaError, match="it is encrypted"):
        AudioTrack(make_audio(sound, clicks([], 0.1, 48_000), 48_000, "aac", container_options=options))


def test_pictures_that_grow_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"small": (32, 32), "large": (256, 256)}
    parts = [
        make_video(tmp_path / f"{n}.ts", range(20), codec="mpeg2video", size=s) for n, s in sizes.items()
    ]
    grown = tmp_path / "grown.ts"
    grown.write_bytes(b"".join(part.read_bytes() for part in parts))
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 40 * 32 * 32 * 3)
    with pytest.raises(MediaError, match=r"size changes|times go back|clock jumps"):
        list(Video(grown).frames())
    video = Video(parts[1])
    assert video._kept == []
    assert len(list(video.frames())) == video.num_frames == 20


@pytest.mark.parametrize(
    ("orientation", "white"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_pictures_of_cameras_with_exif(tmp_path: Path, orientation: int, white: tuple[int, int]) -> None:
    """PyAV has no name for Exif, and raised; FFmpeg makes a display matrix of its orientation."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48] = 255
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    packet = av.Packet(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        container.mux(packet)
    video = Video(tmp_path / "a.mov")
    assert (video.width, video.height) == ((96, 64) if orientation < 5 else (64, 96))
    (frame,) = video.frames()
    quarters = cv2.resize(frame[:, :, 1], (2, 2), interpolation=cv2.INTER_AREA) > 128
    assert np.argwhere(quarters).tolist() == [list(white)]


def test_pictures_cropped_at_the_left(tmp_path: Path) -> None:
    """FFmpeg showed the columns at the left that the stream crops: no player does."""
    whole, cropped = make_video(tmp_path / "whole.ts", range(30)), tmp_path / "cropped.ts"
    with av.open(str(whole)) as source, av.open(str(cropped), "w") as target:
        stream = source.streams.video[0]
        crop = BitStreamFilterContext(
            "h264_metadata=crop_left=10:crop_right=6:crop_top=4:crop_bottom=2", stream
        )
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            for changed in crop.filter(packet) if packet.size else []:
                changed.stream = copied
                target.mux(changed)
    for whole_frame, frame in zip(Video(whole).frames(), Video(cropped).frames(), strict=True):
        assert frame.shape == (58, 80, 3)
        assert np.abs(frame.astype(int) - whole_frame[4:62, 10:90]).mean() < 1


@pytest.mark.filterwarnings("error")
def test_the_least_number_of_a_display_matrix(tmp_path: Path) -> None:
    """Its absolute value is no number of 32 bits: the picture was turned."""
    matrix = [-(2**31), 0, 0, 0, -(2**31), 0, 0, 0, 1 << 30]
    video = Video(make_video(tmp_path / "a.mp4", range(2), matrix=matrix))
    assert (video.width, video.height) == (96, 64)


@pytest.mark.parametrize("box", ["stsz", "trun"])
def test_an_index_of_samples_that_are_not_there_is_refused(tmp_path: Path, box: str) -> None:
    """FFmpeg made room for every sample that a count of 32 bits declares."""
    options = {"movflags": "frag_keyframe+empty_moov"} if box == "trun" else {}
    path = make_video(tmp_path / "a.mp4", range(10), container_options=options)
    assert len(list(Video(path).frames())) == 10
    data = bytearray(path.read_bytes())
    at = data.index(box.encode()) + 4 + media_probe._COUNT_AT[box.encode()]
    data[at : at + 4] = (60_000_000).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(MediaError, match="its index has 60,000,000 samples, in a file of"):
        Video(path)


def test_boxes_inside_boxes_end(tmp_path: Path) -> None:
    """As deep as a file is long: no recursion."""
    inner = b"".join((8 * (20_000 - depth)).to_bytes(4, "big") + b"moov" for depth in range(20_000))
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + inner)
    with pytest.raises(MediaError):
        Video(path)


def test_a_frame_of_one_tick_is_not_held_a_million_times(tmp_path: Path) -> None:
    fine = Fraction(1, 90_000)
    pts = [*range(10), 45_000, 45_001]
    options = {"video_track_timescale": "90000"}
    video = Video(make_video(tmp_path / "a.mp4", pts, fine, container_options=options), fps=None)
    assert (video.pts.tolist(), video.time_base) == (pts, fine)
    hold = Playback(video, 2.0, "hold")
    assert hold.duration_s >= 2.0
    assert hold.num_frames < 200
    assert Playback(video, 2.0, "loop").num_frames < 100
    video.pts, video.duration_s = np.arange(12), 12 / 90_000
    with pytest.raises(MediaError, match="too short to be repeated"):
        Playback(video, 2.0, "loop")


def test_a_media_error_is_told_without_a_stack() -> None:
    try:
        raise MediaError(Reason.UNREADABLE, "cannot be read: gone") from FileNotFoundError(2, "gone")
    except MediaError as error:
        failure = failure_of(error)
    assert (failure.reason, failure.detail) == (Reason.READ_ERROR, "cannot be read: gone")


def test_a_folder_of_no_text_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--root .*\\udcff.* is not UTF-8"):
        shared_path("--root", tmp_path / "r\udcff")
    assert shared_path("--root", tmp_path / "ä b") == str(tmp_path / "ä b")


def test_names_do_not_command_the_terminal(tmp_path: Path) -> None:
    assert for_console("a\x1b]0;b[red]") == "a\\x1b]0;b\\[red]"
    odd = replace(SOURCES[0], path="a\x1b]0;owned\x07b.mp4")
    store = build(tmp_path / "d", sources=(odd, *SOURCES[1:]))
    out = io.StringIO()
    summarise(store.uri, Console(file=out, width=200))
    assert "\x1b" not in out.getvalue()
