"""Turns a published .pt file, once, into safetensors and a config.json that load in an instant."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

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
    with _whole_or_not_at_all(dst_dir / TENSORS_FILE) as temporary:
        save_file(encoder.state_dict(), temporary)
    with _whole_or_not_at_all(dst_dir / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
    return dst_dir


@contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".tmp")
    yield temporary
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
