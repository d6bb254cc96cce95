"""Which output belongs to which reference and which audio: by file name, or by a list of pairs."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from syncdiff_data.records import UserError
from syncdiff_data.sources.adapter import MEDIA_SUFFIXES, media_files, stem
from syncdiff_data.tables import formula_text, is_file, read_csv, repeated

SOUND_SUFFIXES = frozenset({".wav", ".flac", ".m4a", ".mp3", ".aac", ".ogg"})
PairsOrder = Literal["csv", "wav2lip-lrs", "wav2lip-resynced"]
Setting = Literal["own-audio", "crossed-audio"]


@dataclass(frozen=True)
class Pair:
    """One clip to score: a video, the audio it is dubbed with, and the name of the outputs.

    clip: the outputs' path below a method's folder, without suffix, in NFC. video, audio: paths below the reference
    folder. speaker: who is in the video, "" where the list does not say.
    """

    clip: str
    video: str
    audio: str
    speaker: str = ""

    @property
    def source(self) -> str:
        """What a pair has in common with pairs that are not independent of it: the speaker if known, else the video."""
        return self.speaker or self.video


@dataclass(frozen=True)
class Pairing:
    """All pairs in order of clip, of one setting: own and crossed audio are scored separately."""

    setting: Setting
    pairs: tuple[Pair, ...]
    references: frozenset[str] = frozenset()
    """Names of all videos below the reference folder, without suffix, in NFC; a list may use some of them only."""

    @property
    def sources(self) -> dict[str, str]:
        """clip -> source, the unit of intervals and tests."""
        return {pair.clip: pair.source for pair in self.pairs}


def pair_by_name(reference: Path) -> Pairing:
    """Every media file below the reference folder, with its own audio. Raises UserError."""
    found = _by_stem(reference, MEDIA_SUFFIXES)
    if not found:
        raise UserError(f"There is no video below the reference folder {reference}.")
    for clip, files in found.items():
        if len(files) > 1:
            raise UserError(
                f"References must have different names without suffix; {clip!r} is shared by "
                f"{', '.join(files)}."
            )
    pairs = tuple(Pair(clip, files[0], files[0]) for clip, files in sorted(found.items()))
    return Pairing("own-audio", pairs, frozenset(found))


def pair_by_list(reference: Path, path: Path, order: PairsOrder) -> Pairing:
    """The pairs a file lists.

    csv: a header with video, audio and output, and optionally speaker; audio may be empty for the video's own.
    wav2lip-lrs and wav2lip-resynced: Wav2Lip's lists without header, two paths a line without suffix below the
    reference folder, `audio video` and `video audio`; the output of line i (from 0) is called i. Raises UserError.
    """
    if not path.is_file():
        raise UserError(f"There is no list of pairs {path}.")
    rows = list(_csv_rows(path) if order == "csv" else _wav2lip_rows(path, order))
    if not rows:
        raise UserError(f"{path} lists no pair.")
    videos = _by_stem(reference, MEDIA_SUFFIXES)
    names = frozenset(videos)
    sounds = _by_stem(reference, SOUND_SUFFIXES)
    # A name without suffix is first of all a video's.
    audios = {**sounds, **videos, **by_path(sounds), **by_path(videos)}
    videos |= by_path(videos)
    pairs = [
        Pair(clip, _find(videos, reference, video, path), _find(audios, reference, audio, path), speaker)
        for video, audio, clip, speaker in rows
    ]
    _check_speakers(path, pairs)
    if twice := repeated(pair.clip for pair in pairs):
        raise UserError(f"{path} gives the output {twice[0]!r} to two pairs; outputs must differ.")
    crossed = sum(is_crossed(pair.video, pair.audio) for pair in pairs)
    if 0 < crossed < len(pairs):
        raise UserError(
            f"{path} mixes {len(pairs) - crossed} pairs with own audio and {crossed} with another's; their "
            "numbers mean different things, so score them as two lists."
        )
    setting: Setting = "crossed-audio" if crossed else "own-audio"
    return Pairing(setting, tuple(sorted(pairs, key=lambda pair: pair.clip)), names)


def _check_speakers(listed_in: Path, pairs: list[Pair]) -> None:
    """Refuse a list where a speaker is missing for some pairs, or differs between pairs of one video."""
    if len({bool(pair.speaker) for pair in pairs}) > 1:
        raise UserError(f"{listed_in} names the speaker of some pairs only; name all of them, or none.")
    speakers: dict[str, str] = {}
    for pair in pairs:
        if speakers.setdefault(pair.video, pair.speaker) != pair.speaker:
            raise UserError(
                f"{listed_in} gives {pair.video!r} two speakers, {speakers[pair.video]!r} and {pair.speaker!r}; a "
                "video has one."
            )


def outputs_of(folder: Path) -> dict[str, list[str]]:
    """Media files below a method's folder: path without suffix, in NFC -> paths, both relative."""
    return _by_stem(folder, MEDIA_SUFFIXES)


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    found: dict[str, list[str]] = defaultdict(list)
    for path, _ in sorted(media_files(folder, suffixes=suffixes)):
        found[nfc(stem(path))].append(path)
    return dict(found)


def by_path(found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The files of `_by_stem` by their whole path in NFC."""
    paths: dict[str, list[str]] = defaultdict(list)
    for path in (path for files in found.values() for path in files):
        paths[nfc(path)].append(path)
    return dict(paths)


def nfc(name: str) -> str:
    """One form of names that look the same: macOS and some archives write accents as letters of their own (NFD)."""
    return unicodedata.normalize("NFC", name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list of pairs {path} cannot be read as UTF-8 text: {error}") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    try:
        rows = read_csv(path, ("video", "audio", "output"))
    except UserError as error:
        raise UserError(
            f"{error} For Wav2Lip's lists choose their column order with --pairs-order."
        ) from error
    for row in rows:
        video, audio, output = (formula_text(row[name]) for name in ("video", "audio", "output"))
        if not video or not output:
            raise UserError(f"{path}: expected a video and an output in every row, found {row}.")
        suffix = PurePosixPath(output).suffix.lower() in MEDIA_SUFFIXES
        clip = nfc(PurePosixPath(stem(output) if suffix else output).as_posix())
        yield video, audio or video, clip, nfc(row.get("speaker", ""))


def _wav2lip_rows(path: Path, order: PairsOrder) -> Iterator[tuple[str, str, str, str]]:
    for i, line in enumerate(_lines(path)):
        words = line.split()
        if len(words) != 2:
            raise UserError(f"{path}, line {i + 1}: expected two paths separated by a space, found {line!r}.")
        audio, video = words if order == "wav2lip-lrs" else words[::-1]
        yield video, audio, str(i), ""


def _find(found: dict[str, list[str]], reference: Path, name: str, listed_in: Path) -> str:
    """The file of that relative path, or the only one of that name without suffix, in any form of Unicode. UserError
    where it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{listed_in} names {name!r}, which leads out of {reference}: write it below that folder."
        )
    if is_file(reference / name):
        return path.as_posix()
    files = found.get(nfc(PurePosixPath(name).as_posix()), [])
    if len(files) != 1:
        raise UserError(f"{listed_in} names {name!r}, which is not one file below {reference}.")
    return files[0]


def is_crossed(video: str, audio: str) -> bool:
    """False for the video's own sound: the same file, or a sound file of the same name beside it."""
    return PurePosixPath(nfc(video)).with_suffix("") != PurePosixPath(nfc(audio)).with_suffix("")
