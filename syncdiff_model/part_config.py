"""What the config of a model's part may say, and whether the parts fit each other, before they take memory."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from syncdiff_data.documents import first_error, parse_json
from syncdiff_data.faces import FaceConfig
from syncdiff_data.ranges import WIDTH
from syncdiff_model.autoencoder import AUTOENCODERS, Autoencoder, decode, encode, latent_factor, to_unit
from syncdiff_model.conditioning import CONTEXT, Conditioner, Pose
from syncdiff_model.denoiser import TRAIN_STEPS, Prediction
from syncdiff_model.mask import MaskConfig, latent_mask
from syncdiff_model.syncdiff import SyncDiff

Size = Annotated[int, Field(ge=1, le=4096)]
"""Pixels of a crop or a latent along one side."""
Width = Annotated[int, Field(ge=0, le=WIDTH[1])]
"""Channels of a network."""
Frames = Annotated[int, Field(ge=CONTEXT[0], le=CONTEXT[1])]
FramesOrNone = Annotated[int, Field(ge=0, le=CONTEXT[1])]
TrainSteps = Annotated[int, Field(ge=TRAIN_STEPS[0], le=TRAIN_STEPS[1])]


class _Fields(BaseModel):
    """The values of a config that the shapes of its weights do not check."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _AutoencoderFields(_Fields):
    patch: Size = 8
    scaling_factor: float | None = None
    shift_factor: float | None = None


class _ConditionerFields(_Fields):
    crop_size: Size
    encoder: str
    checkpoint: str
    feature: str
    mask: Annotated[MaskConfig, BeforeValidator(TypeAdapter(MaskConfig).validate_python)]
    faces: Annotated[FaceConfig, BeforeValidator(TypeAdapter(FaceConfig).validate_python)] | None = None
    feature_dim: Width
    tokens_dim: Width = 256
    map_shape: list[Width] = Field([0, 0, 0], min_length=3, max_length=3)
    context: Frames = 13
    reach: FramesOrNone = 0
    pose: Pose = "none"
    pose_offset: Frames = 1
    without_audio: bool = False


class _DenoiserFields(_Fields):
    sample_size: Size
    block_out_channels: list[Width]


class _SchedulerFields(_Fields):
    num_train_timesteps: TrainSteps = 1000
    prediction_type: Prediction = "epsilon"


FIELDS: dict[Any, type[_Fields]] = {
    **dict.fromkeys(AUTOENCODERS.values(), _AutoencoderFields),
    Conditioner: _ConditionerFields,
    UNet2DConditionModel: _DenoiserFields,
    DDIMScheduler: _SchedulerFields,
}


def read_config(path: Path, kind: Any) -> dict[str, Any]:
    """The arguments of a part of that class, as its config has them.

    ValueError names the first value that it may not have, UserError one of the mask or the faces, OSError where there
    is no config."""
    config = parse_json(path.read_bytes())
    try:
        FIELDS[kind].model_validate(config)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {first_error(error)}") from error
    known = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in config.items() if name in known}


@torch.no_grad()
def check_round_trip(autoencoder: Autoencoder) -> None:
    """Encode and decode a crop on the device `meta`. ValueError where it has another shape then."""
    side = 8 * latent_factor(autoencoder)
    images = torch.zeros(1, 3, side, side, device="meta")
    made = decode(autoencoder, encode(autoencoder, images))
    if made.shape != images.shape:
        raise ValueError(f"it makes images of shape {list(made.shape)} of those of {list(images.shape)}")


@torch.no_grad()
def check_fit(model: SyncDiff) -> None:
    """Generate a frame with networks on the device `meta`, which computes shapes alone. ValueError where the result is
    no crop, any error of torch where the parts do not fit each other."""
    config = model.conditioner.config
    size, width = config.crop_size, len(model.conditioner.feature_mean)
    with torch.device("meta"):
        frames = torch.zeros(1, 3, size, size, dtype=torch.uint8)
        refined = model.conditioner.refine(
            torch.zeros(1, config.context, width), torch.ones(1, config.context).bool()
        )
        masked = model.masked_latents(frames)
        context = model.conditioner(refined, None if config.pose == "none" else masked)
        seen = model.seen(masked)
        output = model.predict(seen, torch.zeros(1, dtype=torch.int64), seen, seen, context)
        images = model.images(model.whole(output, masked))
    if images.shape != to_unit(frames).shape:
        raise ValueError(
            f"its parts make crops of shape {list(images.shape)} of those of {list(frames.shape)}"
        )
    alphas, levels = model.scheduler.alphas_cumprod, model.scheduler.config.num_train_timesteps
    if alphas.shape != (levels,) or not bool(((alphas >= 0) & (alphas <= 1)).all()):
        raise ValueError(f"its scheduler has no {levels} noise levels between 0 and 1")
    if not latent_mask(model.conditioner.mask, model.latent_size).any():
        raise ValueError("its mask covers no latent")
