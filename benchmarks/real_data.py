"""Do the metrics say of real video what they must? The tables of docs/protocols.md, "On real video".

    python benchmarks/real_data.py --grid ../shared/grid_s1 --clips ../shared/clips

Three questions. Sound moved by k frames: does the mouth-audio correlation find k, and fall away from it? Degradations
of known size: does every metric order them as it must? Outputs of real generators: is each frame held against the frame
it was made from, or the clip refused? FID is measured with seeded Inception weights unless --weights inception-fid=FILE
is given, so its numbers order and mean nothing more; LSE is left out, as a network with seeded weights knows no lips.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from degraded import Images, blurred, noisy, read_images, with_mouth

from syncdiff_data.cli import RayOptions, WeightFlags, run
from syncdiff_data.faces import load_backend
from syncdiff_data.media import Video, write_video
from syncdiff_data.stage import ray_session
from syncdiff_data.weights import given_weights
from syncdiff_eval.benchmark import FACES, BenchmarkConfig, benchmark
from syncdiff_eval.methods import Method, MethodType, baselines
from syncdiff_eval.metrics.image import psnr
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.mouth_audio import MAX_LAG, lagged_correlation, loudness
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX, ProtocolDefinition
from syncdiff_eval.results import Results
from syncdiff_eval.scoring import Reference, Scorer, driving_audio, measure_reference, shift_audio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import inception_state, saved

PROTOCOL = replace(SYNCDIFF, metrics=("fid-face", "image", "landmarks", "mouth_audio"), resamples=2000)
LADDERS = {
    "blur": (1.0, 2.0, 4.0),
    "noise": (4.0, 8.0, 16.0),
    "other clip's mouth": (),
}
"""Of one kind, from mild to strong: sigma of a Gaussian in pixels, standard deviation of the noise in gray levels."""
WORSE_DOWN = ("psnr_face", "psnr_mouth", "psnr_full", "ssim_face", "ssim_mouth", "ssim_full", "opening_corr")
WORSE_UP = ("fid_face", "lmd_mouth")


@dataclass(frozen=True)
class Options:
    """What the metrics say of real video, as Markdown tables."""

    grid: Path
    """Folder of GRID clips (one speaker)."""
    clips: Path | None = None
    """Folder with retalk_face1_vfr.mp4, pair_B_gen_*.mp4 and pair_C_*.mp4; unset leaves that part out."""
    shifted: int = 40
    """GRID clips whose sound is moved; 0 leaves that part out."""
    degraded: int = 8
    """GRID clips that are degraded; 0 leaves that part out."""
    weights: WeightFlags = ()
    """inception-fid=FILE; seeded ones otherwise."""
    ray: RayOptions = field(default_factory=RayOptions)


def main(options: Options) -> None:
    files = sorted(path for path in options.grid.rglob("*") if path.suffix == ".mpg")
    if options.shifted:
        shifts(files[: options.shifted])
    with tempfile.TemporaryDirectory() as folder, ray_session(options.ray):
        scratch = Path(folder)
        weights = dict(given_weights(options.weights))
        weights.setdefault("inception-fid", saved(inception_state(), scratch / "inception"))
        if options.degraded:
            degradations(files[: options.degraded], scratch / "degraded", weights, options.ray)
        if options.clips:
            pairs(options.clips, scratch / "pairs", options.ray)


def shifts(files: Sequence[Path]) -> None:
    """Every clip's sound moved by -10 to 10 frames, its best lag and its fit at lag 0."""
    scorer = Scorer(SYNCDIFF, {}, {}, load_backend(FACES, {}))
    clips = [(path, measure_reference(path, scorer, FACES)) for path in files]
    openings = [_opening(reference) for _, reference in clips]
    sounds = [driving_audio(path, r.start_s, r.num_frames, r.facts.fps) for path, r in clips]

    def curves(shift: int) -> np.ndarray:
        """Of every clip, over the lags."""
        return np.array(
            [
                lagged_correlation(opening, loudness(shift_audio(sound, shift, 25.0), 25.0, len(opening)))
                for opening, sound in zip(openings, sounds)
            ]
        )

    natural = curves(0).argmax(axis=1) - MAX_LAG
    print(f"### Sound moved by k frames, {len(files)} GRID clips\n")
    print(f"Unmoved, the best lag of a clip is {np.mean(natural):+.1f} frames on average.\n")
    print(
        "| k | correlation at lag 0 | best lag of the mean curve | clips whose own best lag moved by k +- 1 |"
    )
    print("| ---: | ---: | ---: | ---: |")
    for shift in range(-MAX_LAG, MAX_LAG + 1):
        found = curves(shift)
        moved = found.argmax(axis=1) - MAX_LAG - natural
        inside = np.abs(natural + shift) <= MAX_LAG
        right = int((np.abs(moved - shift) <= 1)[inside].sum())
        mean = found.mean(axis=0)
        best = int(mean.argmax()) - MAX_LAG
        print(f"| {shift:+d} | {mean[MAX_LAG]:+.3f} | {best:+d} | {right} of {int(inside.sum())} |")
    print(flush=True)


def _opening(reference: Reference) -> np.ndarray:
    assert reference.regions is not None, "GRID shows a face in every clip"
    return mouth_opening(reference.regions.landmarks)


def degradations(files: Sequence[Path], folder: Path, weights: dict[str, Path], ray: RayOptions) -> None:
    """Outputs damaged by a known amount, scored as any method is."""
    reference = folder / "reference"
    reference.mkdir(parents=True)
    for path in files:
        (reference / path.name).symlink_to(path.resolve())
    methods = [_write(folder, name, files, damage) for name, damage in _damages(files)]
    everything = [*baselines(True, (), True), *methods]
    report = folder / "report"
    results = benchmark(
        BenchmarkConfig(reference, pair_by_name(reference), everything, PROTOCOL, report, weights, ray)
    )
    print(f"### Degradations of known size, {len(files)} GRID clips of one speaker\n")
    _print_table(results)
    for fault in disorder(results):
        print(f"- out of order: {fault}")
    print(flush=True)


def _damages(files: Sequence[Path]) -> Iterator[tuple[str, Callable[[Images, int], Images]]]:
    """Name and function of (a clip's images, its number)."""
    yield "encoded only", lambda images, _: images
    for sigma in LADDERS["blur"]:
        yield f"blur {sigma:g}", lambda images, _, s=sigma: blurred(images, s)  # type: ignore[misc]
    for sd in LADDERS["noise"]:
        yield f"noise {sd:g}", lambda images, i, s=sd: noisy(images, s, i)  # type: ignore[misc]
    boxes = _mouth_boxes(files)
    other = [read_images(path) for path in files[1:]] + [read_images(files[0])]
    yield (
        "other clip's mouth",
        lambda images, i: with_mouth(images, boxes[i], other[i], boxes[(i + 1) % len(files)]),
    )


def _mouth_boxes(files: Sequence[Path]) -> list[np.ndarray]:
    scorer = Scorer(SYNCDIFF, {}, {}, load_backend(FACES, {}))
    found = []
    for path in files:
        regions = measure_reference(path, scorer, FACES).regions
        assert regions is not None
        found.append(regions.mouth)
    return found


def _write(folder: Path, name: str, files: Iterable[Path], damage: Callable[[Images, int], Images]) -> Method:
    out = folder / name.replace("'", "").replace(" ", "_")
    out.mkdir()
    for i, path in enumerate(files):
        write_video(out / f"{path.stem}.mp4", damage(read_images(path), i), None, crf=0)
    return Method(name, MethodType.OTHER, None, out)


def _print_table(results: Results) -> None:
    shown = [
        metric
        for metric in results.metrics
        if not metric.not_available and metric.higher_is_better is not None
    ]
    print("| | " + " | ".join(metric.title for metric in shown) + " |")
    print("| --- | " + " | ".join("---:" for _ in shown) + " |")
    for row in results.methods:
        cells = [row.scores[metric.name] for metric in shown]
        texts = ["–" if c.mean is None else f"{c.mean:.{m.decimals}f}" for c, m in zip(cells, shown)]
        print(f"| {row.name} | " + " | ".join(texts) + " |")
    print()


def disorder(results: Results) -> list[str]:
    """Every metric that does not get worse from one step of a ladder to the next: empty if all is as it must be."""
    scores = {row.name: row.scores for row in results.methods}
    faults = []
    for kind, steps in LADDERS.items():
        ladder = (
            ["encoded only", *(f"{kind} {step:g}" for step in steps)] if steps else ["encoded only", kind]
        )
        for metric in (*WORSE_DOWN, *WORSE_UP):
            means = [scores[name][metric].mean for name in ladder]
            signed = [mean if metric in WORSE_UP else -mean for mean in means if mean is not None]
            if signed != sorted(signed) or len(signed) < len(ladder):
                faults.append(f"{metric} under {kind}: {means}")
    return faults


def pairs(clips: Path, folder: Path, ray: RayOptions) -> None:
    """Outputs of Wav2Lip, VideoReTalking and others beside the video they were made from."""
    print("### Outputs of real generators\n")
    print(
        f"| output | {SYNCDIFF.name} | {SYNCDIFF_INDEX.name} | PSNR full by index | by time |\n"
        "| --- | --- | --- | ---: | ---: |"
    )
    sources = {"pair_B": "retalk_face1_vfr.mp4", "pair_C": "pair_C_src_man.mp4"}
    for prefix, source in sources.items():
        outputs = sorted(clips.glob(f"{prefix}_gen_*"))
        strict, by_index = (
            _score_pair(clips / source, outputs, folder / prefix, protocol, ray)
            for protocol in (SYNCDIFF, SYNCDIFF_INDEX)
        )
        for output in outputs:
            cells = (output.name, strict[output.stem], by_index[output.stem],
                     _psnr(clips / source, output, "index"), _psnr(clips / source, output, "time"))  # fmt: skip
            print(f"| {' | '.join(cells)} |")
    print(flush=True)


def _score_pair(
    source: Path, outputs: Sequence[Path], folder: Path, protocol: ProtocolDefinition, ray: RayOptions
) -> dict[str, str]:
    """method -> what became of it."""
    reference = folder / protocol.name / "reference"
    reference.mkdir(parents=True)
    (reference / source.name).symlink_to(source.resolve())
    methods = []
    for output in outputs:
        out = folder / protocol.name / output.stem
        out.mkdir()
        (out / source.with_suffix(output.suffix).name).symlink_to(output.resolve())
        methods.append(Method(output.stem, MethodType.OTHER, None, out))
    report = folder / protocol.name / "report"
    chosen = replace(protocol, metrics=("image", "landmarks"))
    benchmark(
        BenchmarkConfig(
            reference,
            pair_by_name(reference),
            [*baselines(False, (), False), *methods],
            chosen,
            report,
            {},
            ray,
        )
    )
    rows = pd.read_parquet(report / "per_clip.parquet").set_index("method")
    return {str(name): _outcome(row) for name, row in rows.iterrows()}


def _outcome(row: pd.Series) -> str:
    if row["status"] == "failed":
        return str(row["reason"])
    return (
        f"{row['num_frames']} frames, PSNR full {row['psnr_full']:.1f} dB, LMD face {row['lmd_face']:.1f} %"
    )


def _psnr(source: Path, output: Path, clock: str) -> str:
    """Mean PSNR of full frames paired by index, or both resampled to 25 frames per second and then paired."""
    read = read_images if clock == "index" else lambda path: list(Video(path).frames())
    ours, theirs = read(source), read(output)
    if ours[0].shape != theirs[0].shape:
        return "–"
    return f"{np.mean([psnr(a, b) for a, b in zip(ours, theirs)]):.1f}"


if __name__ == "__main__":
    run(main, Options)
