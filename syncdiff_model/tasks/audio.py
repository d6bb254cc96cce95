"""Read the lips from the sound alone: the first stage of a generator, for its audio network.

A step of the denoiser costs as much as dozens of steps of this small network, which needs many more frames than the
denoiser sees to learn how lips follow a sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_data.documents import parse_json
from syncdiff_data.landmarks import lip_gap
from syncdiff_data.loader import Batch, BatchParts
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import Autoencoder, latent_factor
from syncdiff_model.checkpoint import find_checkpoint, load_parts, save_parts
from syncdiff_model.conditioning import Conditioner, features_inside, mouth_shape
from syncdiff_model.mask import latent_mask, seen_rows
from syncdiff_model.presets import Settings
from syncdiff_model.tasks.base import Loss, Task, to_device

TRAINED = ("audio", "mouth")
"""Parts of a conditioner that this stage changes."""


@dataclass(frozen=True)
class Origin:
    """What the training data were made with, which dubbing must repeat."""

    encoder: Mapping[str, str]
    """Name and checkpoint of the audio encoder."""
    feature: str
    """Its column."""
    faces: dict[str, Any]
    """The fields of FaceConfig."""
    crop_size: int = 0
    """Side of the crops, in pixels."""
    feature_dim: int = 0
    """Width of the feature."""

    @property
    def of_sound(self) -> dict[str, Any]:
        """What a conditioner's config says of the features."""
        return {**self.encoder, "feature": self.feature, "feature_dim": self.feature_dim}

    @property
    def of_all(self) -> dict[str, Any]:
        """What it says of features and crops."""
        return {**self.of_sound, "faces": self.faces, "crop_size": self.crop_size}


class AudioTask(Task):
    """The audio network of a conditioner and its reading of the lips; all else stays as it is."""

    def __init__(self, conditioner: Conditioner, held_out: Sequence[Batch] = ()):
        """held_out: batches that only validation sees."""
        conditioner.requires_grad_(False)
        for part in TRAINED:
            getattr(conditioner, part).requires_grad_(True)
        super().__init__({"conditioner": conditioner})
        self.conditioner, self.held_out = conditioner, held_out
        self.best_of = "validation/opening" if held_out else None

    @classmethod
    def batch_parts(cls, settings: Settings) -> BatchParts:
        """What of a batch the loss and the validation use."""
        return BatchParts(images=())

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        """Mean squared error of the lips, in units of their variance."""
        conditioner = self.conditioner
        error = mouth_error(conditioner, self._vector(batch), batch["landmarks"].flatten(0, 1)).mean()
        return error, {"mouth": error.detach()}

    def _vector(self, batch: Batch) -> torch.Tensor:
        """Audio vectors [B * T, C] of a batch's frames."""
        windows = self.conditioner.refine_windows(batch["features"], features_inside(batch))
        vector: torch.Tensor = self.conditioner.audio(windows.flatten(0, 1))[1]
        return vector

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """validation/opening: correlation over time of the lip gap read from the sound with the true one, mean over
        windows."""
        conditioner, found = self.conditioner, list[float]()
        self.trained.eval()
        for batch in self.held_out:
            read = conditioner.mouth(self._vector(to_device(batch, self.device))).float()
            shape = (read * conditioner.mouth_std + conditioner.mouth_mean).cpu().numpy()
            points = np.zeros((len(shape), 68, 2))
            points[:, 48:68] = shape.reshape(-1, 20, 2)
            gaps = lip_gap(points).reshape(batch["landmarks"].shape[:2])
            for gap, landmarks in zip(gaps, batch["landmarks"].numpy()):
                real = lip_gap(landmarks)
                if gap.std() > 0 and real.std() > 0:
                    found.append(float(np.corrcoef(gap, real)[0, 1]))
        self.trained.train()
        return {"validation/opening": float(np.mean(found))} if found else {}

    def save(self, folder: Path) -> None:
        save_parts(folder, "Audio", {"conditioner": self.conditioner})


def fresh_conditioner(
    settings: Settings,
    autoencoder: Autoencoder,
    origin: Origin,
    sample: Sequence[Batch],
    avhubert: AVHubertEncoder | None = None,
) -> Conditioner:
    """An untrained one for the crops of `sample`, a few batches, from which mean and spread of features and mouths are
    taken.

    avhubert: whose upper blocks it begins with, where the settings say so. UserError when the crops do not fit.
    """
    config = settings.conditioning
    crop_size = sample[0]["frames"].shape[-1]
    shape = seen_shape(settings, crop_size, latent_factor(autoencoder))
    features = torch.cat([batch["features"].flatten(0, 1) for batch in sample])
    mouths = torch.cat([mouth_shape(batch["landmarks"], crop_size).flatten(0, 1) for batch in sample])
    conditioner = Conditioner(
        crop_size=crop_size,
        latent_channels=autoencoder.config.latent_channels,
        encoder=origin.encoder["encoder"],
        checkpoint=origin.encoder["checkpoint"],
        feature=origin.feature,
        feature_dim=features.shape[-1],
        mask=asdict(settings.mask),
        faces=origin.faces,
        context=config.context,
        tokens_dim=config.tokens_dim,
        audio_layers=config.audio_layers,
        map_shape=(config.map_channels, *shape),
        audio_dropout=config.audio_dropout,
        without_audio=settings.corruption.audio_dropout > 0,
        avhubert=asdict(avhubert.config) if avhubert else None,
        reach=config.reach,
        pose=config.pose,
        pose_dim=config.pose_dim,
        pose_width=config.pose_width,
        pose_offset=config.pose_offset,
    )
    conditioner.measure(features, mouths)
    if avhubert and conditioner.top:
        conditioner.top.copy_from(avhubert)
    return conditioner


def load_conditioner(path: Path) -> Conditioner:
    """Of a run of this stage, its newest checkpoint. UserError when there is none or it is damaged."""
    conditioner: Conditioner = load_parts(find_checkpoint(path), ("conditioner",))["conditioner"]
    return conditioner


def check_origin(conditioner: Conditioner, data: Mapping[str, Any], advice: str) -> None:
    """UserError where a trained conditioner learnt from other data than these, `of_sound` or `of_all` of an Origin."""
    for name, value in data.items():
        if (trained := conditioner.config[name]) != value:
            raise UserError(
                f"What is trained already learnt from data whose {name} is {trained}, not {value}: {advice}."
            )


def copy_audio(reader: Conditioner, conditioner: Conditioner) -> None:
    """Give a conditioner the audio network of another one, its reading of the lips, and the scales that belong to them.

    UserError when their sizes differ.
    """
    own = {
        name: value
        for name, value in reader.state_dict().items()
        if name.split(".")[0] in (*TRAINED, "feature_mean", "feature_std", "mouth_mean", "mouth_std")
    }
    try:
        unexpected = conditioner.load_state_dict(own, strict=False).unexpected_keys
    except RuntimeError as error:
        unexpected = [str(error).splitlines()[-1].strip()]
    if unexpected:
        raise UserError(
            f"The audio network does not fit this model ({unexpected[0]}): train one with the same preset and features."
        )


def mouth_loss(
    conditioner: Conditioner, vector: torch.Tensor, landmarks: torch.Tensor, audio_known: torch.Tensor
) -> torch.Tensor:
    """Mean of `mouth_error` over the frames that have sound. landmarks: [B, T, 68, 2]; audio_known: bool [B * T]."""
    error = mouth_error(conditioner, vector, landmarks.flatten(0, 1))
    return (error * audio_known).sum() / audio_known.sum().clamp(min=1)


def mouth_error(conditioner: Conditioner, vector: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """Squared error [N] of the lips read from audio vectors [N, C], in units of their variance.

    landmarks: [N, 68, 2] in crop pixels.
    """
    shape = mouth_shape(landmarks, conditioner.config.crop_size)
    wanted = (shape - conditioner.mouth_mean) / conditioner.mouth_std
    return ((conditioner.mouth(vector).float() - wanted) ** 2).mean(dim=1)


def features_encoder(features: Path) -> dict[str, str]:
    """Name and checkpoint of the encoder that made a data set of features, from its recipe.

    UserError when it does not say, or when the features are visual: a dub would be conditioned on the old words.
    """
    try:
        made: dict[str, str] = parse_json((features / "dataset.json").read_bytes())["recipe"]["config"]
        encoder = {name: made[name] for name in ("encoder", "checkpoint")}
        modality = made["modality"]
        if not all(isinstance(name, str) for name in encoder.values()):
            raise ValueError(f"{encoder} are no names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{features} does not say which encoder made it ({error!r}): expected a data set of extract_features.py."
        ) from error
    if modality != "audio":
        raise UserError(
            f"{features} was made with modality {modality}: SyncDiff learns from audio features alone."
        )
    return encoder


def seen_shape(settings: Settings, crop_size: int, factor: int) -> tuple[int, int]:
    """Rows that the denoiser sees of the latents, and their columns.

    UserError where a level of a network does not halve evenly, or where the mask hides nothing of the latents.
    """
    unit, size = 2 ** (len(settings.denoiser.widths) - 1), crop_size // factor
    if crop_size % (factor * unit):
        raise UserError(
            f"Crops of {crop_size} pixels do not fit this preset: expected a multiple of {factor * unit}. Preprocess "
            "with another crop size or choose another preset."
        )
    if not latent_mask(settings.mask, size).any():
        raise UserError(
            f"The mask ({settings.mask}) covers no latent of crops of {crop_size} pixels, each of which is {factor} of "
            "them wide: widen it."
        )
    rows = seen_rows(settings.mask, size, unit)
    return rows.stop - rows.start, size
