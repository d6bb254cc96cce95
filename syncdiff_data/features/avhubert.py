"""Layers of AV-HuBERT as features of clips: batches of similar length, padded and masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from syncdiff_data.avhubert import AVHubertEncoder, align_frames, audio_input, video_input
from syncdiff_data.features.audio import logfbank
from syncdiff_data.features.base import EncoderOptions, Modality
from syncdiff_data.records import Clip, UserError
from syncdiff_data.weights import find_weights

BATCH_FRAMES = 1000
"""Frames in a batch, padding counted: bounds memory, and more of them are no faster on a CPU."""
LONGEST_TO_SHORTEST = 1.25
"""In one batch: bounds the work spent on padding."""


class AVHubertFeatures:
    """Columns `layer1` .. `layerN` and `final` (None), each D wide, of the audio, the video, or both."""

    def __init__(self, encoder: AVHubertEncoder, layers: Sequence[int | None], modality: Modality = "audio"):
        """layers: which columns, in this order; none means `final` alone. Raises UserError for one that is
        not there.
        """
        count = encoder.config.layers
        self.layers = tuple(layers) or (None,)
        for layer in self.layers:
            if layer is not None and not 1 <= layer <= count:
                raise UserError(
                    f"--layers: this AV-HuBERT has layers 1 to {count} and its final output; there is no {layer}."
                )
        self.columns = {column_name(layer): encoder.config.width for layer in self.layers}
        self.encoder = encoder
        self.modality = modality

    @classmethod
    def load(cls, options: EncoderOptions) -> Self:
        """Weights looked up as everywhere; UserError with the command that gets them where they are
        missing.
        """
        path = find_weights(options.checkpoint, options.weights)
        encoder = AVHubertEncoder.from_checkpoint(path).to(options.device)
        return cls(encoder, options.layers, options.modality)

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """Per clip, column -> float32 [num_frames, D]; UserError where video is wanted and a clip has no
        mouth crops.

        A clip's numbers depend on the batch it lands in by rounding alone (docs/features.md).
        """
        encoded: dict[int, dict[str, np.ndarray]] = {}
        for batch in similar_lengths([clip.num_frames for clip in clips]):
            members = [clips[index] for index in batch]
            for index, clip, states in zip(batch, members, self._encode_batch(members)):
                encoded[index] = {name: state[: clip.num_frames] for name, state in states.items()}
        return [encoded[index] for index in range(len(clips))]

    def _encode_batch(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """Per clip, column -> float32 [longest of the batch, D]."""
        lengths = [clip.num_frames for clip in clips]
        audio = (
            None if self.modality == "video" else self._tensor(pad_batch([_heard(clip) for clip in clips]))
        )
        video = None if self.modality == "audio" else self._tensor(pad_batch([_seen(clip) for clip in clips]))
        mask = None if len(set(lengths)) == 1 else self._tensor(padding_mask(lengths))
        states = self.encoder.hidden_states(self.layers, audio, video, mask)
        arrays = {column_name(layer): state.float().cpu().numpy() for layer, state in states.items()}
        return [{name: array[row] for name, array in arrays.items()} for row in range(len(clips))]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(next(self.encoder.parameters()).device)


def column_name(layer: int | None) -> str:
    """`layer9`, or `final` for None."""
    return "final" if layer is None else f"layer{layer}"


def pad_batch(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [B, C, longest, ...] from [C, T, ...] each.

    Zeros follow the end, as a convolution would see them beyond a clip alone.
    """
    channels, _, *frame = inputs[0].shape
    longest = max(array.shape[1] for array in inputs)
    batch = np.zeros((len(inputs), channels, longest, *frame), np.float32)
    for row, array in zip(batch, inputs):
        row[:, : array.shape[1]] = array
    return batch


def padding_mask(lengths: Sequence[int]) -> np.ndarray:
    """bool [B, longest], True at padding."""
    return np.arange(max(lengths))[None] >= np.array(lengths)[:, None]


def similar_lengths(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices grouped into batches, longest clips first; which ones meet depends on the lengths alone."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        longest = lengths[batch[0]] if batch else lengths[index]
        too_many = longest * (len(batch) + 1) > BATCH_FRAMES
        if batch and (too_many or longest > LONGEST_TO_SHORTEST * lengths[index]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _heard(clip: Clip) -> np.ndarray:
    return audio_input(align_frames(logfbank(clip.audio), clip.num_frames))


def _seen(clip: Clip) -> np.ndarray:
    mouth = clip.mouth
    if mouth is None:
        raise UserError(
            f"Clip {clip.clip_id} ({clip.source}) has no mouth crops, which AV-HuBERT's video features need: make "
            "the data set again without --no-mouth, or extract audio features."
        )
    return video_input(mouth)
