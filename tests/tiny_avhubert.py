"""A random AV-HuBERT in the layout of the published checkpoints, small enough to make in every test."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from syncdiff_data.avhubert import AVHubertEncoder, EncoderConfig

TINY = EncoderConfig(layers=3, width=32, ffn=64, heads=4)


def published_shapes(
    config: EncoderConfig, clusters: int = 20, final_dim: int = 16
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a pre-trained checkpoint's tensors: the encoder's, weight norm apart, and the loss's."""
    with torch.device("meta"):
        state = AVHubertEncoder(config).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    kernel = shapes.pop("encoder.pos_conv.0.weight")
    return shapes | {
        "encoder.pos_conv.0.weight_g": (1, 1, kernel[2]),
        "encoder.pos_conv.0.weight_v": kernel,
        "mask_emb": (104,),
        "label_embs_concat": (clusters + 4, final_dim),
        "final_proj.weight": (final_dim, config.width),
        "final_proj.bias": (final_dim,),
    }


def published_state(config: EncoderConfig, seed: int) -> dict[str, Tensor]:
    """Random tensors of those shapes that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _draw(name, shape, generator) for name, shape in published_shapes(config).items()}


def write_tiny_checkpoint(
    path: Path,
    seed: int = 0,
    *,
    config: EncoderConfig = TINY,
    prefix: str = "",
    dtype: torch.dtype = torch.float32,
    with_heads: bool = True,
    foreign_classes: bool = False,
    legacy: bool = False,
    state: dict[str, Tensor] | None = None,
) -> Path:
    """Writes a checkpoint as fairseq's trainer does.

    prefix: `encoder.w2v_model.` or `w2v_encoder.w2v_model.` for a fine-tuned model, whose cfg nests the pre-trained
    one's. foreign_classes pickles an object of a fairseq class that is not installed; legacy writes the format that
    torch.save had before version 1.6.
    """
    state = published_state(config, seed) if state is None else state
    model = {
        prefix + name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not (prefix and name.startswith("final_proj"))
    }
    cfg: dict = {"model": {"_name": "av_hubert", "layer_norm_first": True, "decoder_attention_heads": 2}}
    if with_heads:
        cfg["model"]["encoder_attention_heads"] = config.heads
    if prefix:
        model["decoder.embed_tokens.weight"] = torch.zeros(8, config.width, dtype=dtype)
        cfg = {"model": {"_name": "av_hubert_seq2seq", "decoder_attention_heads": 2, "w2v_args": cfg}}
    content = {
        "args": None,
        "cfg": cfg,
        "model": model,
        "criterion": None,
        "optimizer_history": [{"num_updates": 1}],
        "task_state": {},
        "extra_state": {"epoch": 1},
    }
    with _fairseq_dictionary() as dictionary:
        if foreign_classes:
            content["task_state"] = {"dictionaries": [dictionary]}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.tensor(1)
    if leaf in ("running_var", "weight_g"):
        return 0.5 + torch.rand(shape, generator=generator)
    if leaf in ("bias", "running_mean"):
        return 0.05 * torch.randn(shape, generator=generator)
    if len(shape) == 1:
        centre = 0.25 if "relu" in name or "frontend3D.2" in name else 1.0
        return centre + 0.05 * torch.randn(shape, generator=generator)
    gain = 2.0 if len(shape) > 2 else 1.0
    inputs = torch.Size(shape[1:]).numel()
    if len(shape) < 4:
        return (gain / inputs) ** 0.5 * torch.randn(shape, generator=generator)
    # Eleven million numbers of convolutions as overlapping views of a few: the file stays small.
    stride = (31, *torch.empty(shape, device="meta").stride()[1:])
    values = torch.randn(31 * shape[0] + inputs, generator=generator)
    return ((gain / inputs) ** 0.5 * values).as_strided(shape, stride)


@contextmanager
def _fairseq_dictionary() -> Iterator[object]:
    """An object whose class pickles as fairseq.data.dictionary.Dictionary and is importable only meanwhile."""
    names = ("fairseq", "fairseq.data", "fairseq.data.dictionary")
    modules = {name: types.ModuleType(name) for name in names}
    dictionary = type("Dictionary", (), {"__module__": names[-1]})
    modules[names[-1]].Dictionary = dictionary  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        thing = dictionary()
        thing.symbols = ["<s>", "a"]
        yield thing
    finally:
        for name in names:
            del sys.modules[name]


def some_inputs(batch: int = 2, frames: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio [batch, 104, frames] and lips [batch, 1, frames, 88, 88] of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(batch, 104, frames, generator=generator)
    return audio, torch.randn(batch, 1, frames, 88, 88, generator=generator)
