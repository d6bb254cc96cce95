"""The data set on disk: columns, footers, atomic writes, a life of starts and resumes, reading, checking."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncdiff_data.clips import clip_id_of
from syncdiff_data.images import decode_jpeg, encode_gray, encode_jpeg
from syncdiff_data.media.codecs import encode_flac
from syncdiff_data.plans import Plan, entry_of, make_plans, plan_hash
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import Clip, Reject, Source, UserError
from syncdiff_data.shards import Store, load_dataset, read_clips, read_features, read_rejects
from syncdiff_data.shards.clip_columns import vector_column, vectors_of
from syncdiff_data.shards.inspect import contact_sheet, summarise
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.rows import clip_of_row, clip_table, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer, features_schema, shard_path
from syncdiff_data.shards.store import write_atomically
from syncdiff_data.shards.validate import validate
from syncdiff_data.shards.write import is_committed, write_shard

SIZE = 16
SOURCES = [Source(f"v{i}.mp4", 100 + i, split="train" if i % 2 else "test") for i in range(6)]
RECIPE = Recipe.of("clips", "synthetic", 1, {"faces": {"crop_size": SIZE}, "mouth": True}, {"net": "ab" * 32})


def synthetic_clip(source: Source, track: int = 0, num_frames: int = 3, mouth: bool = True) -> Clip:
    rng = np.random.default_rng([len(source.path), source.size, track, num_frames])
    faces = rng.integers(0, 256, (num_frames, SIZE, SIZE, 3), dtype=np.uint8)
    grays = rng.integers(0, 256, (num_frames, 96, 96), dtype=np.uint8)
    return Clip(
        clip_id=clip_id_of("synthetic", source.path, track, 0),
        source=source.path,
        split=source.split,
        speaker=source.speaker,
        text=source.text,
        track=track,
        start_s=0.25 * track,
        source_frame=np.arange(num_frames, dtype=np.int32),
        face_jpeg=tuple(encode_jpeg(face) for face in faces),
        mouth_png=tuple(encode_gray(gray) for gray in grays) if mouth else None,
        audio=rng.integers(-32768, 32768, num_frames * 640).astype(np.int16),
        landmarks=rng.normal(100, 30, (num_frames, 68, 2)).astype(np.float32),
        box=rng.normal(100, 30, (num_frames, 4)).astype(np.float32),
        face_to_source=rng.normal(0, 1, (num_frames, 2, 3)).astype(np.float32),
    )


def assert_same(a: Clip, b: Clip) -> None:
    for name in Clip.__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, name


def fill(store: Store, plan: Plan, fingerprint: str) -> None:
    """The shards of a plan whose second source has no face."""
    common = (fingerprint, plan.hash, plan.shard, plan.num_shards)
    clips, rejects = [], []
    for number, source in enumerate(plan.sources):
        if number == 1:
            rejects.append(Reject(source.path, None, "faces", Reason.NO_FACE, "no face in 3 frames"))
        else:
            clips += [clip_table(synthetic_clip(source, track)) for track in (0, 1)]
    footer = Footer("rejects", *common, sources=tuple(entry_of(s) for s in plan.sources))
    write_shard(store, footer, REJECTS, [rejects_table(rejects)])
    write_shard(store, Footer("clips", *common, crop_size=SIZE), CLIPS, clips)


def build(folder: Path | str, sources: list[Source] = SOURCES, recipe: Recipe = RECIPE) -> Store:
    """A finished data set of two shards: eight clips of four sources, and two rejects."""
    store, plans = Store(folder), make_plans(sources, 3)
    dataset = start_dataset(store, recipe, plan_hash([p.hash for p in plans]), len(plans))
    for plan in plans:
        fill(store, plan, dataset.fingerprint)
    counts = {"sources": 6, "clips": 8, "frames": 24, "rejects": 2, "rejects_by_reason": {"no_face": 2}}
    finish_dataset(store, dataset, counts)
    return store


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


def test_plan_hash_sees_paths_and_sizes_and_nothing_else() -> None:
    (plan,) = make_plans(SOURCES, 6)
    changed = replace(plan, sources=(replace(SOURCES[0], size=7), *SOURCES[1:]))
    renamed = replace(plan, sources=(replace(SOURCES[0], path="other.mp4"), *SOURCES[1:]))
    retold = replace(plan, shard=5, sources=(replace(SOURCES[0], text="new"), *SOURCES[1:]))
    assert len({plan.hash, changed.hash, renamed.hash, retold.hash}) == 4, "kind 21: labels count"


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
    told = []
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
        least = {c.path_in_schema: c.statistics.min for c in columns if c.is_stats_set}
        told.append((least["clip_id"], least["split"], least["num_frames"]))
    assert told == expected


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


# Atomic writes

KILLED_WRITER = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from test_shards import *
def rows():
    yield clip_table(synthetic_clip(SOURCES[0]))
    os.kill(os.getpid(), signal.SIGKILL)
footer = Footer("clips", {fingerprint!r}, make_plans(SOURCES, 3)[0].hash, 0, 2, crop_size=SIZE)
write_shard(Store({folder!r}), footer, CLIPS, rows())
"""


def test_a_writer_killed_in_the_middle_leaves_the_old_shard(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    script = KILLED_WRITER.format(
        tests=str(Path(__file__).parent), fingerprint=RECIPE.fingerprint, folder=store.uri
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    after = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    left = [path for path in after if path not in before]
    assert [path.suffix for path in left] == [".tmp"]
    assert {path: after[path] for path in before} == before
    plans = make_plans(SOURCES, 3)
    start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), 2)
    assert not left[0].exists(), "a start sweeps what killed writers left"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes fail with EFBIG, as they fail with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    plan = make_plans(SOURCES, 3)[0]
    with largest_file(4096), pytest.raises(UserError, match=r"could not be written: File too large"):
        fill(store, plan, RECIPE.fingerprint)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))} == before


def test_an_error_while_filling_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda file: file.write(b"new" * (1 // 0)))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "not parquet", "other recipe"])
def test_a_damaged_shard_is_not_committed(tmp_path: Path, damage: str) -> None:
    store = build(tmp_path / "d")
    plan = make_plans(SOURCES, 3)[1]
    footer = Footer("clips", RECIPE.fingerprint, plan.hash, 1, 2, crop_size=SIZE)
    assert is_committed(store, footer, verify=True)
    path = Path(store.path(shard_path("clips", 1, 2)))
    data = path.read_bytes()
    if damage == "other recipe":
        footer = replace(footer, fingerprint="0" * 16)
    else:
        path.write_bytes(
            {
                "truncated": data[:-100],
                "flipped": flipped(data),
                "empty": b"",
                "not parquet": b"PAR1 nonsense PAR1",
            }[damage]
        )
    assert not is_committed(store, footer, verify=True)
    assert not is_committed(store, replace(footer, shard=0, num_shards=9)), "a shard that is not there"


def flipped(data: bytes) -> bytes:
    """The same with one bit of its first page of pictures turned."""
    at = data.index(b"\xff\xd8\xff") + 40
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# A life of starts and resumes


def test_another_recipe_is_refused_and_the_differences_named(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = load_dataset(store)
    other = Recipe.of(
        "clips", "synthetic", 2, {"faces": {"crop_size": 128}, "mouth": True}, {"net": "cd" * 32}
    )
    with pytest.raises(UserError) as refused:
        start_dataset(store, other, before.plan_hash, 2)
    text = str(refused.value)
    assert "config.faces.crop_size: 16 there, 128 now" in text
    assert "version: 1 there, 2 now" in text
    assert "weights.net" in text
    assert "mouth" not in text
    assert load_dataset(store) == before
    assert len(list(read_clips(store.uri))) == 8


def test_a_changed_list_of_sources_is_refused(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    with pytest.raises(UserError, match=r"another list of sources"):
        start_dataset(store, RECIPE, "0" * 16, 2)
    assert validate(store.uri) == []


def test_overwrite_takes_its_own_files_and_no_others(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    store.write_text("notes.md", "mine")
    other = replace(RECIPE, version=2)
    start_dataset(store, other, "0" * 16, 5, overwrite=True)
    assert store.list("clips") == store.list("rejects") == []
    assert store.read_text("notes.md") == "mine"
    with pytest.raises(UserError, match=r"not finished"):
        load_dataset(store)


def test_overwrite_for_other_sources_keeps_the_shards_that_are_the_same(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    changed = [*SOURCES[:5], replace(SOURCES[5], size=999)]
    plans = make_plans(changed, 3)
    start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), 2, overwrite=True)
    footers = [
        Footer("clips", RECIPE.fingerprint, plan.hash, plan.shard, 2, crop_size=SIZE) for plan in plans
    ]
    assert [is_committed(store, footer) for footer in footers] == [True, False]


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(UserError, match=r"not empty and is not a data set"):
        start_dataset(Store(tmp_path), RECIPE, "0" * 16, 1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_finishing_without_a_shard_is_refused(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    store.delete(shard_path("rejects", 1, 2))
    with pytest.raises(UserError, match=r"rejects-00001-of-00002\.parquet"):
        finish_dataset(store, load_dataset(store), {})


# Reading


def test_read_api(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    clips = list(read_clips(store.uri))
    assert [(c.source, c.track) for c in clips] == [(f"v{i}.mp4", t) for i in (0, 2, 3, 5) for t in (0, 1)]
    assert_same(clips[2], synthetic_clip(SOURCES[2], 0))
    assert clips[0].face.shape == (3, SIZE, SIZE, 3)
    assert {c.source for c in read_clips(store.uri, split="train")} == {"v3.mp4", "v5.mp4"}
    assert [(r.source, r.reason, r.kind) for r in read_rejects(store.uri)] == [
        ("v1.mp4", "no_face", "filtered"),
        ("v4.mp4", "no_face", "filtered"),
    ]


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a data set"):
        list(read_clips(tmp_path))
    store = build(tmp_path / "d")
    with pytest.raises(UserError, match=r"data set of clips, where one of features was expected"):
        list(read_features(store.uri))
    path = Path(store.path(shard_path("clips", 0, 2)))
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(UserError, match=r"clips-00000-of-00002\.parquet of .* cannot be read"):
        list(read_clips(store.uri))
    dataset_json = tmp_path / "d" / "dataset.json"
    whole = dataset_json.read_text()
    dataset_json.write_text(whole.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(UserError, match=r"schema version 99"):
        list(read_clips(store.uri))
    dataset_json.write_text(whole[:-30])
    with pytest.raises(UserError, match=r"dataset\.json of .* is damaged"):
        list(read_clips(store.uri))


def test_datasets_shows_the_faces_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    store = build(tmp_path / "d")
    clips = datasets.load_dataset(
        "parquet", data_files=f"{store.uri}/clips/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    clips = clips.cast_column("face", datasets.List(datasets.Image()))
    first = next(read_clips(store.uri))
    assert clips[0]["clip_id"] == first.clip_id
    assert np.asarray(clips[0]["landmarks"]).shape == (3, 136)
    np.testing.assert_array_equal(np.asarray(clips[0]["face"][0]), first.face[0])


def test_a_data_set_on_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
            monkeypatch.setenv(name, value)
        query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        Store(f"s3://bucket{query}").filesystem.create_dir("bucket")
        uri = f"s3://bucket/some/set{query}"
        build(uri)
        assert validate(uri) == []
        assert len(list(read_clips(uri))) == 8
        with pytest.raises(UserError, match=r"another list of sources"):
            start_dataset(Store(uri), RECIPE, "0" * 16, 2)
        with pytest.raises(UserError, match=r"nowhere.*could not be written"):
            Store(f"s3://nowhere/set{query}".replace("&allow_bucket_creation=true", "")).write_text("x", "y")
    finally:
        server.stop()


def test_inspect_shows_numbers_and_pictures(tmp_path: Path) -> None:
    from rich.console import Console

    store = build(tmp_path / "d")
    console = Console(record=True, width=200, file=(tmp_path / "log").open("w"))
    summarise(store.uri, console)
    text = console.export_text()
    assert "6 sources, 8 clips" in text
    assert "no_face" in text
    contact_sheet(store.uri, tmp_path / "sheet.png", clips=4)
    assert decode_jpeg((tmp_path / "sheet.png").read_bytes()).shape == (4 * 160, 6 * 160, 3)


# Checking

DAMAGES = {
    "flipped bit": r"clips-00000-of-00002\.parquet of .* cannot be read",
    "dropped shard": r"clips-00001-of-00002\.parquet of .* cannot be read",
    "flipped reject": r"rejects-00000-of-00002\.parquet of .* cannot be read",
    "repeated row": r"occurs 2 times",
    "dropped row": r"v2\.mp4 is neither a clip nor a reject",
    "rows out of order": r"rows are not in the order",
    "two clips in a row group": r"a row group of 4 clips",
    "foreign source": r"stranger\.mp4 is not in the plan",
    "wrong count": r"dataset\.json counts 7 clips, the shards hold 8",
    "wrong plan": r"plans are not those of dataset\.json",
    "other recipe": r"made by another recipe",
    "not finished": r"not finished",
    "not a picture": r"row 0: 1 bytes are not an image",
    "short audio": r"'audio': ",
    "nan": r"landmarks holds a number that is not finite",
    "column gone": r"columns of shard .* are not those",
    "wrong crop size": r"face crops are",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_validate_finds(tmp_path: Path, damage: str) -> None:
    store = build(tmp_path / "d")
    assert validate(store.uri) == []
    spoil(store, damage)
    problems = validate(store.uri)
    assert any(re.search(DAMAGES[damage], problem) for problem in problems), problems
    assert len(problems) < 6, "one fault, few sentences"


def spoil(store: Store, damage: str) -> None:
    """Harm the data set of `build` in one way."""
    clips, rejects = (Path(store.path(shard_path(kind, 0, 2))) for kind in ("clips", "rejects"))
    tables = [pq.ParquetFile(clips).read_row_group(row) for row in range(4)]
    if damage == "flipped bit":
        clips.write_bytes(flipped(clips.read_bytes()))
    elif damage == "dropped shard":
        store.delete(shard_path("clips", 1, 2))
    elif damage == "flipped reject":
        data = bytearray(rejects.read_bytes())
        data[60] ^= 255
        rejects.write_bytes(data)
    elif damage == "repeated row":
        rewrite(clips, [*tables, tables[-1]])
    elif damage == "dropped row":
        rewrite(clips, tables[:2])
    elif damage == "rows out of order":
        rewrite(clips, tables[::-1])
    elif damage == "two clips in a row group":
        rewrite(clips, [pa.concat_tables(tables)])
    elif damage == "foreign source":
        rewrite(clips, [*tables, clip_table(synthetic_clip(replace(SOURCES[0], path="stranger.mp4")))])
    elif damage == "not a picture":
        rewrite(clips, [changed(tables[0], "face", [[b"x", b"y", b"z"]]), *tables[1:]])
    elif damage == "short audio":
        rewrite(clips, [changed(tables[0], "audio", [encode_flac(np.zeros(99, np.int16))]), *tables[1:]])
    elif damage == "nan":
        rewrite(clips, [changed(tables[0], "landmarks", [[[float("nan")] * 136] * 3]), *tables[1:]])
    elif damage == "column gone":
        rewrite(clips, [table.drop_columns("text") for table in tables])
    else:
        spoil_description(store, damage, clips)


def spoil_description(store: Store, damage: str, clips: Path) -> None:
    dataset = load_dataset(store)
    tables = [pq.ParquetFile(clips).read_row_group(row) for row in range(4)]
    if damage == "wrong count":
        replace(dataset, counts={**dataset.counts, "clips": 7}).save(store)
    elif damage == "wrong plan":
        replace(dataset, plan_hash="0" * 16).save(store)
    elif damage == "other recipe":
        replace(dataset, fingerprint="0" * 16).save(store)
    elif damage == "not finished":
        replace(dataset, complete=False).save(store)
    elif damage == "wrong crop size":
        footer = Footer.of(tables[0].schema)
        assert footer is not None
        schema = replace(footer, crop_size=512).attach(CLIPS)
        rewrite(clips, [table.cast(schema) for table in tables])
    else:
        raise AssertionError(damage)


def rewrite(path: Path, tables: list[pa.Table]) -> None:
    with pq.ParquetWriter(path, tables[0].schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.cast(tables[0].schema), row_group_size=table.num_rows)


def changed(table: pa.Table, column: str, values: list) -> pa.Table:
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def test_the_counts_of_json_are_plain(tmp_path: Path) -> None:
    raw = json.loads(build(tmp_path / "d").read_text("dataset.json"))
    assert raw["kind"] == "clips"
    assert raw["name"] == "synthetic"
    assert raw["schema_version"] == 1
    assert raw["recipe"]["config"]["faces"]["crop_size"] == SIZE
    assert raw["fingerprint"] == RECIPE.fingerprint
    assert raw["counts"]["rejects_by_reason"] == {"no_face": 2}
    assert str(tmp_path) not in json.dumps(raw)
    assert os.uname().nodename not in json.dumps(raw)
