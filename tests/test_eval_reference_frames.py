"""A reference is decoded once for all rows that one worker scores of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from syncdiff_data.stage.engine import _blocks
from syncdiff_eval.scoring import reference_frames
from syncdiff_eval.scoring.reference_frames import ReferenceFrames
from syncdiff_eval.videos import FileFacts

FACTS = FileFacts("", "h264", 4, 2, 25.0, 0, False)
COUNT = 3
BYTES = COUNT * 4 * 2 * 3


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths in the order in which they are decoded."""
    opened: list[Path] = []

    def decode(path: Path) -> Iterator[tuple[float, np.ndarray]]:
        opened.append(path)
        for i in range(COUNT):
            yield i / 25, np.full((2, 4, 3), i, np.uint8)

    monkeypatch.setattr(reference_frames, "frames", decode)
    return opened


def shown(reference: ReferenceFrames) -> list[tuple[float, int]]:
    return [(time, int(image[0, 0, 0])) for time, image in reference.frames()]


@pytest.mark.parametrize(("room", "decodes"), [(BYTES, 1), (BYTES - 1, 3)])
def test_frames_are_held_where_all_of_them_fit(decoded: list[Path], room: int, decodes: int) -> None:
    reference = ReferenceFrames(Path("a.mp4"), FACTS, COUNT, held_bytes=room)
    first = shown(reference)
    assert len(first) == COUNT
    assert first == shown(reference) == shown(reference)
    assert len(decoded) == decodes


def test_a_row_that_stops_early_leaves_whole_frames_to_the_next(decoded: list[Path]) -> None:
    reference = ReferenceFrames(Path("a.mp4"), FACTS, COUNT)
    next(reference.frames())
    assert len(shown(reference)) == COUNT
    assert len(shown(reference)) == COUNT
    assert len(decoded) == 2


@pytest.mark.parametrize(("room", "made"), [(BYTES, ["a"]), (BYTES - 1, ["a", "a"])])
def test_what_is_made_of_a_held_reference_is_made_once(room: int, made: list[str]) -> None:
    reference = ReferenceFrames(Path("a.mp4"), FACTS, COUNT, held_bytes=room)
    calls: list[str] = []

    def make() -> int:
        calls.append("a")
        return 7

    assert reference.once(("crop", 0), make) == reference.once(("crop", 0), make) == 7
    assert calls == made


def test_rows_of_a_reference_stay_in_one_task_where_there_are_tasks_for_all_workers() -> None:
    firsts = [block["first"] for block in _blocks(range(27), 2, 64, together=9)]
    assert firsts == [0, 9, 18]
    assert len(_blocks(range(27), 4, 64, together=9)) == 27
