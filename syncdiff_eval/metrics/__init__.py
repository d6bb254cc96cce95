"""Every family of metrics a protocol can name. A new one is a module with a MetricFamily and a line here."""

from syncdiff_eval.metrics.avs import AVS
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.metrics.fid import FID_FACE, FID_FULL
from syncdiff_eval.metrics.image import IMAGE
from syncdiff_eval.metrics.landmarks import LANDMARKS
from syncdiff_eval.metrics.leak import LEAK, LEAK_AVS
from syncdiff_eval.metrics.lse_face import SYNC
from syncdiff_eval.metrics.lse_published import (
    SYNC_LATENTSYNC,
    SYNC_MOCHABENCH,
    SYNC_SYNCNET_TRACK,
    SYNC_WAV2LIP_LRS,
)
from syncdiff_eval.metrics.mouth_audio import MOUTH_AUDIO

FAMILIES: dict[str, MetricFamily] = {
    family.name: family
    for family in (
        SYNC,
        SYNC_WAV2LIP_LRS,
        SYNC_SYNCNET_TRACK,
        SYNC_LATENTSYNC,
        SYNC_MOCHABENCH,
        FID_FACE,
        FID_FULL,
        IMAGE,
        LANDMARKS,
        MOUTH_AUDIO,
        AVS,
        LEAK,
        LEAK_AVS,
    )
}
