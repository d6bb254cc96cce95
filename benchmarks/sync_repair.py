"""Does the filter find clips that were put out of step, and is the repaired set as good to train on as the clean one?

    python benchmarks/sync_repair.py --clips CLIPS --test CLIPS [--steps 300] --out DIR

30 % of the clips get their sound moved by 2 to 8 frames. `--expert`, which must not have seen these clips, finds the
offsets. Then one expert is trained on the clean, one on the shifted and one on the repaired clips, all alike, and
scores the clips of --test: own sound against another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from syncdiff_data.loader.sync import shift_sound
from syncdiff_data.shards import read_clips
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_model.presets import load_preset
from syncdiff_model.sync_data import SyncBatches, SyncClip, load_sync_clips
from syncdiff_model.tasks.sync import SyncTask, area_under_curve
from syncdiff_model.training import Trainer

LEAST, MOST = 2, 8
SHARE = 0.3


@dataclass(frozen=True)
class Options:
    clips: Path
    test: Path
    out: Path
    expert: str = "training"
    steps: int = 300
    resamples: int = 2000


def main(options: Options) -> None:
    rng = np.random.default_rng(0)
    clips = load_sync_clips(options.clips, None, 28)
    expert = SyncExpert.from_pretrained(options.expert)
    lips = {c.clip_id: expert.embed_lips(c.mouth) for c in read_clips(options.clips) if c.mouth is not None}
    clean = sound_late(expert, clips, lips)
    moved = set(rng.choice(len(clips), round(SHARE * len(clips)), replace=False).tolist())
    shifts = [
        int(rng.integers(LEAST, MOST + 1) * rng.choice([-1, 1])) if i in moved else 0
        for i in range(len(clips))
    ]
    # Sound that is `shift` frames late: frame t of the features is that of t - shift.
    shifted = [replace(c, logfbank=shift_sound(c.logfbank, -s)) for c, s in zip(clips, shifts)]
    found = sound_late(expert, shifted, lips)
    errors = [f - s - own for f, s, own in zip(found, shifts, clean)]
    print(f"{len(moved)} of {len(clips)} clips moved")
    print(f"moved clips: offset within one frame of own + shift: {sum(abs(errors[i]) <= 1 for i in moved)}")
    others = [i for i in range(len(clips)) if i not in moved]
    print(f"others: unchanged within one frame: {sum(abs(errors[i]) <= 1 for i in others)} of {len(others)}")
    values, counts = np.unique(clean, return_counts=True)
    print("own offsets:", ", ".join(f"{v:+d}: {c}" for v, c in zip(values, counts)))
    typical = int(np.median(found))
    repaired = [replace(c, logfbank=shift_sound(c.logfbank, f - typical)) for c, f in zip(shifted, found)]
    test = load_sync_clips(options.test, None, 28)
    for name, data in {"clean": clips, "shifted": shifted, "repaired": repaired}.items():
        print_scores(name, train(options.out / name, data, options.steps), test, options.resamples)


def sound_late(expert: SyncExpert, clips: Sequence[SyncClip], lips: Mapping[str, np.ndarray]) -> list[int]:
    """Frames by which the sound of each clip comes late, by the expert. lips: clip_id -> embeddings."""
    return [-expert.score(lips[clip.clip_id], expert.embed_audio(clip.logfbank)).offset for clip in clips]


def train(run: Path, clips: Sequence[SyncClip], steps: int) -> SyncTask:
    settings = load_preset("sync")
    config = replace(
        settings.train_sync, steps=steps, decay_steps=steps // 3, validate_every=0, checkpoint_every=steps
    )
    torch.manual_seed(0)
    task = SyncTask(settings.sync)
    Trainer(task, SyncBatches([clips], [1.0], settings.sync_data), config, run).run()
    return task


def print_scores(name: str, task: SyncTask, test: Sequence[SyncClip], resamples: int) -> None:
    """Area under the curve of the trained network on other clips, with its interval over them."""
    task.eval()
    with torch.no_grad():
        embedded = [task.embed(clip) for clip in test]
    score = SyncExpert(task.network).score
    own = np.array([score(lips, audio).confidence for lips, audio in embedded])
    foreign = np.array(
        [[score(lips, embedded[(i + k) % len(test)][1]).confidence for k in range(1, 6)]
         for i, (lips, _) in enumerate(embedded)]
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [rng.integers(len(test), size=len(test)) for _ in range(resamples)]
    drawn = [area_under_curve(own[r].tolist(), foreign[r].ravel().tolist()) for r in rows]
    low, high = np.quantile(drawn, [0.025, 0.975])
    area = area_under_curve(own.tolist(), foreign.ravel().tolist())
    print(
        f"{name}: AUC {area:.3f} [{low:.3f}, {high:.3f}], own {own.mean():.3f}, foreign {foreign.mean():.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
