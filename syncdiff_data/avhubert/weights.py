"""From a published or converted checkpoint to the tensors of `AVHubertEncoder`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from syncdiff_data.avhubert.config import PUBLISHED_HEADS, EncoderConfig
from syncdiff_data.avhubert.pickle_reader import read_pt
from syncdiff_data.documents import parse_json
from syncdiff_data.records import UserError

PREFIXES = ("encoder.w2v_model.", "w2v_encoder.w2v_model.", "")
"""Where the encoder lies in a fine-tuned seq2seq checkpoint, a CTC one, a pre-trained one."""

PRETRAINING_ONLY = ("mask_emb", "label_embs_concat", "final_proj.weight", "final_proj.bias")
"""Tensors of the masked-prediction loss, which an encoder does not use."""

POS_CONV = "encoder.pos_conv.0."
TENSORS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def read_weights(path: Path, heads: int | None = None) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """The configuration and float32 tensors of a .pt file, a converted folder, or the .safetensors file in
    one.

    heads overrides what the file says. Raises UserError where the file is not an AV-HuBERT checkpoint.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        return _read_converted(path if path.is_dir() else path.parent, heads)
    content, _stubs = read_pt(path)
    return published_weights(content, str(path), heads)


def published_weights(
    content: Any, origin: str, heads: int | None = None
) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """The same from the dictionary a published .pt file holds: cast to float32, contiguous, weight norm
    folded.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        found = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{origin} is not an AV-HuBERT checkpoint: expected a dictionary with 'model', found {found}."
        )
    tensors = _encoder_tensors(content["model"], origin)
    if _settings(content.get("cfg")).get("layer_norm_first", True) is not True:
        raise UserError(
            f"{origin}: layer_norm_first is off, but AV-HuBERT's published models all have it on."
        )
    try:
        config = _config(tensors, heads or _heads_of(content.get("cfg")), origin)
        return config, _fold_weight_norm(tensors)
    except (KeyError, IndexError) as missing:
        raise UserError(
            f"{origin} is not an AV-HuBERT checkpoint: expected the tensor {missing}, found {len(tensors)} others."
        ) from missing


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], origin: str) -> None:
    """UserError naming the first tensor that is missing, left over or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        want = list(expected[name].shape) if name in expected else "no such tensor"
        have = list(found[name].shape) if name in found else "no such tensor"
        if want != have:
            raise UserError(f"{origin} does not fit AV-HuBERT: {name}: expected {want}, found {have}.")


def _encoder_tensors(model: dict[str, Any], origin: str) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if f"{prefix}post_extract_proj.weight" in model:
            break
    else:
        raise UserError(
            f"{origin} is not an AV-HuBERT checkpoint: expected post_extract_proj.weight among its tensors "
            f"(alone or below {PREFIXES[0]} or {PREFIXES[1]}), found "
            f"{', '.join(sorted(map(str, model))[:3])}, ..."
        )
    names = [name for name in model if name.startswith(prefix)]
    tensors = {
        name.removeprefix(prefix): model[name]
        for name in names
        if name.removeprefix(prefix) not in PRETRAINING_ONLY
    }
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"{origin}: expected a tensor under {name}, found {type(tensor).__name__}.")
    return {
        name: tensor.contiguous().float() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in tensors.items()
    }


def _config(tensors: dict[str, Tensor], heads: int | None, origin: str) -> EncoderConfig:
    """Everything but the heads follows from shapes."""
    blocks = [re.match(r"encoder\.layers\.(\d+)\.", name) for name in tensors]
    layers = 1 + max((int(block[1]) for block in blocks if block), default=-1)
    width = tensors["post_extract_proj.weight"].shape[0]
    heads = heads or PUBLISHED_HEADS.get((layers, width))
    if heads is None:
        raise UserError(
            f"{origin} does not say how many attention heads it has, and {layers} layers of width {width} "
            "are neither the published base nor large model: give heads=..."
        )
    if width % heads:
        raise UserError(f"{origin}: {heads} attention heads do not divide the width {width}.")
    kernel = tensors[f"{POS_CONV}weight_v"]
    return EncoderConfig(
        layers=layers,
        width=width,
        ffn=tensors["encoder.layers.0.fc1.weight"].shape[0],
        heads=heads,
        pos_kernel=kernel.shape[2],
        pos_groups=width // kernel.shape[1],
    )


def _settings(cfg: Any) -> dict[str, Any]:
    """The encoder's part of a cfg: a fine-tuned model's lies in the w2v_args it was fine-tuned from."""
    model = _mapping(_mapping(cfg).get("model"))
    if "w2v_args" in model:
        return _settings(model["w2v_args"])
    return model


def _heads_of(cfg: Any) -> int | None:
    heads = _settings(cfg).get("encoder_attention_heads")
    return heads if isinstance(heads, int) and heads > 0 else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _fold_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """weight = g v / |v|, the norm taken over all but the kernel's dimension, once instead of at every
    call.
    """
    folded = dict(tensors)
    gain, direction = folded.pop(f"{POS_CONV}weight_g"), folded.pop(f"{POS_CONV}weight_v")
    norm = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
    folded[f"{POS_CONV}weight"] = direction * (gain / norm)
    return folded


def _read_converted(folder: Path, heads: int | None) -> tuple[EncoderConfig, dict[str, Tensor]]:
    try:
        settings = parse_json((folder / CONFIG_FILE).read_bytes())
        config = EncoderConfig(**settings["encoder"])
        tensors = load_file(folder / TENSORS_FILE)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not a converted AV-HuBERT checkpoint: expected {CONFIG_FILE} and {TENSORS_FILE}, "
            f"found {type(error).__name__}: {error}."
        ) from error
    if heads is not None:
        config = EncoderConfig(**{**asdict(config), "heads": heads})
    return config, tensors
