"""What the sync expert costs beside SyncNet: frames per second of both on the same frames, and memory by length.

    python benchmarks/sync_cost.py [--frames 250]

SyncNet has seeded weights, which cost what trained ones do. Both run in one thread, one after the other, the best of
three; the expert's time includes its mouth crops and its audio, SyncNet's its 224-pixel crops and its MFCCs.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from syncdiff_data.sync_expert.expert import SyncExpert


@dataclass(frozen=True)
class Options:
    frames: int = 250
    """10 s."""
    memory_of: int | None = None
    """Only embed one clip of so many frames and print this process's peak of memory, in MiB, with the inputs, after the
    lips and after the sound."""


def best_of_three(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made(frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mouth = rng.integers(0, 256, (frames, 96, 96), dtype=np.uint8)
    return mouth, rng.integers(-9000, 9000, frames * 640, dtype=np.int16)


def score(expert: SyncExpert, mouth: np.ndarray, samples: np.ndarray) -> None:
    audio = expert.embed_sound(samples, len(mouth))
    expert.score(expert.embed_lips(mouth), audio)


def syncnet_seconds(frames: int, samples: np.ndarray) -> float:
    from syncnet_python.SyncNetModel import S

    from syncdiff_eval.metrics.lse import sync_of
    from syncdiff_eval.networks.syncnet import SyncNet

    pictures = np.random.default_rng(1).integers(0, 256, (frames, 224, 224, 3), dtype=np.uint8)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(S(num_layers_in_fc_layers=1024).state_dict(), Path(folder) / "syncnet")
        network = SyncNet.from_file(Path(folder) / "syncnet")
    return best_of_three(lambda: sync_of(network.embed_lips(pictures), samples, network, "valid"))


def main(options: Options) -> None:
    torch.set_num_threads(1)
    expert = SyncExpert.from_pretrained("evaluation")
    if options.memory_of is not None:
        mouth, samples = made(options.memory_of)
        score(expert, mouth[:250], samples[: 250 * 640])  # what loading and the first call take
        print(peak_mib())
        expert.embed_lips(mouth)
        print(peak_mib())
        expert.embed_sound(samples, len(mouth))
        print(peak_mib())
        return
    mouth, samples = made(options.frames)
    ours = best_of_three(lambda: score(expert, mouth, samples))
    theirs = syncnet_seconds(options.frames, samples)
    print(f"expert {options.frames / ours:.0f} frames/s, SyncNet {options.frames / theirs:.1f} frames/s, ")
    print(f"ratio {theirs / ours:.1f}")
    for seconds in (10, 60, 600):
        line = [sys.executable, __file__, "--memory-of", str(25 * seconds)]
        output = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        before, lips, sound = (float(text) for text in output.split())
        print(
            f"{seconds} s of video: peak {before:.0f} MiB with the inputs, {lips - before:.0f} more for the lips, "
            f"{sound - lips:.0f} more for the sound"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
