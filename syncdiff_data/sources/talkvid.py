"""TalkVid (Chen et al. 2025, arXiv 2508.13618), as its own download script leaves it on disk.

data_pipeline/0_video_download/download_clips.py of FreedomIntelligence/TalkVid (read at commit 842089a) writes
`<output>/<video id>/<video id>_<number>_<start>_<end>.mp4` and takes a JSON list of clips with `info` ("Person ID",
"Video Link"), `start-time` and `end-time`. The list's `description` tells what is seen, not what is said.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from syncdiff_data.documents import parse_json
from syncdiff_data.records import Source, UserError
from syncdiff_data.sources.adapter import Adapter, Request, fitting_files
from syncdiff_data.tables import is_file

_CLIP = re.compile(r"(?:.+/)?(?P<video>[\w-]+)/(?P=video)_\d+_(?P<start>\d+\.\d+)_(?P<end>\d+\.\d+)")
_VIDEO_ID = re.compile(r"(?:v=|youtu\.be/|/shorts/)([\w-]+)")
NEAR_S = 0.5
"""Seconds by which a clip's start may differ from the list's."""

People = Mapping[str, list[tuple[float, str]]]
"""Video id -> (start in seconds, Person ID) of its clips."""


def _find(request: Request) -> Iterator[Source]:
    people = read_people(request.lists or request.root)
    for path, size, match in fitting_files(request.root, _CLIP):
        yield Source(path, size, speaker=_speaker(people, match["video"], float(match["start"])))


def read_people(folder: Path) -> People:
    """Who is in which clip, from every JSON list in the folder itself. UserError for one that is no such list."""
    people: dict[str, list[tuple[float, str]]] = defaultdict(list)
    # Hidden ones are not lists: macOS leaves ._list.json in what it packs.
    for path in sorted(path for path in folder.glob("[!.]*.json") if is_file(path)):
        try:
            entries = parse_json(path.read_bytes())
            for entry in entries if isinstance(entries, list) else [entries]:
                _add(people, entry)
        except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
            raise UserError(
                f"{path} is not a list of TalkVid's clips ({error}): take it out of the folder, or name the folder of "
                "the lists with --lists."
            ) from error
    return people


def _add(people: dict[str, list[tuple[float, str]]], entry: Any) -> None:
    info = entry.get("info") or {}
    person, link = info.get("Person ID"), _VIDEO_ID.search(info.get("Video Link") or "")
    if person is not None and link:
        name = str(person).encode("utf-8", "replace").decode()  # JSON may hold lone surrogates
        start = float(entry.get("start-time", entry.get("start", 0)))
        if not math.isfinite(start):
            raise ValueError(f"a start-time of {start} s")
        people[link[1]].append((start, name))


def _speaker(people: People, video: str, start: float) -> str:
    """The list's person of that clip; the only one of the video; else the video, as if it had one speaker."""
    listed = people.get(video, [])
    near = min(listed, key=lambda clip: abs(clip[0] - start), default=None)
    if near is not None and abs(near[0] - start) <= NEAR_S:
        return near[1]
    persons = {person for _, person in listed}
    return persons.pop() if len(persons) == 1 else video


TALKVID = Adapter(
    find=_find,
    layout="<video id>/<video id>_<number>_<start>_<end>.mp4, and the JSON list of clips in the root or in --lists",
    fits=_CLIP,
    takes_lists=True,
)
