"""Small data sets of made clips on disk: eight clips of four sources, two rejects, two shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_clips import made_clip

from syncdiff_data.clips import clip_id_of
from syncdiff_data.images import encode_gray, encode_jpeg
from syncdiff_data.plans import Plan, entry_of, make_plans, plan_hash
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import Clip, Reject, Source
from syncdiff_data.shards import Store
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.rows import clip_table, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer
from syncdiff_data.shards.write import write_shard

SIZE = 16
SOURCES = [Source(f"v{i}.mp4", 100 + i, split="train" if i % 2 else "test") for i in range(6)]
RECIPE = Recipe.of("clips", "synthetic", 1, {"faces": {"crop_size": SIZE}, "mouth": True}, {"net": "ab" * 32})


def synthetic_clip(source: Source, track: int = 0, num_frames: int = 3, mouth: bool = True) -> Clip:
    """A clip of noise in every column, the same for the same arguments."""
    rng = np.random.default_rng([len(source.path), source.size, track, num_frames])
    faces = rng.integers(0, 256, (num_frames, SIZE, SIZE, 3), dtype=np.uint8)
    grays = rng.integers(0, 256, (num_frames, 96, 96), dtype=np.uint8)
    return made_clip(
        num_frames,
        clip_id=clip_id_of("synthetic", source.path, track, 0),
        source=source.path,
        split=source.split,
        speaker=source.speaker,
        text=source.text,
        track=track,
        start_s=0.25 * track,
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


def flipped(data: bytes) -> bytes:
    """The same with one bit of its first page of pictures turned."""
    at = data.index(b"\xff\xd8\xff") + 40
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
