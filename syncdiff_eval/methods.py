"""Methods (name, type, citation, folder of outputs) and the baselines that need no model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from syncdiff_data.cli import user_path
from syncdiff_data.documents import parse_yaml
from syncdiff_data.records import UserError
from syncdiff_data.tables import at_home
from syncdiff_eval.pairing import nfc


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
    """One row of the leaderboard. Exactly one of folder and baseline is given.

    template: how its outputs are named (`outputs.py`); None for the clips' own names and the usual ones.
    """

    name: str
    type: MethodType
    citation: str | None = None
    folder: Path | None = None
    baseline: Baseline | None = None
    template: str | None = None

    @property
    def is_competitor(self) -> bool:
        """Whether it is compared with others and ranked: all but real video and baselines."""
        return self.baseline is None and self.type is not MethodType.REFERENCE


_MARKUP = frozenset("|<>`\\")
"""Characters with a meaning in Markdown or HTML."""

LONGEST_TEXT = 10_000
"""Letters of any other text in a report."""
LONGEST_NAME = 200
"""Letters of a name in a table."""

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


def method_key(name: str) -> str:
    """The letters and digits of a method's name, which all its spellings share: `X-Dub`, `x_dub` and `xdub`."""
    return "".join(re.findall(r"[^\W_]+", name.lower()))


def read_methods(
    folders: tuple[str, ...], registry: Path | None, templates: tuple[str, ...] = ()
) -> list[Method]:
    """The methods that a YAML registry gives folders, then those of NAME=DIR arguments, in their order, typed and
    cited by the registry.

    Registry: `methods: [{name, type: gan|diffusion|other, citation?, folder?, template?}]`; folders are relative to
    the YAML file. A NAME=DIR is the entry of that name, else the one that is spelt otherwise (`method_key`); one that
    the registry does not know is of type other. templates: NAME=TEMPLATE, how a method's outputs are named. Raises
    UserError.
    """
    listed: dict[str, Method] = {}
    for entry in read_registry(registry) if registry else ():
        if entry.name in listed:
            raise UserError(f"{registry} lists {entry.name!r} twice; names must differ.")
        listed[entry.name] = entry
    spellings = {method_key(name): entry for name, entry in listed.items()}
    for name, folder in _named("--method", "DIR", folders):
        same = listed.pop(name, None)
        if same and same.folder is not None:
            raise UserError(f"Method {name!r} has two folders: {same.folder} and {folder}.")
        known = same or spellings.get(method_key(name)) or Method(name, MethodType.OTHER)
        listed[name] = replace(known, name=name, folder=Path(user_path("--method", folder)))
    for name, template in _named("--output-template", "TEMPLATE", templates):
        if name not in listed or listed[name].folder is None:
            raise UserError(f"--output-template names the method {name!r}, which has no folder of outputs.")
        listed[name] = replace(listed[name], template=template)
    methods = [method for method in listed.values() if method.folder is not None]
    for method in methods:
        _check(method)
    return methods


def _named(flag: str, value: str, arguments: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """NAME=VALUE arguments as (name, value)."""
    for argument in arguments:
        name, separator, given = argument.partition("=")
        if not separator or not name.strip() or not given:
            raise UserError(f"{flag} {argument!r} should read NAME={value}.")
        yield nfc(name.strip()), given


def _check(method: Method) -> None:
    check_name(method.name, "a method's name")
    if method.folder is None or not os.path.isdir(method.folder):  # noqa: PTH112  raises for no name
        raise UserError(f"The folder of method {method.name!r} does not exist: {method.folder}")
    reserved = {entry.name for entry in baselines(True, (), True)}
    if method.name in reserved or method.name.startswith("audio_shift_"):
        raise UserError(f"{method.name!r} is the name of a built-in baseline; give the method another name.")


def check_name(name: str, what: str) -> None:
    """UserError for a name that is empty, too long for a table, or would be read as Markdown or HTML there."""
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"{name[:40]!r}... cannot stand in a table as {what}: it has {len(name):,} letters, at most {LONGEST_NAME}."
        )
    if not name.strip() or not name.isprintable() or set(name) & _MARKUP:
        raise UserError(
            f"{name!r} cannot stand in a table as {what}: leave out line breaks and {' '.join(sorted(_MARKUP))}"
        )


def read_registry(path: Path) -> list[Method]:
    """The entries of a YAML registry, with and without folders. Raises UserError."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the methods' registry {path}: {error}") from error
    entries = content.get("methods") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} should hold one key, `methods`, with a list of entries.")
    return [_entry(path, entry) for entry in entries]


def _entry(path: Path, entry: object) -> Method:
    allowed = {"name", "type", "citation", "folder", "template"}
    if not isinstance(entry, dict) or not {"name", "type"} <= set(entry) <= allowed:
        raise UserError(
            f"{path}: an entry has the keys name, type, citation, folder and template; this one is {entry!r}."
        )
    for key in ("name", "folder", "template"):
        value = entry.get(key)
        if not isinstance(value, str) and (value is not None or key == "name"):
            raise UserError(f"{path}: the {key} of an entry is {value!r}: expected a text, in quotes.")
    try:
        kind = _TYPES[str(entry["type"]).lower()]
    except KeyError as error:
        raise UserError(
            f"{path}: {entry['name']!r} has type {entry['type']!r}; expected gan, diffusion or other."
        ) from error
    folder = path.parent / at_home(str(path), entry["folder"]) if entry.get("folder") else None
    citation = None if entry.get("citation") is None else str(entry["citation"])
    if citation and len(citation) > LONGEST_TEXT:
        raise UserError(
            f"{path}: the citation of {entry['name']!r} has {len(citation):,} letters, at most {LONGEST_TEXT:,}."
        )
    return Method(nfc(entry["name"].strip()), kind, citation, folder, template=entry.get("template"))
