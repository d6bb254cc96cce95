"""Every family of metrics a protocol can name. A new one is a module with a MetricFamily and a line here."""

from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.metrics.landmarks import LANDMARKS
from syncdiff_eval.metrics.speech import MOUTH_AUDIO

FAMILIES: dict[str, MetricFamily] = {family.name: family for family in (IMAGE, LANDMARKS, MOUTH_AUDIO)}
