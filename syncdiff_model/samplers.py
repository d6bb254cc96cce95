"""Samplers as plain functions of a network that predicts the clean latents. A new one is a function and a line in
SAMPLERS.

All are deterministic given the noise. `levels` holds alpha and sigma of every training step: x_t = alpha_t x_0 +
sigma_t noise. The last prediction is returned as it is, so no number of steps leaves noise behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from syncdiff_data.records import UserError
from syncdiff_data.registry import import_own, is_own, lookup

Predict = Callable[[torch.Tensor, int], torch.Tensor]
"""(noisy latents [N, c, h, w], training step) -> clean latents [N, c, h, w]."""


@dataclass(frozen=True)
class Levels:
    """alpha, sigma: [train_steps], at training step 0 ... train_steps - 1."""

    alpha: torch.Tensor
    sigma: torch.Tensor

    @classmethod
    def of(cls, scheduler: DDIMScheduler) -> Levels:
        squared = scheduler.alphas_cumprod.double()
        return cls(squared.sqrt(), (1 - squared).sqrt())

    def at(self, step: int) -> tuple[float, float]:
        return float(self.alpha[step]), float(self.sigma[step])


def trailing_steps(train_steps: int, steps: int) -> list[int]:
    """Training steps to predict at, noisiest first: the last one and equally spaced ones below it (Lin et al., 2024,
    table 2). UserError for fewer than one step or more than there are levels."""
    if not 1 <= steps <= train_steps:
        raise UserError(
            f"steps {steps}: expected 1 to {train_steps}, the noise levels of the model's training."
        )
    return [round(train_steps - i * train_steps / steps) - 1 for i in range(steps)]


def ddim(predict: Predict, noise: torch.Tensor, levels: Levels, steps: Sequence[int]) -> torch.Tensor:
    """Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12 with sigma = 0."""
    noisy = clean = noise
    for step, following in zip(steps, [*steps[1:], None]):
        clean = predict(noisy, step)
        if following is not None:
            alpha, sigma = levels.at(step)
            next_alpha, next_sigma = levels.at(following)
            noisy = next_alpha * clean + next_sigma * (noisy - alpha * clean) / sigma
    return clean


def dpmpp_2m(predict: Predict, noise: torch.Tensor, levels: Levels, steps: Sequence[int]) -> torch.Tensor:
    """Lu et al., "DPM-Solver++", 2022, algorithm 2 (multistep, second order), on the given levels."""
    noisy, before, before_lambda = noise, None, 0.0
    clean = noise
    for step, following in zip(steps, [*steps[1:], None]):
        clean = predict(noisy, step)
        if following is None:
            break
        alpha, sigma = levels.at(step)
        next_alpha, next_sigma = levels.at(following)
        now, then = _log_snr(alpha, sigma), _log_snr(next_alpha, next_sigma)
        estimate = clean
        # From the noise alone (alpha 0) there is no earlier level to extrapolate from.
        if before is not None:
            ratio = (now - before_lambda) / (then - now)
            estimate = (1 + 1 / (2 * ratio)) * clean - before / (2 * ratio)
        if alpha > 0:
            before, before_lambda = clean, now
        shrink = torch.expm1(torch.tensor(now - then, dtype=torch.float64)).item() if alpha > 0 else -1.0
        noisy = next_sigma / sigma * noisy - next_alpha * shrink * estimate
    return clean


def consistency(predict: Predict, noise: torch.Tensor, levels: Levels, steps: Sequence[int]) -> torch.Tensor:
    """Predict, add the same noise at the next level, predict again: for one or two steps, where the first prediction is
    nearly right. Song et al., "Consistency Models", 2023, algorithm 1, with one noise throughout."""
    clean = predict(noise, steps[0])
    for step in steps[1:]:
        alpha, sigma = levels.at(step)
        clean = predict(alpha * clean + sigma * noise, step)
    return clean


def one_pass(predict: Predict, noise: torch.Tensor, levels: Levels, steps: Sequence[int]) -> torch.Tensor:
    """One prediction from zeros: for networks that were trained so (tasks/gan.py), and to see what the noise does."""
    return predict(torch.zeros_like(noise), steps[0])


def _log_snr(alpha: float, sigma: float) -> float:
    """Half the logarithm of the signal-to-noise ratio."""
    return float(torch.log(torch.tensor(max(alpha, 1e-20) / sigma, dtype=torch.float64)))


Sampler = Callable[[Predict, torch.Tensor, Levels, Sequence[int]], torch.Tensor]
SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "dpmpp_2m": dpmpp_2m,
    "consistency": consistency,
    "one_pass": one_pass,
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name, or `module:NAME` of the user's own. UserError when there is none."""
    if is_own(name):
        sampler: Sampler = import_own(name, "sampler")
        return sampler
    return lookup(name, SAMPLERS, "sampler")
