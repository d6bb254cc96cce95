"""How well the audio network reads the mouth's opening from the sound: the table of docs/model.md.

    python benchmarks/lips_from_sound.py --clips CLIPS --features FEATURES [--steps 1500]

AudioTokens with a linear layer learns the 20 points of the lips, where they lie in the crop or about their own centre
(as `mouth_shape` does), from the clips of the split train. The correlation over time of the opening with the real one
is the mean over the clips of the split validation, with EMA weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from diffusers.training_utils import EMAModel
from torch import nn

from syncdiff_data.landmarks import lip_gap
from syncdiff_data.loader.sample import crop_landmarks, feature_windows
from syncdiff_data.shards import read_clips, read_features
from syncdiff_model.audio import AudioTokens

WIDTH, LAYERS, DROPOUT = 64, 2, 0.2
"""Of the preset compact."""
RATE, BATCH = 1.5e-3, 64


@dataclass(frozen=True)
class Options:
    clips: Path
    features: Path
    contexts: tuple[int, ...] = (9, 13)
    """Feature frames around each frame."""
    steps: int = 1500


@dataclass(frozen=True)
class Spoken:
    mouth: np.ndarray
    """float32 [T, 20, 2], in units of the crop."""
    features: np.ndarray
    """float32 [T, D]"""


def main(options: Options) -> None:
    torch.set_num_threads(1)
    sets = {split: load(options, split) for split in ("train", "validation")}
    print("context  lips                     opening corr.")
    for context in options.contexts:
        for centred in (False, True):
            name = "about their own centre" if centred else "where they lie"
            found = train(sets["train"], sets["validation"], context, centred, options.steps)
            print(f"{context:7}  {name:23}  {found:13.3f}", flush=True)


def load(options: Options, split: str) -> list[Spoken]:
    features = {clip: next(iter(columns.values())) for clip, columns in read_features(options.features)}
    return [
        Spoken(
            crop_landmarks(clip.landmarks, clip.face_to_source)[:, 48:68] / clip.face.shape[-2],
            features[clip.clip_id].astype(np.float32),
        )
        for clip in read_clips(options.clips, split)
    ]


def train(learnt: list[Spoken], held_out: list[Spoken], context: int, centred: bool, steps: int) -> float:
    """Correlation of the opening on the held-out clips."""
    torch.manual_seed(0)
    every = np.concatenate([clip.features for clip in learnt])
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-4

    def windows(clip: Spoken) -> torch.Tensor:
        standard = (clip.features - mean) / spread
        return torch.from_numpy(feature_windows(standard, np.arange(len(standard)), context)).float()

    def shape(clip: Spoken) -> np.ndarray:
        points = clip.mouth - clip.mouth.mean(axis=1, keepdims=True) if centred else clip.mouth
        return points.reshape(len(points), -1)

    x, points = (
        torch.cat([windows(clip) for clip in learnt]),
        np.concatenate([shape(clip) for clip in learnt]),
    )
    middle, unit = points.mean(axis=0), points.std(axis=0)
    y = torch.from_numpy((points - middle) / unit).float()
    audio = AudioTokens(x.shape[-1], context, WIDTH, LAYERS, DROPOUT)
    mouth = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, y.shape[1]))
    parameters = [*audio.parameters(), *mouth.parameters()]
    optimizer, ema = torch.optim.AdamW(parameters, RATE), EMAModel(parameters, 0.998, use_ema_warmup=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50, 2 * (1 - step / steps))
        chosen = torch.randint(len(x), (BATCH,))
        loss = ((mouth(audio(x[chosen])[1]) - y[chosen]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step(parameters)
    ema.copy_to(parameters)
    audio.eval()
    found = []
    with torch.no_grad():
        for clip in held_out:
            read = mouth(audio(windows(clip))[1]).numpy() * unit + middle
            found.append(np.corrcoef(gap(read.reshape(-1, 20, 2)), gap(clip.mouth))[0, 1])
    return float(np.mean(found))


def gap(mouth: np.ndarray) -> np.ndarray:
    """Lip gap of the mouth's 20 points [T, 20, 2]."""
    points = np.zeros((len(mouth), 68, 2))
    points[:, 48:68] = mouth
    return lip_gap(points)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
