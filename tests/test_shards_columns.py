"""What a shard holds: plans, names, columns, footers, rows that come back as they went in."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_data import SIZE, SOURCES, assert_same, build, synthetic_clip

from syncdiff_data.clips import clip_id_of
from syncdiff_data.plans import Plan, make_plans
from syncdiff_data.records import Source
from syncdiff_data.shards import Store, read_clips
from syncdiff_data.shards.clip_columns import vector_column, vectors_of
from syncdiff_data.shards.rows import clip_of_row, clip_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer, features_schema, shard_path
from syncdiff_data.shards.write import write_shard

# Plans and names


@given(
    st.lists(st.text("abc/é", min_size=1, max_size=4), unique=True, max_size=12),
    st.integers(1, 5),
    st.randoms(),
)
def test_plans_are_a_partition_of_the_sorted_sources(
    paths: list[str], size: int, shuffler: random.Random
) -> None:
    sources = [Source(path, len(path), text="a b") for path in paths]
    plans = make_plans(sources, size)
    shuffler.shuffle(sources)
    assert make_plans(sources, size) == plans
    assert [s.path for plan in plans for s in plan.sources] == sorted(paths)
    assert all(len(plan.sources) == size for plan in plans[:-1])
    assert [Plan.from_json(plan.to_json()) for plan in plans] == plans


def test_kind_21_plan_hash_sees_paths_sizes_and_labels_and_nothing_else() -> None:
    (plan,) = make_plans(SOURCES, 6)
    changed = replace(plan, sources=(replace(SOURCES[0], size=7), *SOURCES[1:]))
    renamed = replace(plan, sources=(replace(SOURCES[0], path="other.mp4"), *SOURCES[1:]))
    relabelled = replace(plan, shard=5, sources=(replace(SOURCES[0], text="new"), *SOURCES[1:]))
    assert len({plan.hash, changed.hash, renamed.hash, relabelled.hash}) == 4


def test_names_are_the_same_on_every_machine_and_in_every_release() -> None:
    assert clip_id_of("grid", "s1/bbaf2n.mpg", 0, 0) == "582c21bce3d029f22b31"
    assert len({clip_id_of("grid", path, track, 0) for path in "ab" for track in (0, 1)}) == 4
    assert clip_id_of("grid", "a", 1, 11) != clip_id_of("grid", "a", 11, 1)
    assert shard_path("clips", 3, 40) == "clips/clips-00003-of-00040.parquet"


# Columns


def test_columns_are_the_contract() -> None:
    vectors = "list<element: fixed_size_list<element: float>[{}]>"
    found = {field.name: (str(field.type).replace("item:", "element:"), field.nullable) for field in CLIPS}
    assert found == {
        "clip_id": ("string", False),
        "source": ("string", False),
        "split": ("string", True),
        "speaker": ("string", True),
        "text": ("string", True),
        "track": ("int32", False),
        "num_frames": ("int32", False),
        "start_s": ("double", False),
        "fps": ("float", False),
        "sample_rate": ("int32", False),
        "source_frame": ("list<element: int32>", False),
        "face": ("list<element: binary>", False),
        "mouth": ("list<element: binary>", True),
        "audio": ("binary", False),
        "landmarks": (vectors.format(136), False),
        "box": (vectors.format(4), False),
        "face_to_source": (vectors.format(6), False),
    }
    assert REJECTS.names == ["source", "track", "kind", "stage", "reason", "detail"]
    assert str(features_schema({"layer9": 768}).field("layer9").type).endswith("halffloat>[768]>")


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), max_size=4),
    mouth=st.booleans(),
    text=st.one_of(st.none(), st.text(max_size=9)),
)
def test_clips_come_back_as_they_went_in(
    lengths: list[int], mouth: bool, text: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("round"))
    clips = [
        synthetic_clip(Source("é/ß.mp4", 1, None, text, text), track, length, mouth)
        for track, length in enumerate(lengths)
    ]
    footer = Footer("clips", "f" * 16, "p" * 16, 0, 1, crop_size=SIZE)
    assert write_shard(store, footer, CLIPS, map(clip_table, clips)) == len(clips)
    file = pq.ParquetFile(store.open(shard_path("clips", 0, 1)))
    assert file.schema_arrow.equals(CLIPS, check_metadata=False)
    assert Footer.of(file.schema_arrow) == footer
    assert file.num_row_groups == len(clips)
    for row, clip in enumerate(clips):
        assert_same(clip_of_row(file.read_row_group(row)), clip)


def test_footers_tell_id_split_and_length_of_each_clip(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    metadata = pq.read_metadata(store.path(shard_path("clips", 0, 2)))
    expected = [(c.clip_id, c.split, c.num_frames) for c in read_clips(store.uri)][: metadata.num_row_groups]
    listed = []
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
        least = {c.path_in_schema: c.statistics.min for c in columns if c.is_stats_set}
        listed.append((least["clip_id"], least["split"], least["num_frames"]))
    assert listed == expected


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        build(tmp_path / name)
    for file in sorted((tmp_path / "a").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_a_clip_of_unequal_columns_is_not_stored() -> None:
    clip = synthetic_clip(SOURCES[0])
    for broken in (
        replace(clip, face_jpeg=clip.face_jpeg[1:]),
        replace(clip, audio=clip.audio[1:]),
        replace(clip, box=clip.box[1:]),
    ):
        with pytest.raises(ValueError, match=r"3 frames, but lengths"):
            clip_table(broken)


@given(st.integers(0, 4), st.integers(1, 6))
def test_vectors_come_back_as_they_went_in(length: int, size: int) -> None:
    values = np.arange(length * size, dtype=np.float16).reshape(length, size)
    cell = vector_column(values)[0]
    np.testing.assert_array_equal(vectors_of(cell), values)
