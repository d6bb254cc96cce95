"""Conditioning of the denoiser: audio features as tokens and one vector, the pose frame in one of four ways.

Shapes: N frames, K feature frames around each, D feature width, C token width, c latent channels, h, w latent size;
B clips, T frames of a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from syncdiff_data.ranges import AT_LEAST_0, DEPTH, SHARE, WIDTH, Range, check_ranges
from syncdiff_model.audio import AudioTokens, AVHubertTop, span_of_windows, windows_of_span
from syncdiff_model.mask import MaskConfig

Pose = Literal["none", "masked", "bottleneck", "full"]
MOUTH_POINTS = 20
CONTEXT: Range = (1, 10_000)
"""Frames that one frame may depend on."""


@dataclass(frozen=True)
class ConditioningConfig:
    """How audio features and the pose frame reach the denoiser. All of it is not stated in the sources available."""

    context: int = 13
    """Feature frames (25 per second) around each video frame, one audio token each."""
    tokens_dim: int = 256
    """Size of a token; the denoiser's cross-attention dimension."""
    audio_layers: int = 2
    """Convolutions along the feature frames."""
    audio_dropout: float = 0.2
    """Dropout inside the audio network; AV-HuBERT's own blocks have none."""
    map_channels: int = 8
    """Channels of the audio map, a linear layer of the audio vector, concatenated with the noisy latents: crops are
    aligned, so lips are always in the same place; 0 has none."""
    avhubert_top: bool = False
    """Train the AV-HuBERT blocks above the stored layer with the model, at a tenth of its learning rate: the paper's
    best setting, for features of `--encoder avhubert --layers 9`."""
    reach: int = 0
    """Further feature frames on either side that avhubert_top attends to."""
    pose: Pose = "none"
    """What is seen of an earlier frame. none: nothing. masked: its upper half, as a code. bottleneck: the whole frame,
    as a code of pose_dim numbers, which is the paper's form. full: its latents beside the noisy ones. The lips of
    bottleneck and full are those generated before, so their frames come one after another."""
    pose_dim: int = 16
    """Width of the bottleneck: numbers per pose frame."""
    pose_width: int = 32
    """Channels of the pose encoder."""
    pose_offset: int = 1
    """The pose frame of t is the frame so many 25ths of a second earlier."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("context", "pose_offset"), CONTEXT))
        check_ranges(self, dict.fromkeys(("tokens_dim", "pose_dim", "pose_width"), WIDTH))
        check_ranges(
            self, {"audio_layers": (0, DEPTH[1]), "map_channels": (0, WIDTH[1]), "reach": (0, CONTEXT[1])}
        )
        check_ranges(self, {"audio_dropout": SHARE})


@dataclass(frozen=True)
class CorruptionConfig:
    """What training does to its conditions, so that dubbing's are no surprise."""

    pose_source: Literal["true", "noised", "generated"] = "generated"
    """Which frame shows the pose: the true one (the paper), with noise on its latents, or one that the model makes."""
    pose_noise: float = 0.5
    """Standard deviation of that noise; latents have about 1."""
    pose_dropout: float = 0.1
    """Share of frames without a pose, as at the beginning of a clip."""
    audio_dropout: float = 0.1
    """Share of windows without sound, for classifier-free guidance (Ho and Salimans, 2022)."""
    masked_shift: int = 1
    """Largest shift, in frames, between a frame and the masked one that it is generated from: what cheeks and nose say
    of the lips at this very moment is not to be learnt, since a dub has another sound."""

    def __post_init__(self) -> None:
        check_ranges(self, {"pose_noise": AT_LEAST_0, "masked_shift": (0, CONTEXT[1])})
        check_ranges(self, dict.fromkeys(("pose_dropout", "audio_dropout"), SHARE))


@dataclass(frozen=True)
class Context:
    """What conditions a frame beside its masked and identity frames."""

    tokens: torch.Tensor
    """[N, K, C], or [N, K + 1, C] with a pose code."""
    vector: torch.Tensor
    """[N, C], added to the embedding of the noise level."""
    audio_map: torch.Tensor | None = None
    """[N, map_channels, r, s], the audio map beside the noisy latents; None without channels."""
    pose: torch.Tensor | None = None
    """[N, c, h, w], latents beside the noisy ones; None in all modes but `full`."""


class Conditioner(ModelMixin, ConfigMixin):
    """Audio tokens, the audio vector, and the pose.

    Its saved config also holds what dubbing must repeat: features, mask, and how faces were found and cropped.
    """

    @register_to_config
    def __init__(
        self,
        crop_size: int,
        latent_channels: int,
        encoder: str,
        checkpoint: str,
        feature: str,
        feature_dim: int,
        mask: dict[str, float],
        faces: dict[str, Any] | None = None,
        context: int = 13,
        tokens_dim: int = 256,
        audio_layers: int = 2,
        audio_dropout: float = 0.2,
        map_shape: tuple[int, int, int] = (0, 0, 0),
        avhubert: dict[str, int] | None = None,
        reach: int = 0,
        pose: Pose = "none",
        pose_dim: int = 16,
        pose_width: int = 32,
        pose_offset: int = 1,
        without_audio: bool = False,
    ):
        """encoder, checkpoint, feature: name of the audio encoder, of its weights and of its column; mask: the
        fields of MaskConfig; faces: those of FaceConfig; map_shape: channels, rows and columns of the sound's map;
        avhubert: the fields of EncoderConfig where its upper blocks belong to the model; without_audio: whether
        training showed windows without sound."""
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_std", torch.ones(feature_dim))
        self.register_buffer("mouth_mean", torch.zeros(2 * MOUTH_POINTS))
        self.register_buffer("mouth_std", torch.ones(2 * MOUTH_POINTS))
        self.top = AVHubertTop(avhubert, int(feature.removeprefix("layer"))) if avhubert else None
        self.audio = AudioTokens(feature_dim, context, tokens_dim, audio_layers, audio_dropout)
        self.no_audio = nn.Parameter(torch.randn(context, tokens_dim) * 0.02)
        self.no_audio_vector = nn.Parameter(torch.zeros(tokens_dim))
        if map_shape[0]:
            self.audio_map = nn.Sequential(nn.SiLU(), nn.Linear(tokens_dim, math.prod(map_shape)))
        # What the audio vector says of the lips, for a loss that makes it say so.
        self.mouth = nn.Sequential(nn.SiLU(), nn.Linear(tokens_dim, 2 * MOUTH_POINTS))
        if pose in ("masked", "bottleneck"):
            self.bottleneck = nn.Sequential(
                nn.Conv2d(latent_channels, pose_width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Conv2d(pose_width, pose_width, 3, padding=1),
                nn.SiLU(),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
                nn.Linear(pose_width * 16, pose_dim),
            )
            self.pose_token = nn.Sequential(nn.Linear(pose_dim, tokens_dim), nn.LayerNorm(tokens_dim))
            self.no_pose = nn.Parameter(torch.randn(tokens_dim) * 0.02)

    @property
    def mask(self) -> MaskConfig:
        return MaskConfig(**self.config.mask)

    @property
    def autoregressive(self) -> bool:
        """Whether a frame depends on the one generated before."""
        return self.config.pose in ("bottleneck", "full")

    def refine(self, features: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Contiguous feature frames [B, F, D], as stored, to what windows are cut from: standardised per dimension, or
        through the AV-HuBERT blocks that belong to the model. inside: bool [B, F], False where the clip has no frame.
        """
        if self.top is not None:
            return self.top(features, inside)
        return (features - self.feature_mean) / self.feature_std

    def refine_windows(self, windows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """The same for the windows of consecutive frames: [B, T, K + 2 * reach, D] to [B, T, K, D]."""
        if self.top is None:
            return self.refine(windows, inside)
        refined = self.refine(span_of_windows(windows), span_of_windows(inside))
        reach, context = self.config.reach, self.config.context
        return windows_of_span(refined[:, reach : refined.shape[1] - reach], context)

    def forward(
        self,
        windows: torch.Tensor,
        pose: torch.Tensor | None = None,
        pose_known: torch.Tensor | None = None,
        audio_known: torch.Tensor | None = None,
    ) -> Context:
        """The context of frames.

        windows: refined feature frames [N, K, D]; pose: latents of the pose frames [N, c, h, w], None where the mode
        has none; pose_known, audio_known: bool [N], False where a learned token stands in (all known when None).
        """
        tokens, vector = self.audio(windows)
        if audio_known is not None:
            tokens = torch.where(audio_known[:, None, None], tokens, self.no_audio)
            vector = torch.where(audio_known[:, None], vector, self.no_audio_vector)
        shape = self.config.map_shape
        audio_map = self.audio_map(vector).unflatten(1, tuple(shape)) if shape[0] else None
        mode = self.config.pose
        if mode == "none":
            return Context(tokens, vector, audio_map)
        assert pose is not None
        known = pose_known if pose_known is not None else tokens.new_ones(len(tokens), dtype=torch.bool)
        if mode == "full":
            return Context(tokens, vector, audio_map, pose * known[:, None, None, None])
        token = torch.where(known[:, None], self.pose_token(self.pose_code(pose)), self.no_pose)
        return Context(torch.cat([tokens, token[:, None]], dim=1), vector, audio_map)

    def pose_code(self, pose: torch.Tensor) -> torch.Tensor:
        """The pose frame's latents [N, c, h, w] through the bottleneck: [N, pose_dim]. The paper's width is not stated;
        eight numbers let a linear probe read the mouth's opening with r = 0.89 (docs/model.md)."""
        return self.bottleneck(pose)

    @torch.no_grad()
    def measure(self, features: torch.Tensor, mouths: torch.Tensor) -> None:
        """Take mean and standard deviation per dimension from features [..., D] and mouths [..., 40]."""
        for name, values in (("feature", features), ("mouth", mouths)):
            flat = values.reshape(-1, values.shape[-1]).float()
            getattr(self, f"{name}_mean").copy_(flat.mean(0))
            getattr(self, f"{name}_std").copy_(flat.std(0).clamp_min(1e-4))


def mouth_shape(landmarks: torch.Tensor, crop_size: int) -> torch.Tensor:
    """The mouth's points of landmarks [..., 68, 2] in crop pixels, about their centre, in units of the crop: [..., 40].

    About the centre, since where the mouth lies in the crop is the head's doing and no sound tells it. In aligned crops
    it matters little (docs/model.md).
    """
    points = landmarks[..., 48:68, :] / crop_size
    return (points - points.mean(dim=-2, keepdim=True)).flatten(-2)


def features_inside(batch: dict[str, Any]) -> torch.Tensor:
    """bool [B, T, K] of a training batch: which feature frames of the windows lie inside the clip and do not repeat
    its edge."""
    length, context = batch["features"].shape[1:3]
    device = batch["features"].device
    around = (
        torch.arange(length, device=device)[:, None] + torch.arange(context, device=device) - context // 2
    )
    frames = batch["first_frame"][:, None, None] + around
    return (frames >= 0) & (frames < batch["num_frames"][:, None, None])
