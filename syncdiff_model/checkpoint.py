"""Models on disk: one folder per part as diffusers lays it out, put in place whole, refused when damaged.

DIR/model_index.json              class of each part, SHA-256 of each of their files
DIR/autoencoder/config.json, diffusion_pytorch_model.safetensors
DIR/conditioner/..., DIR/denoiser/..., DIR/scheduler/scheduler_config.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError

from syncdiff_data.documents import parse_json
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import sweep_leftovers, write_atomically
from syncdiff_data.stage.faults import chain
from syncdiff_data.tables import is_file
from syncdiff_data.weights.shapes import check_finite, shapes_within, stored_shapes
from syncdiff_model.autoencoder import AUTOENCODERS, Autoencoder
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.part_config import check_fit, check_round_trip, read_config
from syncdiff_model.syncdiff import SyncDiff

INDEX = "model_index.json"
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
CHECKPOINT_NAME = re.compile(r"step-[0-9]{8}")
TEMPORARY = ".tmp"
"""Ending of what is being written or removed."""
PREVIOUS = ".previous.tmp"
"""Ending of a folder whose place another takes."""
BEST = "best"
"""Folder of the parts that validated best."""
OWN_TEMPORARY = re.compile(rf"({BEST}|step-\d{{8}})(\.\d+|\.previous)\.tmp|step-\d{{8}}\.tmp")
"""Folders that a killed process left; others of that ending are the user's."""
LOADED_FROM = "_name_or_path"
"""Where diffusers notes the folder that a part was loaded from."""
CLASSES: dict[str, Any] = {
    **AUTOENCODERS,
    "Conditioner": Conditioner,
    "UNet2DConditionModel": UNet2DConditionModel,
    "DDIMScheduler": DDIMScheduler,
}
AUTOENCODER = "autoencoder"
PARTS = (AUTOENCODER, "conditioner", "denoiser", "scheduler")


def save_parts(folder: Path, name: str, parts: Mapping[str, Any]) -> None:
    """Write parts (diffusers models or schedulers, by name) and their index into an existing folder."""
    for part, module in parts.items():
        _save_part(module, folder / part)
    files = sorted(path for part in parts for path in (folder / part).rglob("*") if path.is_file())
    index = {
        "_class_name": name,
        "_diffusers_version": diffusers.__version__,
        **{
            part: [type(module).__module__.split(".")[0], type(module).__name__]
            for part, module in parts.items()
        },
        "sha256": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _save_part(module: Any, folder: Path) -> None:
    """The same files wherever it was loaded from. OSError where they cannot be written: safetensors raises an error of
    its own, with the number in its text."""
    try:
        module.save_pretrained(folder)
        config = folder / module.config_name
        described = json.loads(config.read_text())
        if described.pop(LOADED_FROM, None) is not None:
            config.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error


def load_syncdiff(path: Path, device: str = "cpu") -> SyncDiff:
    """The model in a checkpoint's folder, or the newest checkpoint of a training run, ready to sample.

    Raises UserError when there is none, when a part is missing, or when a file is not the one that was saved.
    """
    parts = load_parts(find_checkpoint(path), PARTS)
    for part in ("autoencoder", "conditioner", "denoiser"):
        parts[part].to(device).eval().requires_grad_(False)
    return SyncDiff(**parts)


def load_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder of a checkpoint's folder, of the newest checkpoint of a run, or a folder that diffusers wrote (a
    pretrained AutoencoderKL or AutoencoderTiny). Errors as load_syncdiff."""
    if (path / CONFIG).is_file() and not (path / INDEX).is_file():
        return _load_plain_autoencoder(path)
    return load_parts(find_checkpoint(path), (AUTOENCODER,))[AUTOENCODER]


def _load_plain_autoencoder(folder: Path) -> Autoencoder:
    """One that diffusers saved alone. UserError names the classes that can be used."""
    try:
        name = parse_json((folder / CONFIG).read_bytes())["_class_name"]
        kind = AUTOENCODERS[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no autoencoder that can be read ({error!r}): expected a folder of diffusers with "
            f"config.json of one of {', '.join(AUTOENCODERS)} and its weights."
        ) from error
    part = _part_on_meta(folder, kind)
    with _damaged(folder):
        check_round_trip(part)
    return _load_part(folder, kind)


def load_parts(folder: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Load parts by name, after checking their files against the index, and what they describe before it is built.

    UserError where a file, a config or a weight is not as it must be, or where the parts of a whole model do not fit
    each other.
    """
    index = read_index(folder)
    classes = {part: _class_of(index, part) for part in parts}
    if missing := [part for part in parts if classes[part] not in CLASSES]:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}: expected a checkpoint with {', '.join(parts)}."
        )
    for name, expected in index["sha256"].items():
        if name.split("/")[0] in parts:
            _check_file(folder / name, expected)
    kinds = {part: CLASSES[str(classes[part])] for part in parts}
    for part, kind in kinds.items():
        if f"{part}/{kind.config_name}" not in index["sha256"]:
            raise UserError(
                f"{folder} is not whole: its {INDEX} does not name the files of {part}. Copy it again."
            )
    on_meta = {part: _part_on_meta(folder / part, kind) for part, kind in kinds.items()}
    with _damaged(folder):
        if AUTOENCODER in on_meta:
            check_round_trip(on_meta[AUTOENCODER])
        if tuple(parts) == PARTS:
            check_fit(SyncDiff(**on_meta))
    return {part: _load_part(folder / part, kind) for part, kind in kinds.items()}


def _class_of(index: Mapping[str, Any], part: str) -> str | None:
    """[library, class] is what diffusers writes for a part."""
    match index.get(part):
        case [_, str(name)]:
            return name
    return None


def _part_on_meta(folder: Path, kind: Any) -> Any:
    """The part without its weights: a network on the device `meta`, no larger than what its files hold."""
    with _damaged(folder):
        config = read_config(folder / kind.config_name, kind)
        if not issubclass(kind, torch.nn.Module):
            return kind(**config)
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ValueError("there are no *.safetensors beside its config")
        with shapes_within(stored_shapes(files)):
            return kind(**config)


def _load_part(folder: Path, kind: Any) -> Any:
    with _damaged(folder):
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(folder, local_files_only=True)
        # Without low_cpu_mem_usage, diffusers advises at every load to install a package that small models do not need.
        part, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            low_cpu_mem_usage=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
            raise ValueError(f"its weights are not those of its config: {wrong[0]} is in one of them alone")
        check_finite(part)
        return part


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """UserError in place of whatever the body raises: diffusers and the classes have a dozen kinds of exceptions for a
    folder that does not fit."""
    try:
        yield
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{folder} is damaged, or made by another version ({said}): copy the model again."
        ) from error


def read_index(folder: Path) -> dict[str, Any]:
    """A checkpoint's model_index.json. UserError when there is none or it cannot be read."""
    try:
        index = parse_json((folder / INDEX).read_bytes())
        if not isinstance(index, dict) or not isinstance(index.get("sha256"), dict):
            raise ValueError("it names no files")
        if strange := [name for name in index["sha256"] if ".." in name.split("/") or name.startswith("/")]:
            raise ValueError(f"{strange[0]} lies outside of the folder")
        return index
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is not a model: {INDEX} cannot be read ({error}). Give a training run or one of its checkpoints."
        ) from error


def fingerprint(path: Path) -> str:
    """16 hex digits that name a model's weights and settings: the same model gives the same ones everywhere."""
    return short_hash(read_index(find_checkpoint(path))["sha256"])


def find_checkpoint(path: Path) -> Path:
    """`path` itself when it is a checkpoint, else the newest one of the run in `path`. UserError when neither."""
    if (path / INDEX).is_file():
        return path
    found = list_checkpoints(path)
    if not found:
        raise UserError(
            f"{path} holds no model: expected {INDEX}, or {CHECKPOINTS}/ with at least one step-*; train one with "
            "pipelines/train.py or correct the path."
        )
    return found[-1]


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder under a temporary name and put it in the place of `folder`. UserError when the disk is
    full, the folder before it untouched."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY}")
    previous = folder.with_name(f"{folder.name}{PREVIOUS}")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        if folder.exists():
            folder.rename(previous)  # a run that ends here is put right by `tidy`
        temporary.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except Exception as error:
        disk = next(
            (cause for cause in chain(error) if isinstance(cause, OSError)), None
        )  # torch raises others
        if disk is None:
            raise
        raise UserError(
            f"{folder} could not be written: {disk.strerror or disk}. Earlier checkpoints are untouched; make room "
            "and go on with --resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def tidy(run: Path) -> None:
    """Put a run's folder right after a killed process. Only for a moment when nobody writes there.

    What it had half written or half removed goes; a folder that it was about to replace is there again.
    """
    for folder in (run, run / CHECKPOINTS):
        for previous in folder.glob(f"*{PREVIOUS}"):
            place = previous.with_name(previous.name.removesuffix(PREVIOUS))
            if OWN_TEMPORARY.fullmatch(previous.name) and not place.exists():
                previous.rename(place)
        for left in folder.glob(f"*{TEMPORARY}"):
            if OWN_TEMPORARY.fullmatch(left.name) and not left.is_symlink() and left.is_dir():
                shutil.rmtree(left)
        sweep_leftovers(folder)


def list_checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first; those half written have other names, and what else lies there is not ours."""
    return sorted(
        path
        for path in (run / CHECKPOINTS).glob("step-*")
        if CHECKPOINT_NAME.fullmatch(path.name) and path.is_dir()
    )


def step_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:08d}"


def steps_done(run: Path) -> int:
    """The step of a run's newest checkpoint; 0 without one."""
    return max((int(path.name.removeprefix("step-")) for path in list_checkpoints(run)), default=0)


def write_checkpoint(run: Path, step: int, fill: Callable[[Path], None], keep: int) -> Path:
    """Let `fill` write a folder and put it in place as `run`'s checkpoint of that step; keep the newest `keep`.

    Written under a temporary name, synced, renamed: a checkpoint is there whole or not at all.
    """
    final = run / CHECKPOINTS / step_name(step)
    replace_folder(final, fill)
    prune(run, keep)
    return final


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints; one that is being removed is none any more."""
    for old in list_checkpoints(run)[:-keep]:
        going = old.with_name(f"{old.name}{TEMPORARY}")
        old.rename(going)
        if going.is_symlink():  # what it leads to is not ours
            going.unlink()
        else:
            shutil.rmtree(going)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all. UserError when the disk is full."""

    def fill(file: IO[bytes]) -> None:
        file.write(text.encode())

    write_atomically(path, fill)


def load_state(path: Path) -> dict[str, Any]:
    """A training state that write_checkpoint's caller saved with torch.save. UserError when it is damaged."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (
        Exception
    ) as error:  # torch.load raises RuntimeError, UnpicklingError, EOFError, OSError, KeyError, ...
        raise UserError(
            f"{path} cannot be read ({error}). Remove this checkpoint's folder to resume from the one before."
        ) from error


def _check_file(path: Path, expected: str) -> None:
    if not is_file(path):
        raise UserError(f"{path} is missing from the checkpoint: copy it again or use another checkpoint.")
    if _sha256(path) != expected:
        raise UserError(
            f"{path} is damaged: its SHA-256 is not the one in {INDEX}. Copy it again or use another checkpoint."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
