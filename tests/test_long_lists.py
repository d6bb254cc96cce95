"""What long lists must not change: the index, the plans that travel, the listed pairs, the records of a run."""

from __future__ import annotations

import gc
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loader_data import make_dataset, numbered_clip, write_dataset

from syncdiff_data.loader import LoaderConfig
from syncdiff_data.loader.index import build_index
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.plans import make_plans
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import Source, UserError
from syncdiff_data.shards import Store
from syncdiff_data.shards.schema import features_schema
from syncdiff_data.stage.engine import _blocks, _plans_of
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import GROUND_TRUTH
from syncdiff_eval.pairing import Pair, Pairing, pair_by_list
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.runner import ScoreStage, _shared_names
from syncdiff_eval.tasks import ScoringConfig

LENGTHS = {0: 4, 1: 9, 2: 7, 3: 12, 4: 5, 5: 30}
"""Frames by clip."""
SHARDS = ((0, 1), (2,), (), (3, 4, 5))


def split_of(number: int) -> str | None:
    return ("train", "test", None)[number % 3]


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[str, str]:
    return make_dataset(
        tmp_path, [[numbered_clip(n, LENGTHS[n], split_of(n)) for n in shard] for shard in SHARDS]
    )


@pytest.mark.parametrize("split", [None, "train", "test"])
@pytest.mark.filterwarnings("ignore:.*are left out")
def test_the_index_lists_the_clips_in_stored_order(dataset: tuple[str, str], split: str | None) -> None:
    expected = [
        (number, shard, group)
        for shard, clips in enumerate(SHARDS)
        for group, number in enumerate(clips)
        if LENGTHS[number] >= 5 and split in (None, split_of(number))
    ]
    index = build_index(Store(dataset[0]), Store(dataset[1]), LoaderConfig(split=split))
    names = [f"clip{number:04d}" for number, _, _ in expected]
    assert index.clip_id.tolist() == names
    places = list(zip(index.shard.tolist(), index.row_group.tolist()))
    assert places == [(shard, group) for _, shard, group in expected]
    assert index.num_frames.tolist() == [LENGTHS[number] for number, _, _ in expected]
    assert index.sound_late.tolist() == [0] * len(expected)
    assert index.fingerprint == short_hash(names), "a checkpoint of an earlier version finds its order again"


@pytest.mark.filterwarnings("ignore:.*are left out")
def test_the_sync_filter_reads_offsets_and_skips_rejected_clips(
    tmp_path: Path, dataset: tuple[str, str]
) -> None:
    schema = features_schema({"sync_offset": pa.int32(), "sync_confidence": pa.float32()})
    rows = {0: (1, 0.9), 1: (None, None), 2: (-16, 0.9), 3: (15, 0.5), 4: (0, 0.1), 5: (-3, 0.5)}

    def row(number: int) -> pa.Table:
        offset, confidence = rows[number]
        return pa.Table.from_pylist(
            [{"clip_id": f"clip{number:04d}", "sync_offset": offset, "sync_confidence": confidence}], schema
        )

    folder = write_dataset(
        tmp_path / "sync", "features", [[row(n) for n in shard] for shard in SHARDS], schema
    )
    index = build_index(
        Store(dataset[0]), None, LoaderConfig(sync=SyncFilter(folder, max_offset=15, min_confidence=0.5))
    )
    assert dict(zip(index.clip_id.tolist(), index.sound_late.tolist())) == {"clip0003": 15, "clip0005": -3}


@pytest.mark.parametrize("confidence", [{}, {"sync_confidence": pa.string()}])
def test_offsets_without_numbers_beside_them_are_no_sync_data_set(
    tmp_path: Path, dataset: tuple[str, str], confidence: dict[str, pa.DataType]
) -> None:
    schema = features_schema({"sync_offset": pa.int32()} | confidence)
    rows = [[pa.Table.from_pylist([{"clip_id": f"clip{n:04d}"}], schema) for n in shard] for shard in SHARDS]
    folder = write_dataset(tmp_path / "sync", "features", rows, schema)
    with pytest.raises(UserError, match="expected sync_offset and sync_confidence"):
        build_index(Store(dataset[0]), None, LoaderConfig(sync=SyncFilter(folder)))


@pytest.mark.filterwarnings("ignore:.*are left out")
def test_the_footer_of_a_shard_is_let_go_of(dataset: tuple[str, str]) -> None:
    """Half a megabyte a shard stayed until the next collection of cycles, hundreds of shards later."""
    gc.collect()
    gc.disable()
    try:
        build_index(Store(dataset[0]), Store(dataset[1]), LoaderConfig())
        held = [each for each in gc.get_objects() if type(each) is pq.FileMetaData]
    finally:
        gc.enable()
    assert held == []


def test_plans_travel_small_and_whole() -> None:
    sources = [
        Source(
            f"dev/mp4/id{i // 200:05}/video{i // 8:07}/{i % 8:05}.mp4", 9000 + i, "dev", f"id{i // 200:05}"
        )
        for i in range(320)
    ]
    plans = make_plans(sources, 32)
    blocks = _blocks(plans, workers=2, most=1)
    assert [plan for block in blocks for plan in _plans_of(block)] == plans
    assert [block["first"] for block in blocks] == list(range(10))
    assert sum(len(block["plans"]) for block in blocks) < 30 * len(sources), (
        "the object store holds all at once"
    )


def test_workers_of_a_benchmark_get_no_list() -> None:
    """The pairs come in the plans: a worker of ten methods on 14,000 clips held the list of all otherwise."""

    def sent(pairs: int) -> int:
        pairing = Pairing("own-audio", tuple(Pair(f"{i}", f"{i}.mp4", f"{i}.mp4") for i in range(pairs)))
        config = ScoringConfig(
            Path(), pairing, (GROUND_TRUTH,), SYNCDIFF, {}, {}, {}, {}, None, Path()
        ).without_pairs()
        assert not config.crossed
        assert replace(config, pairing=Pairing("crossed-audio", ())).crossed
        return len(pickle.dumps(ScoreStage(config, Cache(Path()))))

    assert sent(2) == sent(2000)


def test_records_share_their_names() -> None:
    text = json.dumps({"status": "scored", "values": {"lse_c": 7.5, "psnr": None}, "arrays": {}, "list": [1]})
    first, second = (_shared_names(json.loads(text)) for _ in range(2))
    assert first == json.loads(text)
    assert all(a is b for a, b in zip(first["values"], second["values"]))


def test_the_first_output_given_twice_is_named(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    table = tmp_path / "pairs.csv"
    rows = ["video,audio,output", "a,b,x", "a,c,y", "b,a,z", "b,c,y", "c,a,x"]
    table.write_text("\n".join(rows))
    with pytest.raises(UserError, match="gives the output 'x' to two pairs"):
        pair_by_list(tmp_path, table, "csv")
