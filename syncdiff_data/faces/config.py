"""The options of the face stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, SHARE, check_ranges


@dataclass(frozen=True)
class FaceConfig:
    """How faces are found, followed and cropped. Times are in seconds, lengths in pixels of the source."""

    backend: str = "embedded"
    """"embedded" (CenterFace and dlib's 68 points, weights inside pip packages, CPU), "face-alignment"
    (S3FD and FAN, weights to be fetched, the choice for a GPU) or "module:Class", a backend of your own."""
    detect_every: int = 8
    """Frames from one detection to the next where nothing happens; 1 detects in every frame."""
    detect_px: int = 320
    """Frames are shrunk so that their longer side is at most this before detection; 0 never shrinks."""
    min_score: float = 0.65
    """A track counts as a face when its best detection reaches this score (0 to 1)."""
    min_face_px: int = 48
    """Tracks whose median box side is smaller are rejected as face_too_small; 0 keeps all."""
    max_roll: float = 60.0
    """Tracks whose median roll exceeds this many degrees are rejected as face_not_upright; 180 keeps all."""
    max_gap_s: float = 0.4
    """A face missing for longer ends its track; shorter gaps are filled by linear interpolation."""
    min_frames: int = 10
    """Shorter tracks are rejected as track_too_short."""
    max_clip_s: float = 30.0
    """Longer tracks are split into clips of at most this length."""
    largest_face: bool = False
    """Keep only the track with the largest face (box area summed over its frames) of each source."""
    crop_size: int = 256
    """Side of the aligned face crop; 128 is the compact choice."""
    smooth_frames: int = 7
    """Width of the centred triangular window that smooths the alignment in time; 1 turns smoothing off."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("detect_every", "min_frames", "smooth_frames"), AT_LEAST_1))
        check_ranges(self, dict.fromkeys(("detect_px", "min_face_px", "max_gap_s"), AT_LEAST_0))
        check_ranges(self, {"min_score": SHARE, "max_roll": (0, 180)})
        check_ranges(self, {"max_clip_s": (0.04, math.inf), "crop_size": (16, 4096)})
