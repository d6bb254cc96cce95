"""Are the lips shut where /p/, /b/ and /m/ are spoken? No sound is made without closing them.

No public harness measures it. Phones and their times come from the driving sound (`syncdiff_eval.networks.phones`), the
same for every method of a clip; the opening from landmarks, at the sync expert's offset. English only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS
from syncdiff_data.sync_expert.files import expert_sha256
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
from syncdiff_eval.metrics.openings import ClipOpenings
from syncdiff_eval.metrics.sync_expert import MouthScores, load_expert
from syncdiff_eval.networks.phones import Phone

if TYPE_CHECKING:
    from syncdiff_data.sync_expert.expert import SyncExpert
    from syncdiff_eval.networks.phones import PhoneRecognizer

BILABIALS = frozenset({"P", "B", "M"})
VOWELS = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])
REACH_S = 0.06
"""Around the middle of a phone: three frames at 25 fps, as many for a short phone as for a long one."""
SHUT = 0.25
"""Of a clip's range of openings (5th to 95th percentile), above its lower end: below that the lips count as shut."""
LEAST_RANGE = 0.03
"""Of that range, in eye distances. Landmarks of a mouth that does not move tremble by less."""
PHONES_VERSION = 1
"""Of what the recognizer finds, for the cache."""
EXPERT = "evaluation"
"""The instance whose offsets count."""


def least_openings(
    opening: np.ndarray, times: np.ndarray, fps: float, phones: Sequence[Phone], labels: Collection[str]
) -> np.ndarray:
    """The least opening within REACH_S of the middle of each phone that has one of the labels.

    opening: float [T], NaN without a face; times: float [T], seconds at which the frames are first shown. float64 [n];
    phones that no frame with a face is near to are left out.
    """
    middle = times + 0.5 / fps
    seen = np.isfinite(opening)
    found = []
    for phone in phones:
        if phone.label not in labels:
            continue
        near = seen & (np.abs(middle - (phone.start_s + phone.end_s) / 2) <= REACH_S + 1e-9)
        if near.any():
            found.append(opening[near].min())
    return np.array(found, np.float64)


def contrast(at_closures: np.ndarray, at_vowels: np.ndarray) -> float:
    """How surely the lips of float [n] are closer together than those of float [m]: -1 to 1.

    Cliff's delta: the share of pairs (a /p b m/, a vowel) with the lips closer at the first, less the share with the
    lips closer at the second. It needs no threshold, which a tremble of the landmarks could cross.
    """
    return float(np.sign(at_vowels[None, :] - at_closures[:, None]).mean())


def shut_below(opening: np.ndarray) -> float:
    """Opening under which the lips of float [T] count as shut, relative to the range of the same clip."""
    low, high = np.percentile(opening[np.isfinite(opening)], (5, 95))
    return float(low + SHUT * max(high - low, LEAST_RANGE))


class Closure(ClipOpenings):
    """Of one clip, each mouth moved by its own offset, since an offset is another fault and has its own column; not at
    all where the expert finds none.

    closure: the contrast of /p b m/ with vowels; a mouth that does not move, open or shut, and one that moves to
    another sound have about 0. closure_hits: share of /p b m/ with shut lips. closure_gap: mean least opening at
    /p b m/ less the reference's, in percent of the eye distance.
    """

    def __init__(self, context: ClipContext, recognizer: PhoneRecognizer, expert: SyncExpert | None = None):
        super().__init__(context)
        self._recognizer = recognizer
        self._scores = MouthScores(context, expert) if expert else None

    def update(self, batch: FrameBatch) -> None:
        super().update(batch)
        if self._scores:
            self._scores.update(batch)

    def _own(self) -> Values:
        generated, reference = self.openings()
        phones = self._phones()
        if isinstance(phones, MissingValue):
            return {column.name: phones for column in CLOSURE.columns}
        if not np.isfinite(generated).any():
            return {column.name: MissingValue(Reason.NO_FACE) for column in CLOSURE.columns}
        fps, times = self.context.fps, self.context.shown_at(len(generated))
        late_s, real_late_s = self._late_s()
        at_closures, at_vowels = (
            least_openings(generated, times - late_s, fps, phones, labels) for labels in (BILABIALS, VOWELS)
        )
        if not len(at_closures) or not len(at_vowels):
            return {column.name: MissingValue(Reason.NO_BILABIALS) for column in CLOSURE.columns}
        real = least_openings(reference, times - real_late_s, fps, phones, BILABIALS)
        gap = (
            100 * float(at_closures.mean() - real.mean()) if len(real) else MissingValue(Reason.NO_BILABIALS)
        )
        return {
            "closure": contrast(at_closures, at_vowels),
            "closure_hits": float((at_closures < shut_below(generated)).mean()),
            "closure_gap": gap,
        }

    def _late_s(self) -> tuple[float, float]:
        """Seconds by which the generated and the reference's mouth come after the sound."""
        scores = self._scores.compute() if self._scores else MissingValue(Reason.TOO_SHORT_FOR_SYNC)
        if isinstance(scores, MissingValue):
            return 0.0, 0.0
        return scores[0].offset / FPS, scores[-1].offset / FPS

    def _phones(self) -> list[Phone] | MissingValue:
        """Of the driving sound, kept for the other methods of the clip."""
        context = self.context
        if context.audio is None:
            return MissingValue(Reason.NO_AUDIO)
        if is_silent(context.audio, context.fps, context.num_frames):
            return MissingValue(Reason.SILENT_AUDIO)
        cache, producer = context.reference_frame_cache, self._producer(context.audio)
        kept = cache.read(**producer) if cache else None
        if kept is not None:
            return [Phone(str(label), *times) for label, times in zip(kept["labels"], kept["times"].tolist())]
        phones = self._recognizer.phones(context.audio, context.transcript, context.heartbeat)
        if cache:
            labels = np.array([phone.label for phone in phones], dtype=np.str_)
            times = np.array([(phone.start_s, phone.end_s) for phone in phones], np.float64).reshape(-1, 2)
            cache.store({"labels": labels, "times": times}, **producer)
        return phones

    def _producer(self, audio: np.ndarray) -> dict[str, object]:
        return {
            "name": "phones",
            "version": PHONES_VERSION,
            "pocketsphinx": version("pocketsphinx"),
            "sound": hashlib.sha256(audio.tobytes()).hexdigest(),
            "transcript": self.context.transcript,
        }


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.phones import PhoneRecognizer

    del weights
    recognizer, expert = PhoneRecognizer(), load_expert(EXPERT, device)
    return lambda context: Closure(context, recognizer, expert)


CLOSURE = MetricFamily(
    name="closure",
    group=ReportGroup.MOUTH_AUDIO,
    columns=(
        Column("closure", "Closure at /p b m/", "", True, 3),
        Column("closure_hits", "Lips shut at /p b m/", "share", None, 3),
        Column(
            "closure_gap",
            "Lip gap at /p b m/ less the real one",
            "% of eye distance",
            None,
            2,
            compares_with_reference=True,
        ),
    ),
    version=3,
    load=_load,
    required_inputs=frozenset({"reference", "landmarks"}),
    content_hash=expert_sha256(EXPERT),
)
