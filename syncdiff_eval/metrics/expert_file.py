"""The sync expert on a file alone: its own faces, its own sound, no reference."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, SAMPLES_PER_FRAME
from syncdiff_data.sync_expert.files import expert_sha256
from syncdiff_eval.metrics.base import (
    ClipContext,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.lse_published import OwnFrames
from syncdiff_eval.metrics.mouth_audio import is_silent
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.metrics.sync_expert import COLUMNS, LEAST_FRAMES, load_expert

if TYPE_CHECKING:
    from syncdiff_data.faces import FaceBackend, Track
    from syncdiff_data.sync_expert.expert import SyncExpert
    from syncdiff_data.sync_expert.scoring import SyncScore

FILE_COLUMNS = COLUMNS[:2]


class FileExpert(WholeClip):
    """Confidence and offset of the face of a file that fits its sound best. It reads the frames itself, twice."""

    def __init__(self, context: ClipContext, expert: SyncExpert, backend: FaceBackend):
        super().__init__()
        self._context, self._expert, self._backend = context, expert, backend

    def update(self, batch: FrameBatch) -> None:
        raise ValueError("expert-file scores a file standalone, not beside a reference")

    def _own(self) -> Values:
        context = self._context
        if context.audio is None:
            return _none_of(Reason.NO_AUDIO)
        if is_silent(context.audio, FPS, context.num_frames):
            return _none_of(Reason.SILENT_AUDIO)
        tracks = self._tracks()
        if not tracks:
            return _none_of(Reason.NO_FACE_TRACK)
        long = [track for track in tracks if len(track.box) >= LEAST_FRAMES]
        if not long:
            return _none_of(Reason.TOO_SHORT_FOR_SYNC)
        best = max(self._scores(long, context.audio), key=lambda score: score.confidence)
        return {"expert_confidence": best.confidence, "expert_offset": float(best.offset)}

    def _frames(self) -> OwnFrames:
        assert self._context.video is not None
        return OwnFrames(self._context.video, self._context.frozen, self._context.heartbeat)

    def _tracks(self) -> list[Track]:
        from syncdiff_data.faces import FaceConfig, find_tracks

        return find_tracks(iter(self._frames()), self._backend, FaceConfig())[0]

    def _scores(self, tracks: list[Track], audio: np.ndarray) -> list[SyncScore]:
        from syncdiff_data.faces import mean_face
        from syncdiff_data.sync_expert.tracks import embed_tracks

        lips = embed_tracks(tracks, enumerate(self._frames()), self._expert, mean_face())
        return [self._score(track, embedded, audio) for track, embedded in zip(tracks, lips)]

    def _score(self, track: Track, lips: np.ndarray, audio: np.ndarray) -> SyncScore:
        start, count = track.first_frame * SAMPLES_PER_FRAME, len(lips) * SAMPLES_PER_FRAME
        sound = audio[start : start + count]
        sound = np.pad(sound, (0, count - len(sound)))
        return self._expert.score(lips, self._expert.embed_sound(sound, len(lips)))


def _none_of(reason: Reason) -> Values:
    return {column.name: MissingValue(reason) for column in FILE_COLUMNS}


def expert_file_family(folder: str | PathLike[str], name: str = "expert-file") -> MetricFamily:
    """As `sync_expert.expert_family`, for standalone protocols."""

    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        from syncdiff_data.faces import FaceConfig, load_backend

        expert, backend = load_expert(str(folder), device), load_backend(FaceConfig(), {}, device)
        return lambda context: FileExpert(context, expert, backend)

    return MetricFamily(
        name=name,
        group=ReportGroup.SYNC,
        columns=FILE_COLUMNS,
        version=1,
        load=load,
        content_hash=expert_sha256(folder),
    )
