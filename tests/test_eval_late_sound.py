"""Methods in whose files the sound lies elsewhere than the driving audio, by its samples or by the container."""

from pathlib import Path

import numpy as np
import pytest
from media_files import clicks, make_audio, make_video
from report_samples import sample

from syncdiff_data.media import read_audio
from syncdiff_data.records import SAMPLE_RATE
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import Results
from syncdiff_eval.scoring import Reference, Scorer, ScoreRequest, score_clip
from syncdiff_eval.scoring.sound import MOST_LAG_S, shift_audio, sound_lag
from syncdiff_eval.videos import read_facts

FRAMES = 50


def noise(seed: int) -> np.ndarray:
    """Two seconds, int16 [N]."""
    rng = np.random.default_rng(seed)
    return (3000 * rng.standard_normal(FRAMES * SAMPLE_RATE // 25)).astype(np.int16)


@pytest.mark.parametrize("samples", [0, 1, 1024, -333, 7999])
def test_the_lag_of_a_sound_is_found_to_the_sample(samples: int) -> None:
    late = shift_audio(noise(0), samples, SAMPLE_RATE)
    quiet = (late * 0.2 + noise(1) * 0.05).astype(np.int16)
    assert sound_lag(quiet, noise(0)) == pytest.approx(samples / SAMPLE_RATE)


def test_another_sound_silence_and_a_far_lag_have_none() -> None:
    assert sound_lag(noise(0), noise(1)) is None
    assert sound_lag(np.zeros(9, np.int16), noise(1)) is None
    far = round((MOST_LAG_S + 0.1) * SAMPLE_RATE)
    assert sound_lag(shift_audio(noise(0), far, SAMPLE_RATE), noise(0)) is None
    assert sound_lag(noise(0)[:3], noise(0)[:3]) == 0


@pytest.mark.parametrize("late_s", [0.0, 0.064])
def test_an_output_tells_where_its_sound_lies(tmp_path: Path, late_s: float) -> None:
    """Its container declares 0, as Diff2Lip's do: the silence is inside the stream."""
    sound = clicks([0.3, 0.9, 1.2, 1.7], 2.0, SAMPLE_RATE)
    late = np.roll(sound, round(late_s * SAMPLE_RATE), axis=1)
    real, made = (
        make_audio(tmp_path / f"{name}.mkv", each, SAMPLE_RATE, "pcm_s16le", video_pts=range(FRAMES))
        for name, each in (("real", sound), ("made", late))
    )
    reference = Reference(read_facts(real), FRAMES, 0.0, None, np.arange(FRAMES) / 25)
    scorer = Scorer(SYNCDIFF, {}, {}, None)
    audio = read_audio(real, 0.0, FRAMES)
    facts = score_clip(ScoreRequest(real, reference, made, audio=audio), scorer).facts
    assert facts.sound_late_s == pytest.approx(0, abs=0.002)
    assert facts.sound_lag_s == pytest.approx(late_s, abs=0.001)
    assert score_clip(ScoreRequest(real, reference, audio=audio), scorer).facts.sound_lag_s is None


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "alac"), (".mkv", "pcm_s16le")])
@pytest.mark.parametrize("late_s", [0.0, 0.064])
def test_when_the_sound_of_a_file_starts(tmp_path: Path, suffix: str, codec: str, late_s: float) -> None:
    sound = clicks([0.1], 0.5, 16_000)
    path = make_audio(tmp_path / f"a{suffix}", sound, 16_000, codec, start_s=late_s, video_pts=range(12))
    assert read_facts(path).sound_late_s == pytest.approx(late_s, abs=0.002)


def test_a_file_without_sound_has_no_start_of_it(tmp_path: Path) -> None:
    assert read_facts(make_video(tmp_path / "a.mp4", range(3))).sound_late_s is None


def late(results: Results, **ms: float) -> list[str]:
    rows = [row.model_copy(update={"sound_late_ms": ms.get(row.name, 0.0)}) for row in results.methods]
    found = warnings(results.model_copy(update={"methods": rows}))
    return [sentence for sentence in found if "starts late" in sentence]


def test_a_method_whose_sound_starts_late_is_warned_about() -> None:
    results = sample().results
    assert late(results, wav2lip=19.0, softgan=-64.0, frozen_first_frame=64.0) == []
    (sentence,) = late(results, wav2lip=64.0)
    assert "wav2lip (64 ms after the video)" in sentence
    assert "do not include it" in sentence
    assert late(results, wav2lip=64.0, ground_truth=64.0) == []
    alone = results.model_copy(
        update={"protocol": results.protocol.model_copy(update={"pairing": "standalone"})}
    )
    assert "numbers include it" in late(alone, wav2lip=64.0)[0]


def test_files_whose_sound_lies_late_are_counted_and_named_once() -> None:
    results = sample().results
    rows = [
        row.model_copy(update={"n_sound_shifted": 3, "sound_shift_ms": ms, "sound_late_ms": 64.0})
        if (ms := {"wav2lip": 64.0, "softgan": -40.0}.get(row.name))
        else row
        for row in results.methods
    ]
    changed = results.model_copy(update={"methods": rows})
    (sentence,) = [each for each in warnings(changed) if "driving audio is" in each]
    assert "wav2lip (3 of 10 files, 64 ms late), softgan (3 of 10 files, 40 ms early)" in sentence
    assert not any("starts late" in each for each in warnings(changed))
