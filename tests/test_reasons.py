"""The vocabulary of reasons is closed: one place, groups that cover it, the words that documents and code use."""

import ast
import re
from pathlib import Path

import pytest

from syncdiff_data.reasons import (
    DUB_FAILURE_REASONS,
    FAILED_REASONS,
    MISSING_VALUE_REASONS,
    REJECT_REASONS,
    SCORE_FAILURE_REASONS,
    Kind,
    Reason,
)

ROOT = Path(__file__).parent.parent


def test_groups_cover_the_vocabulary() -> None:
    groups = (REJECT_REASONS, DUB_FAILURE_REASONS, SCORE_FAILURE_REASONS, MISSING_VALUE_REASONS)
    assert set(Reason) == frozenset().union(*groups)
    assert FAILED_REASONS <= REJECT_REASONS


@pytest.mark.parametrize("reason", Reason)
def test_values_are_snake_case_and_have_a_kind(reason: Reason) -> None:
    assert reason.value == reason.name.lower()
    assert reason.kind is (Kind.FAILED if reason in FAILED_REASONS else Kind.FILTERED)


def test_the_table_of_protocols_lists_every_score_failure() -> None:
    text = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    table = text[text.index("| reason | when |") :].split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == SCORE_FAILURE_REASONS


def test_the_table_of_the_data_set_lists_every_reject() -> None:
    text = (ROOT / "docs/dataset.md").read_text(encoding="utf-8")
    table = text[text.index("| reason | kind | when |") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    listed = {reason: kind for reasons, kind in rows for reason in reasons.split(", ")}
    assert listed == {str(reason): str(reason.kind) for reason in REJECT_REASONS}


def test_code_names_reasons_by_the_enum() -> None:
    """A reason spelled as a string in the packages would be outside of the closed vocabulary."""
    spelled = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for package in ("syncdiff_data", "syncdiff_eval", "syncdiff_model")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ROOT / "syncdiff_data/reasons.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in set(Reason)
    ]
    assert spelled == []
