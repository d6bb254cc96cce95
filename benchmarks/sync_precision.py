"""SyncNet in bfloat16 and int8 on the CPU: what it would gain, and how far LSE-D and LSE-C would move.

    python benchmarks/sync_precision.py VIDEO ...

One thread, CPU seconds, each row beside float32 in the same rounds. bfloat16 runs; int8 is only rounded to: weights for
each channel of the output, inputs of a layer by their largest value. Pictures are whole frames at 224 x 224. Seeded
weights stand in for SyncNet's where --weights gives none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from syncdiff_data.cli import run
from syncdiff_data.media import Video, read_audio
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.weights.state_dict import read_state
from syncdiff_eval.metrics.lse import lse_from_arrays
from syncdiff_eval.networks import syncnet
from syncdiff_eval.networks.syncnet import SyncNet
from syncdiff_eval.networks.syncnet_crops import to_bgr, whole_frame

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import syncnet_state

PARTS = ("_pictures", "_lips", "_energies", "_sound")
SIDE = 2048
"""Of the matrices."""


@dataclass(frozen=True)
class Options:
    videos: tyro.conf.Positional[tuple[Path, ...]]
    """With sound."""
    frames: int = 80
    """Of each video."""
    rounds: int = 7
    weights: Path | None = None
    """syncnet_v2.model."""


class Bfloat16(nn.Module):
    """Layers in bfloat16 between float32."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.bfloat16()).float()
        return y


class Int8(nn.Module):
    """Layers whose weights and inputs are rounded to 255 steps."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                largest = (
                    layer.weight.detach().abs().flatten(1).amax(1).view(-1, *[1] * (layer.weight.dim() - 1))
                )
                layer.weight.data = rounded(layer.weight.detach(), largest)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(rounded(x, x.abs().max()) if isinstance(layer, (nn.Conv2d, nn.Linear)) else x)
        return x


def rounded(x: Tensor, largest: Tensor) -> Tensor:
    """To multiples of 1/127 of the largest."""
    return torch.round(x * (127 / largest)) * (largest / 127)


def network_of(kind: type[nn.Module], state: dict[str, Tensor]) -> SyncNet:
    """SyncNet with its layers inside of `kind`."""
    with patch.object(
        syncnet, "packed", lambda layers, _: nn.Sequential(*layers).to(memory_format=torch.channels_last)
    ):
        network = SyncNet(state)
    for name in PARTS:
        setattr(network, name, kind(getattr(network, name)))
    return network


def ratio(reference: Callable[[], object], other: Callable[[], object], rounds: int) -> np.ndarray:
    """How many times as fast the other one is, by CPU time, in each round."""
    found = []
    for _ in range(rounds + 1):
        seconds = []
        for work in (reference, other):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        found.append(seconds[0] / seconds[1])
    return np.array(found[1:])  # the first makes what is made on first use


def products() -> dict[str, Callable[[], object]]:
    a, b = torch.rand(2, SIDE, SIDE)
    whole = [(100 * x).to(torch.int8) for x in (a, b)]
    return {
        "float32": partial(torch.mm, a, b),
        "bfloat16": partial(torch.mm, a.bfloat16(), b.bfloat16()),
        "int8": partial(torch._int_mm, *whole),
    }


def inputs(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T, 224, 224, 3], BGR, and their sound. UserError for what is no video with sound."""
    try:
        pictures = np.stack([to_bgr(whole_frame(frame)) for frame in islice(Video(path).frames(), count)])
        return pictures, read_audio(path, 0.0, len(pictures))
    except MediaError as error:
        raise UserError(f"{path}: {error}") from error


def spread(values: np.ndarray) -> str:
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def main(options: Options) -> None:
    torch.set_num_threads(1)
    state = read_state(options.weights, "SyncNet") if options.weights else syncnet_state()
    exact = SyncNet(state)
    networks = {"bfloat16": network_of(Bfloat16, state), "int8": network_of(Int8, state)}
    multiply = products()
    pictures = np.random.default_rng(0).integers(0, 256, (20, 224, 224, 3), dtype=np.uint8)
    for name in networks:
        faster = ratio(multiply["float32"], multiply[name], options.rounds)
        print(f"{name}: a matrix product is {spread(faster)} times as fast as in float32")
    lips = [partial(network.embed_windows, pictures) for network in (exact, networks["bfloat16"])]
    print(
        f"bfloat16: SyncNet's lips are {spread(ratio(*lips, options.rounds))} times as fast as in float32\n"
    )
    print("| video | | AV offset | LSE-D | LSE-C | change of LSE-D | of LSE-C, in % of LSE-D |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for path in options.videos:
        frames, sound = inputs(path, options.frames)
        offset, lse_d, lse_c = lse_from_arrays(frames, sound, exact, padding="valid")
        print(f"| {path.name} | float32 | {offset} | {lse_d:.3f} | {lse_c:.3f} | | |")
        for name, network in networks.items():
            offset, d, c = lse_from_arrays(frames, sound, network, padding="valid")
            print(
                f"| {path.name} | {name} | {offset} | {d:.3f} | {c:.3f} | {100 * (d - lse_d) / lse_d:+.3f} % "
                f"| {100 * (c - lse_c) / lse_d:+.3f} % |",
                flush=True,
            )


if __name__ == "__main__":
    run(main, Options, __doc__)
