"""Every file of the project that a document, a docstring or a comment names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs import ROOT

ROOMS = "tests|docs|benchmarks|pipelines|syncdiff_data|syncdiff_eval|syncdiff_model"
PATH = re.compile(rf"(?<![\w/])(?:{ROOMS})/[\w/.-]*\w\.(?:py|md|yaml|csv|json)")
TEST = re.compile(r"\btest_\w+\.py\b")
NAMED_TEST = re.compile(r"(tests/test_\w+\.py)::(test_\w+)")
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "pipelines/*.py",
        "benchmarks/*.py",
        "tests/*.py",
        "syncdiff_*/**/*.py",
    )
    for path in ROOT.glob(pattern)
    if path.name not in ("CHANGELOG.md", Path(__file__).name)
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_named_files_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = {name for name in PATH.findall(text) if not (ROOT / name).exists()}
    missing |= {name for name in TEST.findall(text) if not (ROOT / "tests" / name).exists()}
    for file, test in NAMED_TEST.findall(text):
        if (ROOT / file).exists() and f"def {test}" not in (ROOT / file).read_text(encoding="utf-8"):
            missing.add(f"{file}::{test}")
    assert missing == set()
