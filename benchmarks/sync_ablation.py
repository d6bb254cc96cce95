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

FOREIGN = 10
"""Other clips whose sound each clip is scored with."""
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


@dataclass(frozen=True)
class Way:
    """How a clip is scored: how its lips are embedded, and what its confidence is."""

    view: View = View()
    confidence: Callable[[SyncExpert, np.ndarray, np.ndarray], float] = clip_confidence


WAYS = {
    "as shipped": Way(),
    "without landmarks": Way(View(landmarks=False)),
    "picture and mirror image averaged": Way(View(mirrored=True)),
    f"mean over windows of {WINDOW} frames": Way(confidence=windowed_confidence),
}


def sound_of(expert: SyncExpert, clip: Clip) -> np.ndarray:
    """Embeddings of the sound of its first LONGEST frames."""
    return expert.embed_audio(align_frames(logfbank(clip.audio), clip.num_frames)[:LONGEST])


def own_and_foreign(
    expert: SyncExpert, clips: Sequence[Clip], sounds: Sequence[Clip], way: Way = WAYS["as shipped"]
) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of N clips with the sound of the clip of the same place in `sounds` [N], and with that of the next
    ones [N, FOREIGN]."""
    lips = [way.view.lips(expert, clip) for clip in clips]
    audio = [sound_of(expert, clip) for clip in sounds]
    own = [way.confidence(expert, v, a) for v, a in zip(lips, audio, strict=True)]
    foreign = [
        [way.confidence(expert, v, audio[(i + k) % len(clips)]) for k in range(1, FOREIGN + 1)]
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


def area_on(expert: SyncExpert, clips: Mapping[str, Clip], reference: Mapping[str, Clip], way: Way) -> float:
    """Area under the curve of the outputs of one method, with the sound of the real videos."""
    names = sorted(clips.keys() & reference.keys())
    own, foreign = own_and_foreign(expert, [clips[n] for n in names], [reference[n] for n in names], way)
    return auc(own.tolist(), foreign.ravel().tolist())


def main(options: Options) -> None:
    """Train and score arm by arm, the first seed of all before the second; then the ways to score."""
    speech = list(first_clips(options.speech, 2 * WINDOW).values())
    rows = {name: first_clips(options.methods / name) for name in SYNC_C if (options.methods / name).exists()}
    print(f"| arm | seed | AUC, speech | own, foreign | {' | '.join(rows)} | moved sound found |")
    print(f"| --- | ---: | ---: | ---: |{' ---: |' * len(rows)} ---: |")
    for seed in options.seeds:
        for arm in options.arms or ARMS:
            expert = expert_of(arm, seed, options)
            moved = moved_within_one(expert, embed(expert, options.methods / "reference"), 10)
            cells = scores(expert, speech, rows, WAYS["as shipped"], options.resamples)
            print(f"| {arm} | {seed} | {' | '.join(cells)} | {moved:.0%} |", flush=True)
    print(f"\n| weights | scored | AUC, speech | own, foreign | {' | '.join(rows)} |")
    print(f"| --- | --- | ---: | ---: |{' ---: |' * len(rows)}")
    for name in ("evaluation", "training"):
        expert = SyncExpert.from_pretrained(name)
        for how, way in WAYS.items():
            cells = scores(expert, speech, rows, way, options.resamples)
            print(f"| {name} | {how} | {' | '.join(cells)} |", flush=True)


def scores(
    expert: SyncExpert,
    speech: Sequence[Clip],
    rows: Mapping[str, Mapping[str, Clip]],
    way: Way,
    resamples: int,
) -> list[str]:
    """Cells of a row: area under the curve and confidences on speech, areas on real video and methods."""
    own, foreign = own_and_foreign(expert, speech, speech, way)
    areas = [f"{area_on(expert, clips, rows['reference'], way):.3f}" for clips in rows.values()]
    return [area_with_interval(own, foreign, resamples), f"{own.mean():.3f}, {foreign.mean():.3f}", *areas]


def first_clips(folder: Path, shortest: int = 1) -> dict[str, Clip]:
    """By file name, the first clip of each video that has sound and so many frames."""
    found: dict[str, Clip] = {}
    for clip in read_clips(folder):
        if clip.num_frames >= shortest and np.any(clip.audio):
            found.setdefault(Path(clip.source).stem, clip)
    return found


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
