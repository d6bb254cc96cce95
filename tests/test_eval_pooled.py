"""Kinds 34 and 35: FID depends neither on the clips a method lacks nor on the threads of the linear algebra."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType
from syncdiff_eval.metrics.base import MissingValue, Pool
from syncdiff_eval.metrics.fid import FID_FACE
from syncdiff_eval.summary import pooled_values

COPY, PARTLY = Method("copy", MethodType.GAN), Method("partly", MethodType.GAN)


class Arrays:
    """Features of clips by key, in place of a cache on the disk: every clip has a mean of its own."""

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        clip = int(key)
        features = np.random.default_rng(clip).normal(3 * clip, 1, (40, 6))
        return {"features": features.astype(np.float32)}


def record(method: Method, clip: int, has_arrays: bool = True) -> dict[str, Any]:
    scored = {"status": "scored", "arrays": {FID_FACE.name: str(clip)}}
    failed = {"status": "failed", "reason": "unreadable"}
    return {"method": method.name, "clip": f"{clip:02d}"} | (scored if has_arrays else failed)


@pytest.mark.filterwarnings("ignore:FID over")
def test_kind_35_a_method_that_failed_on_half_of_the_clips_is_compared_with_the_other_half() -> None:
    """A copy of the real frames has a distance of 0 on the clips it has, whatever the others look like."""
    methods = [GROUND_TRUTH, COPY, PARTLY]
    records = [
        *(record(GROUND_TRUTH, clip) for clip in range(6)),
        *(record(COPY, clip) for clip in range(6)),
        *(record(PARTLY, clip, clip < 3) for clip in range(6)),
    ]
    values = pooled_values(methods, records, [FID_FACE], cast(Cache, Arrays()))
    for method, frames in ((COPY, 240), (PARTLY, 120)):
        assert values[method.name, "fid_face"] == pytest.approx(0, abs=1e-6)
        assert values[method.name, "fid_face_frames"] == frames
    assert isinstance(values[GROUND_TRUTH.name, "fid_face"], MissingValue)


@pytest.mark.filterwarnings("ignore:FID over")
def test_kind_35_a_method_without_any_clip_has_a_reason() -> None:
    records = [record(GROUND_TRUTH, 0), record(PARTLY, 0, has_arrays=False)]
    values = pooled_values([GROUND_TRUTH, PARTLY], records, [FID_FACE], cast(Cache, Arrays()))
    assert isinstance(values[PARTLY.name, "fid_face"], MissingValue)


def test_a_pooled_number_that_is_not_finite_is_a_missing_value() -> None:
    pool = Pool(list, lambda generated, reference: {"fid_face": float("nan"), "fid_face_frames": 40.0})
    records = [record(GROUND_TRUTH, 0), record(COPY, 0)]
    family = replace(FID_FACE, pool=pool)
    values = pooled_values([GROUND_TRUTH, COPY], records, [family], cast(Cache, Arrays()))
    assert values[COPY.name, "fid_face"] == MissingValue(Reason.NOT_SCORABLE)
    assert values[COPY.name, "fid_face_frames"] == 40


DISTANCE = """
import numpy as np
from syncdiff_eval.metrics.fid import FID_FACE
rng = np.random.default_rng(0)
clips = [[{"features": rng.gamma(k, 1, (60, 700)).astype("f4")} for _ in range(2)] for k in (2, 3)]
pool = FID_FACE.pool
print(pool.compare(*(pool.gather(side) for side in clips))["fid_face"].hex())
"""


def test_kind_34_one_and_two_threads_give_the_same_bytes() -> None:
    printed = []
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DISTANCE],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert float.fromhex(printed[0].strip()) > 0
