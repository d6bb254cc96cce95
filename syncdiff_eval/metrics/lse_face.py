"""LSE-C, LSE-D and the AV offset under protocols of this project: the reference's speaker, no zero padding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE
from syncdiff_data.weights import file_sha256
from syncdiff_eval.metrics.base import (
    ClipContext,
    Column,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.lse import Sync, sync_of
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.networks.resample import Resampler
from syncdiff_eval.networks.syncnet_crops import crop, crop_path, to_bgr
from syncdiff_eval.networks.syncnet_windows import LipStream

if TYPE_CHECKING:
    from syncdiff_eval.networks.syncnet import SyncNet

MIN_WINDOWS = 10
"""0.6 s of speech. Below it fewer than 11 shifts are left, and their median means little."""
VERSION = 2
"""Version 1, without packed convolutions, differs in the last digits of an embedding."""

COLUMNS = (
    Column("lse_c", "LSE-C", "", True, 3),
    Column("lse_d", "LSE-D", "", False, 3),
    Column("av_offset", "AV offset", "frames, + sound early", None, 2),
)


def values_of(sync: Sync) -> Values:
    """The columns of one clip."""
    return {"lse_c": sync.lse_c, "lse_d": sync.lse_d, "av_offset": float(sync.offset)}


def none_of(reason: Reason) -> Values:
    """A clip that cannot be scored has no distance, least of all 0.0, which would be the best there is."""
    return {column.name: MissingValue(reason) for column in COLUMNS}


class SpeakerSync(WholeClip):
    """SyncNet over the generated frames inside the reference's own boxes.

    From the first to the last frame where the reference shows its speaker; boxes in between are interpolated,
    smoothed, and shared by every method. Frames of another rate are resampled to 25 fps by time.
    """

    def __init__(self, context: ClipContext, network: SyncNet, weights: str):
        super().__init__()
        self._network = network
        self._audio = context.audio
        self._frame_cache = context.frame_cache
        self._producer = {"name": "lse", "version": VERSION, "weights": weights}
        self._first, self._path = _speaker_path(context)
        kept = self._frame_cache.read(**self._producer) if self._frame_cache else None
        self._lips = kept["lips"] if kept else None
        self._start_s = float(kept["start_s"]) if kept else 0.0
        self._frames = Resampler()
        self._stream = LipStream(network)
        self._sync: Sync | None = None

    def update(self, batch: FrameBatch) -> None:
        if self._lips is not None:
            return
        for i, (time, image) in enumerate(zip(batch.times, batch.generated)):
            at = batch.first_frame + i - self._first
            if not 0 <= at < len(self._path):
                continue
            if at == 0:
                self._start_s = time
            for picture in self._frames.add(time, to_bgr(crop(image, *self._path[at]))):
                self._stream.add(picture)

    def arrays(self) -> dict[str, np.ndarray]:
        """confidence: float32 [windows], for plots; window i starts with the speaker's frame i at 25 fps."""
        return {} if self._sync is None else {"confidence": self._sync.confidence}

    def _own(self) -> Values:
        if len(self._path) == 0:
            return none_of(Reason.NO_FACE)
        if self._audio is None:
            return none_of(Reason.NO_AUDIO)
        sound = self._audio[round(self._start_s * SAMPLE_RATE) :]
        self._sync = sync_of(self._embeddings(), sound, self._network, "valid")
        if self._sync is None or self._sync.windows < MIN_WINDOWS:
            self._sync = None
            return none_of(Reason.TOO_SHORT_FOR_SYNC)
        return values_of(self._sync)

    def _embeddings(self) -> np.ndarray:
        if self._lips is None:
            for picture in self._frames.finish():
                self._stream.add(picture)
            self._lips = self._stream.finish()
            if self._frame_cache:
                start_s = np.array(self._start_s)
                self._frame_cache.store({"lips": self._lips, "start_s": start_s}, **self._producer)
        return self._lips


def _speaker_path(context: ClipContext) -> tuple[int, np.ndarray]:
    """First frame of the speaker, and the crop's centre and half side from there on: float64 [t, 3]."""
    if context.regions is None or not context.regions.present.any():
        return 0, np.empty((0, 3))
    present = np.flatnonzero(context.regions.present)
    frames = np.arange(present[0], present[-1] + 1)
    boxes = [np.interp(frames, present, column) for column in context.regions.box[present].T]
    return int(present[0]), crop_path(np.column_stack(boxes), "held")


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.syncnet import SyncNet

    path = weights["syncnet"]
    network, digest = SyncNet.from_file(path, device), file_sha256(path)
    return lambda context: SpeakerSync(context, network, digest)


SYNC = MetricFamily(
    name="lse",
    group=ReportGroup.SYNC,
    columns=COLUMNS,
    version=VERSION,
    load=_load,
    weights=("syncnet",),
    required_inputs=frozenset(),
)
