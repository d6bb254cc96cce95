"""AVS_u, AVS_m and AVS_v: similarity of AV-HuBERT's audio and visual features of a clip.

Yaman et al. 2024, "Audio-Visual Speech Representation Expert for Enhanced Talking Face Video Generation and
Evaluation" (arXiv:2405.04327): cosine similarities of features of AV-HuBERT's transformer. They released no code. Where
the paper is silent we chose: the final output (the last block after the final norm), cosines frame by frame at 25 per
second and their plain mean over the clip, the pre-trained base model, and AV-HuBERT's own mouth crop, cut for both
sides by the reference's landmarks. AlignDiT's released AVSync takes the same output and the same mean for AVS_m.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS
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
from syncdiff_eval.metrics.mouth_audio import is_silent
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.networks.mouth_crops import Mouths

if TYPE_CHECKING:
    from syncdiff_eval.networks.lip_reader import LipReader


def frame_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine, -1 to 1, of the two features of each frame: float [T, D] and [T, D] to float64 [T]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of `frame_similarity` over the frames."""
    return float(frame_similarity(a, b).mean())


def avs_from_arrays(
    generated: np.ndarray, reference: np.ndarray, samples: np.ndarray, reader: LipReader
) -> tuple[float, float, float]:
    """(AVS_u, AVS_m, AVS_v) of mouths, gray uint8 [T, 96, 96] at 25 fps, and the sound, int16 [640 T] at 16 kHz.

    generated, reference: cut alike, as `Mouths` does. The sound drives the generated mouth and is the reference's own.
    """
    made, real = reader.lip_features(generated), reader.lip_features(reference)
    lips, sound = reader.features(made), reader.features(samples=samples)
    both = reader.features(made, samples), reader.features(real, samples)
    return similarity(sound, lips), similarity(*both), similarity(lips, reader.features(real))


class Avs(WholeClip):
    """The three numbers of one clip."""

    def __init__(self, context: ClipContext, reader: LipReader):
        super().__init__()
        self._context = context
        self._lip_features = partial(reader.lip_features, heartbeat=context.heartbeat)
        self._features = partial(reader.features, heartbeat=context.heartbeat)
        self._mouths = Mouths(context, with_reference=context.compares)

    def update(self, batch: FrameBatch) -> None:
        self._mouths.update(batch)

    def _own(self) -> Values:
        mouths = self._mouths.finish()
        if isinstance(mouths, MissingValue):
            return {column.name: mouths for column in AVS.columns}
        samples = None if self._context.audio is None else self._mouths.sound(self._context.audio)
        return self._similarities(mouths, samples)

    def _similarities(self, mouths: np.ndarray, samples: np.ndarray | None) -> Values:
        values: Values = {column.name: MissingValue(Reason.NO_AUDIO) for column in AVS.columns}
        made = self._lip_features(mouths[0], self._context.frame_cache)
        lips = self._features(made)
        if samples is not None:
            values["avs_u"] = MissingValue(Reason.SILENT_AUDIO)
            if not is_silent(samples, FPS, len(lips)):
                values["avs_u"] = similarity(self._features(samples=samples), lips)
        if self._context.compares:
            real = self._lip_features(mouths[1], self._context.reference_frame_cache)
            values["avs_v"] = similarity(lips, self._features(real))
            if samples is not None:
                values["avs_m"] = similarity(self._features(made, samples), self._features(real, samples))
        return values


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.lip_reader import load_reader

    reader = load_reader(weights["avhubert-base"], device)
    return lambda context: Avs(context, reader)


AVS = MetricFamily(
    name="avs",
    group=ReportGroup.LIP_READER,
    columns=(
        Column("avs_u", "AVS_u", "", True, 3),
        Column("avs_m", "AVS_m", "", True, 3, compares_with_reference=True),
        Column("avs_v", "AVS_v", "", True, 3, compares_with_reference=True),
    ),
    version=1,
    load=_load,
    weights=("avhubert-base",),
    required_inputs=frozenset({"reference"}),
)
