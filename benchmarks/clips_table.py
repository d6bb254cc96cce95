"""What became of each file of a folder of difficult videos, as a table in Markdown.

python pipelines/preprocess.py --source folder --root ../shared/clips --out DATASET
python benchmarks/clips_table.py --dataset DATASET --manifest ../shared/clips/manifest.csv --out docs/clips_table.md
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from syncdiff_data.cli import run
from syncdiff_data.records import Clip, Reject
from syncdiff_data.shards import Store, load_dataset, read_clips, read_rejects


@dataclass(frozen=True)
class Options:
    dataset: Path
    """Data set of clips made from the folder."""
    manifest: Path
    """CSV with the columns file, width, height, vcodec, fps_avg, vfr, rotation and acodec."""
    out: Path
    """Markdown file to write."""


def main(options: Options) -> None:
    with options.manifest.open(newline="") as file:
        media = {row["file"]: describe_media(row) for row in csv.DictReader(file)}
    outcomes = defaultdict[str, list[str]](list)
    for clip in read_clips(options.dataset):
        outcomes[clip.source].append(describe_clip(clip))
    for reject in read_rejects(options.dataset):
        outcomes[reject.source].append(describe_reject(reject))
    counts = load_dataset(Store(options.dataset)).counts
    lines = [
        "# What became of each difficult video",
        "",
        "Made by `benchmarks/clips_table.py`, which says how to make it again. "
        f"{counts['sources']} files: {counts['clips']} clips, {counts['rejects']} rejects. "
        "A face that does not become a clip is a reject beside its source's clips.",
        "",
        "| file | media | what became of it |",
        "|---|---|---|",
        *(f"| {name} | {media.get(name, '')} | {'<br>'.join(outcomes[name])} |" for name in sorted(outcomes)),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print(f"{options.out}: {len(outcomes)} files")


def describe_media(row: dict[str, str]) -> str:
    """One line of a manifest in a few words."""
    picture = "no picture"
    if row["vcodec"]:
        rate = f"{float(Fraction(row['fps_avg'])):.5g} fps" + (", variable" if row["vfr"] == "1" else "")
        turned = f", rotated {row['rotation']}" if row["rotation"] not in ("", "0") else ""
        picture = f"{row['width']} x {row['height']} {row['vcodec']}, {rate}{turned}"
    return f"{picture}; {row['acodec'] or 'no sound'}"


def describe_clip(clip: Clip) -> str:
    sound = "" if clip.audio.any() else ", silent"
    return f"clip: face {clip.track}, {clip.num_frames} frames from {clip.start_s:.2f} s{sound}"


def describe_reject(reject: Reject) -> str:
    return f"**{reject.reason}**: {reject.detail}".replace("|", "/")


if __name__ == "__main__":
    run(main, Options, __doc__)
