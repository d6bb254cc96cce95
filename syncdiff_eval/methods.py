"""Methods (name, type, citation, folder of outputs) and the baselines that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from syncdiff_data.cli import user_path
from syncdiff_data.records import UserError


class MethodType(StrEnum):
    """Type of the generator. `reference` is real video: an anchor in separate rows, never ranked."""

    GAN = "gan"
    DIFFUSION = "diffusion"
    OTHER = "other"
    REFERENCE = "reference"


_TYPES = {str(kind): kind for kind in MethodType if kind is not MethodType.REFERENCE}
"""Types allowed in a registry of methods."""


@dataclass(frozen=True)
class Baseline:
    """Videos that the runner derives from the reference while scoring; no file is written.

    frozen: the first frame throughout. audio_shift: the driving audio, k frames late (early where negative).
    other_audio: the driving audio of the next clip in order.
    """

    frozen: bool = False
    audio_shift: int = 0
    other_audio: bool = False


@dataclass(frozen=True)
class Method:
    """One row of the leaderboard. Exactly one of folder and baseline is given."""

    name: str
    type: MethodType
    citation: str | None = None
    folder: Path | None = None
    baseline: Baseline | None = None

    @property
    def is_competitor(self) -> bool:
        """Whether it is compared with others and ranked: all but real video and baselines."""
        return self.baseline is None and self.type is not MethodType.REFERENCE


_MARKUP = frozenset("|<>`\\")
"""Characters with a meaning in Markdown or HTML."""

KNOWN_METHODS = Path(__file__).resolve().parent / "configs" / "methods.yaml"
"""The registry that comes with syncdiff: types and citations, no folders."""

GROUND_TRUTH = Method(
    "ground_truth", MethodType.REFERENCE, "The reference with its own audio.", None, Baseline()
)


def baselines(frozen: bool, audio_shift: tuple[int, ...], other_audio: bool) -> list[Method]:
    """The ground truth, always, and the requested baselines."""
    chosen = [GROUND_TRUTH]
    chosen += [
        Method(f"audio_shift_{k:+d}", MethodType.REFERENCE, f"The reference, its audio {k:+d} frames later.",
               None, Baseline(audio_shift=k))
        for k in dict.fromkeys(audio_shift)
    ]  # fmt: skip
    if other_audio:
        chosen.append(
            Method("other_audio", MethodType.REFERENCE, "The reference with the next clip's audio.", None,
                   Baseline(other_audio=True))
        )  # fmt: skip
    if frozen:
        chosen.append(
            Method("frozen_first_frame", MethodType.OTHER, "The reference's first frame all through.", None,
                   Baseline(frozen=True))
        )  # fmt: skip
    return chosen


def read_methods(folders: tuple[str, ...], registry: Path | None) -> list[Method]:
    """Methods from NAME=DIR arguments, typed and cited by a YAML registry, and those the registry gives
    folders.

    Registry: `methods: [{name, type: gan|diffusion|other, citation?, folder?}]`; folders are relative to the
    YAML file. A NAME=DIR that the registry does not know is of type other. Raises UserError.
    """
    listed: dict[str, Method] = {}
    for entry in _read_registry(registry) if registry else ():
        if entry.name in listed:
            raise UserError(f"{registry} lists {entry.name!r} twice; names must differ.")
        listed[entry.name] = entry
    for argument in folders:
        name, separator, folder = argument.partition("=")
        if not separator or not name or not folder:
            raise UserError(f"--method {argument!r} should read NAME=DIR.")
        known = listed.get(name, Method(name, MethodType.OTHER))
        if known.folder is not None:
            raise UserError(f"Method {name!r} has two folders: {known.folder} and {folder}.")
        listed[name] = Method(name, known.type, known.citation, Path(user_path("--method", folder)))
    methods = [method for method in listed.values() if method.folder is not None]
    for method in methods:
        _check(method)
    return methods


def _check(method: Method) -> None:
    if not method.name.strip() or not method.name.isprintable() or set(method.name) & _MARKUP:
        raise UserError(
            f"{method.name!r} cannot stand in a table as a method's name: leave out line breaks and "
            f"{' '.join(sorted(_MARKUP))}"
        )
    if method.folder is None or not method.folder.is_dir():
        raise UserError(f"The folder of method {method.name!r} does not exist: {method.folder}")
    reserved = {entry.name for entry in baselines(True, (), True)}
    if method.name in reserved or method.name.startswith("audio_shift_"):
        raise UserError(f"{method.name!r} is the name of a built-in baseline; give the method another name.")


def _read_registry(path: Path) -> list[Method]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the methods' registry {path}: {error}") from error
    entries = content.get("methods") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} should hold one key, `methods`, with a list of entries.")
    return [_entry(path, entry) for entry in entries]


def _entry(path: Path, entry: object) -> Method:
    allowed = {"name", "type", "citation", "folder"}
    if not isinstance(entry, dict) or not {"name", "type"} <= set(entry) <= allowed:
        raise UserError(
            f"{path}: an entry has the keys name, type, citation and folder; this one is {entry!r}."
        )
    try:
        kind = _TYPES[str(entry["type"]).lower()]
    except KeyError as error:
        raise UserError(
            f"{path}: {entry['name']!r} has type {entry['type']!r}; expected gan, diffusion or other."
        ) from error
    folder = path.parent / str(entry["folder"]) if entry.get("folder") else None
    citation = entry.get("citation")
    return Method(str(entry["name"]), kind, None if citation is None else str(citation), folder)
