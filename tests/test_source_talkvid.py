"""TalkVid's folders, as its download script leaves them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from syncdiff_data.records import UserError
from syncdiff_data.sources import list_sources

FILES = (
    "Tr6MMsoWAog/Tr6MMsoWAog_001_0.100_5.141.mp4",
    "Tr6MMsoWAog/Tr6MMsoWAog_002_7.000_12.500.mp4",
    "-59cJcC2HJY/-59cJcC2HJY_001_3.000_9.000.mp4",
    "abcdefghijk/abcdefghijk_001_0.000_4.000.mkv",
)
START = '[{"info": {"Person ID": 1, "Video Link": "youtu.be/a"}, "start-time": %s}]'
STRAYS = ("Tr6MMsoWAog/Tr6MMsoWAog_001_0.100_5.141.f137.mp4", "Tr6MMsoWAog/Tr6MMsoWAog_001_0.100_5.141.m4a")


def entry(video: str, start: float, person: str) -> dict[str, object]:
    link = f"https://www.youtube.com/watch?v={video}"
    return {"start-time": start, "end-time": start + 5, "info": {"Person ID": person, "Video Link": link}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*FILES, *STRAYS):
        path = tmp_path / "talkvid" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "talkvid"


def speakers(root: Path, lists: Path | None = None) -> dict[str, str | None]:
    return {source.path: source.speaker for source in list_sources("talkvid", root, lists=lists)}


def test_without_a_list_each_video_is_a_speaker(root: Path) -> None:
    assert speakers(root) == {name: name.split("/")[0] for name in FILES}


def test_the_list_names_the_person_of_each_clip(root: Path) -> None:
    """By the clip's start; a clip that is not in the list takes the only person of its video."""
    people = [
        entry("Tr6MMsoWAog", 0.1, "597"),
        entry("Tr6MMsoWAog", 7.0, "598"),
        entry("-59cJcC2HJY", 40.0, "7"),
    ]
    (root / "clips.json").write_text(json.dumps(people))
    assert list(speakers(root).values()) == ["7", "597", "598", "abcdefghijk"]


def test_the_list_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.json").write_text(json.dumps([entry("abcdefghijk", 0, "9")]))
    assert speakers(root, tmp_path / "lists")[FILES[3]] == "9"


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", '[{"info": {"Person ID": 1, "Video Link": 5}}]', START % "NaN", START % ("1" + "0" * 400)],
)
def test_a_file_that_is_no_such_list_is_a_sentence(root: Path, text: str) -> None:
    (root / "clips.json").write_text(text)
    with pytest.raises(UserError, match=r"clips\.json is not a list of TalkVid's clips"):
        speakers(root)


def test_only_files_that_are_not_hidden_are_lists(root: Path) -> None:
    (root / "._clips.json").write_bytes(b"\0\5\x16\7of macOS")
    (root / "folder.json").mkdir()
    os.mkfifo(root / "pipe.json")
    (root / "circle.json").symlink_to("circle.json")
    assert list(speakers(root)) == sorted(FILES)


def test_another_layout_is_told_what_fits(root: Path) -> None:
    with pytest.raises(UserError, match="--source talkvid"):
        list_sources("lrs3", root)
