"""Features of every clip of a data set, in shards beside its own.

    python pipelines/extract_features.py --clips DATASET --encoder logfbank --out FEATURES
    python pipelines/extract_features.py --clips DATASET --encoder avhubert --layers 9,12 --out FEATURES
    python pipelines/extract_features.py --clips DATASET --encoder sync --out SYNC

Run it again after any interruption: finished shards are kept, the rest is made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from syncdiff_data.cli import RayOptions, WeightFlags, run, shared_path, user_path
from syncdiff_data.extract import VERSION, ExtractConfig, ExtractStage, clips_dataset, totals
from syncdiff_data.features import ENCODERS, encoder_files, encoder_needs_mouth, encoder_weights, load_encoder
from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, check_ranges
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import UserError
from syncdiff_data.registry import choices
from syncdiff_data.shards.dataset import DATASET_FILE, Dataset
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.store import Store
from syncdiff_data.stage import exclusive, probe_nodes, raise_unexpected, ray_session, run_stage
from syncdiff_data.stage.probe import sample
from syncdiff_data.weights import WEIGHTS, file_sha256, find_weights, given_weights


@dataclass(frozen=True)
class Options:
    clips: str
    """Clips data set, a folder or s3:// URI."""
    encoder: Annotated[str, tyro.conf.arg(metavar=choices(ENCODERS))]
    """logfbank: AV-HuBERT's audio input; mel: Wav2Lip's windows; avhubert: hidden states (docs/features.md);
    sync: offset and confidence of each clip (docs/sync.md);
    module:NAME is an encoder of your own."""
    out: str
    """Folder or s3:// URI of the features."""
    layers: str = ""
    """AV-HuBERT: comma-separated layers, 1-based, and `final`; empty means final."""
    modality: Literal["audio", "video", "av"] = "audio"
    """AV-HuBERT: which modalities it gets; av is both."""
    checkpoint: str = "avhubert-base"
    """AV-HuBERT: which weights; `python -m syncdiff_data weights list` names them."""
    sync_expert: str = "training"
    """sync: which expert; a folder that train.py --model sync made, or `training` or `evaluation`, which ship."""
    threads: int = 1
    """CPU threads of a task; another number changes the last bits."""
    weights: WeightFlags = ()
    """Use this file for a weight; repeatable."""
    retry_failed: bool = False
    """Run shards again that hold rejects of kind `failed`."""
    verify: bool = False
    """Read every byte of the shards that are there already, and make damaged ones again; unset reads their footers."""
    group_timeout: float = 3600
    """Seconds that one group of clips (about 4,000 frames) may take before its worker is ended; 0: never."""
    overwrite: bool = False
    """Replace features of another recipe instead of refusing."""
    ray: RayOptions = field(default_factory=RayOptions)


def main(options: Options) -> None:
    clips, out = shared_path("--clips", options.clips), shared_path("--out", options.out)
    check_ranges(options, {"threads": AT_LEAST_1, "group_timeout": AT_LEAST_0})
    if Store(clips).base == Store(out).base:
        raise UserError(
            f"--out is the folder of --clips ({clips}): features lie beside their clips, not over them."
        )
    dataset = clips_dataset(clips)
    if encoder_needs_mouth(options.encoder, options.modality) and not dataset.setting("mouth"):
        raise UserError(
            f"{clips} was made with --no-mouth, and {options.encoder} ({options.modality}) needs mouth crops: make it "
            "again "
            "with them, or extract audio features."
        )
    layers = parse_layers(options.layers)
    expert = (
        user_path("--sync-expert", options.sync_expert) if "/" in options.sync_expert else options.sync_expert
    )
    config = ExtractConfig(
        options.encoder, layers, options.modality, options.checkpoint, expert, options.threads
    )
    given = given_weights(options.weights)
    files = {name: find_weights(name, given) for name in encoder_weights(options.encoder, options.checkpoint)}
    encoder_options = config.options(files, "cpu")
    load_encoder(options.encoder, encoder_options)
    hashed = files | encoder_files(options.encoder, encoder_options)
    hashes = {name: file_sha256(file) for name, file in hashed.items()}
    # The licence of the weights binds what is made with them, so it travels in the recipe.
    licences = {name: WEIGHTS[name].licence for name in files}
    content = {key: value for key, value in asdict(config).items() if key != "sync_expert"}  # its hash is in
    content |= {"clips": dataset.fingerprint, "licences": licences}
    recipe = Recipe.of("features", dataset.name, VERSION, content, hashes)

    weights = tuple((name, str(file)) for name, file in files.items())
    with exclusive(out):
        counts = make_features(options, dataset, recipe, config, weights, out).counts
    rejects = ", ".join(f"{n} {reason}" for reason, n in counts.get("rejects_by_reason", {}).items())
    without = f"; without features: {rejects}" if rejects else ""
    print(f"{out}: {options.encoder} of {counts['clips']} clips, {counts['frames']} frames{without}")
    unexpected = counts.get("rejects_by_reason", {}).get(Reason.UNEXPECTED_ERROR, 0)
    raise_unexpected(unexpected, counts["clips"], "clips", f"{out}/rejects")


def make_features(
    options: Options,
    clips: Dataset,
    recipe: Recipe,
    config: ExtractConfig,
    weights: tuple[tuple[str, str], ...],
    out: str,
) -> Dataset:
    """Start or resume the features, make what is missing on Ray, and mark them complete."""
    store, source = Store(out), shared_path("--clips", options.clips)
    features = start_dataset(store, recipe, clips.plan_hash, clips.num_shards, options.overwrite)
    stage = ExtractStage(
        clips=source,
        out=out,
        fingerprint=features.fingerprint,
        config=config,
        weights=weights,
        device=options.ray.device,
        retry_failed=options.retry_failed,
        verify=options.verify,
        heartbeat_timeout=options.group_timeout,
    )
    with ray_session(options.ray):
        probe_nodes(out, sample([Path(source) / DATASET_FILE]))  # an object store has no such file
        shards = run_stage(stage, range(clips.num_shards), options.ray, clips.count("clips"))
    return finish_dataset(store, features, totals(shards))


def parse_layers(text: str) -> tuple[int | None, ...]:
    """(9, None) of "9,final"."""
    try:
        return tuple(
            None if part == "final" else int(part) for part in text.replace(" ", "").split(",") if part
        )
    except ValueError as error:
        raise UserError(f"--layers {text!r} is not a comma-separated list of numbers and `final`.") from error


def command() -> None:
    """The command line."""
    run(main, Options, __doc__)


if __name__ == "__main__":
    command()
