"""What does the sync expert owe to each part of its recipe? The table "What helps" of docs/sync.md.

    python benchmarks/sync_ablation.py --grid GRID --second-half SECOND --talkers TALK --speech SPEECH \\
        --methods METHODS --out OUT [--steps 500] [--seeds 0 1]

All are data sets of clips with mouth crops: GRID s1 whole and its second half, generated talkers, and two tests whose
speakers no expert sees: SPEECH, videos of the wild, and METHODS, a data set per method and `reference`. One expert per
arm and seed is trained, all alike but for what the arm names, and scored alike. A run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from sync_expert import LONGEST, SYNC_C, auc, embed, moved_within_one

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features import logfbank
from syncdiff_data.landmarks import MIRROR
from syncdiff_data.records import Clip
from syncdiff_data.shards import read_clips
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_model.presets import Settings, load_preset
from syncdiff_model.runs import RunOptions, SyncTrainingData, train_sync

FOREIGN = 5
"""Other clips whose sound each clip of SPEECH is scored with."""
WINDOW = 25
"""Frames of the short windows that a clip's confidence is averaged over, to compare with one over the whole clip."""


@dataclass(frozen=True)
class Options:
    grid: Path
    second_half: Path
    talkers: Path
    speech: Path
    methods: Path
    out: Path
    steps: int = 500
    seeds: tuple[int, ...] = (0, 1)
    arms: tuple[str, ...] = ()
    """Unset trains all of ARMS."""
    resamples: int = 2000
    """Of the clips of SPEECH, for the interval of the area under the curve."""


@dataclass(frozen=True)
class Recipe:
    """What one expert is trained with."""

    settings: Settings
    clips: tuple[Path, ...]
    weights: tuple[float, ...]


def as_shipped(options: Options) -> Recipe:
    """The recipe of docs/sync.md, shortened."""
    settings = load_preset("sync")
    steps = options.steps
    train = replace(
        settings.train_sync, steps=steps, decay_steps=steps // 2, validate_every=0, checkpoint_every=steps
    )
    return Recipe(replace(settings, train_sync=train), (options.grid, options.talkers), (0.8, 0.2))


def without_landmarks(recipe: Recipe, _: Options) -> Recipe:
    sync = recipe.settings.sync
    network = replace(sync.network, landmarks=False)
    return replace(recipe, settings=replace(recipe.settings, sync=replace(sync, network=network)))


def with_across(weight: float) -> Callable[[Recipe, Options], Recipe]:
    """Negatives of other clips, which are of the same speaker on GRID, at another weight than 0.3."""

    def changed(recipe: Recipe, _: Options) -> Recipe:
        sync = replace(recipe.settings.sync, across=weight)
        return replace(recipe, settings=replace(recipe.settings, sync=sync))

    return changed


def little_augmentation(recipe: Recipe, _: Options) -> Recipe:
    """A third of the geometry, and neither warp, light, other voices nor noise."""
    data = replace(recipe.settings.sync_data, geometry=0.05, warp=0.0, light=0.0, band_shift=0.0, noise=0.0)
    return replace(recipe, settings=replace(recipe.settings, sync_data=data))


ARMS: dict[str, Callable[[Recipe, Options], Recipe]] = {
    "as shipped": lambda recipe, _: recipe,
    "without landmarks": without_landmarks,
    "without negatives of other clips": with_across(0.0),
    "little augmentation": little_augmentation,
    "without generated talkers": lambda recipe, options: replace(
        recipe, clips=(options.grid,), weights=(1.0,)
    ),
    "half of the clips": lambda recipe, options: replace(
        recipe, clips=(options.second_half, options.talkers)
    ),
    "negatives of other clips at 1": with_across(1.0),
}


def expert_of(arm: str, seed: int, options: Options) -> SyncExpert:
    """Train it, or take what is there."""
    recipe = ARMS[arm](as_shipped(options), options)
    train = replace(recipe.settings.train_sync, seed=seed)
    run = options.out / f"{arm.replace(' ', '_')}_{seed}"
    data = SyncTrainingData(recipe.clips, recipe.weights)
    settings = replace(recipe.settings, train_sync=train)
    return SyncExpert.from_pretrained(train_sync(data, settings, RunOptions(run, resume=run.exists())))


@dataclass(frozen=True)
class View:
    """One way to embed the lips of a clip."""

    landmarks: bool = True
    mirrored: bool = False
    """The mean of the embeddings of the picture and of its mirror image."""

    def lips(self, expert: SyncExpert, clip: Clip) -> np.ndarray:
        assert clip.mouth is not None
        mouth, points = clip.mouth[:LONGEST], clip.landmarks[:LONGEST] if self.landmarks else None
        lips = expert.embed_lips(mouth, points)
        if not self.mirrored:
            return lips
        flipped = None if points is None else (points * np.array([-1, 1], np.float32))[:, MIRROR]
        both = lips + expert.embed_lips(np.ascontiguousarray(mouth[:, :, ::-1]), flipped)
        mean: np.ndarray = both / np.linalg.norm(both, axis=1, keepdims=True)
        return mean


def clip_confidence(expert: SyncExpert, lips: np.ndarray, audio: np.ndarray) -> float:
    """Over the whole clip, as it is used."""
    return expert.score(lips, audio).confidence


def windowed_confidence(expert: SyncExpert, lips: np.ndarray, audio: np.ndarray) -> float:
    """Mean over windows, each at its own best shift."""
    starts = range(0, max(1, len(lips) - WINDOW + 1), WINDOW)
    return float(
        np.mean([clip_confidence(expert, lips[s : s + WINDOW], audio[s : s + WINDOW]) for s in starts])
    )


def own_and_foreign(
    expert: SyncExpert, clips: Sequence[Clip], view: View, confidence: Callable[..., float] = clip_confidence
) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of N clips with their own sound [N] and with that of the next ones [N, FOREIGN]."""
    lips = [view.lips(expert, clip) for clip in clips]
    audio = [
        expert.embed_audio(align_frames(logfbank(clip.audio), clip.num_frames)[:LONGEST]) for clip in clips
    ]
    own = [confidence(expert, v, a) for v, a in zip(lips, audio)]
    foreign = [
        [confidence(expert, v, audio[(i + k) % len(clips)]) for k in range(1, FOREIGN + 1)]
        for i, v in enumerate(lips)
    ]
    return np.array(own), np.array(foreign)


def area_with_interval(own: np.ndarray, foreign: np.ndarray, resamples: int) -> str:
    """Area under the ROC curve, its 95 % interval over resampled clips."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(len(own), size=len(own))
        drawn.append(auc(own[rows].tolist(), foreign[rows].ravel().tolist()))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{auc(own.tolist(), foreign.ravel().tolist()):.3f} [{low:.3f}, {high:.3f}]"


def on_methods(expert: SyncExpert, folder: Path) -> tuple[float, float, float]:
    """Areas under the curve on real video and, their mean, on methods' outputs; share of moved sounds found."""
    rows = {name: embed(expert, folder / name) for name in SYNC_C if (folder / name).exists()}
    areas = {name: area_of_row(expert, clips, rows["reference"]) for name, clips in rows.items()}
    moved = np.mean([moved_within_one(expert, clips, 10) for clips in rows.values()])
    others = [area for name, area in areas.items() if name != "reference"]
    return areas["reference"], float(np.mean(others)), float(moved)


def area_of_row(expert: SyncExpert, clips: Mapping, reference: Mapping) -> float:  # type: ignore[type-arg]
    """Own against foreign sound, of the outputs of one method."""
    own = [expert.score(e.lips, e.audio).confidence for e in clips.values()]
    foreign = [
        expert.score(e.lips, other.audio).confidence
        for name, e in clips.items()
        for another, other in reference.items()
        if another != name
    ]
    return auc(own, foreign)


def main(options: Options) -> None:
    """Train and score arm by arm, the first seed of all before the second."""
    speech = one_clip_each(options.speech)
    print("| arm | seed | AUC, speech | own, foreign | AUC, real | AUC, methods | moved sound found |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seed in options.seeds:
        for arm in options.arms or ARMS:
            expert = expert_of(arm, seed, options)
            own, foreign = own_and_foreign(expert, speech, View())
            real, methods, moved = on_methods(expert, options.methods)
            cells = [arm, seed, area_with_interval(own, foreign, options.resamples)]
            cells += [
                f"{own.mean():.3f}, {foreign.mean():.3f}",
                f"{real:.3f}",
                f"{methods:.3f}",
                f"{moved:.0%}",
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    for name in ("evaluation", "training"):
        print_views(SyncExpert.from_pretrained(name), name, speech, options.resamples)


def one_clip_each(folder: Path) -> list[Clip]:
    """The first clip of each video that has sound and is long enough."""
    found: dict[str, Clip] = {}
    for clip in read_clips(folder):
        if clip.num_frames >= 2 * WINDOW and np.any(clip.audio):
            found.setdefault(clip.source, clip)
    return list(found.values())


def print_views(expert: SyncExpert, name: str, clips: Sequence[Clip], resamples: int) -> None:
    """What ways to score with the same weights give."""
    print(f"\n| {name}, scored | AUC, speech | own, foreign |\n| --- | ---: | ---: |")
    ways = {
        "as shipped": (View(), clip_confidence),
        "without landmarks": (View(landmarks=False), clip_confidence),
        "picture and mirror image averaged": (View(mirrored=True), clip_confidence),
        f"mean over windows of {WINDOW} frames": (View(), windowed_confidence),
    }
    for way, (view, confidence) in ways.items():
        own, foreign = own_and_foreign(expert, clips, view, confidence)
        print(
            f"| {way} | {area_with_interval(own, foreign, resamples)} | {own.mean():.3f}, {foreign.mean():.3f} |"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
