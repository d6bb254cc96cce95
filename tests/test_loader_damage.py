"""Damaged shards and features that do not fit: named, or left out where that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from loader_data import make_dataset, names, numbered_clip, read

from syncdiff_data.loader import BatchParts
from syncdiff_data.records import UserError


def shard_of(dataset: str, kind: str, number: int) -> Path:
    return Path(dataset) / kind / f"{kind}-{number:05d}-of-00004.parquet"


def flip_a_byte(path: Path) -> None:
    """Damage a JPEG in the first clip; the footer stays whole."""
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 300] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["clips", "features"])
def test_a_truncated_shard_is_named(damaged, kind):
    path = shard_of(damaged[kind == "features"], kind, 2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{path.name} cannot be read"):
        read(damaged, 1)
    with pytest.warns(UserWarning, match=f"{path.name} .* clips are left out"):
        batches = read(damaged, 6, damaged="skip")
    assert {name for name, _ in names(batches)} == {f"clip{n:04d}" for n in (0, 1, 2, 8, 9, 10)}


def test_a_clip_with_a_flipped_byte_is_named(damaged):
    path = shard_of(damaged[0], "clips", 2)
    flip_a_byte(path)
    for workers in (0, 2):
        with pytest.raises(UserError) as failure:
            read(damaged, 12, workers=workers)
        assert path.name in str(failure.value)
        assert "\n" not in str(failure.value)
    with pytest.warns(UserWarning, match=rf"{path.name} .* \(1 so far\)"):
        batches = read(damaged, 12, damaged="skip")
    assert all(len(batch["clip_id"]) == 4 for batch in batches)
    assert {name for name, _ in names(batches)} == {f"clip{n:04d}" for n in range(11) if n != 3}
    assert names(read(damaged, 12, damaged="skip", workers=2)) == names(batches)


def test_features_of_other_clips_are_refused(dataset, damaged, tmp_path):
    swapped = [[numbered_clip(n, 10 + n) for n in range(8)], [], [], []]
    _, features = make_dataset(tmp_path / "swapped", swapped)
    with pytest.raises(UserError, match=r"features-00000-of-00004.parquet holds features of other clips"):
        read((dataset[0], features), 1)
    description = Path(damaged[0]) / "dataset.json"
    description.write_text(description.read_text().replace('"plan_hash": "plan"', '"plan_hash": "new"'))
    with pytest.raises(UserError, match=r"expected fingerprint and plan .*new.*, found .*plan"):
        read(damaged, 1)
    with pytest.raises(UserError, match="has the features logfbank: name one of them, not mel"):
        read(dataset, 1, feature="mel")


def test_features_shorter_than_their_clip_are_refused(tmp_path):
    clips, _ = make_dataset(tmp_path / "long", [[numbered_clip(0, 12)]])
    _, features = make_dataset(tmp_path / "short", [[numbered_clip(0, 11)]])
    with pytest.raises(UserError, match="11 vectors for the 12 frames of clip clip0000"):
        read((clips, features), 1)


def test_columns_that_no_part_needs_are_not_read(damaged):
    flip_a_byte(shard_of(damaged[0], "clips", 2))
    assert len(read(damaged, 12, parts=BatchParts(images=()))) == 12
    with pytest.raises(UserError, match="clips-00002-of-00004"):
        read(damaged, 12, parts=BatchParts(("identity",), landmarks=False))
