"""What a metric is: columns it fills, a small state that is updated with frames, merged, and computed.

T = frames of a clip, B = frames of a batch, H, W = height and width in source pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from syncdiff_data.media import Video
from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import FrameFeatureCache

T = TypeVar("T")


class ReportGroup(StrEnum):
    """The table of the report that a metric stands in."""

    SYNC = "Sync"
    MOUTH_AUDIO = "Mouth and audio"
    LIP_READER = "AV-HuBERT sync"
    REALISM = "Realism and identity"
    PICTURE = "Picture"
    MOUTH_SHAPE = "Mouth shape"
    LEAK = "Leak"
    OTHER = "Other"


@dataclass(frozen=True)
class Column:
    """One number per clip: its column in per_clip.parquet and in the leaderboard."""

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    """None for a number that describes and is never ranked, such as an offset."""
    decimals: int
    compares_with_reference: bool = False
    """True where generated frames are compared with the reference's own. Such a number is undefined where
    the audio is another clip's, nor for the reference against itself."""
    pooled: bool = False
    """True where only a whole method has a value (FID): merged over clips, null for a single clip."""
    crossed_only: bool = False
    """True where generated frames are compared with the reference's for what they should not share. Such a
    number exists where the audio is another clip's, and says nothing of the reference against itself."""


@dataclass(frozen=True)
class MissingValue:
    """A value that does not exist, and why: one of MISSING_VALUE_REASONS."""

    reason: Reason


Values = dict[str, float | MissingValue]


@dataclass(frozen=True)
class Regions:
    """Where the speaker is, measured on the reference once and shared by every method.

    present: bool [T], False where the reference shows no usable face; the other rows are then undefined.
    landmarks: float32 [T, 68, 2], iBUG order. box: float32 [T, 4], the tracker's. face, mouth: int32 [T, 4],
    x0 y0 x1 y1 with x1, y1 exclusive, inside the frame. eye_distance: pixels between the outer eye corners,
    median over the clip.
    """

    present: np.ndarray
    landmarks: np.ndarray
    box: np.ndarray
    face: np.ndarray
    mouth: np.ndarray
    eye_distance: float

    def span(self, start: int, stop: int) -> Regions:
        """The same for frames start to stop - 1."""
        cut = slice(start, stop)
        return Regions(
            self.present[cut], self.landmarks[cut], self.box[cut], self.face[cut], self.mouth[cut],
            self.eye_distance,
        )  # fmt: skip


@dataclass(frozen=True)
class FrameBatch:
    """B consecutive frames of one clip, paired by index."""

    first_frame: int
    reference: list[np.ndarray]
    """B x uint8 [H, W, 3], RGB; empty where no metric of the run needs it."""
    generated: list[np.ndarray]
    """B x uint8 [H, W, 3], RGB, the same H and W."""
    regions: Regions | None
    """Of these B frames; None where the reference shows no face at all."""
    landmarks: np.ndarray | None
    """float32 [B, 68, 2], measured on the generated frames inside the reference's boxes; NaN where not
    present. None without regions, or where no metric of the run needs them."""
    times: tuple[float, ...] = ()
    """B times at which the reference shows these frames, in seconds since its frame 0."""


class Once(Protocol):
    """Makes a value, or gives the one that was made under this key."""

    def __call__(self, key: Hashable, make: Callable[[], T], /) -> T: ...


def each_time(key: Hashable, make: Callable[[], T], /) -> T:
    """Keeps nothing."""
    return make()


@dataclass(frozen=True)
class ClipContext:
    """What a metric may know of a clip before it sees the first frame."""

    fps: float
    num_frames: int
    audio: np.ndarray | None
    """int16 [N], 16 kHz mono, sample 0 at the time of frame 0; None where there is none."""
    eye_distance: float | None
    """Pixels, from the reference; None where it shows no face."""
    regions: Regions | None = None
    """Of every frame of the reference."""
    times: np.ndarray | None = None
    """float64 [num_frames], seconds since its frame 0 at which the reference shows each; None: frame i at i / fps."""
    video: Video | None = None
    """Under a standalone protocol only: the scored file, resampled to 25 fps by time."""
    frozen: bool = False
    """Whether each frame of `video` stands for its first."""
    frame_cache: FrameFeatureCache | None = None
    """For what is made from the frames alone; None keeps nothing."""
    reference_frame_cache: FrameFeatureCache | None = None
    """The same for the reference's own frames, whatever is scored; a producer that names a sound may keep what it made
    of that."""
    transcript: str | None = None
    """The words of the sound; None where they are not known."""
    compares: bool = True
    """Whether columns that compare with the reference will have a value."""
    once: Once = each_time
    """For what is made of the reference's frames or of a sound alone, whatever is scored: kept for the other methods of
    the clip, in the memory of the worker. The key names all it depends on but the reference."""
    heartbeat: Callable[[], None] = lambda: None
    """For metrics that read frames themselves: to be called at each, or the clip counts as hanging."""

    def shown_at(self, count: int) -> np.ndarray:
        """Seconds since frame 0 at which the first `count` frames are shown: float64 [count]."""
        return np.arange(count) / self.fps if self.times is None else self.times[:count]


class Metric(Protocol):
    """The state of one metric over one clip, or, once merged, over many. Sums are float64."""

    def update(self, batch: FrameBatch) -> None: ...

    def merge(self, other: Any) -> None:
        """Add the state of another part. Merging is associative; callers merge in clip order all the same."""
        ...

    def compute(self) -> Values:
        """A value or a reason for each column of the family."""
        ...


@runtime_checkable
class KeepsArrays(Protocol):
    """A metric whose arrays are kept in the cache beside the clip's scores: curves for plots, or what the
    pooled columns of its family need."""

    def arrays(self) -> dict[str, np.ndarray]: ...


@runtime_checkable
class CachesArrays(Protocol):
    """A metric that keeps arrays and may have stored them in the frame feature cache already, so that they need not be
    kept a second time."""

    def cached_arrays(self) -> str | None:
        """Key of the cache's entry; None where there is none."""
        ...


MetricFactory = Callable[[ClipContext], Metric]
FrameInput = Literal["reference", "landmarks"]
ClipArrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Pool:
    """How the pooled columns come from the kept arrays of every scored clip, without the network.

    gather: from the clips of one method, in order of clip, to whatever sums it up; once for each method and
    once for the ground truth of the same clips. compare: from those of a method and of the ground truth to the values.
    """

    gather: Callable[[Iterable[ClipArrays]], Any]
    compare: Callable[[Any, Any], Values]


@dataclass(frozen=True)
class MetricFamily:
    """Metrics that share one pass over the frames.

    version: bumped by hand whenever a number could change; it is part of every cache key.
    weights: names in the registry of `syncdiff_data.weights`; where one is missing the family's columns read
    "not available: <command that gets it>". load: called once per worker process with the weight files' paths
    and the device; returns a function that starts the state of a clip. Families with pooled columns
    create a metric that KeepsArrays and have a `pool`. required_inputs: what `update` reads beside the generated
    frames; the rest is not made, which saves more than half of the time where only LSE is wanted.
    """

    name: str
    columns: tuple[Column, ...]
    version: int
    load: Callable[[Mapping[str, Path], str], MetricFactory]
    weights: tuple[str, ...] = ()
    pool: Pool | None = None
    required_inputs: frozenset[FrameInput] = frozenset({"reference", "landmarks"})
    group: ReportGroup = ReportGroup.OTHER
    content_hash: str = ""
    """Of whatever decides the numbers and is not in the registry of weights, such as a trained scorer's files. Part of
    every cache key."""


def reason_inapplicable(column: Column, crossed: bool, real: bool) -> Reason | None:
    """Why the metric does not apply to such a row, whatever its frames show; None where it applies.

    crossed: the audio is another clip's. real: the frames are the reference's own.
    """
    if real and (column.compares_with_reference or column.crossed_only):
        return Reason.IDENTICAL_TO_REFERENCE
    if column.compares_with_reference and crossed:
        return Reason.CROSSED_AUDIO
    if column.crossed_only and not crossed:
        return Reason.OWN_AUDIO
    return None


def finite(value: float | MissingValue) -> float | MissingValue:
    """The value; of a number that is not finite, which no report can hold, that it is missing."""
    if isinstance(value, MissingValue) or math.isfinite(value):
        return value
    return MissingValue(Reason.NOT_SCORABLE)


def applicable(families: Sequence[MetricFamily], crossed: bool) -> list[MetricFamily]:
    """The families with the columns that a method can have in that setting; none that is left without any."""
    kept = []
    for family in families:
        columns = tuple(
            column for column in family.columns if reason_inapplicable(column, crossed, False) is None
        )
        if columns:
            kept.append(replace(family, columns=columns))
    return kept
