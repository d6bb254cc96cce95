"""The leak test: what a copied, a still and an own mouth give; and a whole benchmark of crossed pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from lip_clips import context_of, dubbed, feed, landmarks, opening_of, pictures, speech
from scipy import stats

from syncdiff_data.cli import RayOptions
from syncdiff_data.demo.talkers import SPEAKERS
from syncdiff_data.reasons import Reason
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import Method, MethodType, baselines
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, MissingValue, applicable
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.leak import Leak, LipLeak, motion_ratio, shared_motion
from syncdiff_eval.networks.lip_reader import LipReader
from syncdiff_eval.pairing import pair_by_list, pair_by_name
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX
from syncdiff_eval.validate import validate_report

pytestmark = pytest.mark.usefixtures("one_thread")


# --- Leak ----------------------------------------------------------------------------------------------------

SILENCE = np.zeros(640 * 100, np.int16)


def leak(source: np.ndarray, generated: np.ndarray, audio: np.ndarray = SILENCE, batch: int = 8) -> Any:
    context = context_of(source, audio)
    blank = [np.zeros((8, 8, 3), np.uint8)] * len(generated)
    points = landmarks(generated)
    return feed(Leak(context), context, blank, [], batch, points).compute()


def test_a_copied_mouth_leaks_all_and_a_still_one_nothing() -> None:
    """Bug 8: LipLeak without its source's motion said nothing of how much leaked."""
    source = opening_of(100, 0)
    assert leak(source, source) == pytest.approx({"leak_motion": 1, "leak_corr": 1}, abs=1e-3)
    assert leak(source, np.full(100, 0.3)) == pytest.approx({"leak_motion": 0, "leak_corr": 0}, abs=1e-3)
    trembling = leak(source, 0.3 + 0.05 * source)
    assert trembling == pytest.approx({"leak_motion": 0.05, "leak_corr": 0.05}, abs=1e-2)
    half = leak(source, 0.5 * source)
    assert half == pytest.approx({"leak_motion": 0.5, "leak_corr": 0.5}, abs=1e-2)


def test_a_mouth_of_its_own_leaks_about_nothing() -> None:
    found = [leak(opening_of(100, s), opening_of(100, s + 50))["leak_corr"] for s in range(20)]
    assert abs(np.mean(found)) < 0.1
    source = opening_of(100, 0)
    wild = leak(source, 3 * opening_of(100, 1))["leak_corr"]
    r = stats.pearsonr(source, opening_of(100, 1)).statistic
    assert wild == pytest.approx(r, abs=0.01)


def test_leak_wants_silence_for_motion_a_face_and_a_source_that_moves() -> None:
    source = opening_of(100, 0)
    spoken = leak(source, source, speech(100))
    assert spoken["leak_motion"] == MissingValue(Reason.SOUND_NOT_SILENT)
    assert spoken["leak_corr"] == pytest.approx(1, abs=1e-3)
    hiss = np.random.default_rng(0).integers(-3, 4, 64_000).astype(np.int16)
    assert leak(source, source, hiss)["leak_motion"] == pytest.approx(1, abs=1e-3)
    still = leak(np.full(100, 0.5), source)
    assert set(still.values()) == {MissingValue(Reason.REFERENCE_MOUTH_STILL)}
    assert set(leak(source, source[:24]).values()) == {MissingValue(Reason.TOO_SHORT_FOR_LEAK)}
    assert not isinstance(leak(source, source[:25])["leak_corr"], MissingValue)
    nobody = Leak(context_of(source, SILENCE, regions=None)).compute()
    assert set(nobody.values()) == {MissingValue(Reason.NO_FACE)}


def test_leak_does_not_depend_on_parts() -> None:
    source, made = opening_of(100, 0), opening_of(100, 1)
    assert leak(source, made, batch=100) == pytest.approx(leak(source, made, batch=7), abs=1e-9)
    opening = [mouth_opening(landmarks(side)) for side in (source, made)]
    assert leak(source, made) == pytest.approx(
        {"leak_motion": motion_ratio(*opening), "leak_corr": shared_motion(*(o[:, None] for o in opening))},
        abs=1e-6,
    )


def test_lips_leak_in_avhuberts_eyes(reader: LipReader) -> None:
    opening = opening_of(30, 0)
    real, context = pictures(opening), context_of(opening, SILENCE)

    def leaked(made: list[np.ndarray], context: ClipContext = context) -> Any:
        return feed(LipLeak(context, reader), context, made, real).compute()["leak_avs"]

    copied, faint, own = (
        leaked(pictures(side)) for side in (opening, 0.5 + 0.3 * opening, opening_of(30, 3))
    )
    assert copied == pytest.approx(1, abs=1e-6)
    assert 0.5 > faint > 0.2
    assert abs(own) < 0.1
    assert leaked(real[:20]) == MissingValue(Reason.TOO_SHORT_FOR_LEAK)
    assert leaked(real[:5]) == MissingValue(Reason.TOO_SHORT_FOR_AVHUBERT)
    still = context_of(opening, SILENCE, points=landmarks(np.zeros(30)))
    assert leaked(real, still) == MissingValue(Reason.REFERENCE_MOUTH_STILL)
    assert abs(leaked([real[0]] * 30)) < 0.1  # the crop follows the source's mouth and moves the picture


# --- The whole benchmark -------------------------------------------------------------------------------------


@pytest.fixture
def talkers(tmp_path: Path) -> tuple[Path, list[Method]]:
    """Two real clips with sound and a silent file; a method that copies their frames, one with mouths of its own."""
    reference = tmp_path / "reference"
    for number, name in enumerate("ab"):
        look = SPEAKERS[number].look
        motion = np.cumsum(np.random.default_rng(number).normal(0, 0.2, (28, 4)), axis=0) * [1, 1, 0.3, 0.01]
        source = opening_of(28, number)
        dubbed(reference, name, look, source, motion, speech(28, number))
        for clip in (f"{name}_silent", f"{name}_other"):
            dubbed(tmp_path / "copy", clip, look, source, motion)
            dubbed(tmp_path / "own", clip, look, opening_of(28, number + 7), motion)
    soundfile.write(reference / "silent.wav", np.zeros(28 * 640, np.int16), 16_000)
    methods = [Method(name, MethodType.OTHER, None, tmp_path / name) for name in ("copy", "own")]
    return reference, methods


def test_crossed_pairs_are_tested_for_leaks_and_own_audio_is_compared(
    tmp_path: Path, ray_session: None, checkpoint: Path, talkers: tuple[Path, list[Method]]
) -> None:
    reference, methods = talkers
    listed = tmp_path / "pairs.csv"
    listed.write_text(
        "video,audio,output\n"
        + "".join(
            f"{v}.mp4,{a},{v}_{o}\n"
            for v, w in ("ab", "ba")
            for a, o in (("silent.wav", "silent"), (f"{w}.mp4", "other"))
        )
    )
    protocol = replace(SYNCDIFF, metrics=("landmarks", "avs", "leak", "leak-avs"), resamples=200)
    weights = {"avhubert-base": checkpoint}
    crossed = pair_by_list(reference, listed, "csv")
    results = benchmark(BenchmarkConfig(
        reference, crossed, [*baselines(True, (), False), *methods], protocol, tmp_path / "crossed", weights,
        RayOptions(workers=2),
    ))  # fmt: skip
    validate_report(tmp_path / "crossed")
    assert [metric.name for metric in results.metrics] == ["avs_u", "leak_motion", "leak_corr", "leak_avs"]
    rows: Any = pd.read_parquet(tmp_path / "crossed" / "per_clip.parquet").set_index(["method", "clip"])
    assert (rows["status"] == "scored").all()
    heard = rows.drop(index=["a_silent", "b_silent"], level="clip")
    assert heard["avs_u"].notna().all()
    copied, own, frozen = (rows.loc[name] for name in ("copy", "own", "frozen_first_frame"))
    assert copied[["leak_corr", "leak_avs"]].to_numpy() == pytest.approx(1, abs=0.1)
    # Two mouths that have nothing in common: over 28 frames chance alone gives up to about 0.5.
    assert (own["leak_corr"].abs() < 0.5).all()
    assert (own["leak_avs"].abs() < 0.4).all()
    assert (frozen["leak_corr"].abs() < 0.15).all()
    silent = ["a_silent", "b_silent"]
    assert copied.loc[silent, "leak_motion"].to_numpy() == pytest.approx(1, abs=0.1)
    assert (frozen.loc[silent, "leak_motion"] < 0.3).all()
    for clip in ("a_other", "b_other"):
        assert dict(copied.loc[clip, "null_reasons"]) == {"leak_motion": "sound_not_silent"}
    assert dict(copied.loc["a_silent", "null_reasons"]) == {"avs_u": "silent_audio"}
    assert (
        dict(rows.loc[("ground_truth", "a_silent"), "null_reasons"])["leak_corr"] == "identical_to_reference"
    )

    (tmp_path / "named").mkdir()
    for name in "ab":
        (tmp_path / "own" / f"{name}_other.mp4").rename(tmp_path / "named" / f"{name}.mp4")
    named = [Method("named", MethodType.OTHER, None, tmp_path / "named")]
    own_audio = benchmark(BenchmarkConfig(
        reference, pair_by_name(reference), [*baselines(False, (), True), *named], protocol, tmp_path / "o", {},
        RayOptions(workers=2),
    ))  # fmt: skip
    assert [metric.name for metric in own_audio.metrics] == [
        "lmd_mouth", "lmd_face", "opening_corr", "avs_u", "avs_m", "avs_v",
    ]  # fmt: skip
    cell = own_audio.methods[-1].scores["avs_m"]
    assert cell.reason == "not available: python -m syncdiff_data weights fetch avhubert-base"
    assert cell.mean is None


def test_a_setting_rules_columns_out() -> None:
    families = [FAMILIES[name] for name in ("lse", "fid-face", "image", "avs", "leak", "leak-avs")]

    def names(crossed: bool) -> list[str]:
        return [column.name for family in applicable(families, crossed) for column in family.columns]

    always = {"lse_c", "lse_d", "av_offset", "fid_face", "fid_face_frames", "avs_u"}
    assert set(names(True)) == always | {"leak_motion", "leak_corr", "leak_avs"}
    assert set(names(False)) - set(names(True)) == {
        "avs_m",
        "avs_v",
        *(c.name for c in FAMILIES["image"].columns),
    }
    assert set(names(False)) & {"leak_motion", "leak_corr", "leak_avs"} == set()
    for protocol in (SYNCDIFF, SYNCDIFF_INDEX):
        assert {"avs", "leak", "leak-avs"} <= set(protocol.metrics)
