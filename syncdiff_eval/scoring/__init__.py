"""One clip of one method: from a `ScoreRequest` to a `ClipScore`, or a ScoringError with the reason.

Two strategies: paired scoring compares frames with the reference's, standalone scoring takes a file by itself. Nothing
here knows about Ray or about cached records.
"""

from pathlib import Path
from typing import Any

from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.scoring.base import (
    ClipScore,
    FamilyScore,
    Heartbeat,
    Reference,
    Scorer,
    ScoreRequest,
    ScoringError,
    ScoringStrategy,
)
from syncdiff_eval.scoring.paired import PairedScoring
from syncdiff_eval.scoring.reference_frames import ReferenceFrames
from syncdiff_eval.scoring.sound import driving_audio, shift_audio
from syncdiff_eval.scoring.standalone import StandaloneScoring

__all__ = [
    "ClipScore",
    "FamilyScore",
    "Reference",
    "ReferenceFrames",
    "ScoreRequest",
    "Scorer",
    "ScoringError",
    "driving_audio",
    "measure_reference",
    "score_clip",
    "shift_audio",
    "strategy_of",
]


def strategy_of(protocol: ProtocolDefinition) -> ScoringStrategy:
    """How a protocol scores: the one place that tells standalone from paired protocols."""
    return StandaloneScoring() if protocol.standalone else PairedScoring()


def measure_reference(
    path: Path, scorer: Scorer, face_config: Any, heartbeat: Heartbeat = lambda: None
) -> Reference:
    """What all methods share of one reference video. heartbeat: called once per frame. Raises MediaError."""
    return strategy_of(scorer.protocol).measure_reference(path, scorer, face_config, heartbeat)


def score_clip(request: ScoreRequest, scorer: Scorer) -> ClipScore:
    """Score one clip by the protocol's strategy. Raises ScoringError, and MediaError for what does not decode."""
    return strategy_of(scorer.protocol).score(request, scorer)
