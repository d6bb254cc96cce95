"""Lips that shut at /p b m/: phones of real speech, and what a moving, a still and a foreign mouth score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lip_clips import context_of, feed, landmarks, opening_of, speech
from scipy.stats import mannwhitneyu

from syncdiff_data.media import AudioTrack, Video
from syncdiff_data.reasons import Reason
from syncdiff_data.sources.layouts import find_transcript
from syncdiff_data.sync_expert.scoring import SyncScore
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.metrics.base import MissingValue
from syncdiff_eval.metrics.closure import (
    BILABIALS,
    CLOSURE,
    LEAST_RANGE,
    Closure,
    contrast,
    least_openings,
    shut_below,
)
from syncdiff_eval.networks.phones import Phone, PhoneRecognizer

FRAMES = 100
SPOKEN = [Phone("B AA M IY"[k % 4 * 2 :].split()[0], 0.2 * k, 0.2 * k + 0.2) for k in range(20)]
"""A bilabial and a vowel in turn, 0.2 s each, over 4 s."""


class Says:
    """Stands in for PocketSphinx, and counts."""

    def __init__(self, phones: list[Phone]) -> None:
        self.spoken, self.calls = phones, 0

    def phones(self, audio: np.ndarray, transcript: str | None, heartbeat: Any) -> list[Phone]:
        self.calls += 1
        return self.spoken


def mouth_of(phones: list[Phone], late_s: float = 0.0) -> np.ndarray:
    """Shut while a bilabial is spoken, open else; float64 [FRAMES]."""
    middle = (np.arange(FRAMES) + 0.5) / 25 - late_s
    shut = [any(p.start_s <= t < p.end_s and p.label in BILABIALS for p in phones) for t in middle]
    return np.where(shut, 0.1, 0.9)


def closure(
    generated: np.ndarray, phones: list[Phone] = SPOKEN, recognizer: Any = None, batch: int = 8, **more: Any
) -> Any:
    context = context_of(mouth_of(SPOKEN), more.pop("audio", speech(FRAMES)), **more)
    blank = [np.zeros((8, 8, 3), np.uint8)] * len(generated)
    state = Closure(context, recognizer or Says(phones))
    return feed(state, context, blank, [], batch, landmarks(generated)).compute()


# --- The metric ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, FRAMES])
def test_a_mouth_that_shuts_at_every_bilabial(batch: int) -> None:
    assert closure(mouth_of(SPOKEN), batch=batch) == pytest.approx(
        {"closure": 1, "closure_hits": 1, "closure_gap": 0}, abs=1e-6
    )


@pytest.mark.parametrize("level", [0.0, 0.9])
def test_a_still_mouth_closes_nothing_whether_open_or_shut(level: float) -> None:
    still = closure(np.full(FRAMES, level))
    assert still["closure"] == 0
    trembling = [closure(level + 0.01 * opening_of(FRAMES, seed))["closure"] for seed in range(20)]
    assert abs(np.mean(trembling)) < 0.15
    # In percent of the eye distance; lip_clips opens the mouth by `opening` fifths of it.
    assert still["closure_gap"] == pytest.approx(20 * (level - 0.1), abs=0.5)


def test_a_mouth_that_follows_another_sound_closes_nothing() -> None:
    rng = np.random.default_rng(0)
    foreign = [closure(rng.permutation(mouth_of(SPOKEN)))["closure"] for _ in range(20)]
    assert abs(np.mean(foreign)) < 0.15
    assert closure(mouth_of(SPOKEN, late_s=0.04))["closure"] == 1, "a frame late is within reach"
    assert closure(mouth_of(SPOKEN, late_s=0.2))["closure"] == -1


class Finds:
    """Stands in for the expert: finds these offsets, of the generated and of the reference's mouth."""

    def __init__(self, *offsets: int) -> None:
        self.offsets = list(offsets)

    def embed_sound(self, sound: np.ndarray, frames: int) -> np.ndarray:
        return np.empty((frames, 0))

    def embed_lips(self, crops: np.ndarray) -> np.ndarray:
        return np.empty((len(crops), 0))

    def score(self, lips: np.ndarray, audio: np.ndarray) -> SyncScore:
        return SyncScore(self.offsets.pop(0), 0.0, np.empty(0), np.empty(0))


def late_closure(late_frames: int, frames: int = FRAMES, **more: Any) -> Any:
    """Of a mouth that is late, beside a reference that is in step, with an expert that finds both offsets."""
    context = context_of(mouth_of(SPOKEN)[:frames], speech(FRAMES), **more)
    state = Closure(context, Says(SPOKEN), Finds(late_frames, 0))
    blank = [np.zeros((8, 8, 3), np.uint8)] * frames
    late = mouth_of(SPOKEN, late_s=late_frames / 25)[:frames]
    return feed(state, context, blank, blank, 8, landmarks(late)).compute()


@pytest.mark.parametrize("late_frames", [-5, 5])
def test_an_offset_is_no_fault_of_closure(late_frames: int) -> None:
    found = late_closure(late_frames)
    assert found == pytest.approx({"closure": 1, "closure_hits": 1, "closure_gap": 0}, abs=1e-6)


def test_where_the_expert_finds_no_offset_the_mouth_counts_as_it_is() -> None:
    """Under 50 frames."""
    assert late_closure(5, frames=49)["closure"] < 0
    assert late_closure(0, frames=49)["closure"] == 1


def test_why_there_is_no_value() -> None:
    mouth = mouth_of(SPOKEN)
    for reason, found in {
        Reason.NO_AUDIO: closure(mouth, audio=None),
        Reason.SILENT_AUDIO: closure(mouth, audio=np.zeros(640 * FRAMES, np.int16)),
        Reason.NO_BILABIALS: closure(mouth, [phone for phone in SPOKEN if phone.label not in BILABIALS]),
        Reason.NO_FACE: closure(mouth, regions=None),
    }.items():
        assert set(found.values()) == {MissingValue(reason)}
    only_bilabials = closure(mouth, [phone for phone in SPOKEN if phone.label in BILABIALS])
    unseen = closure(mouth, [Phone("B", 9, 9.1), Phone("AA", 9.1, 9.2)])
    assert only_bilabials == unseen == {c.name: MissingValue(Reason.NO_BILABIALS) for c in CLOSURE.columns}


def test_least_opening_around_the_middle_of_a_phone() -> None:
    opening = np.array([5.0, 3, 4, np.nan, 1, 2, 6, 7])
    times = np.arange(8) / 25
    phones = [Phone("B", 0.04, 0.08), Phone("AA", 0.12, 0.16), Phone("M", 0.20, 0.32), Phone("SIL", 0, 9)]
    # Middles at 0.06, 0.14 and 0.26 s: frames 0 to 2, 2 to 4 and 5 to 7.
    assert least_openings(opening, times, 25, phones, {"B", "M"}).tolist() == [3, 2]
    assert least_openings(opening, times, 25, phones, {"AA"}).tolist() == [1]
    assert least_openings(opening[:3], times[:3], 25, phones, {"M"}).tolist() == []


def test_contrast_is_the_rank_sum_statistic() -> None:
    rng = np.random.default_rng(0)
    bilabials, vowels = rng.integers(0, 9, 7).astype(float), rng.integers(3, 12, 11).astype(float)
    area = mannwhitneyu(vowels, bilabials).statistic / (len(vowels) * len(bilabials))
    assert contrast(bilabials, vowels) == pytest.approx(2 * area - 1, abs=1e-12)
    assert contrast(vowels, bilabials) == -contrast(bilabials, vowels)


def test_shut_is_relative_to_the_clips_own_range() -> None:
    opening = np.linspace(0.1, 0.5, 101)
    assert shut_below(opening) == pytest.approx(0.12 + 0.25 * 0.36)
    assert shut_below(np.append(opening, np.nan)) == shut_below(opening)
    assert shut_below(np.full(9, 0.2)) == pytest.approx(0.2 + 0.25 * LEAST_RANGE)


def test_the_sound_of_a_clip_is_recognised_once_for_all_methods(tmp_path: Path) -> None:
    recognizer = Says(SPOKEN)

    def scored(**more: Any) -> Any:
        cache = FrameFeatureCache(Cache(tmp_path), {"file": "reference"})
        return closure(mouth_of(SPOKEN), recognizer=recognizer, reference_frame_cache=cache, **more)

    first = scored()
    assert scored() == first
    assert recognizer.calls == 1
    scored(transcript="bam")
    scored(audio=speech(FRAMES, 1))
    assert recognizer.calls == 3


# --- Phones -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recognizer() -> PhoneRecognizer:
    return PhoneRecognizer()


def sound_of(path: Path) -> np.ndarray:
    video = Video(path)
    return AudioTrack(path).slice(video.start_s, video.num_frames)


def word_start_errors(recognizer: PhoneRecognizer, shared: Path, count: int | None) -> np.ndarray:
    """Seconds from GRID's published start of every word to ours; fails where a clip has lost one."""
    errors = []
    for path in sorted((shared / "grid_s1").glob("*.mpg"))[:count]:
        assert recognizer.phones(sound_of(path), find_transcript(path.parent, path.name))
        (decoder,) = (recognizer._decoders[name] for name in recognizer._decoders if name == "align {}")
        words = [(w.name, w.start / 100) for w in decoder.get_alignment() if w.name[0] not in "<["]
        lines = [
            line.split()
            for line in (shared / "grid_s1_align" / f"{path.stem}.align").read_text().splitlines()
        ]
        published = [(word, int(start) / 25_000) for start, _, word in lines if word not in ("sil", "sp")]
        assert len(words) == len(published) == 6
        errors += [ours - theirs for (_, ours), (_, theirs) in zip(words, published)]
    return np.array(errors)


def test_word_starts_are_grids(shared: Path, recognizer: PhoneRecognizer) -> None:
    errors = word_start_errors(recognizer, shared, 24)
    assert (np.abs(errors) <= 0.0401).mean() >= 0.85
    assert np.median(np.abs(errors)) <= 0.0101


@pytest.mark.slow
def test_no_clip_of_grid_is_lost(shared: Path, recognizer: PhoneRecognizer) -> None:
    errors = word_start_errors(recognizer, shared, None)
    assert (np.abs(errors) <= 0.0401).mean() >= 0.8


def test_words_that_do_not_fit_are_recognised_instead(shared: Path, recognizer: PhoneRecognizer) -> None:
    path = next((shared / "speech").glob("lrs3_06.mp4"))
    audio = sound_of(path)
    recognised = recognizer.phones(audio)
    assert sum(phone.label in BILABIALS for phone in recognised) >= 3
    assert recognizer.phones(audio, "xqzzw is in no dictionary") == recognised
    grid = sorted((shared / "grid_s1").glob("*.mpg"))[0]
    spoken = find_transcript(grid.parent, grid.name)
    assert spoken is not None
    far_too_many = " ".join([spoken] * 12)
    aligned = recognizer.phones(sound_of(grid), spoken)
    assert len(recognizer.phones(sound_of(grid), far_too_many)) > 5
    assert recognizer.phones(sound_of(grid), spoken.upper() + "!") == aligned, "whatever was heard before"
    assert recognizer.phones(audio) == recognised


def test_long_sound_is_recognised_in_parts(
    shared: Path, recognizer: PhoneRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = sound_of(next((shared / "speech").glob("lrs3_06.mp4")))
    monkeypatch.setattr("syncdiff_eval.networks.phones.LONGEST_S", len(audio) / 16_000)
    beats: list[int] = []
    once = recognizer.phones(audio)
    twice = recognizer.phones(np.concatenate([audio, audio]), heartbeat=lambda: beats.append(1))
    assert len(beats) == 2
    later = [Phone(p.label, p.start_s + len(audio) / 16_000, p.end_s + len(audio) / 16_000) for p in once]
    assert twice == [*once, *later]


@pytest.mark.parametrize("count", [0, 1, 640])
def test_hardly_any_sound_has_no_phones(recognizer: PhoneRecognizer, count: int) -> None:
    assert recognizer.phones(np.ones(count, np.int16), "bin blue") == []


def test_transcripts_of_data_sets(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text:  SO WE NEED A SYSTEM\nConf: 3\n")
    (tmp_path / "b.txt").write_text("notes\n")
    assert find_transcript(tmp_path, "a.mp4") == "SO WE NEED A SYSTEM"
    assert find_transcript(tmp_path, "s1/bbaf2n.mpg") == "bin blue at f two now"
    assert find_transcript(tmp_path, "b.mp4") is find_transcript(tmp_path, "hdtf_00.mp4") is None
