"""The demo from videos to leaderboard, and that its order makes sense. Minutes: `make prove`."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from syncdiff_pipelines import benchmark, demo, synthesize

from syncdiff_data.cli import RayOptions
from syncdiff_data.stage import ray_session

pytestmark = pytest.mark.slow
MODELS = ("syncdiff", "gan")


def means(report: Path) -> dict[str, dict[str, float]]:
    """Mean of every metric by method."""
    rows = pq.read_table(report / "per_clip.parquet").to_pandas()
    numbers = rows.select_dtypes("number").columns
    return {method: part[numbers].mean().to_dict() for method, part in rows.groupby("method")}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    demo.main(demo.Options(out))
    return out


def test_real_video_is_first_in_sync_and_the_frozen_frame_last(out: Path) -> None:
    found = means(out / "report")
    order = sorted(found, key=lambda method: -found[method]["expert_confidence"])
    assert order[0] == "ground_truth", found
    assert order[-1] == "frozen_first_frame", found
    assert set(MODELS) < set(found)
    assert all(found[model]["opening_corr"] > 0.5 for model in MODELS), found


def test_both_models_follow_the_sound_and_not_the_source(out: Path) -> None:
    """With the next video's sound the mouth opens otherwise than the source's does, and fits the new sound nearly as
    well as it fits its own."""
    names = sorted(path.name for path in (out / "real").iterdir() if path.suffix == ".mp4")
    table = out / "real" / "foreign.csv"
    with table.open("w", newline="") as file:
        rows = [(name, other, name) for name, other in zip(names, [*names[1:], names[0]])]
        csv.writer(file).writerows([("video", "audio", "output"), *rows])
    ray = RayOptions()
    with ray_session(ray):
        for name, run in (("syncdiff", "run"), ("gan", "gan")):
            dubs = out / "foreign" / name
            synthesize.main(
                synthesize.Options(model=str(out / run), pairs=table, out=dubs, config=demo.DUB, ray=ray)
            )
        benchmark.main(
            benchmark.Options(
                reference=out / "real", pairs=table, out=out / "crossed", ray=ray,
                method=tuple(f"{name}={out / 'foreign' / name}" for name in MODELS),
            )
        )  # fmt: skip
    own, crossed = means(out / "report"), means(out / "crossed")
    for model in MODELS:
        assert own[model]["opening_corr"] > crossed[model]["leak_corr"] + 0.2, (own, crossed)
        confidence = own[model]["expert_confidence"], crossed[model]["expert_confidence"]
        assert confidence[0] > confidence[1] > crossed["frozen_first_frame"]["expert_confidence"] + 0.3, (
            crossed
        )
