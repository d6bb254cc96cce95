"""Standalone scoring, as the published scripts do it: a file on its own clock, at 25 fps, with its own sound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.media import Video, read_audio
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError
from syncdiff_eval.metrics.base import ClipContext
from syncdiff_eval.scoring.base import (
    ClipScore,
    Heartbeat,
    Reference,
    Scorer,
    ScoreRequest,
    applies,
    compute_families,
    requested_families,
)
from syncdiff_eval.videos import read_facts


class StandaloneScoring:
    """No frame is paired with the reference's; baselines show the reference with the driving audio."""

    needs_face_backend = False
    outputs_bring_audio = True
    frames_depend_on_reference = False

    def measure_reference(
        self, path: Path, scorer: Scorer, face_config: Any, heartbeat: Heartbeat = lambda: None
    ) -> Reference:
        """Facts and length alone. Raises MediaError."""
        facts, video = read_facts(path), Video(path, heartbeat=heartbeat)
        num_frames = math.ceil(video.num_frames / FPS * facts.fps)
        return Reference(facts, num_frames, video.start_s, None, np.empty(0))

    def score(self, request: ScoreRequest, scorer: Scorer) -> ClipScore:
        families = requested_families(request, scorer)
        context = file_context(request)
        # These metrics read the file by themselves: there is nothing to update.
        metrics = {
            name: scorer.factories[name](context) for name in families if applies(families[name], request)
        }
        facts = read_facts(request.output) if request.output else request.reference.facts
        return ClipScore(context.num_frames, facts, compute_families(metrics, families, request))


def file_context(request: ScoreRequest) -> ClipContext:
    """The file resampled to 25 fps by time, with its own sound, or with the driving audio where it is a baseline."""
    video = Video(request.output or request.reference_path, heartbeat=request.heartbeat)
    audio = _own_audio(video) if request.output or request.audio is None else request.audio
    return ClipContext(
        fps=FPS,
        num_frames=video.num_frames,
        audio=audio,
        eye_distance=None,
        video=video,
        frozen=request.baseline.frozen,
        frame_cache=request.frame_cache,
        heartbeat=request.heartbeat,
    )


def _own_audio(video: Video) -> np.ndarray | None:
    """int16 [N]; None where there is no audio stream, or none that holds a sound."""
    try:
        return read_audio(video.path, video.start_s, video.num_frames)
    except MediaError as error:
        if error.reason != Reason.NO_AUDIO:
            raise
        return None
