"""Does the mouth move as much, and as fast, as the real one? Fidelity alone does not say: a mouth that hardly moves has
a high PSNR.

The spread is THEval's lip dynamics (CVPR 2026 Findings, Naturalness/lip_dynamics.py: the standard deviation over time)
of the one distance that speech changes most, the opening, where THEval takes all distances among 40 lip points of a
frame that is squeezed to 256 x 256. THEval compares means over a test set; here each clip is divided by its reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import Column, MetricFactory, MetricFamily, MissingValue, ReportGroup, Values
from syncdiff_eval.metrics.landmarks import why_still
from syncdiff_eval.metrics.openings import ClipOpenings


def opening_spread(opening: np.ndarray) -> float:
    """Standard deviation of float [T], frames without a face (NaN) left out; 0 where there are none."""
    seen = opening[np.isfinite(opening)]
    return float(seen.std()) if len(seen) else 0.0


def opening_speed(opening: np.ndarray) -> float:
    """Mean absolute change from one frame of float [T] to the next, over the pairs that both have a face; 0 where
    there is no such pair."""
    changes = np.abs(np.diff(opening))
    changes = changes[np.isfinite(changes)]
    return float(changes.mean()) if len(changes) else 0.0


class Dynamics(ClipOpenings):
    """Spread and speed of the generated mouth's opening over those of the reference's in the same frames."""

    def _own(self) -> Values:
        why_not = why_still(self.context)
        generated, reference = self.openings()
        values: Values = {}
        for name, measure in (("opening_spread", opening_spread), ("opening_speed", opening_speed)):
            real = measure(reference)
            if why_not is None and real > 0:
                values[name] = measure(generated) / real
            else:
                values[name] = MissingValue(why_not or Reason.REFERENCE_MOUTH_STILL)
        return values


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device
    return Dynamics


DYNAMICS = MetricFamily(
    name="dynamics",
    group=ReportGroup.MOUTH_SHAPE,
    columns=tuple(
        Column(
            f"opening_{name}",
            f"Mouth opening, {name}",
            "of the reference's",
            None,
            3,
            compares_with_reference=True,
        )
        for name in ("spread", "speed")
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"landmarks"}),
)
