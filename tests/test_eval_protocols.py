"""Names and versions of protocols."""

from dataclasses import replace

import pytest

from syncdiff_data.records import UserError
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.protocols import (
    PROTOCOLS,
    SYNCDIFF,
    SYNCDIFF_INDEX,
    SYNCDIFF_INDEX_V3,
    SYNCDIFF_V3,
    ProtocolDefinition,
    find_protocol,
)


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("syncdiff-v1", "syncdiff-v4"),
        ("syncdiff-v2", "syncdiff-v4"),
        ("syncdiff-index-v1", "syncdiff-index-v4"),
        ("syncdiff-index-v2", "syncdiff-index-v4"),
    ],
)
def test_a_former_name_is_refused_with_its_successor(former: str, now: str) -> None:
    with pytest.raises(UserError, match=f"replaced by '{now}'"):
        find_protocol(former)
    assert find_protocol(now).version == 4


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=", ".join(PROTOCOLS)):
        find_protocol("v1")


def test_version_3_is_still_computed_as_it_was() -> None:
    columns = ("expert", "lse", "fid-face", "image", "landmarks", "mouth_audio", "avs", "leak", "leak-avs")
    for name in ("syncdiff-v3", "syncdiff-index-v3"):
        assert (find_protocol(name).version, find_protocol(name).metrics) == (3, columns)


@pytest.mark.parametrize(("now", "before"), [(SYNCDIFF, SYNCDIFF_V3), (SYNCDIFF_INDEX, SYNCDIFF_INDEX_V3)])
def test_scores_cached_under_version_3_count_under_version_4(
    now: ProtocolDefinition, before: ProtocolDefinition
) -> None:
    assert now.fingerprint() == before.fingerprint()
    assert replace(now, face_growth=1.5).fingerprint() != before.fingerprint()
    assert SYNCDIFF.fingerprint() != SYNCDIFF_INDEX.fingerprint()


def test_columns_that_tell_nothing_apart_are_available_by_name_alone() -> None:
    for name in ("mouth_audio", "silent-lips"):
        assert name in FAMILIES
        assert name not in SYNCDIFF.metrics
