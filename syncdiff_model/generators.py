"""Which generators there are, and how to get one: a trained model by its folder, a published one by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from syncdiff_data.documents import parse_json
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import UserError
from syncdiff_data.registry import is_own
from syncdiff_data.weights import file_sha256, find_weights
from syncdiff_model.checkpoint import CONFIG, find_checkpoint, fingerprint, read_index
from syncdiff_model.device import check_device
from syncdiff_model.generator import Generator
from syncdiff_model.pipeline import OnePassPipeline, SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.wav2lip.generator import Wav2LipGenerator

Weights = Mapping[str, Path]
Load = Callable[[Path, SamplingConfig, Weights, str], Generator]
TRAINED: dict[str, Load] = {
    "SyncDiff": SyncDiffPipeline.from_pretrained,
    "GAN": OnePassPipeline.from_pretrained,
    "Regression": OnePassPipeline.from_pretrained,
}
"""By `_class_name` of a checkpoint's model_index.json."""
PUBLISHED = {"wav2lip": "wav2lip", "wav2lip-gan": "wav2lip-gan"}
"""Names on the command line -> names in the registry of weights."""


def load_generator(model: str, sampling: SamplingConfig, weights: Weights, device: str = "cpu") -> Generator:
    """The generator of a checkpoint or training run, or of a name in PUBLISHED.

    sampling: for the models that have it. weights: files the user gave, by name. UserError when there is no such model,
    when it is damaged, and when weights are missing.
    """
    check_device(device)
    if model in PUBLISHED:
        return Wav2LipGenerator.published(PUBLISHED[model], weights, device)
    checkpoint = find_checkpoint(Path(model))
    name = read_index(checkpoint).get("_class_name")
    if name not in TRAINED:
        raise UserError(f"{checkpoint} holds {name}, which does not dub: expected {', '.join(TRAINED)}.")
    return TRAINED[name](checkpoint, sampling, weights, device)


def check_own_code(model: str, named: Sequence[str]) -> None:
    """UserError where a checkpoint asks for code from outside this project that the user did not name.

    Its encoder and its face backend may be `module:NAME`, which loading imports and calls: whoever wrote the checkpoint
    would choose what runs here. named: those that the user trusts.
    """
    if model in PUBLISHED:
        return
    try:
        config = parse_json((find_checkpoint(Path(model)) / "conditioner" / CONFIG).read_bytes())
        asked = [config.get("encoder"), (config.get("faces") or {}).get("backend")]
    except (OSError, ValueError, AttributeError):
        return  # it will not load, and the loader says why
    foreign = sorted({str(name) for name in asked if name and is_own(str(name))} - set(named))
    if foreign:
        raise UserError(
            f"{model} asks for code from outside syncdiff, {', '.join(foreign)}: if you trust it, say "
            f"{' '.join(f'--own-code {name}' for name in foreign)}."
        )


def resolve_model(model: str) -> str:
    """The model itself, of a training run the checkpoint that is the newest now. UserError when there is none."""
    return model if model in PUBLISHED else str(find_checkpoint(Path(model)))


def model_files(model: str, weights: Weights) -> list[Path]:
    """The files of a model that `resolve_model` gave."""
    if model in PUBLISHED:
        return [find_weights(PUBLISHED[model], weights)]
    return sorted(path for path in Path(model).rglob("*") if path.is_file())


def model_fingerprint(model: str, weights: Weights) -> str:
    """16 hex digits that name a model's weights and settings, the same everywhere."""
    if model in PUBLISHED:
        return short_hash([model, file_sha256(model_files(model, weights)[0])])
    return fingerprint(Path(model))
