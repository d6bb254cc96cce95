"""The nouns every stage passes on: a source, a clip and a reject. Reasons: reasons.py.

Contracts: the clips table of docs/dataset.md. Source pixels are those of the upright displayed frame; pixel
centres lie at integers, as in OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from syncdiff_data.images import decode_gray, decode_jpeg
from syncdiff_data.reasons import Kind, Reason

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS


class UserError(Exception):
    """Something the user can mend. Its text says what was wrong, where, what was expected and what to do.

    Command lines print the text alone, without a traceback, and exit with `exit_status`.
    """

    exit_status = 2


class MediaError(Exception):
    """A source that cannot become frames or sound. `reason` is what its reject will say, str(error) the detail."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.bytes_can_be_read = False
        """Whether decoding failed with EIO though the disk gives every byte: if it stays so, the data are damaged."""


@dataclass(frozen=True)
class Source:
    """A user's file.

    path: relative to the root, with forward slashes; size: bytes; the rest is what the data set says.
    """

    path: str
    size: int
    split: str | None = None
    speaker: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Reject:
    """A source (track None) or a track of it that did not become a clip."""

    source: str
    track: int | None
    stage: str
    reason: Reason
    detail: str

    @property
    def kind(self) -> Kind:
        return self.reason.kind


@dataclass(frozen=True)
class Clip:
    """One face track of one source over one span, at 25 fps and 16 kHz mono.

    T = num_frames, S = crop size. Crops stay encoded, so that half a minute of video is some 16 MB and not 150;
    `face` and `mouth` decode them at first use.
    """

    clip_id: str
    source: str
    split: str | None
    speaker: str | None
    text: str | None
    track: int
    start_s: float
    """Time of frame 0 in the source's presentation clock."""
    source_frame: np.ndarray
    """int32 [T]: index, in a sequential PyAV decode of the first video stream, of the frame each one shows."""
    face_jpeg: tuple[bytes, ...]
    """T aligned crops, S x S, JPEG."""
    mouth_png: tuple[bytes, ...] | None
    """T gray 96 x 96 mouth crops as AV-HuBERT wants them, lossless."""
    audio: np.ndarray
    """int16 [T * 640]; zeros where the source has none."""
    landmarks: np.ndarray
    """float32 [T, 68, 2], iBUG order, source pixels."""
    box: np.ndarray
    """float32 [T, 4]: x0, y0, x1, y1 in source pixels."""
    face_to_source: np.ndarray
    """float32 [T, 2, 3]: affine from crop pixels to source pixels."""

    @property
    def num_frames(self) -> int:
        return len(self.source_frame)

    @cached_property
    def face(self) -> np.ndarray:
        """uint8 [T, S, S, 3], RGB, aligned."""
        return np.stack([decode_jpeg(crop) for crop in self.face_jpeg])

    @cached_property
    def mouth(self) -> np.ndarray | None:
        """uint8 [T, 96, 96], gray, or None where the data set was made without mouth crops."""
        return None if self.mouth_png is None else np.stack([decode_gray(crop) for crop in self.mouth_png])
