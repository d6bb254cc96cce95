"""Data sets whose folders and file names say what is in them: LRS3, VoxCeleb2, HDTF, GRID, LRS2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from syncdiff_data.records import Source, UserError
from syncdiff_data.sources.adapter import Adapter, Request, fitting_files, read_text, stem

_MOST_OF_TRANSCRIPT = 1 << 20
"""Bytes in which a transcript has its `Text:` line."""


def find_by_layout(request: Request, fits: re.Pattern[str]) -> Iterator[Source]:
    """Media files whose path fits; the pattern's groups `split` and `speaker`, where it has them, label them.

    A data set with splits keeps each in a folder of its name, so that only the one asked for is walked.
    """
    for path, size, match in fitting_files(request.root, fits, under=request.split or ""):
        yield Source(path, size, **match.groupdict())


def read_transcript(root: Path, source: Source) -> str | None:
    """The `Text:` line of the .txt file beside a clip of LRS2 or LRS3; None where file or line is missing.

    Bytes that are not UTF-8 become U+FFFD: the rest of the line is worth keeping, and the damage shows.
    """
    content = read_text(root / f"{stem(source.path)}.txt", most=_MOST_OF_TRANSCRIPT)
    for line in (content or "").splitlines():
        if line.startswith("Text:"):
            return line.removeprefix("Text:").strip() or None
    return None


_LRS3 = re.compile(r"(?P<split>pretrain|trainval|test)/(?P<speaker>[\w-]{11})/\d{5}")

LRS3 = Adapter(
    # A TED talk has one speaker nearly throughout, so the talk's id serves as the speaker.
    find=lambda request: find_by_layout(request, _LRS3),
    layout="{pretrain,trainval,test}/<YouTube id>/<5 digits>.mp4",
    fits=_LRS3,
    splits=("pretrain", "trainval", "test"),
    text=read_transcript,
)

_VOXCELEB2 = re.compile(r"(?:(?P<split>dev|test)/)?(?:mp4/)?(?P<speaker>id\d{5})/[^/]+/[^/]+")

VOXCELEB2 = Adapter(
    find=lambda request: find_by_layout(request, _VOXCELEB2),
    layout="{dev,test}/mp4/id<5 digits>/<YouTube id>/<number>.mp4",
    fits=_VOXCELEB2,
    splits=("dev", "test"),
)

_HDTF = re.compile(r"(?:.+/)?(?P<speaker>(?:RD|WDA|WRA)_[^/]+?)(?:_\d+)?")

HDTF = Adapter(
    # The lists name videos, not people: WDA_BobCasey0 and WDA_BobCasey1 stay two speakers.
    find=lambda request: find_by_layout(request, _HDTF),
    layout="clips named as in HDTF's lists, {RD,WDA,WRA}_<video>[_<clip>].mp4, in any folder",
    fits=_HDTF,
)

GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
"""Command, colour, preposition, letter (without w), digit, adverb (Cooke et al. 2006, table I)."""

_GRID = re.compile(r"(?:.+/)?" + "".join(f"(?i:[{''.join(words)}])" for words in GRID_WORDS))


def _find_grid(request: Request) -> Iterator[Source]:
    """The speaker is the nearest folder s<k>, the root included; without one, the clip's own folder."""
    root_name = request.root.absolute().name
    for path, size, _ in fitting_files(request.root, _GRID):
        folders = [root_name, *path.split("/")[:-1]]
        numbered = [name for name in folders if re.fullmatch(r"s\d+", name)]
        yield Source(path, size, speaker=(numbered or folders)[-1])


def grid_sentence(source: Source) -> str:
    """'s1/bbaf2n.mpg' to 'bin blue at f two now'."""
    name = stem(source.path).rsplit("/", 1)[-1].lower()
    return " ".join(words[character] for words, character in zip(GRID_WORDS, name))


GRID = Adapter(
    find=_find_grid,
    layout="s<number>/<6 characters of the sentence>.mpg, from the speaker's folder or above it",
    fits=_GRID,
    text=lambda root, source: grid_sentence(source),
)


def find_transcript(root: Path, path: str) -> str | None:
    """The words of a media file below root where its data set's layout tells them: the `Text:` line beside it (LRS2,
    LRS3), or the sentence that a name of GRID's spells. None where neither is."""
    source = Source(path, 0)
    if text := read_transcript(root, source):
        return text
    return grid_sentence(source) if _GRID.fullmatch(stem(path)) else None


_LRS2 = re.compile(r"(?:main|pretrain)/\d+/\d{5}")
LRS2_SPLITS = ("pretrain", "train", "val", "test")


def _find_lrs2(request: Request) -> Iterator[Source]:
    """Clips below `main` and `pretrain`, each with the split whose list names it.

    Without a split asked for, lists of a folder that is not there are left alone (many have `main` only), and
    clips in no list have the split None. The folder `pretrain` is its own split, list or no list.

    Raises UserError for a split without its list and for a list that names clips which are not there.
    """
    asked = LRS2_SPLITS if request.split is None else (request.split,)
    splits = [split for split in asked if (request.root / _folder_of(split)).is_dir()]
    found = [
        Source(path, size)
        for folder in {_folder_of(split) for split in splits}
        for path, size, _ in fitting_files(request.root, _LRS2, under=folder)
    ]
    there = {stem(source.path) for source in found}
    split_of: dict[str, str] = {}
    for split in splits:
        path = (request.lists or request.root) / f"{split}.txt"
        names = _read_list(path, split)
        if names is not None:
            _refuse_missing(path, [name for name in names if name not in there], len(names), request.root)
            _refuse_two_splits(path, [name for name in names if name in split_of], split_of)
            split_of |= dict.fromkeys(names, split)
        elif request.split is not None and split != "pretrain":
            raise UserError(
                f"The split {split} of LRS2 needs its list {path}, which is not there: put the list file "
                "that came with the data set into the root, or name its folder with --lists."
            )
    for source in found:
        own = "pretrain" if source.path.startswith("pretrain/") else None
        yield replace(source, split=split_of.get(stem(source.path), own))


def _folder_of(split: str) -> str:
    return "pretrain" if split == "pretrain" else "main"


def _read_list(path: Path, split: str) -> list[str] | None:
    """The clips of a list; None where there is none.

    Lines are `<folder>/<id>`, also with Windows' backslash; test.txt adds a flag, NF or MV, of unpublished meaning: it
    is not kept.
    """
    content = read_text(path)
    if content is None:
        return None
    names = (line.split()[0].replace("\\", "/") for line in content.splitlines() if line.strip())
    return [f"{_folder_of(split)}/{name}" for name in names]


def _refuse_missing(path: Path, missing: list[str], total: int, root: Path) -> None:
    if missing:
        raise UserError(
            f"The list {path} names {total} clips, of which {len(missing)} are not below {root}, the first "
            f"being {missing[0]}: complete the data set, or give a shorter list with --lists. Lines are "
            "<digits>/<5 digits>."
        )


def _refuse_two_splits(path: Path, twice: list[str], split_of: Mapping[str, str]) -> None:
    if twice:
        raise UserError(
            f"The list {path} names {len(twice)} clips that {split_of[twice[0]]}.txt names too, the first being "
            f"{twice[0]}: a clip has one split, so take them out of one list, or ask for one with --split."
        )


LRS2 = Adapter(
    find=_find_lrs2,
    layout="{main,pretrain}/<digits>/<5 digits>.mp4 (train.txt, val.txt, test.txt beside main or in --lists)",
    fits=_LRS2,
    splits=LRS2_SPLITS,
    text=read_transcript,
    takes_lists=True,
)
