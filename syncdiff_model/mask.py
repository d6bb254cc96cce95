"""The part of a face crop that is generated: one rectangle, fixed in crop space.

Nothing about it comes from the frame that is to be generated: a mask around the target's own landmarks leaks its lip
shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from syncdiff_data.ranges import SHARE, check_ranges
from syncdiff_data.records import UserError


@dataclass(frozen=True)
class MaskConfig:
    """The hidden rectangle, as fractions of the crop. Not stated in the sources available."""

    top: float = 0.5
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0
    feather: float = 0.06
    """Width of the soft border, inside the rectangle, when a face is pasted back; 0 gives a hard edge."""
    margin: float = 0.25
    """How far above the rectangle the denoiser sees: the eyes say little about the lips and cost a third of its
    time."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("top", "bottom", "left", "right", "feather", "margin"), SHARE))
        if self.top >= self.bottom or self.left >= self.right:
            raise UserError(f"The mask is empty: expected top < bottom and left < right, found {self}.")


def hide_lower_half(images: torch.Tensor, mask: MaskConfig) -> torch.Tensor:
    """Images with the mask's rectangle set to mid gray (0): float [..., 3, S, S]."""
    hidden = images.clone()
    rows, columns = mask_span(mask, images.shape[-1])
    hidden[..., rows, columns] = 0
    return hidden


def mask_span(mask: MaskConfig, size: int) -> tuple[slice, slice]:
    """Rows and columns of the rectangle in a crop (or latent) of `size` pixels."""
    return (
        slice(round(mask.top * size), round(mask.bottom * size)),
        slice(round(mask.left * size), round(mask.right * size)),
    )


def seen_rows(mask: MaskConfig, size: int, unit: int) -> slice:
    """The rows of a latent of `size` that the denoiser sees: from the margin above the rectangle to the bottom, as many
    as `unit` divides."""
    wanted = size - max(0, int((mask.top - mask.margin) * size))
    return slice(size - min(size, -(-wanted // unit) * unit), size)


def latent_mask(mask: MaskConfig, size: int) -> torch.Tensor:
    """bool [size, size]: True where a latent of `size` is generated."""
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[mask_span(mask, size)] = True
    return inside


def soft_mask(mask: MaskConfig, size: int) -> torch.Tensor:
    """How much of a generated crop is shown when pasted back: float32 [size, size], 0 outside the rectangle, rising
    linearly over the feather to 1 inside. A sharp step at the jaw or cheek would show."""
    rows, columns = mask_span(mask, size)
    shown = torch.zeros(size, size)
    across = _ramp(columns.stop - columns.start, mask.feather * size)
    shown[rows, columns] = torch.minimum(_ramp(rows.stop - rows.start, mask.feather * size)[:, None], across)
    return shown


def _ramp(length: int, border: float) -> torch.Tensor:
    """Distance to the nearer end, in borders, at most 1: float32 [length]."""
    inward = torch.arange(length) + 0.5
    distance = torch.minimum(inward, length - inward)
    return (distance / border).clamp(max=1) if border else torch.ones(length)
