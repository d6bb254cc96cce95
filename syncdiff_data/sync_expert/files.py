"""Where experts lie: in the package, or in a folder that a training run wrote. Nothing here loads torch."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from syncdiff_data.records import UserError
from syncdiff_data.weights import file_sha256

CONFIG, WEIGHTS_FILE = "config.json", "model.safetensors"
PRETRAINED = ("evaluation", "training")
"""The instances in the package: what `training` shaped, as a loss or a filter, `evaluation` judges."""


def find_expert(folder: str | PathLike[str]) -> Path:
    """The folder of an expert: a name in PRETRAINED, or a folder with CONFIG and WEIGHTS_FILE. UserError otherwise."""
    inside = Path(__file__).parent / "pretrained" / str(folder)
    path = inside if str(folder) in PRETRAINED else Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS_FILE) if not (path / name).is_file()]
    if missing:
        raise UserError(
            f"{path} holds no sync expert ({' and '.join(missing)} missing): expected RUN/best of "
            f"`train.py --model sync`, or one of the names {', '.join(PRETRAINED)}."
        )
    return path


def expert_sha256(folder: str | PathLike[str]) -> str:
    """SHA-256 of an expert's weights, which names it in results. UserError where there is none."""
    return file_sha256(find_expert(folder) / WEIGHTS_FILE)
