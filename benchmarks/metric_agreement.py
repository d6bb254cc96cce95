"""Which metric agrees with what? The tables of docs/protocols.md, "Which metric agrees with what".

    python benchmarks/metric_agreement.py --videos METHODS --speech SPEECH --grid GRID_S1 --out OUT

METHODS holds real videos in `reference` and a folder of outputs for each method of AUTHORS. Every metric that needs no
download scores them, and the real videos degraded by known amounts. The tables: rank correlation with the authors'
columns; rank correlation with each other; change under re-encoding; separation of real video from what is not. Real
speech (--speech, --grid) is separated from its frozen first frame and from foreign sound. OUT keeps the reports and a
cache: a run that was stopped goes on where it was.

+ means agreement everywhere: scores are turned round where lower is better, and where a number should be that of the
real video its distance from it counts (IDEALS).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from agreement_statistics import (
    closest,
    goodness,
    interval,
    markdown,
    pooled_separation,
    rank_correlations,
    resampled_means,
    separation,
)
from degraded import Images, blurred, noisy, read_images, with_late_mouth, with_mouth

from syncdiff_data.cli import RayOptions, run
from syncdiff_data.faces import load_backend
from syncdiff_data.media import read_audio, write_video
from syncdiff_data.records import UserError
from syncdiff_data.stage import ray_session
from syncdiff_eval.benchmark import FACES, OWN_CACHE, BenchmarkConfig, benchmark_with_records
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType, baselines
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import Column
from syncdiff_eval.metrics.closure import CLOSURE
from syncdiff_eval.metrics.frechet import FeatureSums, Gaussian
from syncdiff_eval.pairing import Pair, Pairing, pair_by_name
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX, ProtocolDefinition
from syncdiff_eval.scoring import Scorer, measure_reference
from syncdiff_eval.videos import read_facts

REAL = GROUND_TRUTH.name
AUTHORS: dict[str, dict[str, float]] = {
    REAL: {"Sync-C": 7.95, "Sync-D": 6.92},
    "wav2lip": {"Sync-C": 8.56, "Sync-D": 6.70, "CSIM": 0.946, "FID": 24.15, "FVD": 384.8, "SSIM": 0.911},
    "videoretalking": {"Sync-C": 8.22, "Sync-D": 6.70, "CSIM": 0.910, "FID": 24.59, "FVD": 306.6, "SSIM": 0.883},
    "musetalk": {"Sync-C": 7.94, "Sync-D": 6.95, "CSIM": 0.957, "FID": 9.68, "FVD": 127.4, "SSIM": 0.943},
    "diff2lip": {"Sync-C": 8.35, "Sync-D": 6.32, "CSIM": 0.943, "FID": 20.32, "FVD": 285.7, "SSIM": 0.907},
    "latentsync": {"Sync-C": 8.10, "Sync-D": 6.51, "CSIM": 0.967, "FID": 6.90, "FVD": 117.9, "SSIM": 0.950},
    "xdub": {"Sync-C": 7.58, "Sync-D": 7.66, "CSIM": 0.898, "FID": 14.76, "FVD": 184.0, "SSIM": 0.831},
    "lipforcing": {"Sync-C": 7.59, "Sync-D": 7.23, "CSIM": 0.949, "FID": 7.01, "FVD": 107.9, "SSIM": 0.938},
}  # fmt: skip
"""Lip Forcing's HDTF table of these methods: other clips, the authors' own code."""
LOWER_IS_BETTER = ("Sync-D", "FID", "FVD")
METHODS = tuple(name for name in AUTHORS if name != REAL)
BY_INDEX = ("xdub",)
"""Whose files declare other times than the reference's; the others pair in the same way under both protocols."""
FAMILY_NAMES = (
    "expert", "closure", "mouth_audio", "silent-lips", "landmarks", "dynamics", "image", "sharpness", "identity",
    "frechet-centerface",
)  # fmt: skip
SPEECH_FAMILIES = ("expert", "closure", "mouth_audio", "silent-lips")
FRECHET = "frechet_centerface"
CONTROL = "encoded"
"""Real video encoded once, as degraded video is (CRF): metrics that compare with the reference have no value for real
video itself."""
CRF = 23
LINES = 288
"""Of real video and its degraded copies."""
RESAMPLES = 300

Records = list[dict[str, Any]]
Part = Literal["agreement", "damage", "speech", "encoding"]


@dataclass(frozen=True)
class Options:
    """Agreement, stability and separation of metrics, as Markdown tables."""

    videos: Path
    """Folder with `reference` and a folder of outputs per method."""
    out: Path
    """Folder of the reports and of finished work."""
    parts: tuple[Part, ...] = ("agreement", "damage", "speech", "encoding")
    """Tables to print: agreement with the authors' columns and with each other, separation of real from degraded video,
    of real speech from frozen frames and foreign sound; change under re-encoding."""
    families: tuple[str, ...] = FAMILY_NAMES
    """Metrics of the parts on METHODS."""
    speech: Path | None = None
    """Folder of real speech, a clip a speaker."""
    grid: Path | None = None
    """Folder of GRID clips."""
    grid_clips: int = 60
    """GRID clips to score, drawn with a fixed seed."""
    reencoded_clips: int = 3
    """Clips of every method that are re-encoded, the first by name."""
    ray: RayOptions = field(default_factory=lambda: RayOptions(workers=1))


# Scoring.


@dataclass(frozen=True)
class Scored:
    """The records of one benchmark, by row, and where its arrays lie."""

    families: tuple[str, ...]
    rows: tuple[str, ...]
    clips: tuple[str, ...]
    records: Records
    reencoded: Records
    cache: Cache

    def joined(self, other: Scored) -> Scored:
        """With the rows that only the other has."""
        new = tuple(row for row in other.rows if row not in self.rows)
        return replace(
            self,
            rows=self.rows + new,
            records=self.records + [record for record in other.records if record["method"] in new],
            reencoded=self.reencoded + [record for record in other.reencoded if record["method"] in new],
        )

    def values(self, column: Column, reencoded: bool = False) -> np.ndarray:
        """float64 [M, C], higher is better, NaN where a clip has no value."""
        found = np.full((len(self.rows), len(self.clips)), np.nan)
        for record in self.reencoded if reencoded else self.records:
            value = record.get("values", {}).get(column.name)
            if value is not None:
                found[self.rows.index(record["method"]), self.clips.index(record["clip"])] = value
        return goodness(found, column.name, column.higher_is_better)

    def draws(self) -> np.ndarray:
        """Clips drawn with replacement, int [RESAMPLES, C]."""
        return np.random.default_rng(0).integers(len(self.clips), size=(RESAMPLES, len(self.clips)))

    @cached_property
    def frechet(self) -> np.ndarray:
        """Fréchet distance of every row and draw, turned round: float64 [1 + R, M]; NaN for real video."""
        keys = {
            (record["method"], record["clip"]): record["arrays"]["frechet-centerface"]
            for record in self.records
            if "frechet-centerface" in record.get("arrays", {})
        }
        sums = {row: [self._sums(keys.get((row, clip))) for clip in self.clips] for row in self.rows}
        distances = np.full((1 + RESAMPLES, len(self.rows)), np.nan)
        for i, drawn in enumerate([np.arange(len(self.clips)), *self.draws()]):
            real = Gaussian(*_merged(sums[REAL], drawn).compute())
            for j, row in enumerate(self.rows):
                if row != REAL:
                    distances[i, j] = -real.distance(*_merged(sums[row], drawn).compute())
        return distances

    def _sums(self, key: str | None) -> FeatureSums:
        sums = FeatureSums()
        if key is not None:
            sums.update(self.cache.arrays(key)["features"])
        return sums


def _merged(sums: Sequence[FeatureSums], drawn: np.ndarray) -> FeatureSums:
    whole = FeatureSums()
    for clip in drawn:
        whole.merge(sums[clip])
    return whole


def columns_of(families: Iterable[str]) -> Iterator[tuple[str, Column]]:
    """(family, column) of every number that exists for a clip with its own sound, but for numbers of frames."""
    for name in families:
        for column in FAMILIES[name].columns:
            if not column.crossed_only and not (column.pooled and column.higher_is_better is None):
                yield name, column


def scored(
    options: Options, name: str, reference: Path, pairing: Pairing, methods: Sequence[Method],
    families: tuple[str, ...], reencode: bool = False, protocol: ProtocolDefinition = SYNCDIFF,
) -> Scored:  # fmt: skip
    """Score, and write the report OUT/name."""
    config = BenchmarkConfig(
        reference, pairing, methods, replace(protocol, metrics=families), options.out / name, {}, options.ray,
        reencode_check=reencode, cache=options.out / OWN_CACHE, clip_timeout=300,
    )  # fmt: skip
    print(f"== {name}", file=sys.stderr, flush=True)
    made = benchmark_with_records(config)
    return Scored(
        families,
        tuple(method.name for method in methods),
        tuple(pair.clip for pair in pairing.pairs),
        made.records,
        made.reencoded,
        made.cache,
    )


def scored_methods(
    options: Options, name: str, clips: int | None, baselines: Sequence[Method], reencode: bool = False
) -> Scored:
    """The outputs of METHODS, of the first clips by name, those of BY_INDEX under the protocol that pairs by index."""
    reference = options.videos / "reference"
    pairing = pair_by_name(reference)
    pairing = replace(pairing, pairs=pairing.pairs[:clips])

    def score(name: str, rows: Sequence[Method], protocol: ProtocolDefinition) -> Scored:
        return scored(options, name, reference, pairing, rows, options.families, reencode, protocol)

    methods = {name: Method(name, MethodType.OTHER, None, options.videos / name) for name in METHODS}
    by_index = [methods.pop(name) for name in BY_INDEX]
    made = score(name, [*baselines, *methods.values()], SYNCDIFF)
    return made.joined(score(f"{name}-index", [GROUND_TRUTH, *by_index], SYNCDIFF_INDEX))


def shuffled_pairs(folder: Path, limit: int) -> Pairing:
    """Clips of a folder in random order: the next clip, whose sound is the foreign one, is not the next by name, which
    in GRID begins with the same words."""
    pairs = pair_by_name(folder).pairs
    order = np.random.default_rng(0).permutation(len(pairs))[:limit]
    named = tuple(
        Pair(f"{i:04d}-{pairs[k].clip}", pairs[k].video, pairs[k].audio) for i, k in enumerate(order)
    )
    return Pairing("own-audio", named, frozenset(pair.clip for pair in pairs))


def write_scaled(reference: Path, out: Path) -> Path:
    """The real videos with LINES lines and their sound, so that a pixel of blur is the same in all; what is there
    stays."""
    scaled = out / "real"
    scaled.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for path in reference.iterdir() if path.suffix == ".mp4"):
        if not (scaled / path.name).exists():
            images, facts = read_images(path), read_facts(path)
            size = (2 * round(facts.width * LINES / facts.height / 2), LINES)
            small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
            sound = read_audio(path, 0.0, len(small))
            write_video(scaled / path.name, small, sound, facts.fps, crf=0)
    return scaled


def write_degraded(reference: Path, out: Path) -> list[Method]:
    """The real videos degraded, a folder for each kind, as methods; what is there stays."""
    files = sorted(reference.iterdir())
    boxes = [_mouth_boxes(path, out) for path in files]
    for i, path in enumerate(files):
        after = (i + 1) % len(files)
        kinds = _degradations(i, boxes[i], files[after], boxes[after])
        missing = [name for name in kinds if not (_folder(out, name) / path.name).exists()]
        images = read_images(path) if missing else []
        for name in missing:
            _folder(out, name).mkdir(parents=True, exist_ok=True)
            write_video(_folder(out, name) / path.name, kinds[name](images), None, read_facts(path).fps, CRF)
    return [Method(name, MethodType.OTHER, None, _folder(out, name)) for name in kinds]


def _folder(out: Path, kind: str) -> Path:
    return out / kind.replace(" ", "_")


def _degradations(
    seed: int, boxes: np.ndarray, other: Path, other_boxes: np.ndarray
) -> dict[str, Callable[[Images], Images]]:
    """What is done to a clip's images. Blur: sigma in pixels. Noise: standard deviation in gray levels."""
    kinds: dict[str, Callable[[Images], Images]] = {CONTROL: lambda images: images}
    kinds |= {f"blur {sigma}": partial(blurred, sigma=sigma) for sigma in (2, 4)}
    kinds |= {f"noise {sd}": partial(noisy, sd=sd, seed=seed) for sd in (8, 16)}
    kinds["another mouth"] = lambda images: with_mouth(images, boxes, read_images(other), other_boxes)
    kinds["late mouth"] = lambda images: with_late_mouth(images, boxes)
    return kinds


def _mouth_boxes(path: Path, out: Path) -> np.ndarray:
    """int32 [T, 4] of a real video, measured once."""
    kept = out / "boxes" / f"{path.stem}.npy"
    if not kept.exists():
        regions = measure_reference(path, Scorer(SYNCDIFF, {}, {}, load_backend(FACES, {})), FACES).regions
        if regions is None or not regions.present.all():
            raise UserError(f"{path} shows no face in some frames: leave it out.")
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, regions.mouth)
    return np.load(kept)


# Tables.


def print_agreement(made: Scored) -> None:
    """Rank correlations with the authors' columns, and of the metrics with each other."""
    names = list(AUTHORS["wav2lip"])
    published = {
        name: np.array([AUTHORS.get(row, {}).get(name, np.nan) for row in made.rows])
        * (-1 if name in LOWER_IS_BETTER else 1)
        for name in names
    }
    listed = np.array([row in AUTHORS for row in made.rows])
    means = {
        column.name: np.where(
            listed,
            made.frechet if column.pooled else resampled_means(made.values(column), made.draws()),
            np.nan,
        )
        for _, column in columns_of(made.families)
    }
    print(f"### Spearman's rho with the authors' columns, {len(made.clips)} clips\n")
    print(markdown(
        ["metric", "rows", *names],
        ([metric, int(np.isfinite(found[0]).sum()),
          *(interval(rank_correlations(found, published[name])) for name in names)]
         for metric, found in means.items()),
    ))  # fmt: skip
    print_closest(means, {column.name: family for family, column in columns_of(made.families)})


def print_closest(means: Mapping[str, np.ndarray], families: Mapping[str, str]) -> None:
    """Of every metric the one of another family that agrees most with it. means: goodness, float64 [1 + R, M]."""
    rhos = {
        (a, b): float(rank_correlations(means[a][:1], means[b][:1])[0])
        for a in means
        for b in means
        if a != b
    }
    print("### Agreement with each other\n")
    rows = []
    for name in means:
        other, rho = closest(name, rhos, families)
        foreign = [value for (a, b), value in rhos.items() if a == name and families[a] != families[b]]
        median = np.nanmedian(foreign) if np.isfinite(foreign).any() else float("nan")
        rows.append([name, other or None, f"{rho:+.2f}", f"{median:+.2f}"])
    print(markdown(["metric", "agrees most with", "rho", "median rho with other families"], rows))


def print_stability(made: Scored) -> None:
    """What one re-encoding does to every metric of the methods, over the clips that have a value before and after."""
    rows = []
    ours = [made.rows.index(name) for name in METHODS]
    none_drawn = np.empty((0, len(made.clips)), int)
    for _, column in columns_of(made.families):
        before, after = (made.values(column, again)[ours] for again in (False, True))
        moved = after - before
        if not np.isfinite(moved).any():
            continue
        before, after = (np.where(np.isfinite(moved), side, np.nan) for side in (before, after))
        means, again = (resampled_means(side, none_drawn)[0] for side in (before, after))
        shift = float(np.nanmax(np.abs(again - means)))
        rho = float(rank_correlations(means[None], again)[0])
        rows.append([column.name, f"{np.nanmean(np.abs(moved)):.4f}", f"{shift:.4f}",
                     f"{shift / float(np.nanstd(means, ddof=1)):.2f}", f"{rho:+.2f}"])  # fmt: skip
    print(f"### Re-encoded once, {len(made.clips)} clips of each method\n")
    print(markdown(
        ["metric", "mean change of a clip", "largest change of a method's mean", "over the spread of methods",
         "rho before, after"],
        rows,
    ))  # fmt: skip


def print_separation(made: Scored, title: str, control: str) -> None:
    """AUC and p of every metric for the control row against every other."""
    others = [row for row in made.rows if row not in (REAL, control)]
    print(f"### {title}: AUC (p)\n")
    rows = []
    for _, column in columns_of(made.families):
        if column.pooled:
            found = made.frechet
            values = {row: found[:, i] for i, row in enumerate(made.rows)}
            cells = [
                pooled_separation(values[control], values[row]) if row != "other_audio" else None
                for row in others
            ]
        else:
            values = dict(zip(made.rows, made.values(column)))
            cells = [separation(values[control], values[row]) for row in others]
        if any(cells):
            rows.append([column.name, *cells])
    print(markdown(["metric", *others], rows))


def print_against(made: Scored, title: str, column: Column, baseline: str) -> None:
    """Means of one metric, and every row's difference from a baseline's."""
    values = dict(zip(made.rows, made.values(column)))
    rows = []
    for row in made.rows:
        found = separation(values[row], values[baseline])
        if found is not None:
            rows.append([row, f"{np.nanmean(values[row]):.3f}", None if row == baseline else found, found.n])
    print(f"### {title}\n")
    print(markdown(["row", f"mean {column.name}", f"AUC (p) against {baseline}", "clips"], rows))


def print_frechet_ladder(made: Scored) -> None:
    """The distance of every row from real video."""
    if "frechet-centerface" not in made.families:
        return
    found = -made.frechet
    rows = []
    for i, row in enumerate(made.rows):
        if np.isfinite(found[0, i]):
            low, high = np.percentile(found[1:, i], (2.5, 97.5))
            rows.append([row, f"{found[0, i]:.4f}", f"{low:.4f} to {high:.4f}"])
    print("### Fréchet distance, CenterFace\n")
    print(markdown(["row", "distance", "over resampled clips"], rows))


ANCHORS = baselines(True, (), True)


def agreement(options: Options) -> None:
    made = scored_methods(options, "methods", None, ANCHORS)
    print_agreement(made)
    print_separation(made, f"Real video from all else, {len(made.clips)} clips", REAL)
    print_against(made, "Closure", CLOSURE.columns[0], "frozen_first_frame")
    print_frechet_ladder(made)


def damage(options: Options) -> None:
    real = write_scaled(options.videos / "reference", options.out / "videos")
    worse = write_degraded(real, options.out / "videos")
    made = scored(options, "degraded", real, pair_by_name(real), [*ANCHORS, *worse], options.families)
    print_separation(made, f"Real from degraded video, {len(made.clips)} clips", CONTROL)
    print_frechet_ladder(made)


def speech(options: Options) -> None:
    for name, folder, limit in (("speech", options.speech, 1000), ("grid", options.grid, options.grid_clips)):
        if folder is None:
            continue
        pairs = shuffled_pairs(folder, limit)
        made = scored(options, name, folder, pairs, ANCHORS, SPEECH_FAMILIES)
        print_separation(made, f"Real speech, {name}, {len(made.clips)} clips", REAL)
        print_against(made, f"Closure, {name}", CLOSURE.columns[0], REAL)


def encoding(options: Options) -> None:
    print_stability(
        scored_methods(options, "reencoded", options.reencoded_clips, [GROUND_TRUTH], reencode=True)
    )


PARTS: dict[Part, Callable[[Options], None]] = {
    "agreement": agreement,
    "damage": damage,
    "speech": speech,
    "encoding": encoding,
}


def main(options: Options) -> None:
    folders = {name: getattr(options, name) for name in ("videos", "out", "speech", "grid")}
    options = replace(
        options, **{name: path.absolute() for name, path in folders.items() if path is not None}
    )
    with ray_session(options.ray):
        for part in options.parts:
            PARTS[part](options)


if __name__ == "__main__":
    run(main, Options)
