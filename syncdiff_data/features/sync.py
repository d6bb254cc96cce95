"""Offset and confidence of each clip by the sync expert: one row a clip, for filtering and repairing data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from syncdiff_data.records import Clip, UserError
from syncdiff_data.sync_expert.scoring import MAX_SHIFT

if TYPE_CHECKING:
    from syncdiff_data.sync_expert.expert import SyncExpert


class SyncFeatures:
    """Columns sync_offset (frames by which the sound comes late: the opposite of SyncNet's sign), sync_confidence, and
    sync_curve, the mean similarity with the sound taken -15 ... 15 frames later."""

    def __init__(self, expert: SyncExpert):
        self.columns = {
            "sync_offset": pa.int32(),
            "sync_confidence": pa.float32(),
            "sync_curve": pa.list_(pa.float32(), 2 * MAX_SHIFT + 1),
        }
        self._expert = expert

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        return [self._encode(clip) for clip in clips]

    def _encode(self, clip: Clip) -> dict[str, np.ndarray]:
        if clip.mouth is None:
            raise UserError("The sync expert reads mouth crops: preprocess without --no-mouth.")
        lips = self._expert.embed_lips(clip.mouth, clip.landmarks)
        audio = self._expert.embed_sound(clip.audio, clip.num_frames)
        score = self._expert.score(lips, audio)
        # SyncScore counts shifts by which the sound comes early; the columns, by which it comes late.
        return {
            "sync_offset": np.array(-score.offset),
            "sync_confidence": np.array(score.confidence),
            "sync_curve": score.curve[::-1].astype(np.float32),
        }
