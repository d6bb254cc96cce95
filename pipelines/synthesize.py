"""Dub a video with a sound, or many.

    python pipelines/synthesize.py --model RUN --video FILE --audio FILE --out FILE
    python pipelines/synthesize.py --model RUN --pairs CSV --out DIR

The output has the video's length: a longer sound is cut, a shorter one ends in silence. CSV has the columns video,
audio, output; DIR/dubs.csv says what became of each pair. Run it again after an interruption: dubs that are there stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from syncdiff_data.cli import WeightFlags, exit_with_sentence, user_path
from syncdiff_data.records import UserError
from syncdiff_data.weights import given_weights
from syncdiff_model.checkpoint import fingerprint, load_syncdiff
from syncdiff_model.dubbing import Dubber, DubConfig, Pair
from syncdiff_model.pairs import REPORT, dub_pairs, read_pairs


@dataclass(frozen=True)
class Options:
    model: Path
    """A training run, or one of its checkpoints."""
    out: Path
    """The dubbed video (mp4), or with --pairs a folder."""
    video: Path | None = None
    audio: Path | None = None
    """Any file with sound."""
    pairs: Path | None = None
    """CSV with the columns video, audio, output; relative videos and sounds are sought beside it."""
    device: str = "cpu"
    """Torch device: cpu or cuda."""
    weights: WeightFlags = ()
    """Use this file for a weight; repeatable. `python -m syncdiff_data weights list` names them."""
    overwrite: bool = False
    """Replace an existing video, or dubs of another model or other settings, instead of refusing."""
    config: Annotated[DubConfig, tyro.conf.arg(name="")] = field(default_factory=DubConfig)


def main(options: Options) -> None:
    single = options.video is not None and options.audio is not None
    if single == (options.pairs is not None):
        raise UserError("Give either --video and --audio, or --pairs.")
    out, checkpoint = Path(user_path("--out", options.out)), Path(user_path("--model", options.model))
    model = load_syncdiff(checkpoint, options.device)
    dubber = Dubber(model, options.config, given_weights(options.weights))
    if options.pairs is not None:
        pairs = read_pairs(Path(user_path("--pairs", options.pairs)), out)
        rows = dub_pairs(dubber, pairs, out, fingerprint(checkpoint), options.overwrite)
        failed = sum(row["status"] == "failed" for row in rows)
        print(f"{out}: {len(rows) - failed} of {len(rows)} pairs dubbed; {out / REPORT} says more")
        if failed:
            raise UserError(f"{failed} of {len(rows)} pairs could not be dubbed; {out / REPORT} says why.")
        return
    assert options.video is not None
    assert options.audio is not None
    if out.exists() and not options.overwrite:
        raise UserError(f"{out} is there already: --overwrite replaces it.")
    if out.is_dir() or out.suffix.lower() != ".mp4":
        raise UserError(f"--out {out} must be a file that ends in .mp4, not a folder.")
    video, audio = (
        Path(user_path(*flag)) for flag in (("--video", options.video), ("--audio", options.audio))
    )
    (failure,) = dubber.dub([Pair(video, audio, out)])
    if failure:
        raise UserError(f"{out.name} was not made: {failure.reason} ({failure.detail}).")
    print(out)


if __name__ == "__main__":
    exit_with_sentence(lambda: main(tyro.cli(Options, description=__doc__)))
