"""Frames in time: crops of one or many clips go in as they come, generated crops come out.

Where no frame depends on the one before (pose none, masked), all frames of all clips are one batch. Where it does,
frame t of all clips is one batch, and its pose is the frame generated before. What is kept of a clip is its identity,
its sound's features and the last few frames' latents, however long it is.

Shapes: n frames, S crop size; s latent size, r rows that the denoiser sees, c latent channels; F feature frames, K
feature frames around a frame, D, D' feature width before and after `refine`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from syncdiff_data.ranges import AT_LEAST_1, SEED, check_ranges
from syncdiff_data.records import FPS, UserError
from syncdiff_model.autoencoder import to_bytes
from syncdiff_model.conditioning import Context
from syncdiff_model.samplers import find_sampler, trailing_steps
from syncdiff_model.syncdiff import SyncDiff

GUIDANCE = 1.3
"""Of models that know frames without sound: at 1 the mouth opens 0.75 as wide as the real one (docs/results.md)."""
REFINED_AT_ONCE = 250
"""Feature frames that AV-HuBERT's upper blocks see at a time, beside `reach` on either side."""


@dataclass(frozen=True)
class SamplingConfig:
    """How faces are generated. The paper's sampler, steps and guidance are not stated in the sources available."""

    sampler: str = "ddim"
    """ddim, dpmpp_2m (for many steps), consistency (for one or two), one_pass (no noise), or your own module:NAME."""
    steps: int = 2
    """Network evaluations per frame, twice as many with guidance; docs/results.md says what more of them bring."""
    guidance: float | None = None
    """Classifier-free guidance of the sound (Ho and Salimans, 2022). 1 turns it off; more opens the mouth wider and
    sharper. Unset: 1.3 for models that were trained for it (corruption.audio_dropout), 1 for others."""
    batch_frames: int = 32
    """Frames per call of a network."""
    seed: int = 0
    """Every frame begins with the same noise, generated from this: skin and teeth do not flicker, and a result does not
    depend on what is generated beside it."""

    def __post_init__(self) -> None:
        find_sampler(self.sampler)
        check_ranges(
            self, {"steps": AT_LEAST_1, "batch_frames": AT_LEAST_1, "guidance": (0, 100), "seed": SEED}
        )


ONE_PASS = SamplingConfig(sampler="one_pass", steps=1, guidance=1.0)
"""For networks that were trained to need no more (tasks/gan.py)."""


@dataclass
class Rollout:
    """One face of one video in the making."""

    identity: torch.Tensor
    """[1, c, r, s]"""
    features: torch.Tensor
    """[F, D'], refined, at 25 Hz from the time 0 on."""
    recent: deque[tuple[float, torch.Tensor]] = field(default_factory=deque)
    """Time and latents [1, c, s, s] of frames that may still be poses, oldest first."""


@torch.no_grad()
def start_rollout(model: SyncDiff, identity: np.ndarray, features: np.ndarray) -> Rollout:
    """A rollout before its first frame. identity: uint8 [S, S, 3]; features: float32 [F, D], of the whole sound, as the
    model's encoder gives them, F > 0."""
    crop = torch.from_numpy(np.ascontiguousarray(identity)).permute(2, 0, 1)[None].to(model.device)
    return Rollout(model.seen(model.frame_latents(crop)), refine(model, features))


def refine(model: SyncDiff, features: np.ndarray) -> torch.Tensor:
    """`Conditioner.refine` of any number of frames [F, D], in pieces that overlap by `reach`: [F, D']."""
    given = torch.from_numpy(np.asarray(features, np.float32)).to(model.device)
    reach, pieces = model.conditioner.config.reach, []
    for start in range(0, len(given), REFINED_AT_ONCE):
        first, stop = max(0, start - reach), min(len(given), start + REFINED_AT_ONCE + reach)
        piece = given[None, first:stop]
        inside = torch.ones(piece.shape[:2], dtype=torch.bool, device=piece.device)
        refined = model.conditioner.refine(piece, inside)[0]
        pieces.append(refined[start - first : start - first + REFINED_AT_ONCE])
    return torch.cat(pieces)


def windows_at(features: torch.Tensor, times: np.ndarray, context: int) -> torch.Tensor:
    """The K feature frames around each time, [n, K, D'], linear between frames, edge frames repeated.

    features: [F, D'] at 25 Hz; times: float64 [n], s. At whole multiples of 1 / 25 s they are the stored frames.
    """
    place = torch.from_numpy(np.asarray(times, np.float64) * FPS).to(features.device)
    place = torch.where((place - place.round()).abs() < 1e-3, place.round(), place)
    low = place.floor()
    share = (place - low).to(features.dtype)[:, None, None]
    around = torch.arange(context, device=features.device) - context // 2
    index = (low.long()[:, None] + around).clamp(0, len(features) - 1)
    following = (index + 1).clamp(0, len(features) - 1)
    # beside an edge the frame itself is repeated on both sides
    following = torch.where(low.long()[:, None] + around < 0, index, following)
    return features[index] * (1 - share) + features[following] * share


@torch.no_grad()
def advance(
    model: SyncDiff,
    rollouts: Sequence[Rollout],
    crops: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    config: SamplingConfig,
    heartbeat: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """The next frames of each rollout: crops of which the masked part is new.

    crops: uint8 [n, S, S, 3] for each rollout, of which only what the mask leaves is used; times: float64 [n], s from
    the beginning of the sound, rising. Returns uint8 [n, S, S, 3] for each. heartbeat: called after every batch.
    """
    autoregressive = model.conditioner.autoregressive
    order = _together(rollouts, crops) if autoregressive else _one_after_another(crops)
    made = [np.empty_like(part) for part in crops]
    for batch in order:
        for start in range(0, len(batch), config.batch_frames):
            part = batch[start : start + config.batch_frames]
            images = _generate(model, rollouts, crops, times, part, config)
            for (clip, t), image in zip(part, images):
                made[clip][t] = image
            heartbeat()
    return made


def _one_after_another(crops: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """All (clip, frame) as one batch."""
    return [[(clip, t) for clip, part in enumerate(crops) for t in range(len(part))]]


def _together(rollouts: Sequence[Rollout], crops: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """Frame t of every clip as a batch, for all t."""
    longest = max((len(part) for part in crops), default=0)
    return [[(clip, t) for clip in range(len(rollouts)) if t < len(crops[clip])] for t in range(longest)]


def _generate(
    model: SyncDiff,
    rollouts: Sequence[Rollout],
    crops: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    part: Sequence[tuple[int, int]],
    config: SamplingConfig,
) -> np.ndarray:
    """Crops of some frames (clip, t), uint8 [n, S, S, 3]."""
    # crops [n, S, S, 3] -> masked latents [n, c, s, s]; identity [n, c, r, s]; features -> windows [n, K, D']
    frames = torch.from_numpy(np.stack([crops[clip][t] for clip, t in part])).permute(0, 3, 1, 2)
    masked = model.masked_latents(frames.to(model.device))
    identity = torch.cat([rollouts[clip].identity for clip, _ in part])
    context_length = model.conditioner.config.context
    windows = torch.cat(
        [windows_at(rollouts[clip].features, times[clip][t : t + 1], context_length) for clip, t in part]
    )
    pose, known = _poses(model, rollouts, times, part, masked)
    contexts = contexts_of(model, windows, pose, known, config)
    generated = sample(model, model.seen(masked), identity, contexts, config)
    whole = model.whole(generated, masked)
    _store_poses(model, rollouts, times, part, masked if model.conditioner.config.pose == "masked" else whole)
    images = model.images(whole)
    if not bool(torch.isfinite(images).all()):
        raise UserError(
            "The model generates values that are not finite: its weights are damaged, or --sampling.guidance is too "
            "large."
        )
    return to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()


def contexts_of(
    model: SyncDiff,
    windows: torch.Tensor,
    pose: torch.Tensor | None,
    known: torch.Tensor | None,
    config: SamplingConfig,
) -> list[Context]:
    """What `sample` takes: with the sound and, for guidance, without it. Arguments as Conditioner.forward's."""
    contexts = [model.conditioner(windows, pose, known)]
    if guidance_of(model, config) != 1:
        without_audio = torch.zeros(len(windows), dtype=torch.bool, device=model.device)
        contexts.append(model.conditioner(windows, pose, known, audio_known=without_audio))
    return contexts


def guidance_of(model: SyncDiff, config: SamplingConfig) -> float:
    """The guidance that a model is sampled with."""
    if config.guidance is not None:
        return config.guidance
    return GUIDANCE if model.conditioner.config.without_audio else 1.0


def sample(
    model: SyncDiff,
    masked: torch.Tensor,
    identity: torch.Tensor,
    contexts: Sequence[Context],
    config: SamplingConfig,
) -> torch.Tensor:
    """Clean latents [n, c, r, s] for masked and identity latents of that shape. contexts: with the sound, and for
    guidance a second one without."""

    guidance = guidance_of(model, config)

    def predict(noisy: torch.Tensor, step: int) -> torch.Tensor:
        steps = torch.full((len(noisy),), step, device=noisy.device)
        cleans = [
            model.clean_of(model.predict(noisy, steps, masked, identity, context), noisy, steps)
            for context in contexts
        ]
        return cleans[0] if len(cleans) == 1 else cleans[1] + guidance * (cleans[0] - cleans[1])

    noise = torch.randn(masked.shape[1:], generator=torch.Generator().manual_seed(config.seed))
    noise = noise.to(masked.device).expand_as(masked)
    steps = trailing_steps(len(model.levels.alpha), config.steps)
    return find_sampler(config.sampler)(predict, noise, model.levels, steps)


def _poses(
    model: SyncDiff,
    rollouts: Sequence[Rollout],
    times: Sequence[np.ndarray],
    part: Sequence[tuple[int, int]],
    masked: torch.Tensor,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Pose latents [n, c, s, s] of the frames, and which are known: the frame pose_offset / 25 s earlier, or the
    nearest one before it; None, None in the mode without poses."""
    mode = model.conditioner.config.pose
    if mode == "none":
        return None, None
    offset = model.conditioner.config.pose_offset / FPS
    poses, known = [], []
    for row, (clip, t) in enumerate(part):
        wanted = times[clip][t] - offset + 1e-6
        # In the batch of pose `masked` earlier frames stand further up; those before it are remembered.
        earlier = [(when, latents) for when, latents in rollouts[clip].recent if when <= wanted]
        if mode == "masked":
            earlier += [
                (times[other][u], masked[place : place + 1])
                for place, (other, u) in enumerate(part[:row])
                if other == clip and times[other][u] <= wanted
            ]
        known.append(bool(earlier))
        poses.append(earlier[-1][1] if earlier else torch.zeros_like(masked[:1]))
    return torch.cat(poses), torch.tensor(known, device=masked.device)


def _store_poses(
    model: SyncDiff,
    rollouts: Sequence[Rollout],
    times: Sequence[np.ndarray],
    part: Sequence[tuple[int, int]],
    latents: torch.Tensor,
) -> None:
    """Keep what may be the pose of later frames, and no more."""
    if model.conditioner.config.pose == "none":
        return
    reach = model.conditioner.config.pose_offset / FPS - 1e-6
    for row, (clip, t) in enumerate(part):
        recent, now = rollouts[clip].recent, float(times[clip][t])
        recent.append((now, latents[row : row + 1]))
        # The next frame comes later than now: of the frames older than that only the last can be its pose.
        while len(recent) > 1 and recent[1][0] <= now - reach:
            recent.popleft()
