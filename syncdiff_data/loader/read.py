"""One clip's columns out of its shards: one row group of the clips, one of the features."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features.audio import logfbank
from syncdiff_data.loader.index import DamagedShard, Index
from syncdiff_data.loader.sample import StoredClip
from syncdiff_data.loader.sync import shift_sound
from syncdiff_data.media.codecs import decode_flac
from syncdiff_data.shards import Store
from syncdiff_data.shards.clip_columns import vectors_of
from syncdiff_data.sync_expert.prepare import standard_energies

FACE_COLUMNS = ["face", "landmarks", "face_to_source"]
AUDIO_COLUMN = "audio"


class ClipReader:
    """Reads clips by their number in the index; keeps the last `open_files` shards of either kind open."""

    def __init__(
        self, clips: Store, features: Store | None, index: Index, open_files: int, energies: bool = False
    ):
        """energies: whether the clips' sound is read too, as the sync expert takes it."""
        self._clips, self._features, self._index, self._energies = clips, features, index, energies
        self._open = lru_cache(maxsize=2 * open_files)(_open_shard)

    def read(self, clip: int) -> StoredClip:
        """Faces (still encoded), landmarks, transforms and features. DamagedShard when they are not whole."""
        index = self._index
        shard, group = int(index.shard[clip]), int(index.row_group[clip])
        columns = [*FACE_COLUMNS, AUDIO_COLUMN] if self._energies else FACE_COLUMNS
        row = self._row(self._clips, index.clip_shards[shard], group, columns)
        late = int(index.sound_late[clip])
        features = None
        if self._features is not None and index.feature_shards is not None and index.feature is not None:
            name = index.feature_shards[shard]
            features = vectors_of(self._row(self._features, name, group, [index.feature])[index.feature])
            if len(features) != index.num_frames[clip]:
                raise DamagedShard(
                    f"{self._features.path(name)} has {len(features)} vectors for the {index.num_frames[clip]} "
                    f"frames of clip {index.clip_id[clip]}"
                )
        sound = _energies(row[AUDIO_COLUMN].as_py(), int(index.num_frames[clip])) if self._energies else None
        return StoredClip(
            clip_id=str(index.clip_id[clip]),
            face_jpeg=row["face"].values,
            landmarks=vectors_of(row["landmarks"]).reshape(-1, 68, 2),
            face_to_source=vectors_of(row["face_to_source"]).reshape(-1, 2, 3),
            features=None if features is None else shift_sound(features, late),
            energies=None if sound is None else shift_sound(sound, late),
        )

    def _row(self, store: Store, name: str, group: int, columns: list[str]) -> dict[str, pa.ListScalar]:
        """The list cells of a row group's only row."""
        try:
            table = self._open(store, name).read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise DamagedShard(f"{store.path(name)} cannot be read at row group {group} ({error})") from error
        return {column: table.column(column)[0] for column in columns}


def _energies(flac: bytes, num_frames: int) -> np.ndarray:
    """The sync expert's audio input of a clip: float32 [num_frames, 104]."""
    return standard_energies(align_frames(logfbank(decode_flac(flac)), num_frames))


def _open_shard(store: Store, name: str) -> pq.ParquetFile:
    return pq.ParquetFile(store.open(name), page_checksum_verification=True, pre_buffer=True)
