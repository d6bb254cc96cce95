"""The sync expert's columns in a benchmark: real against frozen, the sign of its offset, silence, its own name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from report_samples import sample
from runs import pipeline

from syncdiff_data.cli import RayOptions
from syncdiff_data.demo import talker_clip
from syncdiff_data.media import write_video
from syncdiff_data.records import UserError
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import GROUND_TRUTH, baselines
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.sync_expert import expert_family
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import EXPERT_FILE, SYNCDIFF
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import read_results


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """Two talkers of three seconds; the sound of one row comes four frames late."""
    folder = tmp_path_factory.mktemp("expert")
    (folder / "real").mkdir()
    for seed in (3, 4):
        frames, audio, _ = talker_clip(seed, num_frames=75)
        write_video(folder / "real" / f"{seed}.mp4", frames, audio)
    config = BenchmarkConfig(
        folder / "real",
        pair_by_name(folder / "real"),
        baselines(True, (4,), True),
        replace(SYNCDIFF, metrics=("expert", "image"), resamples=200),
        folder / "report",
        {},
        RayOptions(workers=2),
    )
    benchmark(config)
    return folder / "report"


def test_real_talkers_are_in_sync_and_frozen_ones_are_not(report: Path) -> None:
    table = pd.read_parquet(report / "per_clip.parquet").pivot(
        index="clip", columns="method", values="expert_confidence"
    )
    assert (table["ground_truth"] > table["frozen_first_frame"] + 0.1).all()
    assert (table["ground_truth"] > table["other_audio"]).all()


def test_a_late_sound_lowers_the_offset_and_not_the_confidence(report: Path) -> None:
    """Positive offsets: the sound comes before the mouth, as with SyncNet."""
    rows = pd.read_parquet(report / "per_clip.parquet").set_index(["method", "clip"])
    for clip in ("3", "4"):
        real, late = rows.loc["ground_truth", clip], rows.loc["audio_shift_+4", clip]
        assert abs(real["expert_offset"]) <= 2
        assert abs(late["expert_offset"] - (real["expert_offset"] - 4)) <= 1
        assert late["expert_confidence"] == pytest.approx(real["expert_confidence"], abs=0.1)


def test_the_columns_bear_the_experts_name_and_lead_the_report(report: Path) -> None:
    metrics = {metric.name: metric for metric in read_results(report).metrics}
    assert metrics["expert_confidence"].in_protocol
    assert next(iter(metrics)) == "expert_confidence"
    assert read_results(report).weights["expert"] == FAMILIES["expert"].content_hash
    assert "Confidence of sync over the clip" in (report / "index.html").read_text(), "its strips"
    assert metrics["expert_confidence"].group == "Sync"
    assert not any("lse" in name for name in metrics if name.startswith("expert"))


def test_a_folder_without_an_expert_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no sync expert"):
        expert_family(tmp_path)


def test_another_expert_has_another_hash(tmp_path: Path) -> None:
    """So that its clips are scored again."""
    from syncdiff_data.sync_expert.expert import SyncExpert
    from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork

    SyncExpert(SyncNetwork(NetworkConfig(dim=16, widths=(8, 8, 8, 8)))).save_pretrained(tmp_path)
    assert expert_family(tmp_path).content_hash != FAMILIES["expert"].content_hash


def test_files_are_scored_alone_without_a_reference(report: Path, tmp_path: Path, ray_session: None) -> None:
    real = report.parent / "real"
    config = BenchmarkConfig(
        real, pair_by_name(real), [GROUND_TRUTH], EXPERT_FILE, tmp_path / "alone", {}, RayOptions(workers=2)
    )
    benchmark(config)
    alone = pd.read_parquet(tmp_path / "alone" / "per_clip.parquet").set_index("clip")
    beside = pd.read_parquet(report / "per_clip.parquet").set_index(["method", "clip"]).loc["ground_truth"]
    for clip in ("3", "4"):
        assert alone.loc[clip, "expert_confidence"] == pytest.approx(
            beside.loc[clip, "expert_confidence"], abs=0.1
        )
        assert abs(alone.loc[clip, "expert_offset"] - beside.loc[clip, "expert_offset"]) <= 1


def test_an_expert_of_ones_own_is_no_part_of_the_protocol(
    report: Path, tmp_path: Path, ray_session: None
) -> None:
    from syncdiff_data.sync_expert.expert import SyncExpert
    from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork

    SyncExpert(SyncNetwork(NetworkConfig(dim=16, widths=(8, 8, 8, 8)))).save_pretrained(tmp_path / "own")
    module = pipeline("benchmark")
    real = report.parent / "real"
    protocol = replace(SYNCDIFF, metrics=("expert",), resamples=200)
    options = module.Options(real, tmp_path / "out", sync_expert=tmp_path / "own")
    own = module.own_expert(options)
    assert module.added_families(options, protocol) == ()
    config = BenchmarkConfig(
        real, pair_by_name(real), [GROUND_TRUTH], protocol, tmp_path / "out", {}, RayOptions(workers=2),
        families=FAMILIES | own,
    )  # fmt: skip
    results = benchmark(config)
    assert not any(metric.in_protocol for metric in results.metrics)
    assert results.weights["expert"] == own["expert"].content_hash


def test_a_method_out_of_step_is_warned_about() -> None:
    results = sample().results
    assert not any("Out of step" in sentence for sentence in warnings(results))
    last = results.methods[-1]
    score = last.scores["expert_offset"].model_copy(update={"mean": -3.2})
    late = last.model_copy(update={"scores": last.scores | {"expert_offset": score}})
    results = results.model_copy(update={"methods": [*results.methods[:-1], late]})
    (found,) = [sentence for sentence in warnings(results) if "Out of step" in sentence]
    assert f"{last.name} (-3.2 frames)" in found
