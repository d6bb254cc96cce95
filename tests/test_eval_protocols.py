"""Names and versions of protocols."""

import pytest

from syncdiff_data.records import UserError
from syncdiff_eval.protocols import PROTOCOLS, find_protocol


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("syncdiff-v1", "syncdiff-v3"),
        ("syncdiff-v2", "syncdiff-v3"),
        ("syncdiff-index-v1", "syncdiff-index-v3"),
        ("syncdiff-index-v2", "syncdiff-index-v3"),
    ],
)
def test_a_former_name_is_refused_with_its_successor(former: str, now: str) -> None:
    with pytest.raises(UserError, match=f"replaced by '{now}'"):
        find_protocol(former)
    assert find_protocol(now).version == 3


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=", ".join(PROTOCOLS)):
        find_protocol("v1")
