"""Losses of the denoiser: on latents, weighted by noise level, and on the decoded estimate of the clean frame.

Shapes: B clips, T frames each, N = B * T; S crop size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from syncdiff_data.faces.alignment import EYE_DISTANCE
from syncdiff_data.faces.mean_face import mean_face
from syncdiff_data.landmarks import eye_distance
from syncdiff_data.ranges import AT_LEAST_0, SHARE, check_ranges
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_data.sync_expert.prepare import SIDE

Weighting = Literal["none", "min_snr", "jit"]
SNR_CLIP = 5.0
"""Hang et al. 2023 (arXiv:2303.09556), the value they advise."""
JIT_CLIP = 0.05
"""Least sigma squared of the `jit` weight, as Li and He 2025 (arXiv:2511.13720) clip their 1 - t."""
LEAST_SYNC_WINDOW = 9
"""Frames that one lip embedding of the sync expert depends on."""
SYNC_REACH = 7
"""Frames on either side of a window that its audio embeddings depend on."""
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class LossConfig:
    """What is minimised. None of it is stated in the sources available on the paper."""

    weighting: Weighting = "none"
    """By noise level. min_snr: min(SNR, 5), which trusts the noisiest levels least, so for many steps. jit: errors
    count as errors of the velocity, so that hardly noisy levels count most."""
    outside: float = 0.2
    """Weight of the latents' loss where nothing is generated, against 1 where it is."""
    noisiest: float = 0.5
    """Share of windows at the noisiest level, from which every sampling starts; the others are uniform."""
    pixel: float = 1.0
    """Weight of the mean absolute error of the decoded estimate inside the mask."""
    detail: float = 1.0
    """Weight of the same on its Laplacian pyramid, which counts edges and teeth."""
    mouth: float = 0.3
    """Weight of the error of lip landmarks read from the audio vector alone."""
    sync: float = 0.0
    """Weight of the sync expert's loss on the decoded estimate; one noise level per window then."""
    image_share: float = 0.25
    """Share of a batch's windows whose estimate is decoded and judged: decoding all costs a CPU as much as half the
    denoiser."""
    image_noise: float = 1.0
    """Noise levels, as a share of all, up to which the decoded estimate is judged."""
    sync_expert: str = "training"
    """The expert of that loss; the benchmark's own is `evaluation`."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("outside", "pixel", "detail", "mouth", "sync"), AT_LEAST_0))
        check_ranges(self, dict.fromkeys(("noisiest", "image_share", "image_noise"), SHARE))


def level_weight(
    weighting: Weighting, prediction: str, alpha: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """Weight of the squared error of a prediction at noise levels; alpha, sigma and result [N, 1, 1, 1]."""
    if weighting == "none":
        return torch.ones_like(alpha)
    snr = (alpha / sigma) ** 2
    if weighting == "min_snr":
        clipped = snr.clamp(max=SNR_CLIP)
        return {"sample": clipped, "epsilon": clipped / snr, "v_prediction": clipped / (snr + 1)}[prediction]
    # as an error of the velocity: 1 / sigma^2 times that of the clean latents, 1 / alpha^2 times that of the noise
    of = {"sample": sigma, "epsilon": alpha, "v_prediction": torch.ones_like(alpha)}[prediction]
    return 1 / (of**2).clamp(min=JIT_CLIP)


def detail_error(made: torch.Tensor, real: torch.Tensor, levels: int = 3) -> torch.Tensor:
    """Mean absolute difference of the Laplacian pyramids of two batches of images [N, 3, H, W], summed over its bands
    (Burt and Adelson 1983)."""
    total = made.new_zeros(())
    difference = made - real
    for _ in range(levels):
        small = F.avg_pool2d(difference, 2)
        total = total + (difference - F.interpolate(small, scale_factor=2, mode="bilinear")).abs().mean()
        difference = small
    return total


def mouth_pictures(images: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """The sync expert's pictures of face crops, with gradients: [N, 3, S, S] in [-1, 1] to gray [N, 48, 48], 0 to 255.

    landmarks: [N, 68, 2] in crop pixels. AV-HuBERT's 96 x 96 mouth crop at half its size: a crop is an upright view of
    the same mean face, so that one scale leads from one to the other.
    """
    face = mean_face()
    size = images.shape[-1]
    # crop pixels per pixel of the 256 x 256 space that the mouth crop is cut from
    scale = EYE_DISTANCE * (size - 1) / float(eye_distance(face[None])[0])
    offsets = (2 * torch.arange(SIDE, device=images.device) + 0.5 - SIDE) * scale
    centre = landmarks[:, 48:68].mean(dim=1)  # [N, 2]
    x = (centre[:, 0, None] + offsets)[:, None].expand(-1, SIDE, -1)
    y = (centre[:, 1, None] + offsets)[:, :, None].expand(-1, -1, SIDE)
    grid = torch.stack([x, y], dim=-1) * (2 / (size - 1)) - 1
    luma = images.new_tensor(LUMA)[None, :, None, None]
    gray = (images * luma).sum(dim=1, keepdim=True) * 127.5 + 127.5
    return F.grid_sample(gray, grid.to(gray.dtype), padding_mode="border", align_corners=True)[:, 0]


class SyncLoss:
    """A frozen sync expert as a loss: the lips of each frame are to fit the sound of that frame better than that of the
    frames around it, except direct neighbours (as the expert itself was trained, tasks/sync.py)."""

    def __init__(self, expert: SyncExpert):
        self.network = expert.network

    def __call__(
        self, made: torch.Tensor, real: torch.Tensor, landmarks: torch.Tensor, energies: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy per window, [B].

        made, real: [B, T, 3, S, S] in [-1, 1]; landmarks: [B, T, 68, 2] in crop pixels; energies: [B, T + 2 e, 104],
        standardised, of the window and e frames on either side.
        """
        count, frames = made.shape[:2]
        flat = landmarks.flatten(0, 1)
        pictures = mouth_pictures(made.flatten(0, 1), flat).unflatten(0, (count, frames))
        with torch.no_grad():  # the clip's mean picture stands for skin and light; a window's is near it
            mean = mouth_pictures(real.flatten(0, 1), flat).unflatten(0, (count, frames)).mean(dim=1)
            gray = mean.mean(dim=(1, 2))
            spread = mean.std(dim=(1, 2)).clamp(min=4)
        standard = (pictures - gray[:, None, None, None]) / spread[:, None, None, None]
        middle = (mean - gray[:, None, None]) / spread[:, None, None]
        lips = self.network.lips(standard, middle, None)
        audio = self.network.audio(energies)
        similarity = torch.einsum("btd,bsd->bts", lips, audio) * self.network.log_scale.clamp(0, 4).exp()
        more = (audio.shape[1] - frames) // 2
        own = torch.arange(frames, device=made.device) + more
        neighbour = (torch.arange(audio.shape[1], device=made.device)[None] - own[:, None]).abs() == 1
        similarity = similarity.masked_fill(neighbour, -1e4)
        target = own.expand(count, frames)
        return F.cross_entropy(similarity.transpose(1, 2), target, reduction="none").mean(dim=1)
