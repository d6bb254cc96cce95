"""From shards to training batches. See docs/loader.md."""

from syncdiff_data.loader.batch import Batch
from syncdiff_data.loader.config import BatchParts, LoaderConfig
from syncdiff_data.loader.stream import ClipWindows, Loader

__all__ = ["Batch", "BatchParts", "ClipWindows", "Loader", "LoaderConfig"]
