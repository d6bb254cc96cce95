"""The data set on disk: schema, writing, reading, checking. docs/dataset.md describes it for users."""

from syncdiff_data.shards.dataset import Dataset, load_dataset
from syncdiff_data.shards.read import read_clips, read_features, read_rejects
from syncdiff_data.shards.store import Store

__all__ = ["Dataset", "Store", "load_dataset", "read_clips", "read_features", "read_rejects"]
