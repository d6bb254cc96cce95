"""Clips in step: which to train on, and by how many frames the sound of each is moved.

The offsets are those of a data set that `extract_features.py --encoder sync` made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syncdiff_data.ranges import AT_LEAST_0, check_ranges
from syncdiff_data.records import UserError
from syncdiff_data.shards import Dataset, Store, load_dataset
from syncdiff_data.shards.dataset import iterate_shards
from syncdiff_data.shards.schema import SYNC_COLUMNS, feature_columns, has_sync


@dataclass(frozen=True)
class SyncFilter:
    """Leaves clips out that are far out of step or show no sync, and repairs the others."""

    folder: str
    """Data set with the columns sync_offset and sync_confidence."""
    max_offset: int = 15
    """Clips further out of step than so many frames are left out."""
    min_confidence: float = 0.0
    """Clips of less confidence are left out."""

    def __post_init__(self) -> None:
        check_ranges(self, {"max_offset": AT_LEAST_0, "min_confidence": (-2, 2)})

    def shifts(self, clips: Dataset) -> dict[str, int]:
        """clip_id -> frames by which its sound comes late, of the clips that stay.

        UserError where the folder holds no such data set, or one of other clips.
        """
        store = Store(self.folder)
        dataset = load_dataset(store, "features")
        if dataset.recipe.get("config", {}).get("clips") != clips.fingerprint:
            raise UserError(
                f"{store.uri} was made from other clips (expected fingerprint {clips.fingerprint}, found "
                f"{dataset.recipe.get('config', {}).get('clips')}): extract `--encoder sync` of this data set."
            )
        found: dict[str, int] = {}
        for _, shard in iterate_shards(store, dataset):
            if not has_sync(shard.schema_arrow):
                columns = feature_columns(shard.schema_arrow)
                raise UserError(
                    f"{store.uri} has the columns {', '.join(columns)}: expected sync_offset and sync_confidence, "
                    "which `extract_features.py --encoder sync` makes."
                )
            table = shard.read(columns=["clip_id", *SYNC_COLUMNS]).to_pydict()
            found |= {
                clip_id: offset
                for clip_id, offset, confidence in zip(*table.values())
                # Clips that were rejected have null.
                if None not in (offset, confidence)
                and abs(offset) <= self.max_offset
                and confidence >= self.min_confidence
            }
        return found


def shift_sound(features: np.ndarray, late: int) -> np.ndarray:
    """Features [T, ...] whose frame t is frame t + late of the input, edge frames repeated: sound that comes `late`
    frames late is brought into step. The pictures stay."""
    return features if late == 0 else features[np.clip(np.arange(len(features)) + late, 0, len(features) - 1)]
