"""Reported kinds of wrong numbers and lost work in the benchmark: pairing, sound, caching, mounts."""

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_trees import sound, talker
from media_files import make_video

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage import UnexpectedFailures
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import GROUND_TRUTH, Baseline, Method, MethodType
from syncdiff_eval.metrics.base import ClipContext, Column, MetricFamily
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.pairing import Pair, Pairing, pair_by_name
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX
from syncdiff_eval.scoring import Reference, Scorer, ScoreRequest, ScoringError, score_clip
from syncdiff_eval.tasks import list_tasks
from syncdiff_eval.videos import frames, read_facts

PICTURES = replace(SYNCDIFF, metrics=("image",), resamples=200)
SCORER = Scorer(SYNCDIFF, {}, {}, None)


def reference_of(path: Path) -> Reference:
    times = np.array([time for time, _ in frames(path)])
    return Reference(read_facts(path), len(times), times[0], None, times)


def reason_of(request: ScoreRequest, index: bool = False) -> Reason | None:
    try:
        score_clip(request, replace(SCORER, protocol=SYNCDIFF_INDEX) if index else SCORER)
    except ScoringError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("count", "rate", "reason"),
    [
        (100, 25, Reason.FPS_MISMATCH),  # resampled in time: as long, other moments
        (120, 25, None),  # the same frames under a wrongly declared rate
        (118, 25, None),
        (101, 25, Reason.FPS_MISMATCH),
        (120, 30, None),
        (110, 30, None),  # shorter by less than a tenth
        (105, 30, Reason.LENGTH_MISMATCH),
        (60, 15, Reason.FPS_MISMATCH),
    ],
)
def test_kind_22_an_output_resampled_in_time_is_not_paired_by_index(
    tmp_path: Path, count: int, rate: int, reason: Reason | None
) -> None:
    reference = make_video(tmp_path / "r.mp4", range(120), Fraction(1, 30))
    output = make_video(tmp_path / "o.mp4", range(count), Fraction(1, rate))
    assert reason_of(ScoreRequest(reference, reference_of(reference), output), index=True) == reason


@pytest.mark.parametrize(
    ("count", "audio_s", "reason"),
    [
        (12, 8.0, Reason.LENGTH_MISMATCH),  # 12 of 60 frames
        (12, 0.5, None),  # as long as its sound
        (56, 8.0, None),
        (90, 8.0, None),  # longer than the reference, as its sound is
        (12, None, Reason.LENGTH_MISMATCH),
    ],
)
def test_kind_27_a_truncated_output_under_crossed_audio_is_refused(
    tmp_path: Path, count: int, audio_s: float | None, reason: Reason | None
) -> None:
    reference = make_video(tmp_path / "r.mp4", range(60))
    output = make_video(tmp_path / "o.mp4", range(count))
    request = ScoreRequest(reference, reference_of(reference), output, crossed=True, audio_s=audio_s)
    assert reason_of(request) == reason


def test_kind_28_every_row_hears_the_sound_of_the_pair() -> None:
    pairing = Pairing("own-audio", (Pair("a", "a.mp4", "a.wav"), Pair("b", "b.mp4", "b.mp4")))
    other = Method("other", MethodType.REFERENCE, None, None, Baseline(other_audio=True))
    tasks = list_tasks([GROUND_TRUTH, other], pairing)
    assert [task.audio for task in tasks] == ["a.wav", "b.mp4", "b.mp4", "a.wav"]
    assert [task.crossed for task in tasks] == [False, False, True, True]


def family_of(name: str, log: Path, **more: Any) -> MetricFamily:
    """A metric that counts the clips it was computed for in a file."""

    def load(weights: Mapping[str, Path], device: str) -> Any:
        def create(context: ClipContext) -> Any:
            with log.open("a") as file:
                file.write(name)
            return SimpleNamespace(update=lambda batch: None, compute=lambda: {name: 1.0})

        return create

    return MetricFamily(
        name, (Column(name, name, "", True, 1),), 1, load, required_inputs=frozenset(), **more
    )


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Method]:
    reference, folder = tmp_path / "reference", tmp_path / "m"
    for place in (reference, folder):
        place.mkdir()
        for seed, name in enumerate("abc"):
            write_video(place / f"{name}.mp4", talker(seed, 8), sound(8))
    return reference, Method("m", MethodType.GAN, None, folder)


def run(reference: Path, method: Method, out: Path, **more: Any) -> pd.DataFrame:
    config: dict[str, Any] = {"protocol": PICTURES, "weights": {}, **more}
    benchmark(
        BenchmarkConfig(
            reference, pair_by_name(reference), [GROUND_TRUTH, method], out=out, ray=RayOptions(workers=1),
            **config,
        )
    )  # fmt: skip
    return pd.read_parquet(out / "per_clip.parquet").set_index(["method", "clip"])


def test_kinds_29_and_45_a_score_is_cached_per_family_and_content_of_the_scorer(
    tmp_path: Path, clips: tuple[Path, Method], ray_session: None
) -> None:
    log = tmp_path / "log"
    x, y = family_of("x", log, content_hash="1"), family_of("y", log)
    both = replace(PICTURES, metrics=("x", "y"))
    run(*clips, tmp_path / "out", protocol=replace(PICTURES, metrics=("x",)), families={"x": x})
    assert log.read_text() == "x" * 6
    log.write_text("")
    rows = run(*clips, tmp_path / "out", protocol=both, families={"x": x, "y": y}, cache=None)
    assert log.read_text() == "y" * 6, "a new family leaves the scores of the others"
    assert (rows[["x", "y"]] == 1).all(axis=None)
    log.write_text("")
    retrained = replace(x, content_hash="2")
    run(*clips, tmp_path / "out", protocol=both, families={"x": retrained, "y": y})
    assert log.read_text() == "x" * 6, "a retrained scorer scores again, the other family does not"


def test_kind_17_what_the_disk_did_is_not_cached_as_a_property_of_the_file(
    tmp_path: Path, clips: tuple[Path, Method], ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "disk is ill"
    marker.touch()

    def load(weights: Mapping[str, Path], device: str) -> Any:
        def create(context: ClipContext) -> Any:
            if marker.exists() and context.compares:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return IMAGE.load(weights, device)(context)

        return create

    families = {"image": replace(IMAGE, load=load, content_hash="17")}
    rows = run(*clips, tmp_path / "out", families=families)
    assert rows.loc["m"]["reason"].tolist() == ["read_error"] * 3
    assert rows.loc["ground_truth"]["status"].tolist() == ["scored"] * 3
    marker.unlink()
    assert (run(*clips, tmp_path / "out", families=families)["status"] == "scored").all()


def test_kind_14_an_exception_is_a_row_with_its_stack_and_an_exit_status(
    tmp_path: Path, clips: tuple[Path, Method], ray_session: None
) -> None:
    def load(weights: Mapping[str, Path], device: str) -> Any:
        def create(context: ClipContext) -> Any:
            if context.compares:
                raise ZeroDivisionError("nobody foresaw this")
            return IMAGE.load(weights, device)(context)

        return create

    with pytest.raises(UnexpectedFailures, match="3 of 6 rows"):
        run(*clips, tmp_path / "out", families={"image": replace(IMAGE, load=load, content_hash="14")})
    rows = pd.read_parquet(tmp_path / "out/per_clip.parquet").set_index("method")
    assert set(rows.loc["m"]["reason"]) == {"unexpected_error"}
    assert rows.loc["m"]["detail"].str.contains("ZeroDivisionError: nobody foresaw this").all()
    assert rows.loc["m"]["detail"].str.contains("in create").all()


def test_kind_24_a_method_folder_without_any_output_ends_the_run_before_the_work(
    tmp_path: Path, clips: tuple[Path, Method], ray_session: None
) -> None:
    reference, method = clips
    empty = tmp_path / "mount point"
    empty.mkdir()
    with pytest.raises(UserError, match=r"holds no output of any of the 3 pairs.*mounted"):
        run(reference, replace(method, folder=empty), tmp_path / "out")
    assert not (tmp_path / "out/results.json").exists()
