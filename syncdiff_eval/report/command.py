"""The command that makes a report again, from what the report says: folders have placeholders, since it names none."""

from __future__ import annotations

import re
import shlex

from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.results import MethodResult, Results


def command_line(results: Results) -> str:
    """One line for a shell. Of a merged report, the command of all its methods at once."""
    words = ["python", "pipelines/benchmark.py", "--reference", "REFERENCE"]
    for row in results.methods:
        words += _of_row(row)
    if all(row.name != "frozen_first_frame" for row in results.methods):
        words.append("--no-frozen")
    words += ["--protocol", results.protocol.name]
    own_expert = _has_own_expert(results)
    for name in _added(results):
        words += ["--sync-expert", "FOLDER"] if name == "expert" and own_expert else ["--metric", name]
    if results.published:
        words += ["--published", results.published[0].dataset]
    if results.reencoding:
        words.append("--reencode-check")
    if results.protocol.setting == "crossed-audio" and "--pairs" not in results.other_flags:
        words += ["--pairs", "PAIRS.csv"]
    return shlex.join([*words, *results.other_flags, "--out", "REPORT"])


def _of_row(row: MethodResult) -> list[str]:
    """The flags that put a row into the table."""
    if row.name == "other_audio":
        return ["--other-audio"]
    if shift := re.fullmatch(r"audio_shift_([+-]\d+)", row.name):
        return ["--audio-shift", str(int(shift[1]))]
    if row.baseline or row.type == "reference":
        return []
    folder = f"{row.name}=FOLDER"
    return [f"--method={folder}"] if row.name.startswith("-") else ["--method", folder]


def _added(results: Results) -> list[str]:
    """Families of the metrics that are no part of the protocol: names, or MODULE:NAME for those of others."""
    added = {metric.name for metric in results.metrics if not metric.in_protocol}
    # Of families with a column of one name the first compares with a reference, the others score files alone.
    families = reversed(FAMILIES.items())
    known = {column.name: name for name, family in families for column in family.columns}
    return list(dict.fromkeys(known.get(name, "MODULE:NAME") for name in sorted(added)))


def _has_own_expert(results: Results) -> bool:
    """Whether the sync expert that scored is another one than comes with syncdiff."""
    return any(
        results.weights.get(name, FAMILIES[name].content_hash) != FAMILIES[name].content_hash
        for name in ("expert", "expert-file")
    )
