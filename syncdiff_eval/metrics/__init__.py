"""Every family of metrics a protocol can name. A new one is a module with a MetricFamily and a line here."""

from dataclasses import replace

from syncdiff_data.records import UserError
from syncdiff_data.registry import defining_file, import_own, is_own, lookup, make_own
from syncdiff_data.weights import file_sha256
from syncdiff_eval.metrics.avs import AVS
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.metrics.closure import CLOSURE
from syncdiff_eval.metrics.dynamics import DYNAMICS
from syncdiff_eval.metrics.expert_file import expert_file_family
from syncdiff_eval.metrics.fid import FID_FACE, FID_FULL
from syncdiff_eval.metrics.frechet_centerface import FRECHET_CENTERFACE
from syncdiff_eval.metrics.identity import IDENTITY
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
from syncdiff_eval.metrics.sharpness import SHARPNESS
from syncdiff_eval.metrics.silent_lips import SILENT_LIPS
from syncdiff_eval.metrics.sync_expert import expert_family

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
        expert_family("evaluation"),
        expert_file_family("evaluation"),
        IDENTITY,
        FRECHET_CENTERFACE,
        CLOSURE,
        SILENT_LIPS,
        DYNAMICS,
        SHARPNESS,
    )
}


def load_family(name: str) -> MetricFamily:
    """The family that `module:NAME` names: a MetricFamily, or a function without arguments that makes one.

    Its code decides its numbers: without a content hash of its own it takes that of the file that defines it.
    UserError where it is not there, is no family, or fills a column of one of FAMILIES.
    """
    if not is_own(name):
        return lookup(name, FAMILIES, "metric")
    found = import_own(name, "metric")
    family = found if isinstance(found, MetricFamily) else make_own(name, "metric", found)
    if not isinstance(family, MetricFamily):
        raise UserError(f"The metric {name!r} is a {type(family).__name__}, and must be a MetricFamily.")
    taken = {column.name: other.name for other in FAMILIES.values() for column in other.columns}
    clash = [column.name for column in family.columns if column.name in taken]
    if clash or family.name in FAMILIES:
        raise UserError(
            f"The metric {name!r} takes the name {(clash or [family.name])[0]!r} of another: rename it."
        )
    if family.content_hash:
        return family
    return replace(family, content_hash=file_sha256(defining_file(family, name, "metric")))
