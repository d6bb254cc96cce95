"""Dub a video with a sound, or many.

    python pipelines/synthesize.py --model RUN --video FILE --audio FILE --out FILE
    python pipelines/synthesize.py --model RUN --pairs CSV --out DIR

The output has the video's frames, times, size and colours, and the sound as it is; --longer-audio says what is seen
where the sound lasts longer. CSV has the columns video, audio, output; its pairs are dubbed on Ray, and DIR/dubs.csv
says what became of each. Run it again after an interruption: dubs that are there stay, pairs that failed are tried
again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from syncdiff_data.cli import (
    RayOptions,
    WeightFlags,
    check_writable,
    exit_with_sentence,
    shared_path,
    user_path,
)
from syncdiff_data.ranges import AT_LEAST_0, check_ranges
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage import exclusive, raise_unexpected, ray_session
from syncdiff_data.weights import given_weights
from syncdiff_model.dub_lists import DubList, dub_list
from syncdiff_model.dub_pairs import REPORT, check_inputs_stay, read_pairs
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair
from syncdiff_model.generators import PUBLISHED, check_own_code, load_generator


@dataclass(frozen=True)
class Options:
    model: str
    """A training run, one of its checkpoints, or a published model: wav2lip, wav2lip-gan."""
    out: Path
    """The dubbed video (mp4), or with --pairs a folder."""
    video: Path | None = None
    """The video to dub."""
    audio: Path | None = None
    """Any file with sound."""
    pairs: Path | None = None
    """CSV with the columns video, audio, output; relative videos and sounds are sought beside it."""
    pair_timeout: float = 300
    """Seconds without a heartbeat (a new frame) after which the worker of a pair of the list is ended; 0: never."""
    weights: WeightFlags = ()
    """Use this file for a weight; repeatable. `python -m syncdiff_data weights list` names them."""
    own_code: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """module:NAME of an encoder or face backend of your own that the model was trained with; repeatable. A checkpoint
    that asks for code which is not named here is refused."""
    overwrite: bool = False
    """Replace an existing video, or dubs of another model or other settings, instead of refusing."""
    config: Annotated[DubConfig, tyro.conf.arg(name="")] = field(default_factory=DubConfig)
    ray: Annotated[RayOptions, tyro.conf.arg(name="")] = field(default_factory=RayOptions)


def main(options: Options) -> None:
    check_ranges(options, {"pair_timeout": AT_LEAST_0})
    if options.config.face_cache is not None:
        cache = Path(user_path("--face-cache", options.config.face_cache))
        options = replace(options, config=replace(options.config, face_cache=cache))
    check_own_code(model_of(options.model), options.own_code)
    given = [path is not None for path in (options.video, options.audio, options.pairs)]
    if given not in ([True, True, False], [False, False, True]):
        raise UserError("Give either --video and --audio, or --pairs.")
    if options.pairs is not None:
        dub_many(options, Path(shared_path("--pairs", options.pairs)))
    elif options.video is not None and options.audio is not None:
        video, audio = user_path("--video", options.video), user_path("--audio", options.audio)
        dub_one(options, Path(video), Path(audio))


def dub_one(options: Options, video: Path, audio: Path) -> None:
    """Dub one video in this process."""
    out = Path(user_path("--out", options.out))
    check_writable("--out", out)
    cache = options.config.face_cache
    if cache is not None and not cache.is_dir():
        check_writable("--face-cache", cache / "faces.npz")
    if out.is_dir() or out.suffix.lower() != ".mp4":
        raise UserError(f"--out {out} must be a file that ends in .mp4, not a folder.")
    if out.exists() and not options.overwrite:
        raise UserError(f"{out} is there already: --overwrite replaces it.")
    for flag, path in (("--video", video), ("--audio", audio)):
        if not path.exists():
            raise UserError(f"{flag} {path} does not exist.")
    check_inputs_stay([DubPair(video, audio, out)])
    weights, device = given_weights(options.weights), options.ray.device
    generator = load_generator(model_of(options.model), options.config.sampling, weights, device)
    with tqdm(unit="frames", desc="dub", mininterval=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        failure = Dubber(generator, options.config, weights, device).dub(
            DubPair(video, audio, out), progress=progress
        )
    if failure:
        raise UserError(f"{out.name} was not made: {failure.reason} ({failure.detail}).")
    print(out)


def model_of(name: str) -> str:
    """A published model's name as it is, any other as a path. UserError where a relative path may not be used."""
    return name if name in PUBLISHED else user_path("--model", Path(name))


def dub_many(options: Options, table: Path) -> None:
    """Dub a list on Ray."""
    out = Path(shared_path("--out", options.out))
    job = DubList(
        model=model_of(options.model),
        pairs=read_pairs(table, out),
        out=out,
        ray=options.ray,
        config=options.config,
        weights=tuple((name, str(file)) for name, file in given_weights(options.weights).items()),
        overwrite=options.overwrite,
        pair_timeout=options.pair_timeout,
    )
    with exclusive(str(out)), ray_session(options.ray):
        rows = dub_list(job)
    failed = sum(row["status"] == "failed" for row in rows)
    print(f"{out}: {len(rows) - failed} of {len(rows)} pairs dubbed; {out / REPORT} says more")
    unexpected = sum(row["reason"] == Reason.UNEXPECTED_ERROR for row in rows)
    raise_unexpected(unexpected, len(rows), "pairs", str(out / REPORT))
    if failed:
        raise UserError(f"{failed} of {len(rows)} pairs could not be dubbed; {out / REPORT} says why.")


def command() -> None:
    """The command line."""
    exit_with_sentence(lambda: main(tyro.cli(Options, description=__doc__)))


if __name__ == "__main__":
    command()
