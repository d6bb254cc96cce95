"""Mouths of generated and reference frames as AV-HuBERT looks at them: one crop for both sides."""

from __future__ import annotations

from functools import partial

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue
from syncdiff_eval.networks.resample import Resampler

MIN_FRAMES = 10
"""At 25 per second; the shortest clip of a data set, too."""


class Mouths:
    """Gray crops of a clip at 25 fps, cut by the reference's landmarks alone, so that a method's own mouth moves none.

    From the first to the last frame that shows the reference's speaker; landmarks in between are interpolated. Frames
    of another rate are resampled by time. Holds 9 kB for each frame of each side.
    """

    def __init__(self, context: ClipContext, with_reference: bool):
        """with_reference: crop the reference's frames beside the generated ones."""
        from syncdiff_data.faces import MouthCropper, mean_face

        self._first, self._landmarks = _speaker_landmarks(context)
        self._cropper = MouthCropper(self._landmarks, mean_face()) if len(self._landmarks) else None
        self._with_reference = with_reference
        self._once = context.once
        self._shown = Resampler()
        self._crops: list[np.ndarray] = []
        self._start_s = 0.0

    def update(self, batch: FrameBatch) -> None:
        for i, time in enumerate(batch.times):
            at = batch.first_frame + i - self._first
            if self._cropper is None or not 0 <= at < len(self._landmarks):
                continue
            if at == 0:
                self._start_s = time
            crops = [self._cropper.crop(batch.generated[i], at)]
            if self._with_reference:
                crops.append(
                    self._once(("mouth crop", at), partial(self._cropper.crop, batch.reference[i], at))
                )
            self._crops += self._shown.add(time, np.stack(crops))

    def finish(self) -> np.ndarray | MissingValue:
        """uint8 [1 or 2, T, 96, 96]: the generated frames' and, if cropped, the reference's; or why there are none."""
        if self._cropper is None:
            return MissingValue(Reason.NO_FACE)
        self._crops += self._shown.finish()
        if len(self._crops) < MIN_FRAMES:
            return MissingValue(Reason.TOO_SHORT_FOR_AVHUBERT)
        return np.stack(self._crops, axis=1)

    def sound(self, audio: np.ndarray) -> np.ndarray:
        """int16 [640 T] out of a clip's sound, silence beyond its end: what goes with the crops."""
        start, count = round(self._start_s * SAMPLE_RATE), len(self._crops) * SAMPLES_PER_FRAME
        sound = audio[start : start + count]
        return np.pad(sound, (0, count - len(sound)))


def _speaker_landmarks(context: ClipContext) -> tuple[int, np.ndarray]:
    """First frame of the speaker, and float64 [t, 68, 2] from there on."""
    if context.regions is None or not context.regions.present.any():
        return 0, np.empty((0, 68, 2))
    present = np.flatnonzero(context.regions.present)
    frames = np.arange(present[0], present[-1] + 1)
    seen = context.regions.landmarks[present].reshape(len(present), -1)
    columns = [np.interp(frames, present, column) for column in seen.T]
    return int(present[0]), np.column_stack(columns).reshape(-1, 68, 2)
