"""docs/reliability.md has a row for every reported kind of fault, and the tests it names bear the kind's number."""

from __future__ import annotations

import re

import pytest
from runs import ROOT

ROWS = {
    number: (happens, tests)
    for kinds, _, happens, tests in re.findall(
        r"^\| ([\d, ]+) \| (.+?) \| (.+?) \| ?(.*?) ?\|$",
        (ROOT / "docs/reliability.md").read_text(),
        re.MULTILINE,
    )
    for number in map(int, kinds.split(","))
}
NAMED = re.compile(r"(?:\b|_)kinds?[ _]((?:\d+(?:, |_and_|_| and )?)+)", re.IGNORECASE)


@pytest.mark.parametrize("kind", range(1, 49))
def test_every_kind_has_a_row_and_a_test(kind: int) -> None:
    happens, tests = ROWS[kind]
    if happens.startswith("open"):
        assert f"Open: {kind}" in (ROOT / "docs/reliability.md").read_text()
        return
    named = set()
    for name in tests.split(", "):
        text = (ROOT / "tests" / f"{name}.py").read_text()
        named |= {int(n) for match in NAMED.finditer(text) for n in re.findall(r"\d+", match[1])}
    assert kind in named
