"""From shards to training batches. See docs/loader.md."""

from syncdiff_data.loader.stream import Batch, ClipWindows, Loader, LoaderConfig

__all__ = ["Batch", "ClipWindows", "Loader", "LoaderConfig"]
