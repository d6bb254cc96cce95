"""Kind 23: rate and length come from the measured presentation times, whatever the container declares."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from media_files import clicks, make_audio, make_video

from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError
from syncdiff_eval.scoring import driving_audio
from syncdiff_eval.videos import frame_rate, frames, read_facts

MS = Fraction(1, 1000)
SLOW = [sum((40, 120)[i % 2] for i in range(n)) for n in range(60)]
"""Milliseconds of frames that last 40 and 120 ms in turn: 12.5 per second on average, 4.8 s."""


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mov"])
def test_kind_23_equal_frames_have_equal_facts_in_every_container(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    facts = read_facts(make_video(tmp_path / f"a{suffix}", SLOW, MS, codec=codec))
    expected = read_facts(make_video(tmp_path / "a.mp4", SLOW, MS, codec=codec))
    same = {"sha256": "", "bit_rate": 0}
    assert replace(facts, **same) == replace(expected, **same)  # type: ignore[arg-type]
    assert facts.fps == pytest.approx(59 / (SLOW[-1] / 1000))
    assert [time for time, _ in frames(tmp_path / f"a{suffix}")] == [
        time for time, _ in frames(tmp_path / "a.mp4")
    ]


def test_kind_23_matroska_declares_another_rate_than_it_has(tmp_path: Path) -> None:
    """Else the tests above would not see a declared rate."""
    with av.open(str(make_video(tmp_path / "a.mkv", SLOW, MS))) as container:
        assert container.streams.video[0].average_rate != Fraction(59, SLOW[-1]) * 1000


def test_kind_23_all_of_the_driving_sound_is_heard(tmp_path: Path) -> None:
    sound = make_audio(tmp_path / "a.wav", clicks([0.5, 4.5], 5, 16_000), 16_000, "pcm_s16le")
    for suffix in (".mkv", ".mp4"):
        facts = read_facts(make_video(tmp_path / f"a{suffix}", SLOW, MS))
        audio = driving_audio(sound, 0.0, len(SLOW), facts.fps)
        assert len(audio) >= 16_000 * SLOW[-1] / 1000


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001), Fraction(24_000, 1001), Fraction(60)])
@pytest.mark.parametrize("count", [2, 10, 100])
def test_kind_23_times_rounded_to_milliseconds_keep_the_declared_rate(rate: Fraction, count: int) -> None:
    pts = [round(1000 * i / rate) for i in range(count)]
    assert frame_rate(pts, MS, rate) == rate


def test_kind_23_a_slightly_wrong_declared_rate_is_found_on_a_long_clip() -> None:
    pts = [round(1000 * i / Fraction(30_000, 1001)) for i in range(900)]
    assert float(frame_rate(pts, MS, Fraction(30))) == pytest.approx(30_000 / 1001, rel=1e-4)


def test_kind_23_without_times_the_declared_rate_counts() -> None:
    assert frame_rate([], MS, Fraction(25)) == frame_rate([5], MS, Fraction(25)) == 25
    assert frame_rate([0, 40, 80], MS, None) == 25
    with pytest.raises(MediaError) as refused:
        frame_rate([7], MS, None)
    assert refused.value.reason == Reason.UNREADABLE


@pytest.mark.parametrize(
    ("pts", "declared"),
    [([0, 40, 1_700_000_000_000], Fraction(25)), ([0], Fraction(12800, 1078382147))],
    ids=["a jump", "one frame for a day"],
)
def test_kind_23_a_broken_clock_makes_no_rate(pts: list[int], declared: Fraction) -> None:
    with pytest.raises(MediaError) as refused:
        frame_rate(pts, MS, declared)
    assert refused.value.reason == Reason.BROKEN_TIMESTAMPS
