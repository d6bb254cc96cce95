"""Demo data: found by the face stages, in step, shaped by its phonemes, the same every time."""

from __future__ import annotations

from pathlib import Path

import dlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncdiff_data.demo import LIST_NAME, SPEAKERS, Speaker, Take, make_talkers, record, talker_clip
from syncdiff_data.demo.speech import (
    SAMPLES_PER_TICK,
    TICKS_PER_FRAME,
    Segment,
    Voice,
    babble,
    speak,
    transcript,
)
from syncdiff_data.faces import FaceConfig, find_tracks, load_backend
from syncdiff_data.media import Video, read_audio
from syncdiff_data.sources import list_sources


@pytest.fixture(scope="module")
def takes() -> dict[str, Take]:
    """A second and a bit of every speaker."""
    return {s.name: record(s, np.random.default_rng(k), 30) for k, s in enumerate(SPEAKERS)}


def timeline_of(*parts: tuple[str, int]) -> list[Segment]:
    """Phonemes with their lengths in frames."""
    stops = np.cumsum([frames * TICKS_PER_FRAME for _, frames in parts]).tolist()
    return [Segment(name, start, stop) for (name, _), start, stop in zip(parts, [0, *stops], stops)]


def loudness(audio: np.ndarray) -> np.ndarray:
    """Root mean square of each frame's 640 samples."""
    return np.sqrt((audio.astype(np.float64).reshape(-1, 640) ** 2).mean(axis=1))


def correlation_at(lag: int, first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of first[t + lag] with second[t]."""
    length = len(first)
    return float(
        np.corrcoef(first[max(0, lag) : length + min(0, lag)], second[max(0, -lag) : length - max(0, lag)])[
            0, 1
        ]
    )


def best_lag(first: np.ndarray, second: np.ndarray) -> int:
    return max(range(-8, 9), key=lambda lag: correlation_at(lag, first, second))


def inner_lips(landmarks: np.ndarray) -> np.ndarray:
    """Mean gap of the inner lips over the eye distance, per frame of landmarks [T, 68, 2]."""
    eyes = np.linalg.norm(landmarks[:, 36:42].mean(1) - landmarks[:, 42:48].mean(1), axis=1)
    gaps = [
        np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=1) for a, b in ((61, 67), (62, 66), (63, 65))
    ]
    return np.mean(gaps, axis=0) / eyes


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_embedded_backend_follows_every_look_and_sees_its_mouth_move(
    speaker: Speaker, takes: dict[str, Take]
) -> None:
    take = takes[speaker.name]
    config = FaceConfig()
    tracks, rejects = find_tracks(take.frames, load_backend(config, {}), config)
    assert not rejects
    assert [(track.first_frame, len(track.landmarks)) for track in tracks] == [(0, len(take.frames))]
    seen = inner_lips(tracks[0].landmarks)
    assert np.corrcoef(seen, take.mouth[:, 0])[0, 1] > 0.9
    assert best_lag(seen, take.mouth[:, 0]) == 0
    assert best_lag(seen, loudness(take.audio)) == 0


def test_hog_detector_finds_each_face_once(takes: dict[str, Take]) -> None:
    detector = dlib.get_frontal_face_detector()
    found = {name: [len(detector(frame, 0)) for frame in take.frames[::6]] for name, take in takes.items()}
    assert found == {name: [1] * 5 for name in takes}


def test_looks_differ_more_than_moments_do(takes: dict[str, Take]) -> None:
    means = np.stack([take.frames.mean(axis=(0, 1, 2)) for take in takes.values()])
    between = np.abs(means[:, None] - means[None]).max(-1)[~np.eye(len(means), dtype=bool)].min()
    within = max(take.frames.mean(axis=(1, 2)).std(axis=0).max() for take in takes.values())
    assert between > 5 * within


def test_loudness_follows_the_mouth_without_lag() -> None:
    for seed in range(12):
        rng, voice = np.random.default_rng(seed), SPEAKERS[seed % len(SPEAKERS)].voice
        audio, mouth = speak(babble(75, rng, voice), rng, voice)
        assert best_lag(mouth[:, 0], loudness(audio)) == 0
        assert correlation_at(0, mouth[:, 0], loudness(audio)) > 0.75


def test_closures_shut_the_mouth_and_bursts_come_on_the_sample() -> None:
    timeline = timeline_of(("a", 5), ("p", 4), ("a", 5), ("m", 4), ("a", 5))
    audio, mouth = speak(timeline, np.random.default_rng(0), Voice(120))
    assert mouth[[6, 7, 15, 16], 0].max() < 0.02
    assert mouth[[2, 11, 20], 0].min() > 0.95
    opens = timeline[1].stop * SAMPLES_PER_TICK
    silent, burst, murmur = audio[opens - 960 : opens - 240], audio[opens : opens + 80], audio[9600:10880]
    assert np.abs(silent).max() < 60
    assert np.abs(burst).max() > 20 * np.abs(silent).max()
    assert loudness(murmur).min() > 5 * np.abs(silent).max()


def test_each_vowel_has_its_own_mouth_and_its_own_sound() -> None:
    mouths, spectra = {}, {}
    for vowel in "aeiou":
        audio, mouth = speak(timeline_of((vowel, 10)), np.random.default_rng(0), Voice(100))
        mouths[vowel] = mouth[5]
        spectra[vowel] = np.abs(np.fft.rfft(audio[3200:4800] * np.hanning(1600)))
    pairs = [(a, b) for a in "aeiou" for b in "aeiou" if a < b]
    assert min(np.abs(mouths[a] - mouths[b]).max() for a, b in pairs) > 0.15
    hertz = np.fft.rfftfreq(1600, 1 / 16000)
    low = hertz < 1000
    first_formant = {v: np.average(hertz[low], weights=spectrum[low] ** 2) for v, spectrum in spectra.items()}
    assert max(first_formant["i"], first_formant["u"]) < min(first_formant["e"], first_formant["o"])
    assert max(first_formant["e"], first_formant["o"]) < first_formant["a"]
    high = {v: (s[hertz > 1700] ** 2).sum() / (s**2).sum() for v, s in spectra.items()}
    assert min(high["i"], high["e"]) > 3 * max(high["u"], high["o"])


@settings(max_examples=15, deadline=None)
@given(num_frames=st.integers(1, 60), seed=st.integers(0, 2**32 - 1), tempo=st.floats(0.5, 2))
def test_any_timeline_is_gapless_and_fills_its_frames(num_frames: int, seed: int, tempo: float) -> None:
    rng, voice = np.random.default_rng(seed), Voice(150, tempo=tempo)
    timeline = babble(num_frames, rng, voice)
    assert [0, *(s.stop for s in timeline)] == [*(s.start for s in timeline), num_frames * TICKS_PER_FRAME]
    assert all(segment.stop > segment.start for segment in timeline)
    audio, mouth = speak(timeline, rng, voice)
    assert (audio.dtype, audio.shape, mouth.shape) == (np.int16, (num_frames * 640,), (num_frames, 2))
    assert mouth.min() >= 0
    assert mouth.max() <= 1
    assert np.abs(audio.astype(int)).max() < 32767


def test_transcript_reads_words() -> None:
    assert transcript(timeline_of(("_", 2), ("m", 2), ("a", 2), ("_", 3), ("sh", 1), ("i", 2))) == "MA SHI"


def test_talker_clip_is_repeatable_and_seeds_differ() -> None:
    frames, audio, opening = talker_clip(7, num_frames=10, size=128)
    assert (frames.shape, frames.dtype) == ((10, 128, 128, 3), np.uint8)
    assert (audio.shape, opening.shape) == ((6400,), (10,))
    again, audio_again, _ = talker_clip(7, num_frames=10, size=128)
    assert np.array_equal(frames, again)
    assert np.array_equal(audio, audio_again)
    assert not np.array_equal(frames, talker_clip(13, num_frames=10, size=128)[0])


def test_folder_of_talkers(tmp_path: Path) -> None:
    videos = make_talkers(tmp_path / "many", num_clips=8, seconds=0.6, seed=3, size=128)
    fewer = make_talkers(tmp_path / "few", num_clips=2, seconds=0.6, seed=3, size=128)
    other = make_talkers(tmp_path / "other", num_clips=1, seconds=0.6, seed=4, size=128)
    assert [video.read_bytes() for video in fewer] == [video.read_bytes() for video in videos[:2]]
    assert other[0].read_bytes() != videos[0].read_bytes()

    sources = list_sources("folder", tmp_path / "many" / LIST_NAME)
    assert [source.path for source in sources] == sorted(
        video.relative_to(tmp_path / "many").as_posix() for video in videos
    )
    by_path = {source.path: source for source in sources}
    assert by_path["ada/0000.mp4"].speaker == "ada"
    assert (by_path["ada/0000.mp4"].split, by_path["ada/0006.mp4"].split) == ("train", "test")

    video = Video(videos[0])
    assert (video.num_frames, video.width, video.height) == (15, 128, 128)
    take = record(SPEAKERS[0], np.random.default_rng([3, 0]), 15, 128)
    assert by_path["ada/0000.mp4"].text == (transcript(take.timeline) or None)
    written = read_audio(videos[0], video.start_s, video.num_frames)
    assert np.corrcoef(written, take.audio)[0, 1] > 0.9
    difference = np.abs(np.stack(list(video.frames())).astype(int) - take.frames)
    assert difference.mean() < 4
