"""What guidance does to lips and picture: the table of docs/results.md, "What guidance does".

    python benchmarks/guidance.py --model RUN --videos LIST.csv --out DIR [--split validation] [--clips 6]

Generated crops of clips with their own sound, at the default's number of steps; the first line is the real crops. The
opening is read twice: from landmarks of the picture, as everywhere, and by a ridge regression from latents to the
opening, fitted to real crops of the split train.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from sampling import Prepared, generate, prepare

from syncdiff_data.landmarks import opening
from syncdiff_data.tables import videos_of_split
from syncdiff_eval.metrics.image import psnr, ssim
from syncdiff_model.dubbing import Dubber, DubConfig
from syncdiff_model.generators import load_generator
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig

GUIDANCES = (1.0, 1.2, 1.3, 1.4, 1.5)
RIDGE = 1e3
MARGIN = 6
"""Pixels around the mouth's landmarks of a clip."""


@dataclass(frozen=True)
class Options:
    model: str
    videos: Path
    out: Path
    split: str = "validation"
    clips: int = 6
    fitted: int = 40
    """Clips of the split train that the regression is fitted to."""
    threads: int = 1


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    generator = load_generator(options.model, SamplingConfig(), {})
    assert isinstance(generator, SyncDiffPipeline)
    clips, fitted = (
        [
            prepare(generator, path, options.out / "faces")
            for path in videos_of_split(options.videos, split)[:count]
        ]
        for split, count in ((options.split, options.clips), ("train", options.fitted))
    )
    weights, offset = fit(generator, fitted)
    print(f"{len(clips)} clips of {options.split}, {SamplingConfig().steps} steps")
    print("guidance  opening corr.  spread  from latents: corr.  spread  PSNR mouth  SSIM mouth")
    for guidance in (None, *GUIDANCES):
        if guidance is None:
            made = [clip.crops for clip in clips]
        else:
            generator.sampling = SamplingConfig(guidance=guidance)
            made = generate(generator, clips, len(clips))[1]
        rows = [row(generator, clip, crops, weights, offset) for clip, crops in zip(clips, made)]
        found = np.mean(rows, axis=0)
        print(
            f"{guidance or 'real':8}  {found[0]:13.3f}  {found[1]:6.2f}  {found[2]:19.3f}  {found[3]:6.2f}  "
            f"{found[4]:10.1f}  {found[5]:10.3f}",
            flush=True,
        )


def latents(generator: SyncDiffPipeline, crops: np.ndarray) -> torch.Tensor:
    """Of the mask, flat: [T, D]."""
    model = generator.model
    with torch.no_grad():
        whole = model.frame_latents(torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous())
    return model.seen(whole)[..., model.inside].flatten(1)


def fit(generator: SyncDiffPipeline, clips: list[Prepared]) -> tuple[torch.Tensor, float]:
    """Weights [D] and offset of the opening read from latents."""
    values = torch.cat([latents(generator, clip.crops) for clip in clips])
    wanted = torch.from_numpy(np.concatenate([clip.opening for clip in clips])).float()
    centred, spread = values - values.mean(dim=0), wanted.std()
    gram = centred @ centred.T
    gram.diagonal().add_(RIDGE)
    weights = spread * (centred.T @ torch.linalg.solve(gram, (wanted - wanted.mean()) / spread))
    return weights, float(wanted.mean() - values.mean(dim=0) @ weights)


def row(
    generator: SyncDiffPipeline, clip: Prepared, crops: np.ndarray, weights: torch.Tensor, offset: float
) -> tuple[float, ...]:
    """Correlation and spread of the opening by landmarks, the same by latents, PSNR and SSIM of the mouth."""
    backend = Dubber(generator, DubConfig()).backend
    boxes = np.repeat(backend.detect([clip.crops[0]])[0][:1, :4], len(crops), axis=0)
    seen = opening(backend.landmarks(list(crops), boxes))
    read = (latents(generator, crops) @ weights + offset).numpy()
    real = (latents(generator, clip.crops) @ weights + offset).numpy()
    mouth = backend.landmarks(list(clip.crops), boxes)[:, 48:68]
    (x0, y0), (x1, y1) = (
        (mouth.min(axis=(0, 1)) - MARGIN).astype(int),
        (mouth.max(axis=(0, 1)) + MARGIN).astype(int),
    )
    pairs = list(zip(clip.crops[:, y0:y1, x0:x1], crops[:, y0:y1, x0:x1]))
    return (
        float(np.corrcoef(seen, clip.opening)[0, 1]),
        float(seen.std() / clip.opening.std()),
        float(np.corrcoef(read, clip.opening)[0, 1]),
        float(read.std() / real.std()),
        float(np.mean([psnr(a, b) for a, b in pairs])),
        float(np.mean([ssim(a, b) for a, b in pairs])),
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
