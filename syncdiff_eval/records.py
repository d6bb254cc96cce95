"""Records of the cache: plain JSON and arrays, floats with all their digits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.scoring import Reference
from syncdiff_eval.videos import FileFacts

Arrays = dict[str, np.ndarray]
ClipRecord = dict[str, Any]


def failed_record(reason: Reason, detail: str) -> ClipRecord:
    """Of a clip or reference without numbers."""
    return {"status": "failed", "reason": str(reason), "detail": detail}


def pack_reference(reference: Reference) -> tuple[ClipRecord, Arrays]:
    """A measured reference as a record and its arrays."""
    record = {
        "status": "scored",
        "facts": asdict(reference.facts),
        "num_frames": reference.num_frames,
        "start_s": reference.start_s,
    }
    regions = asdict(reference.regions) if reference.regions else {}
    return record, {"times": reference.times, **regions}


def unpack_reference(record: ClipRecord, arrays: Arrays) -> Reference:
    """The inverse of `pack_reference`."""
    regions = None
    if "eye_distance" in arrays:
        fields = {name: array for name, array in arrays.items() if name not in ("times", "eye_distance")}
        regions = Regions(**fields, eye_distance=float(arrays["eye_distance"]))
    facts = FileFacts(**record["facts"])
    return Reference(facts, record["num_frames"], record["start_s"], regions, arrays["times"])
