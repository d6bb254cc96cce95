"""Which files of a method's folder are the outputs of which pairs: by their own name, by usual names, by a template."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Formatter

from syncdiff_data.records import UserError
from syncdiff_data.sources.adapter import MEDIA_SUFFIXES, stem
from syncdiff_eval.methods import Method
from syncdiff_eval.pairing import Pair, Pairing, by_path, nfc, outputs_of

OWN_NAME = "{clip}"
USUAL_NAMES = (
    *(f"{{clip}}_{word}" for word in ("out", "output", "result", "dub", "dubbed", "synced", "generated")),
    "{clip}_{method}",
    "{video}__{audio_name}",
    "{video}_{audio_name}",
    *(f"{{clip}}/{name}" for name in ("result", "output", "out", "{clip_name}")),
)
"""Templates of the names that methods give their outputs, without suffix (`_fields` says what is filled in)."""
FIRST_NAMES = 5
"""Names of a longer list that are printed."""


@dataclass(frozen=True)
class Outputs:
    """What a method's folder holds for the pairs; paths are relative to the folder, in order.

    files: clip -> files that may be its output: none, one, or several, of which none is chosen. rivals: clip -> other
    clips whose output its files may be as well. templates: clip -> those that name its files. unmatched: files that are
    no clip's.
    """

    files: Mapping[str, tuple[str, ...]]
    rivals: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, tuple[str, ...]]
    unmatched: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Clips without any file."""
        return [clip for clip, files in self.files.items() if not files]

    @property
    def ambiguous(self) -> list[str]:
        """Clips with several files, or with one that may be another clip's."""
        return [clip for clip, files in self.files.items() if len(files) > 1 or self.rivals[clip]]


def find_outputs(method: Method, pairing: Pairing) -> Outputs:
    """The outputs in a method's folder; nothing for a method without one.

    Raises UserError where the folder holds no output of any pair: it is empty, another's, or not mounted; and for a
    template that cannot name outputs.
    """
    if method.folder is None:
        return match_outputs({}, pairing, method)
    found = outputs_of(method.folder)
    outputs = match_outputs(found, pairing, method)
    if len(outputs.missing) == len(pairing.pairs):
        first = _name(method.template or OWN_NAME, pairing.pairs[0], method)
        wanted = first if PurePosixPath(first).suffix.lower() in MEDIA_SUFFIXES else f"{first}.mp4"
        raise UserError(
            f"The folder of method {method.name!r}, {method.folder}, holds no output of any of the "
            f"{len(pairing.pairs)} pairs ({len(found)} media files with other names; the first pair wants "
            f"{wanted} or the like). Is it mounted, and the right folder? --output-template {method.name}=TEMPLATE "
            "tells how its files are named."
        )
    return outputs


def match_outputs(found: Mapping[str, Sequence[str]], pairing: Pairing, method: Method) -> Outputs:
    """Files of every clip, of those in a folder (path without suffix, in NFC -> paths).

    A template decides alone. Without one a clip's own name wins over the usual names, and what bears the name of
    another clip or reference is never taken for an output under a usual name. Raises UserError for a template that
    cannot name outputs.
    """
    files = dict(found)
    if method.template is not None:
        _check_template(method.template, pairing, method)
        files |= by_path(found)
    reserved = pairing.references | {pair.clip for pair in pairing.pairs}
    matched: dict[str, dict[str, str]] = {}  # clip -> file -> the template that names it
    claims: dict[str, list[str]] = defaultdict(list)  # file -> clips
    for pair in pairing.pairs:
        matched[pair.clip] = {
            file: template
            for template, name in _names(pair, method, files, reserved)
            for file in files.get(name, ())
        }
        for file in matched[pair.clip]:
            claims[file].append(pair.clip)
    return Outputs(
        files={clip: tuple(sorted(of_clip)) for clip, of_clip in matched.items()},
        rivals={
            clip: tuple(sorted({other for file in of_clip for other in claims[file]} - {clip}))
            for clip, of_clip in matched.items()
        },
        templates={clip: tuple(sorted(set(of_clip.values()))) for clip, of_clip in matched.items()},
        unmatched=tuple(sorted(file for paths in found.values() for file in paths if file not in claims)),
    )


def describe_outputs(methods: Sequence[Method], pairing: Pairing) -> list[str]:
    """Lines on what every method's folder holds and lacks, to be read before hours of scoring. Raises UserError."""
    noun = "reference" if pairing.setting == "own-audio" else "pair"
    return [
        line
        for method in methods
        if method.folder is not None
        for line in _description(method.name, find_outputs(method, pairing), noun)
    ]


def _description(name: str, outputs: Outputs, noun: str) -> Iterator[str]:
    missing, ambiguous = outputs.missing, outputs.ambiguous
    found = Counter(
        outputs.templates[clip][0] for clip in outputs.files.keys() - set(missing) - set(ambiguous)
    )
    ways = ", ".join(f"{n} as {template}" for template, n in sorted(found.items()))
    named = f" ({ways})" if found.keys() - {OWN_NAME} else ""
    yield f"{name}: outputs of {found.total()} of {_count(len(outputs.files), noun)}{named}"
    if missing:
        yield f"  no output: {_count(len(missing), noun)}: {_first(missing)}"
    if ambiguous:
        files = sorted({file for clip in ambiguous for file in outputs.files[clip]})
        yield (
            f"  ambiguous, so none is scored: {_count(len(ambiguous), noun)}: {_first(ambiguous)}, by the files "
            f"{_first(files)}; --output-template {name}=TEMPLATE tells which"
        )
    if outputs.unmatched:
        yield f"  of no {noun}: {_count(len(outputs.unmatched), 'file')}: {_first(outputs.unmatched)}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _first(names: Sequence[str]) -> str:
    rest = f" and {len(names) - FIRST_NAMES:,} more" if len(names) > FIRST_NAMES else ""
    return ", ".join(repr(name) for name in names[:FIRST_NAMES]) + rest


def _names(
    pair: Pair, method: Method, files: Mapping[str, Sequence[str]], reserved: frozenset[str]
) -> list[tuple[str, str]]:
    """(template, name) of what may be the pair's output."""
    if method.template is not None:
        return [(method.template, _name(method.template, pair, method))]
    if pair.clip in files:
        return [(OWN_NAME, pair.clip)]
    fields = _fields(pair, method)
    named = [(template, nfc(template.format_map(fields))) for template in USUAL_NAMES]
    return [(template, name) for template, name in named if name not in reserved]


def _name(template: str, pair: Pair, method: Method) -> str:
    return nfc(template.format_map(_fields(pair, method)))


def _fields(pair: Pair, method: Method) -> dict[str, str]:
    """What a template may hold: paths below the folder without suffix, and their last parts."""
    paths = {"clip": pair.clip, "video": stem(pair.video), "audio": stem(pair.audio)}
    names = {f"{field}_name": PurePosixPath(path).name for field, path in paths.items()}
    return {**paths, **names, "method": method.name}


def _check_template(template: str, pairing: Pairing, method: Method) -> None:
    """UserError where it is not one, or gives two pairs one name."""
    fields = _fields(pairing.pairs[0], method)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"The template {template!r} of method {method.name!r} does not read: {error}."
        ) from error
    if any(
        field is not None and (field not in fields or spec or conversion)
        for _, field, spec, conversion in parts
    ):
        raise UserError(
            f"The template {template!r} of method {method.name!r} may hold "
            f"{', '.join(f'{{{field}}}' for field in fields)}, and nothing else in braces."
        )
    clips: dict[str, str] = {}
    for pair in pairing.pairs:
        other = clips.setdefault(_name(template, pair, method), pair.clip)
        if other != pair.clip:
            raise UserError(
                f"The template {template!r} of method {method.name!r} gives {other!r} and {pair.clip!r} the same "
                f"output {_name(template, pair, method)!r}: add what tells them apart."
            )
