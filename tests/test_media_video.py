"""Frames: the right ones, upright, the same however they are reached, and a plain word when they are not there."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import make_audio, make_video, numbered, read_number

from syncdiff_data.media import Video
from syncdiff_data.media import video as video_module
from syncdiff_data.media.timeline import nearest_frames
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

UNREADABLE = {
    "audio_only.mp4": (Reason.NO_VIDEO_STREAM, "no video stream"),
    "d_truncated_nomoov.mp4": (Reason.UNREADABLE, "no moov box"),
    "d_zero_bytes.mp4": (Reason.UNREADABLE, "0 bytes"),
    "lfs_pointer_not_video.mp4": (Reason.UNREADABLE, "Git LFS pointer of 132 bytes"),
}


def numbers(video: Video, start: int = 0, stop: int | None = None) -> list[int]:
    return [read_number(frame) for frame in video.frames(start, stop)]


def sequential(path: Path, wanted: set[int]) -> tuple[list[int], dict[int, np.ndarray]]:
    """All presentation times and the pictures `wanted`, by the plainest PyAV loop there is."""
    times, pictures = [], {}
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(container.streams.video[0])):
            times.append(frame.pts)
            if index in wanted:
                pictures[index] = np.rot90(rgb(frame), frame.rotation // 90)
    return times, pictures


def rgb(frame: av.VideoFrame) -> np.ndarray:
    """Untagged pictures of 720 lines or more are BT.709 (1)."""
    hd = frame.colorspace == 2 and frame.height >= 720
    return frame.reformat(format="rgb24", src_colorspace=1 if hd else None, threads=1).to_ndarray()


def check_against_sequential(path: Path, every_frame: bool) -> None:
    """All times and indices; the pixels of all frames, or of the first and of two beyond the middle."""
    video = Video(path)
    beyond = video.num_frames * 3 // 5
    spans = [(0, video.num_frames)] if every_frame else [(0, 1), (beyond, beyond + 2)]
    times, pictures = sequential(path, {int(i) for span in spans for i in video.source_frame[slice(*span)]})
    with av.open(str(path)) as container:
        time_base = container.streams.video[0].time_base
    assert np.array_equal(video.source_frame, nearest_frames(np.array(times), time_base, 25)), path.name
    assert video.start_s == float(times[0] * time_base), path.name
    for span in spans:
        indices = video.source_frame[slice(*span)]
        shown = 0
        for frame, index in zip(video.frames(*span), indices):
            assert frame.shape == (video.height, video.width, 3), path.name
            assert np.array_equal(frame, pictures[int(index)]), f"{path.name} frame {index}"
            shown += 1
        assert shown == len(indices), path.name


def readable_clips(shared: Path) -> list[Path]:
    names = sorted(path for path in (shared / "clips").iterdir() if path.suffix != ".csv")
    clips = [path for path in names if path.name not in UNREADABLE]
    assert len(clips) == 51
    return clips


def test_every_real_clip_agrees_with_a_sequential_decode(shared: Path) -> None:
    for path in readable_clips(shared):
        check_against_sequential(path, every_frame=False)


@pytest.mark.slow
def test_every_frame_of_every_real_clip_agrees(shared: Path) -> None:
    for path in readable_clips(shared):
        check_against_sequential(path, every_frame=True)


def test_files_that_cannot_be_clips_say_why(shared: Path) -> None:
    for name, (reason, detail) in UNREADABLE.items():
        with pytest.raises(MediaError, match=detail) as caught:
            Video(shared / "clips" / name)
        assert caught.value.reason == reason, name


def test_grid_frames_are_the_right_frames(shared: Path) -> None:
    """MPEG program streams: frame i is frame i, where index-based readers give frame i + 12."""
    path = shared / "clips" / "grid_lwbsza.mpg"
    video = Video(path)
    assert video.source_frame.tolist() == list(range(75))
    _, pictures = sequential(path, set(range(75)))
    frame = next(video.frames(20, 21)).astype(int)
    nearest = min(pictures, key=lambda index: np.abs(pictures[index] - frame).sum())
    assert nearest == 20


def test_a_second_decoder_gives_the_same_pixels(shared: Path) -> None:
    """decord, with another FFmpeg inside, on files where its own index is right."""
    import decord

    for name in ["lrs2_00006_vshort.mp4", "vox_517600055_side.mp4", "d_mjpeg_pcm.mov", "pair_C_src_man.mp4"]:
        video = Video(shared / "clips" / name)
        reader = decord.VideoReader(str(shared / "clips" / name), ctx=decord.cpu(0), num_threads=1)
        assert np.array_equal(np.stack(list(video.frames())), reader.get_batch(video.source_frame).asnumpy())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg"])
def test_containers_and_codecs_show_every_frame_once(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    options = {"bf": "0"} if suffix == "avi" else {}
    path = make_video(tmp_path / f"a.{suffix}", range(60), codec=codec, codec_options=options)
    video = Video(path)
    assert numbers(video) == list(range(60)) == video.source_frame.tolist()


def test_variable_rate_goes_by_time(tmp_path: Path) -> None:
    times = np.cumsum([0, 33, 67, 40, 200, 16, 16, 16, 40, 41, 39, 100])
    path = make_video(tmp_path / "vfr.mkv", times.tolist(), Fraction(1, 1000))
    video = Video(path)
    nearest = [int(np.abs(times - 40 * i).argmin()) for i in range(video.num_frames)]
    assert numbers(video) == nearest == video.source_frame.tolist()
    assert video.num_frames == round((times[-1] + 40) / 40)


@pytest.mark.parametrize("kept", [0, 64 << 20])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_without_a_rate_every_frame_has_its_own_time(
    tmp_path: Path, suffix: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", kept)
    times = 100 + np.cumsum([0, 33, 67, 40, 200, 16, 16, 16, 40, 41, 39, 100])
    video = Video(make_video(tmp_path / f"vfr.{suffix}", times.tolist(), Fraction(1, 1000)), fps=None)
    assert numbers(video) == list(range(12)) == video.source_frame.tolist()
    assert numbers(video, 7, 9) == [7, 8]
    assert video.times == pytest.approx((times - 100) / 1000, abs=1e-9)
    assert video.duration_s == pytest.approx((times[-1] - 100 + 40) / 1000)
    assert video.rate == Fraction(11 * 1000, int(times[-1] - 100))
    at_25 = Video(video.path)
    assert np.array_equal(at_25.times, video.times[at_25.source_frame])


def test_every_real_frame_has_its_own_time(shared: Path) -> None:
    names = [
        "d_vfr.mp4",
        "d_60fps.mp4",
        "lrq_garrett_2997.mp4",
        "grid_swiz3n.mpg",
        "d_phone_rot90_640x360.mp4",
    ]
    for name in names:
        video = Video(shared / "clips" / name, fps=None)
        times, _ = sequential(video.path, set())
        assert video.source_frame.tolist() == list(range(len(times))), name
        assert video.pts.tolist() == times, name
        assert sum(1 for _ in video.frames()) == video.num_frames, name


def test_rgb_of_native_frames_is_not_darker(shared: Path) -> None:
    """Grey of the exact conversion is that of the coded luma, where the fast one loses a level."""
    path = shared / "clips" / "d_phone_rot90_640x360.mp4"
    with av.open(str(path)) as container:
        luma = next(container.decode(video=0)).to_ndarray()[:360].astype(float)
    weights = np.array([0.2126, 0.7152, 0.0722])  # BT.709, as the file is tagged
    errors = [
        (next(Video(path, fps).frames()) @ weights - ((luma - 16) * 255 / 219).T[:, ::-1]).mean()
        for fps in (25, None)
    ]
    assert errors[0] < -0.5
    assert abs(errors[1]) < 0.05


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_late_start_is_kept_as_start_s(tmp_path: Path, suffix: str) -> None:
    video = Video(make_video(tmp_path / f"late.{suffix}", range(20, 50)))
    assert video.start_s == pytest.approx(0.8)
    assert numbers(video) == list(range(30))


@pytest.fixture
def trimmed(tmp_path: Path) -> Path:
    """An mp4 cut without new encoding: its edit list hides the first 10 of 50 coded frames."""
    whole = make_video(tmp_path / "whole.mp4", range(50))
    path = tmp_path / "trimmed.mp4"
    options = {"avoid_negative_ts": "disabled", "movflags": "use_metadata_tags"}
    with av.open(str(whole)) as source, av.open(str(path), "w", container_options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                shift = round(Fraction(10, 25) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize("kept", [0, 64 << 20])
def test_edit_lists_hide_what_they_hide(trimmed: Path, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", kept)
    with av.open(str(trimmed)) as container:
        assert any(packet.is_discard for packet in container.demux(container.streams.video[0]))
    video = Video(trimmed)
    assert video.start_s == 0.0
    assert numbers(video) == list(range(10, 50))
    assert video.source_frame.tolist() == list(range(40))


@pytest.mark.parametrize("kept", [0, 64 << 20])
@pytest.mark.parametrize("late_ms", [0, 10, 30])
def test_an_edit_list_that_begins_between_frames_moves_no_picture(
    trimmed: Path, late_ms: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg moves the first frame behind it to the edit's beginning: pictures came before their sound."""
    monkeypatch.setattr(video_module, "_KEPT_BYTES", kept)
    data = bytearray(trimmed.read_bytes())
    at = (
        data.index(b"elst") + 16
    )  # behind version, flags, count and duration: the time at which the edit begins
    begin = int.from_bytes(data[at : at + 4], "big") + round(late_ms / 1000 * 12_800)
    data[at : at + 4] = begin.to_bytes(4, "big")
    trimmed.write_bytes(data)
    for fps in (25, None):
        video = Video(trimmed, fps=fps)
        assert video.start_s == pytest.approx((40 - late_ms) % 40 / 1000, abs=1e-4)
        first = 10 if late_ms == 0 else 11
        assert numbers(video) == list(range(first, 50))
        assert read_number(next(video.frames(20, 21))) == first + 20


# x' = a x + c y, y' = b x + d y, as (a, b, c, d); each maps `numbered` to the array on the right.
ORIENTATIONS = {
    (1, 0, 0, 1): lambda image: image,
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (0, -1, 1, 0): lambda image: np.rot90(image, 1),
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: np.rot90(image.swapaxes(0, 1), 2),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_display_matrices_turn_and_mirror(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    path = make_video(tmp_path / "phone.mp4", range(3), matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    video = Video(path)
    expected = ORIENTATIONS[matrix](numbered(2))
    frame = list(video.frames())[2]
    assert (video.height, video.width, 3) == expected.shape == frame.shape
    assert np.abs(frame.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("open_gop", ["0", "1"])
def test_long_sources_give_the_same_frames(
    tmp_path: Path, suffix: str, open_gop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not kept, but decoded again from a key frame: every frame can be reached, with the same pixels."""
    options = {"g": "12", "bf": "0" if suffix == "avi" else "3", "x264-params": f"open-gop={open_gop}"}
    path = make_video(tmp_path / f"long.{suffix}", range(60), codec_options=options)
    kept = list(Video(path).frames())
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 0)
    video = Video(path)
    assert [hash_of(frame) for frame in video.frames()] == [hash_of(frame) for frame in kept]
    for start in range(60):
        assert hash_of(next(video.frames(start, start + 1))) == hash_of(kept[start]), start
    assert numbers(video, 55) == [55, 56, 57, 58, 59]
    assert numbers(video, 30, 30) == []


def hash_of(frame: np.ndarray) -> str:
    return hashlib.sha256(frame.tobytes()).hexdigest()


def test_a_late_span_does_not_decode_what_lies_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 0)
    video = Video(make_video(tmp_path / "long.mp4", range(200), codec_options={"g": "10"}))
    decoded = []
    decode = video._decode
    monkeypatch.setattr(
        video, "_decode", lambda seek_pts=None: (decoded.append(f) or f for f in decode(seek_pts))
    )
    assert numbers(video, 180, 182) == [180, 181]
    assert len(decoded) < 20


def test_frames_belong_to_the_caller(tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "a.mkv", [0, 200, 240], Fraction(1, 1000)))
    for frame in video.frames():
        frame[:] = 0
    assert numbers(video) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("kept", [0, 64 << 20])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_truncated_file_says_where_it_breaks_off(
    tmp_path: Path, suffix: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_KEPT_BYTES", kept)
    path = make_video(tmp_path / f"a.{suffix}", range(100), container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError, match=f"breaks off at byte {len(data) * 2 // 3} of {len(data)}") as caught:
        Video(path)
    assert caught.value.reason == Reason.UNREADABLE


def test_damage_inside_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", range(100), codec_options={"g": "10"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
    data = bytearray(path.read_bytes())
    for pos, size in packets[50:60]:
        data[pos : pos + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"does not decode after [12]\.\d\d s") as caught:
        Video(path)
    assert caught.value.reason == Reason.UNREADABLE
    monkeypatch.setattr(video_module, "_KEPT_BYTES", 0)
    with pytest.raises(MediaError, match=r"does not decode after|lost in decoding"):
        list(Video(path).frames())


def test_a_codec_nobody_knows(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(MediaError, match="no decoder") as caught:
        Video(path)
    assert caught.value.reason == Reason.UNREADABLE


def test_a_change_of_size_is_said(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / f"{h}.ts", range(h - 64, h - 54), size=(h, 96)) for h in (64, 80)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(MediaError, match="size changes at frame 10"):
        list(Video(path).frames())


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    cover = make_video(tmp_path / "cover.png", [0], codec="png", pix_fmt="rgb24")
    song = make_audio(tmp_path / "plain.mp3", np.zeros((1, 16_000), np.int16), 16_000, "libmp3lame")
    with av.open(str(song)) as sound, av.open(str(cover)) as art, av.open(str(path), "w") as target:
        streams = [target.add_stream_from_template(source.streams[0]) for source in (sound, art)]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((sound, art), streams):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    with pytest.raises(MediaError, match="no video stream") as caught:
        Video(path)
    assert caught.value.reason == Reason.NO_VIDEO_STREAM


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41\x00\x00\x10\x00mdat" + bytes(99), "no moov box"),
        (b"a page that says: not found " * 99, "not a media file"),
        (None, "No such file"),
    ],
)
def test_what_is_no_video_says_what_it_is(tmp_path: Path, content: bytes | None, detail: str) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=detail) as caught:
        Video(path)
    assert caught.value.reason == Reason.UNREADABLE
    assert str(tmp_path) not in str(caught.value), "details go into a data set: no absolute paths"


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="directory"):
        Video(tmp_path)
