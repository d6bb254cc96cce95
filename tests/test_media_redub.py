"""A dub's file: the source's frames, times, size, aspect and colours; the given sound, copied where it can be."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import click_times, clicks, make_audio, make_video, numbered, read_number

from syncdiff_data.media import AudioTrack, Video, sound_start, write_redub
from syncdiff_data.media.redub import whole_ticks
from syncdiff_data.records import MediaError, UserError

# Gaps in ms: 15 to 60 fps, and held frames.
VARIABLE = np.cumsum(
    [70, 33, 67, 40, 200, 16, 16, 16, 40, 41, 39, 100, 33, 33, 34, 500, 40, 40, 17, 60]
).tolist()


def times_of(video: Video) -> list[Fraction]:
    return [int(pts - video.pts[0]) * video.time_base for pts in video.pts]


def flat(source: Video) -> Iterator[np.ndarray]:
    """Frames of the source's size that cost little to encode."""
    return (
        np.full((source.height, source.width, 3), index % 200, np.uint8) for index in range(source.num_frames)
    )


def packets(path: Path) -> tuple[str, int, int, list[bytes]]:
    """Codec, rate, channels and packets of the first audio stream."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        data = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return context.codec.canonical_name, context.sample_rate, context.channels, data


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_every_frame_keeps_its_time(tmp_path: Path, suffix: str) -> None:
    source = Video(make_video(tmp_path / f"vfr.{suffix}", VARIABLE, Fraction(1, 1000)), fps=None)
    write_redub(tmp_path / "dub.mp4", source.frames(), source, None)
    dub = Video(tmp_path / "dub.mp4", fps=None)
    assert [read_number(frame) for frame in dub.frames()] == list(range(20))
    assert times_of(dub) == times_of(source)
    assert (dub.start_s, dub.duration_s) == (0.0, source.duration_s)
    assert np.array_equal(Video(dub.path).source_frame, Video(source.path).source_frame)


@given(
    gaps=st.lists(st.integers(1, 5000), max_size=40),
    first=st.integers(-(10**9), 10**12),
    time_base=st.sampled_from(
        [Fraction(1, k) for k in (1, 25, 1000, 12800, 90000, 10**9)]
        + [Fraction(1001, 30000), Fraction(333667, 10**7)]
    ),
)
def test_an_mp4_has_units_for_all_times(gaps: list[int], first: int, time_base: Fraction) -> None:
    pts = first + np.cumsum([0, *gaps])
    ticks, unit = whole_ticks(pts, time_base)
    assert [int(tick) * unit for tick in ticks] == [int(p - first) * time_base for p in pts]
    assert unit.numerator == 1
    assert unit.denominator < 2**31


def test_units_that_no_mp4_has_are_rounded() -> None:
    ticks, unit = whole_ticks(np.array([5, 10**12 + 6]), Fraction(1, 10**12))
    assert (ticks.tolist(), unit) == ([0, 10**6], Fraction(1, 10**6))


def test_real_clips_keep_frames_times_size_and_sound(shared: Path, tmp_path: Path) -> None:
    names = ["d_vfr.mp4", "retalk_face1_vfr.mp4", "d_60fps.mp4", "lrq_garrett_2997.mp4", "syncnet_example.avi",
             "grid_swiz3n.mpg", "d_audio_late200ms_start.mp4", "d_mjpeg_pcm.mov"]  # fmt: skip
    for name in names:
        source = Video(shared / "clips" / name, fps=None)
        write_redub(tmp_path / "dub.mp4", flat(source), source, source.path)
        dub = Video(tmp_path / "dub.mp4", fps=None)
        assert times_of(dub) == times_of(source), name
        assert (dub.height, dub.width, dub.duration_s) == (source.height, source.width, source.duration_s), (
            name
        )
        given_sound, written = packets(source.path), packets(dub.path)
        assert written[1:3] == given_sound[1:3], f"{name}: rate and channels"
        if given_sound[0] in ("aac", "mp3"):
            assert written[0] == given_sound[0], name
            at = given_sound[3].index(written[3][0])
            assert written[3] == given_sound[3][at : at + len(written[3])], name
        else:
            assert written[0] == "aac", name
        before = AudioTrack(source.path).slice(float(sound_start(source.path)), 25).astype(float)
        after = AudioTrack(dub.path).slice(0.0, 25)
        assert np.corrcoef(before, after)[0, 1] > 0.99, name


@pytest.mark.parametrize(
    "name",
    ["clips/d_phone_rot90_640x360.mp4", "clips/d_mjpeg_pcm.mov", "clips/d_hevc10.mp4", "clips/grid_swiz3n.mpg",
     "faults/display/hdr_hlg.mov", "faults/display/hd_untagged.mp4", "faults/display/anamorphic_sar.mp4"],
)  # fmt: skip
def test_real_clips_keep_their_colours(name: str, shared: Path, tmp_path: Path) -> None:
    source = Video(shared / name, fps=None)
    frames = list(source.frames(0, 5))
    write_redub(tmp_path / "dub.mp4", frames, source, None, duration_s=source.times[5])
    dub = Video(tmp_path / "dub.mp4", fps=None)
    for field in ("sample_aspect_ratio", "primaries", "transfer", "matrix", "full_range"):
        assert getattr(dub.display, field) == getattr(source.display, field), field
    errors = np.stack(list(dub.frames())).astype(int) - np.stack(frames)
    assert np.abs(errors.mean(axis=(0, 1, 2))).max() < 0.8
    assert abs((errors @ [0.299, 0.587, 0.114]).mean()) < 0.1
    assert np.abs(errors).mean() < 2


def test_what_a_display_matrix_turns_is_written_upright(tmp_path: Path) -> None:
    """720 coded lines of BT.709, untagged, with broad pixels: upright they are 360 lines of high pixels."""
    path = tmp_path / "phone.mp4"
    green = np.full((720, 360, 3), (30, 200, 60), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 360, 720, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_matrix([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30])
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(green, "rgb24").reformat(format="yuv420p", dst_colorspace=1)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    source = Video(path, fps=None)
    write_redub(tmp_path / "dub.mp4", source.frames(), source, None)
    dub = Video(tmp_path / "dub.mp4", fps=None)
    assert (dub.height, dub.width) == (360, 720)
    assert dub.display.sample_aspect_ratio == source.display.sample_aspect_ratio == Fraction(3, 4)
    assert (source.display.matrix, dub.display.matrix) == (2, 1), "360 untagged lines would be read as BT.601"
    assert np.abs(next(dub.frames()).astype(int) - green[0, 0]).max() <= 4


@pytest.mark.parametrize("size", [(65, 96), (64, 97), (33, 35)])
def test_odd_sizes_stay(tmp_path: Path, size: tuple[int, int]) -> None:
    source = Video(make_video(tmp_path / "a.mkv", range(5), codec="libvpx-vp9", size=size), fps=None)
    write_redub(tmp_path / "dub.mp4", source.frames(), source, None)
    dub = Video(tmp_path / "dub.mp4", fps=None)
    assert (dub.height, dub.width) == (source.height, source.width) == size
    errors = np.stack(list(dub.frames())).astype(int) - np.stack(list(source.frames()))
    assert np.abs(errors).mean() < 1


# Of files with pictures from frame 10 on, the sound begins 0.4 s after the pictures' clock, or before or after them.
SOUNDS = [
    ("plain.m4a", "aac", 44_100, 2, 0.0, ()),
    ("plain.mp3", "libmp3lame", 16_000, 1, 0.0, ()),
    ("plain.opus", "libopus", 48_000, 2, 0.0, ()),
    ("plain.flac", "flac", 96_000, 2, 0.0, ()),
    ("plain.ac3", "ac3", 48_000, 2, 0.0, ()),
    ("late.mp4", "aac", 44_100, 2, 0.25, range(75)),
    ("late.mkv", "libmp3lame", 44_100, 1, 0.25, range(75)),
    ("early.mp4", "aac", 48_000, 1, 0.0, range(10, 75)),
    ("early.mkv", "libopus", 48_000, 1, 0.0, range(10, 75)),
    ("late.mov", "pcm_s16le", 44_100, 2, 0.25, range(75)),
    ("early.mov", "pcm_s16le", 22_050, 1, 0.0, range(10, 75)),
]


@pytest.mark.parametrize("sound", SOUNDS, ids=lambda sound: sound[0])
def test_sound_and_pictures_stay_in_step(tmp_path: Path, sound: tuple) -> None:  # type: ignore[type-arg]
    """Each click of the sound is heard when the frame with its flash is seen."""
    name, codec, rate, channels, start_s, video_pts = sound
    path = make_audio(
        tmp_path / name, clicks([0.5, 1.2, 2.2], 2.7, rate, channels), rate, codec, start_s, (), video_pts
    )
    heard = click_times(AudioTrack(path).slice(float(sound_start(path)), 75))
    expected = np.array([0.5, 1.2, 2.2]) + (start_s - 0.04 * video_pts[0] if video_pts else 0)
    assert heard == pytest.approx(expected[expected > 0], abs=0.008), "AC-3 carries no word of its delay"
    # A source with a frame where each click begins.
    ms = sorted({*range(0, 3000, 40), *(round(time * 1000) for time in heard)})
    source = Video(
        make_video(tmp_path / "source.mp4", [100 + time for time in ms], Fraction(1, 1000)), fps=None
    )
    flash = [any(0 <= time - 1000 * mark < 100 for mark in np.round(heard, 3)) for time in ms]
    frames = [np.full((source.height, source.width, 3), 255 * lit, np.uint8) for lit in flash]
    write_redub(tmp_path / "dub.mp4", frames, source, path)
    dub = Video(tmp_path / "dub.mp4", fps=None)
    lit = [frame.mean() > 128 for frame in dub.frames()]
    seen = [dub.times[i] for i in range(1, len(lit)) if lit[i] and not lit[i - 1]]
    assert dub.start_s == 0.0
    assert seen == pytest.approx(heard, abs=1e-3)
    assert click_times(AudioTrack(dub.path).slice(0.0, 75)) == pytest.approx(heard, abs=1e-3)
    written = packets(dub.path)
    assert written[1:3] == (rate, channels)
    assert (written[3][-1] in packets(path)[3]) == (codec != "pcm_s16le")


@pytest.mark.parametrize("channels", [1, 6, 8, 9])
def test_channels_stay_as_far_as_aac_has_them(tmp_path: Path, channels: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", clicks([0.3], 1, 48_000, channels).T, 48_000, subtype="PCM_16")
    source = Video(make_video(tmp_path / "a.mp4", range(25)), fps=None)
    write_redub(tmp_path / "dub.mp4", flat(source), source, tmp_path / "a.wav")
    assert packets(tmp_path / "dub.mp4")[:3] == ("aac", 48_000, 1 if channels == 9 else channels)
    assert click_times(AudioTrack(tmp_path / "dub.mp4").slice(0.0, 25)) == pytest.approx([0.3], abs=1e-3)


@pytest.fixture
def source(tmp_path: Path) -> Video:
    return Video(make_video(tmp_path / "source.mp4", range(50)), fps=None)


def test_sound_ends_with_the_pictures_or_before(tmp_path: Path, source: Video) -> None:
    for seconds, codec, end_s in [
        (9.0, "aac", 2.0),
        (9.0, "pcm_s16le", 2.0),
        (1.0, "aac", 1.0),
        (1.0, "alac", 1.0),
    ]:
        sound = make_audio(
            tmp_path / "a.mov", np.full((1, int(seconds * 16_000)), 900, np.int16), 16_000, codec
        )
        write_redub(tmp_path / "dub.mp4", flat(source), source, sound)
        assert AudioTrack(tmp_path / "dub.mp4").end_s == pytest.approx(end_s, abs=4096 / 16_000), (
            seconds,
            codec,
        )
        with av.open(str(tmp_path / "dub.mp4")) as container:
            assert container.duration >= 2_000_000


def test_a_dub_may_end_before_its_source(tmp_path: Path, source: Video) -> None:
    sound = make_audio(tmp_path / "a.m4a", np.full((1, 32_000), 900, np.int16), 16_000, "aac")
    write_redub(tmp_path / "dub.mp4", list(flat(source))[:13], source, sound, duration_s=0.5)
    dub = Video(tmp_path / "dub.mp4", fps=None)
    assert times_of(dub) == times_of(source)[:13]
    assert AudioTrack(dub.path).end_s == pytest.approx(0.5, abs=1024 / 16_000)


def test_holes_become_silence(tmp_path: Path, source: Video) -> None:
    """An mp4 has no silence between packets: players would close the hole."""
    sound = clicks([0.3, 1.5], 2.0, 48_000)
    path = make_audio(tmp_path / "a.mkv", sound, 48_000, "libopus", holes=[(0.6, 1.2)])
    write_redub(tmp_path / "dub.mp4", flat(source), source, path)
    assert packets(tmp_path / "dub.mp4")[0] == "aac"
    assert click_times(AudioTrack(tmp_path / "dub.mp4").slice(0.0, 50)) == pytest.approx([0.3, 1.5], abs=1e-3)


@pytest.mark.parametrize(("start_s", "video_pts"), [(0.0, range(20, 70)), (2.6, range(70))])
def test_sound_that_is_never_heard_is_silence(
    tmp_path: Path, source: Video, start_s: float, video_pts: range
) -> None:
    path = make_audio(tmp_path / "a.mp4", clicks([0.1], 0.3, 16_000), 16_000, "aac", start_s, (), video_pts)
    write_redub(tmp_path / "dub.mp4", flat(source), source, path)
    assert not AudioTrack(tmp_path / "dub.mp4").slice(0.0, 50).any()


def test_sound_that_an_edit_list_hides_stays_hidden(tmp_path: Path, source: Video) -> None:
    """Cut without new encoding, the file's first second is in it and not heard."""
    whole = make_audio(tmp_path / "whole.m4a", clicks([0.5, 1.5, 2.5], 3.0, 16_000), 16_000, "aac")
    path = tmp_path / "cut.m4a"
    with (
        av.open(str(whole)) as given_file,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        stream = cut.add_stream_from_template(given_file.streams.audio[0])
        for packet in given_file.demux(given_file.streams.audio[0]):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - 16_000, packet.dts - 16_000, stream
                cut.mux(packet)
    heard = click_times(AudioTrack(path).slice(0.0, 50))
    assert heard == pytest.approx([0.5, 1.5], abs=1e-3)
    write_redub(tmp_path / "dub.mp4", flat(source), source, path)
    assert click_times(AudioTrack(tmp_path / "dub.mp4").slice(0.0, 50)) == pytest.approx(heard, abs=1e-3)
    assert set(packets(tmp_path / "dub.mp4")[3]) < set(packets(whole)[3])


def test_the_same_input_gives_the_same_bytes_and_the_comment(tmp_path: Path, source: Video) -> None:
    for codec in ("aac", "pcm_s16le"):
        sound = make_audio(tmp_path / "a.mov", clicks([0.5], 2.0, 44_100, 2), 44_100, codec)
        for name in ("a.mp4", "b.mp4"):
            write_redub(tmp_path / name, source.frames(), source, sound, "synthetic: made by a test")
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == "synthetic: made by a test"


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        ([], UserError, "at least one frame"),
        ([numbered(0)] * 49, ValueError, "49 frames were given in place of 50"),
        ([numbered(0)] * 51, ValueError, "51 or more frames were given in place of 50"),
        ([numbered(0), numbered(1, 32)], UserError, r"Frame 1 of a\.mp4 has shape"),
        (
            [numbered(0, 128)] * 50,
            UserError,
            r"Frame 0 of a\.mp4 has shape \(128, 96, 3\), not \(64, 96, 3\)",
        ),
    ],
)
def test_other_frames_than_the_source_has_leave_what_was_there(
    tmp_path: Path, source: Video, frames: list[np.ndarray], error: type[Exception], message: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"what was there")
    with pytest.raises(error, match=message):
        write_redub(tmp_path / "a.mp4", frames, source, None)
    assert (tmp_path / "a.mp4").read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "source.mp4"}


def test_faults_of_the_sound_and_the_source_are_said(tmp_path: Path, source: Video) -> None:
    with pytest.raises(MediaError, match="no audio stream"):
        write_redub(tmp_path / "a.mp4", flat(source), source, source.path)
    (tmp_path / "text.wav").write_bytes(b"a page that says: not found" * 99)
    with pytest.raises(MediaError, match="not a media file"):
        write_redub(tmp_path / "a.mp4", flat(source), source, tmp_path / "text.wav")
    slow = Video(make_video(tmp_path / "slow.mp4", range(0, 50, 2)))
    with pytest.raises(ValueError, match="open it with fps=None"):
        write_redub(tmp_path / "a.mp4", flat(slow), slow, None)
    assert not (tmp_path / "a.mp4").exists()
