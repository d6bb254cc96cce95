"""What AV-HuBERT features cost: speed against the machine's own limit, memory, and rounding.

    python benchmarks/features.py                       base size, random weights
    python benchmarks/features.py --checkpoint FILE     a real model
    python benchmarks/features.py --clips 4 --max-frames 20 --memory-clips 2 4      a quick look

Prints the tables of docs/features.md. Speed does not depend on the weights' values; rounding does, a little.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from syncdiff_data.avhubert import BASE, AVHubertEncoder
from syncdiff_data.features.avhubert import AVHubertFeatures, pad_batch, padding_mask
from syncdiff_data.features.base import Modality
from syncdiff_data.records import SAMPLES_PER_FRAME, Clip

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from made_clips import made_clip

GROUP = 16
"""Clips handed to the encoder at a time in the memory runs."""


@dataclass(frozen=True)
class Options:
    checkpoint: Path | None = None
    """A checkpoint to run; without one, random weights of the base size."""
    clips: int = 12
    """Clips in the speed runs."""
    min_frames: int = 40
    max_frames: int = 120
    threads: int = 1
    memory_clips: tuple[int, ...] = (10, 100, 1000)
    """Numbers of clips in the memory runs, a process each; none skips them."""
    memory_frames: tuple[int, int] = (25, 50)
    """Shortest and longest clip of the memory runs."""
    memory_modality: Modality = "audio"
    memory_run: int = 0
    """Used by the script itself: encode that many clips and print the peak memory."""


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    encoder = load(options)
    if options.memory_run:
        print(peak_memory_mib(encoder, options))
        return
    speed(encoder, options)
    memory(options)
    rounding(encoder)


def load(options: Options) -> AVHubertEncoder:
    if options.checkpoint:
        return AVHubertEncoder.from_checkpoint(options.checkpoint)
    torch.manual_seed(0)
    return AVHubertEncoder(BASE).eval()


def noise_clip(num_frames: int, seed: int) -> Clip:
    """A clip whose mouth and sound are noise."""
    random = np.random.default_rng(seed)
    png = cv2.imencode(".png", random.integers(0, 256, (96, 96), dtype=np.uint8))[1].tobytes()
    audio = (1000 * random.standard_normal(num_frames * SAMPLES_PER_FRAME)).astype(np.int16)
    return made_clip(num_frames, clip_id=str(seed), mouth_png=(png,) * num_frames, audio=audio)


def some_clips(count: int, options: Options) -> list[Clip]:
    lengths = np.random.default_rng(0).integers(options.min_frames, options.max_frames + 1, count)
    return [noise_clip(int(length), seed) for seed, length in enumerate(lengths)]


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def matmul_rate(size: int = 2048) -> float:
    """Floating point operations per second of one large float32 matrix product, best of five."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(5))


def speed(encoder: AVHubertEncoder, options: Options) -> None:
    limit = matmul_rate()
    print(f"\nmatrix product: {limit / 1e9:.1f} GFLOP/s with {options.threads} thread(s)\n")
    print("| input | batches: clips/s | frames/s | of the matmul rate | one by one: clips/s | gain |")
    print("|---|---|---|---|---|---|")
    for modality in ("audio", "av"):
        print(speed_row(AVHubertFeatures(encoder, [9], modality), options, limit), flush=True)


def speed_row(features: AVHubertFeatures, options: Options, limit: float) -> str:
    def one_by_one(clips: list[Clip]) -> None:
        for clip in clips:
            features.encode([clip])

    with FlopCounterMode(display=False) as useful:  # Also warms up.
        one_by_one(some_clips(options.clips, options))
    clips = some_clips(options.clips, options)
    alone = seconds(lambda: one_by_one(clips))
    clips = some_clips(options.clips, options)  # Fresh, since a clip keeps its decoded mouth.
    batched = seconds(lambda: features.encode(clips))
    frames = sum(clip.num_frames for clip in clips)
    share = useful.get_total_flops() / batched / limit
    return (
        f"| {features.modality} | {len(clips) / batched:.2f} | {frames / batched:.0f} | {share:.0%} | "
        f"{len(clips) / alone:.2f} | {alone / batched:.2f}x |"
    )


def memory(options: Options) -> None:
    if not options.memory_clips:
        return
    print("\n| clips | peak memory, MiB |\n|---|---|")
    for count in options.memory_clips:
        shortest, longest = map(str, options.memory_frames)
        command = [sys.executable, __file__, "--memory-run", str(count), "--min-frames", shortest]
        command += ["--max-frames", longest, "--memory-modality", options.memory_modality]
        if options.checkpoint:
            command += ["--checkpoint", str(options.checkpoint)]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"| {count} | {made.stdout.strip()} |", flush=True)


def peak_memory_mib(encoder: AVHubertEncoder, options: Options) -> int:
    features = AVHubertFeatures(encoder, [9], options.memory_modality)
    group = some_clips(min(GROUP, options.memory_run), options)
    for start in range(0, options.memory_run, GROUP):
        wanted = group[: options.memory_run - start]
        features.encode([replace(clip, clip_id=f"{start}-{clip.clip_id}") for clip in wanted])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def rounding(encoder: AVHubertEncoder) -> None:
    """Relative errors |x - y| / |y| and largest differences, on noise."""
    lengths = (50, 44, 30)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(104, length, generator=generator).numpy() for length in lengths]
    audio, mask = torch.from_numpy(pad_batch(inputs)), torch.from_numpy(padding_mask(lengths))
    middle = encoder.config.layers * 3 // 4
    states = encoder.hidden_states([middle, None], audio, padding_mask=mask)
    alone = [encoder(torch.from_numpy(array)[None])[0] for array in inputs]
    kept = ~mask
    hidden, final = states[middle], states[None]
    with torch.no_grad():
        resumed = encoder.resume_from(middle, hidden, mask)
        stored = encoder.resume_from(middle, hidden.half(), mask)
    half = encoder.to(torch.bfloat16)(audio, padding_mask=mask).float()
    rows = {
        "a clip in a padded batch against alone, final output": (final[kept], torch.cat(alone)),
        f"blocks 1-{middle}, then the rest, against all at once": (resumed[kept], final[kept]),
        f"float16 storage of layer {middle}": (hidden.half().float()[kept], hidden[kept]),
        f"blocks after {middle} on stored float16, final output": (stored[kept], final[kept]),
        "bfloat16 against float32, final output": (half[kept], final[kept]),
    }
    print("\n| compared | largest difference | relative (norms) |\n|---|---|---|")
    for name, (found, exact) in rows.items():
        difference = found - exact
        print(f"| {name} | {difference.abs().max():.1e} | {difference.norm() / exact.norm():.1e} |")


if __name__ == "__main__":
    main(tyro.cli(Options))
