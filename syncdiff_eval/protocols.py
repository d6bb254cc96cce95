"""Named and versioned scoring protocols. Numbers of different protocols are not comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from syncdiff_data.records import UserError
from syncdiff_eval.statistics import Inference

Pairing = Literal["timestamp", "index", "standalone"]


@dataclass(frozen=True)
class ProtocolDefinition:
    """All settings that affect a number, except the files and the weights. docs/protocols.md describes them.

    pairing "timestamp": frame i of the output is compared with frame i of the reference, and both must have the same
    presentation time (fps within fps_tolerance, every paired frame within half a frame); else the clip fails with a
    reason. pairing "index": the same pairing whatever the declared times, for outputs of generators that
    ignore them. pairing "standalone": standalone scoring, as the published scripts do: the output's own frames,
    resampled to 25 fps by time, with its own audio; baselines use the reference's. max_length_gap: frames by
    which the lengths may differ; the shorter one counts.
    """

    name: str
    version: int
    summary: str
    metrics: tuple[str, ...]
    """Families of syncdiff_eval.metrics, in the order of the table's columns."""
    pairing: Pairing = "timestamp"
    fps_tolerance: float = 0.001
    """Relative."""
    max_length_gap: int = 5
    max_length_share: float = 0.0
    """The lengths may differ by this share of the expected frames too, where that is more."""
    face_growth: float = 1.2
    """Side of the square face region over the larger side of the landmarks' bounding box (median of the
    clip)."""
    mouth_width: float = 1.0
    """Of the mouth region, over the distance of the outer eye corners; its height is 0.8 of the width."""
    seed: int = 20250317
    resamples: int = 10_000
    """Signs that a permutation test draws where it cannot enumerate all."""
    confidence: float = 0.95
    least_coverage: float = 0.9
    """Share of the clips of the method with the most, under which a method stays out of the shared clips and the
    ranks of a metric."""
    rules_of: tuple[str, int] | None = None
    """Name and version of an earlier protocol that differs in its columns alone: scores cached under it count."""

    @property
    def standalone(self) -> bool:
        """Whether outputs are scored without pairing their frames with the reference's."""
        return self.pairing == "standalone"

    def allowed_gap(self, expected: int) -> int:
        """Frames by which a length may differ from the expected one."""
        return max(self.max_length_gap, int(self.max_length_share * expected))

    @property
    def inference(self) -> Inference:
        """Settings of intervals and tests."""
        return Inference(self.resamples, self.confidence, self.seed)

    def fingerprint(self) -> dict[str, object]:
        """The part of a clip's cache key: all but the summary, the metrics and the statistics."""
        others = ("summary", "seed", "resamples", "confidence", "least_coverage", "metrics", "rules_of")
        rules = {key: value for key, value in asdict(self).items() if key not in others}
        if self.rules_of is not None:
            rules |= dict(zip(("name", "version"), self.rules_of))
        return rules


SYNCDIFF_V3 = ProtocolDefinition(
    name="syncdiff-v3",
    version=3,
    summary=(
        "Frames by index on one clock, native resolution, regions from the reference's landmarks shared by "
        "all methods, sound from the driving audio."
    ),
    metrics=("expert", "lse", "fid-face", "image", "landmarks", "mouth_audio", "avs", "leak", "leak-avs"),
)

SYNCDIFF_INDEX_V3 = ProtocolDefinition(
    name="syncdiff-index-v3",
    version=3,
    summary="As syncdiff-v3, but frames pair by index alone and lengths may differ by a tenth.",
    metrics=SYNCDIFF_V3.metrics,
    pairing="index",
    max_length_share=0.1,
)

SYNCDIFF = replace(
    SYNCDIFF_V3,
    name="syncdiff-v4",
    version=4,
    metrics=(
        "expert", "lse", "closure", "fid-face", "frechet-centerface", "identity", "sharpness", "image", "landmarks",
        "dynamics", "avs", "leak", "leak-avs",
    ),
    rules_of=(SYNCDIFF_V3.name, SYNCDIFF_V3.version),
)  # fmt: skip
"""The columns are those that tell real video from damage (benchmarks/metric_agreement.py)."""

SYNCDIFF_INDEX = replace(
    SYNCDIFF_INDEX_V3,
    name="syncdiff-index-v4",
    version=4,
    summary="As syncdiff-v4, but frames pair by index alone and lengths may differ by a tenth.",
    metrics=SYNCDIFF.metrics,
    rules_of=(SYNCDIFF_INDEX_V3.name, SYNCDIFF_INDEX_V3.version),
)

WAV2LIP_LRS = ProtocolDefinition(
    name="wav2lip-lrs",
    version=2,
    summary="LSE of calculate_scores_LRS.py: the whole frame at 224 x 224, whatever its shape; file alone.",
    metrics=("lse-wav2lip-lrs",),
    pairing="standalone",
)

SYNCNET_TRACK = ProtocolDefinition(
    name="syncnet-track",
    version=2,
    summary="LSE of run_pipeline.py: S3FD tracks of over 100 detections, mean of a file's tracks; file alone.",
    metrics=("lse-syncnet-track",),
    pairing="standalone",
)

LATENTSYNC = ProtocolDefinition(
    name="latentsync",
    version=2,
    summary="LSE of LatentSync's eval: S3FD tracks of over 50 detections, mean of a file's tracks; file alone.",
    metrics=("lse-latentsync",),
    pairing="standalone",
)

MOCHABENCH = ProtocolDefinition(
    name="mochabench",
    version=2,
    summary="LSE of MoChaBench: S3FD tracks of over 50 detections, the highest C and the lowest D; file alone.",
    metrics=("lse-mochabench",),
    pairing="standalone",
)

EXPERT_FILE = ProtocolDefinition(
    name="expert-file",
    version=1,
    summary="Sync by the expert that comes with syncdiff, of the surest face of each file; file alone, no download.",
    metrics=("expert-file",),
    pairing="standalone",
)

PYTORCH_FID = ProtocolDefinition(
    name="pytorch-fid",
    version=2,
    summary="FID of the pytorch_fid command on whole frames, every frame paired as under syncdiff-v3.",
    metrics=("fid-full",),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        SYNCDIFF,
        SYNCDIFF_INDEX,
        WAV2LIP_LRS,
        SYNCNET_TRACK,
        LATENTSYNC,
        MOCHABENCH,
        EXPERT_FILE,
        PYTORCH_FID,
        SYNCDIFF_V3,
        SYNCDIFF_INDEX_V3,
    )
}


REPLACED = {
    "syncdiff-v1": SYNCDIFF,
    "syncdiff-v2": SYNCDIFF,
    "syncdiff-index-v1": SYNCDIFF_INDEX,
    "syncdiff-index-v2": SYNCDIFF_INDEX,
}
"""Names of earlier versions, which this program no longer computes."""


def find_protocol(name: str) -> ProtocolDefinition:
    """The protocol of that name; UserError lists the known ones, and names the successor of a former one."""
    if name in REPLACED:
        raise UserError(
            f"Protocol {name!r} was replaced by {REPLACED[name].name!r}, whose numbers differ: docs/protocols.md says "
            "in what. Score again under the new name."
        )
    if name not in PROTOCOLS:
        raise UserError(f"There is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
