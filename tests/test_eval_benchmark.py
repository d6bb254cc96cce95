"""The whole benchmark on Ray: broken files, lost workers, any number of workers, a report that holds together."""

import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_trees import (
    QUICK,
    check_rows,
    contents,
    make_tree,
    run,
    sound,
    talker,
)

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.weights import file_sha256
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType, baselines
from syncdiff_eval.metrics.base import ClipContext, Column, MetricFamily, MissingValue, Pool, Values
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import SYNCDIFF_INDEX
from syncdiff_eval.results import read_results
from syncdiff_eval.validate import validate_report

pytestmark = pytest.mark.usefixtures("same_checkout")


def test_broken_files_are_rows_with_reasons_and_the_table_is_the_same_however_it_is_made(
    tmp_path: Path, ray_session: None
) -> None:
    """Bug 3: a failed clip never leaves the table silently."""
    reference, methods, expected = make_tree(tmp_path, num_clips=30)
    results, rows = run(reference, methods, tmp_path / "two", workers=2)
    check_rows(rows, expected, 30)
    for method in results.methods:
        assert method.n_scored + sum(method.failures.values()) == method.n_attempted == 30
    for metric in ("psnr_face", "ssim_mouth", "ssim_full"):
        means = [method.scores[metric].mean_shared for method in results.methods[1:]]
        assert means == sorted(means, reverse=True), metric
        assert [method.scores[metric].rank for method in results.methods[1:]] == [1, 2, 3]
    truth = results.methods[0].scores["psnr_full"]
    assert (truth.mean, truth.reason) == (None, "identical_to_reference")
    assert "30 clips" in validate_report(tmp_path / "two")
    run(reference, methods, tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "cache").iterdir()}
    run(reference, methods, tmp_path / "two", workers=2)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "cache").iterdir()} == made
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, list[Method]]:
    """Two clips, of 12 and 9 frames, and one method."""
    reference, folder = tmp_path / "reference", tmp_path / "m"
    for name, num_frames in (("long", 12), ("short", 9)):
        for parent in (reference, folder):
            parent.mkdir(exist_ok=True)
        write_video(reference / f"{name}.mp4", talker(1, num_frames), sound(num_frames))
        write_video(folder / f"{name}.mp4", talker(1, num_frames, blur=1), None)
    return reference, [Method("m", MethodType.GAN, "someone", folder)]


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_is_a_row_and_the_rest_is_scored(
    tmp_path: Path, ray_session: None, small: tuple[Path, list[Method]]
) -> None:
    def load(weights: object, device: str) -> Any:
        from types import SimpleNamespace

        def start(context: ClipContext) -> Any:
            metric = IMAGE.load({}, "cpu")(context)

            def update(batch: Any) -> None:
                if context.num_frames == 9 and not np.array_equal(batch.reference[0], batch.generated[0]):
                    os.kill(os.getpid(), signal.SIGKILL)
                metric.update(batch)

            return SimpleNamespace(update=update, compute=metric.compute)

        return start

    deadly = replace(IMAGE, load=load, version=IMAGE.version + 1)
    protocol = replace(QUICK, metrics=("image",))
    families = {"image": deadly}
    _, rows = run(*small, tmp_path / "out", protocol=protocol, families=families)
    by_clip = rows[rows["method"] == "m"].set_index("clip")
    assert by_clip.loc["short", "reason"] == "worker_crashed"
    assert by_clip.loc["long", "status"] == "scored"
    validate_report(tmp_path / "out")
    _, again = run(*small, tmp_path / "out", protocol=protocol, families={"image": IMAGE}, retry_failed=True)
    assert (again["status"] == "scored").all()


def test_previews_change_no_number_and_their_failures_fail_no_benchmark(
    tmp_path: Path,
    ray_session: None,
    small: tuple[Path, list[Method]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full_disk(*_: Any) -> None:
        raise UserError("no space left")

    out, image = tmp_path / "out", replace(QUICK, metrics=("image",))
    (tmp_path / "m" / "short.mp4").write_bytes(b"not a video")
    run(*small, out, protocol=image, previews=3)
    made = contents(out)
    page = made.pop("index.html").decode()
    assert page.count('data-src="data:video/mp4;base64,') == 2, "the clip with a number: reference and method"
    with monkeypatch.context() as patch:
        patch.setattr("syncdiff_eval.benchmark.make_videos", full_disk)
        run(*small, out, protocol=image, previews=3)
    without = contents(out)
    assert "<video" not in without.pop("index.html").decode()
    assert without == made
    assert "no previews: no space left" in capsys.readouterr().err


def test_missing_weights_say_so_in_their_cell_and_pooled_metrics_see_every_clip(
    tmp_path: Path, ray_session: None, small: tuple[Path, list[Method]]
) -> None:
    def load(weights: object, device: str) -> Any:
        from types import SimpleNamespace

        def start(context: ClipContext) -> Any:
            seen = []
            return SimpleNamespace(
                update=lambda batch: seen.extend(batch.generated),
                compute=lambda: {"frames": float(len(seen))},
                arrays=lambda: {"n": np.array(len(seen))},
            )

        return start

    def compare(generated: int, reference: int) -> Values:
        return {
            "all_frames": float(generated) if generated == reference else MissingValue(Reason.LENGTH_MISMATCH)
        }

    pool = Pool(lambda clips: sum(int(clip["n"]) for clip in clips), compare)
    count = MetricFamily(
        "count",
        (Column("frames", "Frames", "", None, 0), Column("all_frames", "All", "", None, 0, pooled=True)),
        1,
        load,
        pool=pool,
    )
    heavy = MetricFamily("heavy", (Column("lse_d", "LSE-D", "", False, 3),), 1, load, weights=("syncnet",))
    results, rows = run(
        *small, tmp_path / "out", protocol=replace(QUICK, metrics=("count", "heavy")),
        families={"count": count, "heavy": heavy},
    )  # fmt: skip
    truth, method = results.methods
    assert method.scores["all_frames"].mean == 21
    assert truth.scores["all_frames"].reason == "identical_to_reference"
    assert method.scores["lse_d"].mean is None
    assert str(method.scores["lse_d"].reason).startswith("not available: ")
    assert "weights" in str(method.scores["lse_d"].reason)
    assert rows["lse_d"].isna().all()
    assert sorted(rows["frames"]) == [9, 9, 12, 12]
    for name in ("leaderboard.md", "index.html"):
        assert "not available: " in (tmp_path / "out" / name).read_text()
    validate_report(tmp_path / "out")


def test_other_weights_make_another_report(
    tmp_path: Path, ray_session: None, small: tuple[Path, list[Method]]
) -> None:
    """Bug 7: numbers of different weights look alike; the report holds the hash, and a rerun scores every clip anew."""

    def load(weights: Any, device: str) -> Any:
        from types import SimpleNamespace

        value = float(weights["syncnet"].read_text())
        return lambda context: SimpleNamespace(update=lambda batch: None, compute=lambda: {"lse_d": value})

    family = MetricFamily("lse", (Column("lse_d", "LSE-D", "", False, 3),), 1, load, weights=("syncnet",))
    reference, methods = small
    for content in ("6.742", "5.353"):
        file = tmp_path / f"{content}.model"
        file.write_text(content)
        results = benchmark(BenchmarkConfig(
            reference, pair_by_name(reference), [GROUND_TRUTH, *methods], replace(QUICK, metrics=("lse",)),
            tmp_path / "out", {"syncnet": file}, RayOptions(workers=2), families={"lse": family},
        ))  # fmt: skip
        rows = pd.read_parquet(tmp_path / "out" / "per_clip.parquet")
        assert set(rows["lse_d"]) == {float(content)}
        assert [file_sha256(reference / video) for video in rows["source"]] == list(rows["audio_sha256"])
        assert results.family_versions == {"lse": 1}
        assert results.weights == {"syncnet": hashlib.sha256(content.encode()).hexdigest()}
        assert results == read_results(tmp_path / "out")


def test_report_is_self_contained_typed_and_refuses_what_does_not_fit(
    tmp_path: Path, ray_session: None, small: tuple[Path, list[Method]]
) -> None:
    reference, methods = small
    out = tmp_path / "out"
    benchmark(
        BenchmarkConfig(
            reference,
            pair_by_name(reference),
            baselines(True, (3,), True) + methods,
            QUICK,
            out,
            {},
            RayOptions(),
        )
    )
    page = (out / "index.html").read_text()
    assert not any(word in page for word in ("http://", "https://", "src=", "@import", str(tmp_path)))
    text = (out / "results.json").read_text()
    assert str(tmp_path) not in text
    rows = pd.read_parquet(out / "per_clip.parquet").set_index(["method", "clip"])
    assert {"codec", "fps", "bit_rate", "decoder", "sha256"} <= set(rows.columns)
    assert rows.loc[("m", "long"), "codec"] == "h264"
    frozen = rows.loc[("frozen_first_frame", "long")]
    assert np.isfinite(frozen["psnr_full"])
    assert frozen["psnr_mouth"] < 60
    assert rows.loc["ground_truth"]["psnr_full"].isna().all()
    assert dict(rows.loc[("audio_shift_+3", "long"), "null_reasons"])["ssim_face"] == "identical_to_reference"
    with pytest.raises(UserError, match=r"syncdiff-v4 version 4.*--overwrite"):
        run(reference, methods, out, protocol=SYNCDIFF_INDEX)

    for change, message in (
        (lambda r: r.update(surprise=1), "surprise"),
        (lambda r: r["methods"][0].pop("failures"), "failures"),
        (lambda r: r["methods"][-1]["scores"]["psnr_full"].update(mean="28"), r"psnr_full\.mean"),
    ):
        broken = json.loads(text)
        change(broken)
        (out / "results.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=message):
            read_results(out)
    lying = json.loads(text)
    lying["methods"][-1]["scores"]["psnr_full"]["mean"] += 1
    (out / "results.json").write_text(json.dumps(lying))
    with pytest.raises(UserError, match="psnr_full: mean"):
        validate_report(out)
    (out / "results.json").write_text(text)
    table = pd.read_parquet(out / "per_clip.parquet")
    assert "is valid" in validate_report(out)
    table.iloc[:-1].to_parquet(out / "per_clip.parquet")
    with pytest.raises(UserError):
        validate_report(out)
