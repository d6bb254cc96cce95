"""From noise to faces: DDIM for one frame of many clips, in an autoregressive rollout conditioned on generated poses.

The rollout runs on latents. The pose frame is the frame generated before, as in the paper, but its latents are
used as they are, which saves a decoding and an encoding per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from syncdiff_data.stage.heartbeat import Heartbeat, no_heartbeat
from syncdiff_model.autoencoder import decode, to_bytes
from syncdiff_model.syncdiff import SyncDiff

FRAMES_AT_ONCE = 32
"""Frames per call of the autoencoder."""


@dataclass(frozen=True)
class SamplingConfig:
    """How faces are generated. The paper's sampler, steps and guidance are not stated in the sources available."""

    steps: int = 20
    """DDIM steps per frame."""
    segment_frames: int = 0
    """Cut clips into pieces of so many frames and generate the pieces side by side: faster, but every piece begins
    its rollout anew. 0 keeps a clip in one rollout."""
    batch_clips: int = 8
    """Clips (or pieces) generated side by side."""
    seed: int = 0
    """Every frame begins with the same noise, generated from this: skin and teeth do not flicker, and a result does not
    depend on what is generated beside it."""


@dataclass(frozen=True)
class Conditions:
    """What one clip's faces are generated from, T frames.

    masked, identity: latents [T, c, s, s]; features: [T, K, D].
    """

    masked: torch.Tensor
    identity: torch.Tensor
    features: torch.Tensor

    def __len__(self) -> int:
        return len(self.masked)

    def span(self, start: int, stop: int) -> Conditions:
        return Conditions(self.masked[start:stop], self.identity[start:stop], self.features[start:stop])


@torch.no_grad()
def conditions(model: SyncDiff, frames: torch.Tensor, features: torch.Tensor) -> Conditions:
    """Conditions from a clip's crops, uint8 [T, 3, S, S], and feature windows, float32 [T, K, D].

    The identity is the clip's first frame; the identity of the first frame is the last, so that no frame is its own
    target.
    """
    ends = _in_batches(model.frame_latents, frames[[0, -1]].to(model.device))
    identity = ends[:1].repeat(len(frames), 1, 1, 1)
    identity[0] = ends[1]
    masked = _in_batches(model.masked_latents, frames.to(model.device))
    return Conditions(masked, identity, features.to(model.device))


@torch.no_grad()
def generate(
    model: SyncDiff,
    clips: Sequence[Conditions],
    config: SamplingConfig,
    heartbeat: Heartbeat = no_heartbeat,
) -> Iterator[torch.Tensor]:
    """Faces of each clip, in order: uint8 [T, 3, S, S], whole crops of which the masked part is new.

    heartbeat: called after every frame of the rollout.
    """
    length = config.segment_frames
    pieces = [
        [clip.span(i, i + length) for i in range(0, len(clip), length)] if length else [clip]
        for clip in clips
    ]
    flat = [piece for group in pieces for piece in group]
    latents: list[torch.Tensor] = []
    for start in range(0, len(flat), config.batch_clips):
        latents += rollout(model, flat[start : start + config.batch_clips], config, heartbeat)
    generated = iter(latents)
    for group in pieces:
        whole = torch.cat([next(generated) for _ in group])
        yield _in_batches(lambda z: to_bytes(decode(model.autoencoder, z)), whole).cpu()


def rollout(
    model: SyncDiff,
    pieces: Sequence[Conditions],
    config: SamplingConfig,
    heartbeat: Heartbeat = no_heartbeat,
) -> list[torch.Tensor]:
    """Latents of each piece, [T, c, s, s], frame t of all pieces at once, each with the pose of frame t - offset."""
    order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i]))
    longest_first = [pieces[i] for i in order]
    offset = model.conditioner.config.pose_offset
    noise = torch.randn(pieces[0].masked.shape[1:], generator=torch.Generator().manual_seed(config.seed))
    noise = noise.to(model.device)
    generated: list[torch.Tensor] = []
    for t in range(len(longest_first[0])):
        running = [piece for piece in longest_first if len(piece) > t]
        masked = torch.stack([piece.masked[t] for piece in running])
        identity = torch.stack([piece.identity[t] for piece in running])
        pose = generated[t - offset][: len(running)] if t >= offset else identity
        context = model.conditioner(torch.stack([piece.features[t] for piece in running]), pose)

        def predict(
            noisy: torch.Tensor, timestep: torch.Tensor, conditioning: tuple = (masked, identity, context)
        ) -> torch.Tensor:
            return model.predict(noisy, timestep, *conditioning)

        generated.append(ddim(predict, model.scheduler, noise.expand(len(running), -1, -1, -1), config.steps))
        heartbeat()
    rows = [
        torch.stack([frame[row] for frame in generated[: len(piece)]])
        for row, piece in enumerate(longest_first)
    ]
    return [rows[order.index(i)] for i in range(len(pieces))]


def ddim(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    scheduler: DDIMScheduler,
    noise: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """Clean latents from noise, both [N, c, s, s], in so many deterministic steps.

    Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12 with sigma = 0, as diffusers' DDIMScheduler
    computes it. predict(noisy, timestep) is the network.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    noisy = noise
    for timestep in scheduler.timesteps:
        noisy = scheduler.step(predict(noisy, timestep), timestep, noisy).prev_sample
    return noisy


def _in_batches(function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    return torch.cat([function(part) for part in values.split(FRAMES_AT_ONCE)])
