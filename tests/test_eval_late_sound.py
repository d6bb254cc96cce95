"""Methods in whose files the audio stream starts later than the video."""

from pathlib import Path

import pytest
from media_files import clicks, make_audio, make_video
from report_samples import sample

from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import Results
from syncdiff_eval.videos import read_facts


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
