"""Score methods against real video under a named protocol and write a leaderboard.

python pipelines/benchmark.py --reference lrs2/test --method wav2lip=out/wav2lip --out report
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from syncdiff_data.cli import RayOptions, WeightFlags, optional_path, run, shared_path, user_path
from syncdiff_data.ranges import AT_LEAST_0, check_ranges
from syncdiff_data.stage import ray_session
from syncdiff_data.weights import given_weights
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.methods import KNOWN_METHODS, baselines, read_methods
from syncdiff_eval.metrics import FAMILIES, load_family
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.metrics.expert_file import expert_file_family
from syncdiff_eval.metrics.sync_expert import expert_family
from syncdiff_eval.outputs import describe_outputs
from syncdiff_eval.pairing import PairsOrder, pair_by_list, pair_by_name
from syncdiff_eval.protocols import PROTOCOLS, SYNCDIFF, ProtocolDefinition, find_protocol

Methods = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=DIR")]
Templates = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=TEMPLATE")]
Names = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODULE:NAME")]
Shifts = Annotated[tuple[int, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Options:
    reference: Path
    """Folder of the real videos."""
    out: Path
    """Folder of the report. What a stopped run left there is used again."""
    method: Methods = ()
    """A method's name and the folder of its outputs, named like the references (a.mp4, also a_out.mp4, a_result.mp4,
    a__b.mp4 and a_b.mp4 of video a and audio b, a/result.mp4: docs/protocols.md, Pairing); repeatable."""
    output_template: Templates = ()
    """A method's name and how its outputs are named, where they are named otherwise: wav2lip={video}_{audio}_dub.mp4;
    repeatable."""
    methods: Path | None = None
    """YAML registry that types and cites methods, and may name their folders; unset takes the one that comes with
    syncdiff, which knows the methods of the literature."""
    pairs: Path | None = None
    """CSV with the columns video, audio, output, optionally speaker; unset pairs by file name, with the own audio."""
    pairs_order: PairsOrder = "csv"
    """What --pairs is: a CSV with a header, or a list of Wav2Lip's, whose columns are audio video (lrs) or
    video audio (resynced)."""
    protocol: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PROTOCOLS)}}}")] = SYNCDIFF.name
    """How to score (docs/protocols.md)."""
    metric: Names = ()
    """Score this metric too: module:NAME of a MetricFamily of your own, or a family's name; repeatable. It is marked as
    no part of the protocol."""
    sync_expert: Path | None = None
    """Folder of a sync expert of your own (RUN/best of train.py --model sync), which takes the place of the one that
    comes with syncdiff; its columns are marked as no part of the protocol."""
    frozen: bool = True
    """Baseline row of the first frame all through; --no-frozen turns it off."""
    audio_shift: Shifts = ()
    """Baseline row of the real video with its audio this many frames late (negative: early); repeatable."""
    other_audio: bool = False
    """Baseline row of the real video with the next clip's audio."""
    published: str | None = None
    """Print other people's numbers for this data set (LRS2, LRS3, LRW, HDTF, VFHQ) apart from the measured ones."""
    reencode_check: bool = False
    """Score every file once more after re-encoding it (H.264 and AAC), and report how far each number moves."""
    previews: int = 3
    """Clips that index.html shows side by side, from the worst to the best (at most 24); 0 turns them off."""
    previews_by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Column of per_clip.parquet that these clips are chosen by (ssim_mouth); unset takes the one that orders the
    methods."""
    cache: Path | None = None
    """Folder of finished work. Reports that share one make SyncNet's embeddings of a file once for all protocols; unset
    keeps it in --out."""
    overwrite: bool = False
    """Start anew and replace what lies in --out; a folder given by --cache is not emptied."""
    retry_failed: bool = False
    """Score clips again that crashed their worker in an earlier run."""
    clip_timeout: float = 300
    """Seconds without a heartbeat (a new frame) after which a clip's worker is ended; 0: never."""
    weights: WeightFlags = ()
    """A weight file by its registry name; repeatable."""
    ray: RayOptions = field(default_factory=RayOptions)


def main(options: Options) -> None:
    check_ranges(options, {"clip_timeout": AT_LEAST_0, "previews": AT_LEAST_0})
    reference = Path(shared_path("--reference", options.reference))
    out = Path(shared_path("--out", options.out))
    pairs = optional_path("--pairs", options.pairs)
    protocol = find_protocol(options.protocol)
    pairing = pair_by_list(reference, pairs, options.pairs_order) if pairs else pair_by_name(reference)
    methods = [
        *baselines(options.frozen, options.audio_shift, options.other_audio),
        *read_methods(
            options.method,
            optional_path("--methods", options.methods) or KNOWN_METHODS,
            options.output_template,
        ),
    ]
    for line in describe_outputs(methods, pairing):
        print(line, file=sys.stderr)
    weights = given_weights(options.weights)
    with ray_session(options.ray):
        config = BenchmarkConfig(
            reference,
            pairing,
            methods,
            protocol,
            out,
            weights,
            options.ray,
            overwrite=options.overwrite,
            retry_failed=options.retry_failed,
            published=options.published,
            reencode_check=options.reencode_check,
            previews=options.previews,
            previews_by=options.previews_by,
            cache=optional_path("--cache", options.cache),
            clip_timeout=options.clip_timeout,
            families=FAMILIES | own_expert(options),
            other_flags=tuple(other_flags(options)),
            added=added_families(options, protocol),
        )
        benchmark(config)
    print(f"{out / 'leaderboard.md'}\n{out / 'index.html'}")


def added_families(options: Options, protocol: ProtocolDefinition) -> tuple[MetricFamily, ...]:
    """The families of --metric and --sync-expert that the protocol does not have."""
    added = {name: load_family(name) for name in options.metric}
    added |= {name: family for name, family in own_expert(options).items() if name == "expert"}
    return tuple(family for name, family in added.items() if name not in protocol.metrics)


def own_expert(options: Options) -> dict[str, MetricFamily]:
    """The families that --sync-expert replaces, by name."""
    if options.sync_expert is None:
        return {}
    folder = user_path("--sync-expert", options.sync_expert)
    return {family.name: family for family in (expert_family(folder), expert_file_family(folder))}


def other_flags(options: Options) -> list[str]:
    """What `Results.other_flags` holds: flags of this command that other results do not say; files as placeholders."""
    words = ["--pairs", "PAIRS.csv"] if options.pairs else []
    if options.pairs and options.pairs_order != Options.pairs_order:
        words += ["--pairs-order", options.pairs_order]
    words += ["--methods", "METHODS.yaml"] if options.methods else []
    for template in options.output_template:
        words += ["--output-template", template]
    if options.previews != Options.previews:
        words += ["--previews", str(options.previews)]
    return words + (["--previews-by", options.previews_by] if options.previews_by else [])


def command() -> None:
    """The command line."""
    run(main, Options, __doc__)


if __name__ == "__main__":
    command()
