"""AV-HuBERT as a plain PyTorch module: audio, video or both to one vector per video frame.

Shi et al., "Learning Audio-Visual Speech Representation by Masked Multimodal Cluster Prediction" (ICLR 2022).
Agrees with the published code on its own inputs within atol 5e-5, rtol 1e-4 (float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from syncdiff_data.avhubert.blocks import Transformer
from syncdiff_data.avhubert.config import AUDIO_DIM, FRAME_SIZE, EncoderConfig
from syncdiff_data.avhubert.video_frontend import VideoProjection
from syncdiff_data.avhubert.weights import check_tensors, read_weights
from syncdiff_data.records import UserError
from syncdiff_data.weights.shapes import shapes_within


class AudioProjection(nn.Module):
    """[B, 104, T] -> [B, T, D]."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Linear(AUDIO_DIM, width)

    def forward(self, audio: Tensor) -> Tensor:
        return self.proj(audio.transpose(1, 2))


class AVHubertEncoder(nn.Module):
    """The encoder of AV-HuBERT, base or large.

    Layers are counted from 1. Layer k is the output of block k as it is; layer None is the final output, that
    of the last block after the final norm, so layer N and layer None differ. Outputs at padded frames mean
    nothing.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.feature_extractor_audio = AudioProjection(config.width)
        self.feature_extractor_video = VideoProjection(config.width)
        self.layer_norm = nn.LayerNorm(2 * config.width)
        self.post_extract_proj = nn.Linear(2 * config.width, config.width)
        self.encoder = Transformer(config)

    @classmethod
    def from_checkpoint(cls, path: Path | str, heads: int | None = None) -> Self:
        """The encoder of a published .pt file or of a converted folder, float32 on the CPU, in eval mode.

        heads: attention heads, needed only where neither the file nor the published models' sizes tell.
        Nothing in the file is executed. Raises UserError where the file is not an AV-HuBERT checkpoint.
        """
        config, tensors = read_weights(Path(path), heads)
        return cls.from_tensors(config, tensors, str(path))

    @classmethod
    def from_tensors(cls, config: EncoderConfig, tensors: Mapping[str, Tensor], origin: str) -> Self:
        """The encoder in eval mode with exactly these tensors; UserError names what is missing, odd or left
        over.
        """
        try:
            with shapes_within([tensor.shape for tensor in tensors.values()]):
                encoder = cls(config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{origin} does not fit AV-HuBERT: {error}.") from error
        check_tensors(encoder.state_dict(), tensors, origin)
        encoder.load_state_dict(tensors, assign=True)
        return encoder.eval()

    def forward(
        self,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        padding_mask: Tensor | None = None,
        layer: int | None = None,
    ) -> Tensor:
        """[B, T, D] in the module's dtype, computed without gradients.

        audio: float32 [B, 104, T], normalised log filterbank energies (`preparation.audio_input`); video:
        float32 [B, 1, T, 88, 88], normalised mouth crops (`preparation.video_input`), or what `project_video`
        made of them; at least one of them.
        padding_mask: bool [B, T], True at padding. layer: 1..N or None. Raises ValueError naming the argument
        that is wrong.
        """
        return self.hidden_states([layer], audio, video, padding_mask)[layer]

    @torch.no_grad()
    def hidden_states(
        self,
        layers: Sequence[int | None],
        audio: Tensor | None = None,
        video: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> dict[int | None, Tensor]:
        """Several layers of one pass, arguments as in `forward`; runs no block above the highest one asked
        for.
        """
        for layer in layers:
            self._check_layer(layer)
        self._check_inputs(audio, video, padding_mask)
        hidden = self._fuse(audio, video)
        if padding_mask is not None:
            hidden = hidden.masked_fill(padding_mask[..., None], 0)
        hidden = self.encoder.add_positions(hidden)
        keep = _keys_to_keep(padding_mask)
        numbers = [self.config.layers if layer is None else layer for layer in layers]
        states: dict[int | None, Tensor] = {}
        for number, block in enumerate(self.encoder.layers[: max(numbers)], start=1):
            hidden = block(hidden, keep)
            if number in layers:
                states[number] = hidden
        if None in layers:
            states[None] = self.encoder.layer_norm(hidden)
        return states

    @torch.no_grad()
    def project_video(self, video: Tensor) -> Tensor:
        """[B, T, D]: features of the lips before the fusion with audio, for video float32 [B, 1, T, 88, 88].

        It takes most of the time. What it gives stands for `video` in every later call, whatever the sound.
        """
        self._check_inputs(None, video, None)
        return self._see(video)

    def encode_until(
        self,
        layer: int,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """The lower part: the output of block `layer`, [B, T, D], to be stored and given to `resume_from`."""
        if layer is None:
            raise ValueError("layer: encode_until stops after a block, so it needs a number, not None")
        return self(audio, video, padding_mask, layer)

    def resume_from(self, layer: int, hidden: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """The upper part: blocks layer + 1 .. N and the final norm, on hidden [B, T, D], the output of block
        `layer`.

        Gradients flow to these blocks and to `hidden`. Stored float16 values are fine: they are cast to the
        module's dtype. resume_from(k, encode_until(k, ...)) equals the whole forward.
        """
        if layer is None:
            raise ValueError("layer: resume_from starts after a block, so it needs a number, not None")
        self._check_layer(layer)
        if hidden.ndim != 3 or hidden.shape[2] != self.config.width or not hidden.is_floating_point():
            raise ValueError(
                f"hidden: expected floating point [B, T, {self.config.width}], got {_describe(hidden)}"
            )
        _check_mask(padding_mask, hidden.shape[0], hidden.shape[1])
        hidden = hidden.to(self.post_extract_proj.weight.dtype)
        keep = _keys_to_keep(padding_mask)
        for block in self.encoder.layers[layer:]:
            hidden = block(hidden, keep)
        return self.encoder.layer_norm(hidden)

    def _fuse(self, audio: Tensor | None, video: Tensor | None) -> Tensor:
        """[B, T, D]. A missing modality is zeros after its projection, which is not the projection of
        zeros.
        """
        dtype = self.post_extract_proj.weight.dtype
        audio_states = None if audio is None else self.feature_extractor_audio(audio.to(dtype))
        video_states = None if video is None else self._see(video)
        if audio_states is None:
            assert video_states is not None
            audio_states = torch.zeros_like(video_states)
        if video_states is None:
            video_states = torch.zeros_like(audio_states)
        return self.post_extract_proj(self.layer_norm(torch.cat([audio_states, video_states], dim=-1)))

    def _see(self, video: Tensor) -> Tensor:
        video = video.to(self.post_extract_proj.weight.dtype)
        return video if video.ndim == 3 else self.feature_extractor_video(video)

    def _check_layer(self, layer: int | None) -> None:
        if layer is None:
            return
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= self.config.layers:
            raise ValueError(
                f"layer: expected 1..{self.config.layers} or None for the final output, got {layer!r}"
            )

    def _check_inputs(self, audio: Tensor | None, video: Tensor | None, padding_mask: Tensor | None) -> None:
        sizes = []
        if audio is not None:
            if audio.dtype != torch.float32 or audio.ndim != 3 or audio.shape[1] != AUDIO_DIM:
                raise ValueError(f"audio: expected float32 [B, {AUDIO_DIM}, T], got {_describe(audio)}")
            sizes.append((audio.shape[0], audio.shape[2]))
        if video is not None:
            sizes.append(self._size_of_video(video))
        if not sizes:
            raise ValueError("audio, video: at least one of them must be given")
        if sizes[0] != sizes[-1]:
            raise ValueError(f"audio, video: (batch, frames) differ, {sizes[0]} against {sizes[1]}")
        if 0 in sizes[0]:
            raise ValueError(f"audio, video: (batch, frames) is {sizes[0]}, nothing to encode")
        _check_mask(padding_mask, *sizes[0])

    def _size_of_video(self, video: Tensor) -> tuple[int, int]:
        """Batch and frames of mouth crops or of their projection."""
        if video.ndim == 3 and video.is_floating_point() and video.shape[2] == self.config.width:
            return video.shape[0], video.shape[1]
        crops = video.ndim == 5 and video.shape[1] == 1 and video.shape[3:] == (FRAME_SIZE, FRAME_SIZE)
        if video.dtype != torch.float32 or not crops:
            raise ValueError(
                f"video: expected float32 [B, 1, T, {FRAME_SIZE}, {FRAME_SIZE}] or its projection "
                f"[B, T, {self.config.width}], got {_describe(video)}"
            )
        return video.shape[0], video.shape[2]


def _check_mask(padding_mask: Tensor | None, batch: int, frames: int) -> None:
    if padding_mask is None:
        return
    if padding_mask.dtype != torch.bool or padding_mask.shape != (batch, frames):
        raise ValueError(f"padding_mask: expected bool [{batch}, {frames}], got {_describe(padding_mask)}")
    if padding_mask.all(dim=1).any():
        raise ValueError("padding_mask: a row is all padding, which leaves nothing to attend to")


def _keys_to_keep(padding_mask: Tensor | None) -> Tensor | None:
    return None if padding_mask is None else ~padding_mask[:, None, None, :]


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
