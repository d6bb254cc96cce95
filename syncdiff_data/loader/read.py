"""One clip's columns out of its shards: one row group of the clips, one of the features."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features.audio import logfbank
from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.index import DamagedShard, Index
from syncdiff_data.loader.sample import StoredClip, crop_landmarks
from syncdiff_data.loader.sync import shift_sound
from syncdiff_data.media.codecs import decode_flac
from syncdiff_data.shards import Store
from syncdiff_data.shards.clip_columns import vectors_of
from syncdiff_data.shards.schema import DAMAGED_PARQUET
from syncdiff_data.sync_expert.prepare import standard_energies


def columns_needed(config: LoaderConfig) -> list[str]:
    """Columns of the clips from which batches are made."""
    parts = config.parts
    landmarks = parts.landmarks or config.identity == "similar"  # by which a similar frame is chosen
    columns = {"face": bool(parts.images), "landmarks": landmarks, "face_to_source": landmarks}
    return [name for name, needed in (columns | {"audio": parts.energies > 0}).items() if needed]


class ClipReader:
    """Reads clips by their number in the index; keeps as many shards of either kind open as are shuffled."""

    def __init__(self, clips: Store, features: Store | None, index: Index, config: LoaderConfig):
        self._clips, self._features, self._index = clips, features, index
        self._columns = columns_needed(config)
        self._open = lru_cache(maxsize=2 * max(config.shuffle_shards, 1))(_open_shard)

    def read(self, clip: int) -> StoredClip:
        """What batches need of a clip, faces still encoded. DamagedShard when it is not whole."""
        index, num_frames = self._index, int(self._index.num_frames[clip])
        shard, group, late = int(index.shard[clip]), int(index.row_group[clip]), int(index.sound_late[clip])
        row = self._row(self._clips, index.clip_shards[shard], group, self._columns)
        features = None
        if self._features is not None and index.feature_shards is not None and index.feature is not None:
            name = index.feature_shards[shard]
            features = vectors_of(self._row(self._features, name, group, [index.feature])[index.feature])
            if len(features) != num_frames:
                raise DamagedShard(
                    f"{self._features.path(name)} has {len(features)} vectors for the {num_frames} frames of clip "
                    f"{index.clip_id[clip]}"
                )
        return StoredClip(
            clip_id=str(index.clip_id[clip]),
            num_frames=num_frames,
            face_jpeg=row["face"].values if "face" in row else None,
            landmarks=_landmarks(row) if "landmarks" in row else None,
            features=None if features is None else shift_sound(features, late),
            energies=shift_sound(self._energies(row, clip), late) if "audio" in row else None,
        )

    def _energies(self, row: dict[str, pa.Scalar], clip: int) -> np.ndarray:
        """The sync expert's audio input of a clip: float32 [num_frames, 104]."""
        try:
            sound = decode_flac(row["audio"].as_py())
        except (RuntimeError, ValueError) as error:
            raise DamagedShard(
                f"the sound of clip {self._index.clip_id[clip]} does not decode ({error})"
            ) from error
        return standard_energies(align_frames(logfbank(sound), int(self._index.num_frames[clip])))

    def _row(self, store: Store, name: str, group: int, columns: list[str]) -> dict[str, pa.Scalar]:
        """The cells of a row group's only row."""
        try:
            table = self._open(store, name).read_row_group(group, columns=columns, use_threads=False)
        except DAMAGED_PARQUET as error:
            raise DamagedShard(f"{store.path(name)} cannot be read at row group {group} ({error})") from error
        return {column: table.column(column)[0] for column in columns}


def _landmarks(row: dict[str, pa.Scalar]) -> np.ndarray:
    """float32 [F, 68, 2] in crop pixels."""
    points, affines = vectors_of(row["landmarks"]), vectors_of(row["face_to_source"])
    return crop_landmarks(points.reshape(-1, 68, 2), affines.reshape(-1, 2, 3))


def _open_shard(store: Store, name: str) -> pq.ParquetFile:
    # pre_buffer: an object store is asked once a row group; a disk has nothing to gain from it
    return pq.ParquetFile(store.open(name), page_checksum_verification=True, pre_buffer=not store.is_local)
