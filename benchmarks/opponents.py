"""Frames a second of every generator through the whole dubbing path: the table of docs/study.md, "Speed".

    python benchmarks/opponents.py --videos LIST.csv --out DIR --model gan=RUN --model syncdiff=RUN [--steps 1 4 25]

A model with noise is dubbed with every number of --steps, one without in its one pass; the published Wav2Lip has random
weights, which cost the same. `whole` counts a dub from decoding to the coded file, faces found before; `with faces`
finds them too. Every round times all of them in turn; the median of the rounds is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from sampling import dub_rate

from syncdiff_data.tables import videos_of_split
from syncdiff_model.generator import Generator
from syncdiff_model.generators import load_generator
from syncdiff_model.pipeline import OnePassPipeline, SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.wav2lip.generator import Wav2LipGenerator
from syncdiff_model.wav2lip.network import Wav2Lip


@dataclass(frozen=True)
class Options:
    videos: Path
    out: Path
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=RUN; repeatable."""
    steps: tuple[int, ...] = (1, 4, 25)
    split: str = "test"
    clips: int = 4
    threads: int = 2
    rounds: int = 3


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    paths = videos_of_split(options.videos, options.split)[: options.clips]
    opponents, dubs, cache = dict(every_generator(options)), options.out / "dubs", options.out / "faces"
    for generator in opponents.values():  # faces into the cache, networks warm
        dub_rate(generator, paths, dubs, cache)
    whole: dict[str, list[float]] = {name: [] for name in opponents}
    found: dict[str, list[float]] = {name: [] for name in opponents}
    for _ in range(options.rounds):
        for name, generator in opponents.items():
            whole[name].append(dub_rate(generator, paths, dubs, cache))
            found[name].append(dub_rate(generator, paths, dubs, None))
    print(
        f"{len(paths)} clips, {options.threads} threads, median of {options.rounds} rounds; frames a second"
    )
    print("generator            parameters, M   whole   with faces")
    for name, generator in opponents.items():
        size, rates = parameters(generator) / 1e6, (np.median(whole[name]), np.median(found[name]))
        print(f"{name:20} {size:13.1f} {rates[0]:7.1f} {rates[1]:12.1f}")


def every_generator(options: Options) -> Iterator[tuple[str, Generator]]:
    for model in options.model:
        name, _, run = model.partition("=")
        generator = load_generator(run, SamplingConfig(), {})
        if isinstance(generator, SyncDiffPipeline) and not isinstance(generator, OnePassPipeline):
            for steps in options.steps:
                yield f"{name}, {steps} steps", load_generator(run, SamplingConfig(steps=steps), {})
        else:
            yield name, generator
    torch.manual_seed(0)
    yield "wav2lip, random", Wav2LipGenerator(Wav2Lip().eval())


def parameters(generator: Generator) -> int:
    """Of all networks that generate."""
    networks: list[torch.nn.Module] = []
    if isinstance(generator, SyncDiffPipeline):
        networks = [generator.model.autoencoder, generator.model.conditioner, generator.model.denoiser]
    elif isinstance(generator, Wav2LipGenerator):
        networks = [generator.network]
    return sum(weight.numel() for network in networks for weight in network.parameters())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
