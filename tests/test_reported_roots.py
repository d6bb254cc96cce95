"""Reported kinds of faults when clips are compared with their sources: forms of the root, paths that leave it."""

from dataclasses import replace
from pathlib import Path

import pytest
from loader_data import numbered_clip
from runs import preprocess
from stub_faces import write_colour

from syncdiff_data.__main__ import validate_command
from syncdiff_data.audit import audit
from syncdiff_data.records import UserError


@pytest.mark.parametrize("source", ["/etc/passwd", "../outside.mp4", "a/../../outside.mp4"])
def test_kind_46_a_source_that_leaves_the_root_is_not_opened(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = replace(numbered_clip(0, 6), source=source)
    monkeypatch.setattr("syncdiff_data.audit.spread_clips", lambda dataset, count: [clip])
    (problem,) = audit(tmp_path, tmp_path, 1)
    assert problem.endswith("so it is not opened")


def test_kind_10_validate_takes_the_root_that_preprocess_took(tmp_path: Path, ray_session: None) -> None:
    write_colour(tmp_path / "videos/a.mp4", "face")
    listed = tmp_path / "videos/list.csv"
    listed.write_text("path\na.mp4\n")
    preprocess(listed, tmp_path / "out", source="folder")
    validate_command(str(tmp_path / "out"), root=listed)
    with pytest.raises(UserError, match=r"does not exist: give the --root that preprocess took"):
        validate_command(str(tmp_path / "out"), root=tmp_path / "nowhere")
