"""Turns a published .pt file, once, into safetensors and a config.json that load in an instant."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save

from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_data.avhubert.weights import CONFIG_FILE, TENSORS_FILE
from syncdiff_data.weights import WEIGHTS


def convert_checkpoint(src: Path | str, dst_dir: Path | str) -> Path:
    """Writes dst_dir/model.safetensors (float32) and dst_dir/config.json; gives dst_dir.

    config.json holds the encoder's sizes, the source file's sha256 and the licence, which binds the converted
    weights as it binds the published ones. Raises UserError where src is not an AV-HuBERT checkpoint.
    """
    src, dst_dir = Path(src), Path(dst_dir)
    encoder = AVHubertEncoder.from_checkpoint(src)
    with src.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    licence = WEIGHTS["avhubert-base"].licence  # One licence covers all of AV-HuBERT's checkpoints.
    settings = {"encoder": asdict(encoder.config), "source_sha256": digest, "licence": licence}
    dst_dir.mkdir(parents=True, exist_ok=True)
    _write(dst_dir / TENSORS_FILE, save(encoder.state_dict()))
    _write(dst_dir / CONFIG_FILE, (json.dumps(settings, indent=2) + "\n").encode())
    return dst_dir


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
