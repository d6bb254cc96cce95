"""Sound on the presentation clock: a click at t is found at t."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from media_files import click_times, clicks, make_audio, make_video

from syncdiff_data.media import AudioTrack, Video, read_audio
from syncdiff_data.media import audio as audio_module
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

TIMES = [0.5, 1.0, 1.7]
MS = 1e-3


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", "mp4"), ("aac", "mkv"), ("pcm_s16le", "mov"), ("flac", "flac")]
)
def test_a_click_stays_where_it_was(tmp_path: Path, codec: str, suffix: str, rate: int) -> None:
    """AAC: the 1024 priming samples are gone. All rates: the resampler's own delay is made up for."""
    path = make_audio(tmp_path / f"clicks.{suffix}", clicks(TIMES, 2.5, rate, channels=2), rate, codec)
    audio = read_audio(path, 0.0, 60)
    assert audio.shape == (60 * 640,)
    assert audio.dtype == np.int16
    assert click_times(audio) == pytest.approx(TIMES, abs=MS)


def test_opus_priming_is_dropped(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "clicks.mkv", clicks(TIMES, 2.5, 48_000), 48_000, "libopus")
    assert click_times(read_audio(path, 0.0, 60)) == pytest.approx(TIMES, abs=MS)


def test_one_block_with_a_wrong_time_is_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg misdates short blocks of Vorbis in Ogg: 9 ms were silence, then the sound lay over itself."""
    decode = audio_module.decoded_sound

    def misdated(path: Path) -> Iterator[AudioFrame]:
        for number, block in enumerate(decode(path)):
            block.pts = (block.pts or 0) + 448 * (number % 5 == 3)
            yield block

    noise = np.random.default_rng(0).integers(-9999, 9999, (1, 96_000), np.int16)
    path = make_audio(tmp_path / "noise.flac", noise, 48_000, "flac")
    whole = read_audio(path, 0.0, 60)
    monkeypatch.setattr(audio_module, "decoded_sound", misdated)
    np.testing.assert_array_equal(read_audio(path, 0.0, 60), whole)


def test_a_recording_that_begins_in_mid_stream_is_heard(tmp_path: Path) -> None:
    """The second file of a DVD, say: the part of a block at its beginning made the whole source unreadable."""
    whole = make_audio(tmp_path / "a.mpg", clicks([0.5, 2.5], 3, 48_000), 48_000, "mp2", video_pts=range(75))
    (tmp_path / "b.mpg").write_bytes(whole.read_bytes()[8 * 2048 :])
    begin = AudioTrack(tmp_path / "b.mpg").start_s
    expected, found = (click_times(read_audio(p, begin, 75)) for p in (whole, tmp_path / "b.mpg"))
    assert begin > AudioTrack(whole).start_s + 0.3
    assert found == pytest.approx(expected, abs=MS)
    assert found


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_late_start_is_silence_first(tmp_path: Path, suffix: str) -> None:
    """Measured against the first frame, since MPEG-TS shifts all its times."""
    path = make_audio(
        tmp_path / f"late.{suffix}",
        clicks(TIMES, 2.5, 16_000),
        16_000,
        "mp2",
        start_s=0.2,
        video_pts=range(60),
    )
    start_s = Video(path).start_s
    audio = read_audio(path, start_s, 60)
    delay = np.array(click_times(audio)) - TIMES
    assert delay == pytest.approx([0.2] * 3, abs=MS)


@pytest.mark.parametrize("start_s", [-0.4, 0.32, 0.40021])
def test_the_clip_may_begin_before_or_within_the_sound(tmp_path: Path, start_s: float) -> None:
    path = make_audio(tmp_path / "clicks.mp4", clicks(TIMES, 2.5, 44_100), 44_100, "aac")
    audio = read_audio(path, start_s, 70)
    assert click_times(audio) == pytest.approx([t - start_s for t in TIMES], abs=MS)
    assert not audio[: max(0, round(-start_s * 16_000))].any()


def test_a_hole_in_the_time_stamps_is_silence(tmp_path: Path) -> None:
    sound = clicks(TIMES, 2.5, 16_000)
    path = make_audio(tmp_path / "hole.mkv", sound, 16_000, "flac", holes=[(0.7, 1.5)])
    audio = read_audio(path, 0.0, 62)
    assert click_times(audio) == pytest.approx([0.5, 1.7], abs=MS)
    assert not audio[round(0.98 * 16_000) : round(1.04 * 16_000)].any()


def test_stereo_becomes_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sound = rng.integers(-30_000, 30_000, (2, 16_000)).astype(np.int16)
    path = make_audio(tmp_path / "stereo.wav", sound, 16_000, "pcm_s16le")
    audio = read_audio(path, 0.0, 25)
    assert np.abs(audio - sound.astype(int).sum(axis=0) / 2).max() <= 1


def test_mono_16_khz_pcm_is_untouched(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).integers(-30_000, 30_000, (1, 16_000)).astype(np.int16)
    path = make_audio(tmp_path / "mono.wav", sound, 16_000, "pcm_s16le")
    assert np.array_equal(read_audio(path, 0.0, 25), sound[0])


def test_a_track_cuts_what_read_audio_reads(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "clicks.mp3", clicks(TIMES, 2.5, 44_100), 44_100, "libmp3lame")
    track = AudioTrack(path)
    assert np.array_equal(track.slice(0.28, 20), read_audio(path, 0.28, 20))
    assert click_times(track.slice(track.start_s, 60)) == pytest.approx(TIMES, abs=MS)
    assert track.end_s - track.start_s == pytest.approx(2.5, abs=0.06)


def test_no_sound_is_said_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "mute.mp4", range(5))
    with pytest.raises(MediaError, match="no audio stream") as caught:
        read_audio(path, 0.0, 5)
    assert caught.value.reason == Reason.NO_AUDIO


def test_damaged_sound_says_where(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).integers(-9000, 9000, (1, 48_000)).astype(np.int16)
    path = make_audio(tmp_path / "noise.mp4", sound, 16_000, "aac")
    data = bytearray(path.read_bytes())
    at = data.find(b"mdat") + len(data) // 2
    data[at : at + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"sound does not decode after \d\.\d\d s") as caught:
        read_audio(path, 0.0, 75)
    assert caught.value.reason == Reason.UNREADABLE


def lag(a: np.ndarray, b: np.ndarray) -> float:
    """By how many seconds the content of b comes later than that of a."""
    size = 2 * max(len(a), len(b))
    cross = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    at = int(cross.argmax())
    return (at if at < size // 2 else at - size) / 16_000


def test_real_sound_shifted_by_200_ms_comes_out_shifted(shared: Path) -> None:
    reference = read_audio(shared / "clips" / "hdtf_BobMenendez.mp4", 0.0, 170).astype(float)
    for name, shift in [("d_audio_late200ms_start.mp4", 0.2), ("d_audio_shift_minus200ms.mp4", -0.2)]:
        path = shared / "clips" / name
        audio = read_audio(path, Video(path).start_s, 170).astype(float)
        assert lag(reference, audio) == pytest.approx(shift, abs=0.01), name


def test_every_readable_clip_has_its_sound_in_full(shared: Path) -> None:
    """As long and as loud as a plain decode of the stream."""
    seen = 0
    for path in sorted((shared / "clips").iterdir()):
        try:
            track = AudioTrack(path)
        except MediaError:
            continue
        with av.open(str(path)) as container:
            blocks = list(container.decode(container.streams.audio[0]))
        seconds = sum(block.samples / block.sample_rate for block in blocks)
        assert track.end_s - track.start_s == pytest.approx(seconds, abs=0.02), path.name
        seen += 1
    assert seen == 44


def test_planes_of_many_channels_are_mixed(tmp_path: Path) -> None:
    """PyAV's `to_ndarray` crashes on 8 or more planes."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        options = {"mapping_family": "255"}
        stream = container.add_stream("libopus", rate=48_000, layout="9 channels", options=options)
        sound = np.repeat(clicks([0.3], 1, 48_000).T, 9, axis=1).astype(np.float32) / 32768  # [n, 9]
        block = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="9 channels")
        block.sample_rate, block.pts = 48_000, 0
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    assert click_times(read_audio(path, 0.0, 25)) == pytest.approx([0.3], abs=1e-3)
