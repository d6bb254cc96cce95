"""Denoise latents of face crops.

Shapes: B clips, T frames each, N = B * T; S crop size; c latent channels, s latent size, r rows that the denoiser sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_data.loader import Batch, BatchParts
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_model.autoencoder import Autoencoder, latent_factor, measure_scale, to_unit
from syncdiff_model.checkpoint import PARTS, load_parts, save_parts
from syncdiff_model.conditioning import Conditioner, Context, features_inside
from syncdiff_model.denoiser import build_denoiser, build_scheduler
from syncdiff_model.losses import SYNC_REACH, SyncLoss, detail_error, level_weight
from syncdiff_model.mask import mask_span
from syncdiff_model.presets import Settings
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.syncdiff import SyncDiff
from syncdiff_model.tasks.audio import Origin, copy_audio, fresh_conditioner, mouth_loss
from syncdiff_model.tasks.base import Loss, ParameterGroup, Task
from syncdiff_model.validation import Validation

TOP_RATE = 0.1
"""Learning rate of AV-HuBERT's blocks relative to the rest."""


class SyncDiffTask(Task):
    """Denoise latents of a trained autoencoder, which stays as it is."""

    sampling = SamplingConfig()
    """How validation generates."""

    def __init__(self, settings: Settings, model: SyncDiff, held_out: Sequence[Batch] = ()):
        """held_out: batches that only validation sees."""
        super().__init__(
            {"conditioner": model.conditioner, "denoiser": model.denoiser}, {"autoencoder": model.autoencoder}
        )
        self.losses, self.corruption = settings.loss, settings.corruption
        self.model = model
        self.validation = Validation(model, held_out, self.sampling)
        self.best_of = self.validation.best_of
        self.sync = None
        if self.losses.sync:
            expert = SyncExpert.from_pretrained(self.losses.sync_expert)
            self.frozen["sync_expert"] = expert.network
            self.sync = SyncLoss(expert)

    @classmethod
    def batch_parts(cls, settings: Settings) -> BatchParts:
        """What of a batch the loss and the validation use."""
        pose, shift = settings.conditioning.pose != "none", settings.corruption.masked_shift > 0
        return BatchParts(
            images=("frames", "identity", *(["pose"] if pose else []), *(["masked"] if shift else [])),
            energies=SYNC_REACH if cls.sync_weight(settings) else 0,
        )

    @staticmethod
    def sync_weight(settings: Settings) -> float:
        """Weight of the sync expert's loss."""
        return settings.loss.sync

    @classmethod
    def fresh(
        cls,
        settings: Settings,
        autoencoder: Autoencoder,
        origin: Origin,
        batches: Iterable[Batch],
        held_out: Sequence[Batch] = (),
        avhubert: AVHubertEncoder | None = None,
        reader: Conditioner | None = None,
    ) -> SyncDiffTask:
        """An untrained model. Crop size, feature width, and the mean and spread of latents, features and mouths are
        taken from a few batches.

        avhubert: whose upper blocks are trained on, where the settings say so; reader: a conditioner whose audio
        network has learnt to read lips (tasks/audio.py), which is copied. UserError when the crops do not fit.
        """
        sample = list(batches)
        crop_size = sample[0]["frames"].shape[-1]
        factor = latent_factor(autoencoder)
        measure_scale(autoencoder.eval(), [to_unit(batch["frames"].flatten(0, 1)) for batch in sample])
        channels, size = autoencoder.config.latent_channels, crop_size // factor
        conditioner = fresh_conditioner(settings, autoencoder, origin, sample, avhubert)
        if reader:
            copy_audio(reader, conditioner)
        config = conditioner.config
        more = config.map_shape[0] + (channels if config.pose == "full" else 0)
        denoiser = build_denoiser(settings.denoiser, channels, size, config.tokens_dim, more)
        model = SyncDiff(autoencoder, conditioner, denoiser, build_scheduler(settings.diffusion))
        return cls(settings, model, held_out)

    @classmethod
    def saved(cls, settings: Settings, checkpoint: Path, held_out: Sequence[Batch] = ()) -> SyncDiffTask:
        """The model of a checkpoint; its networks' last weights follow with the training state."""
        return cls(settings, SyncDiff(**load_parts(checkpoint, PARTS)), held_out)

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        top = self.model.conditioner.top
        slow = {id(parameter) for parameter in top.parameters()} if top else set()
        every = self.phase_parameters(phase)
        groups = [
            ([p for p in every if id(p) not in slow], 1.0),
            ([p for p in every if id(p) in slow], TOP_RATE),
        ]
        return [group for group in groups if group[0]]

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        model, losses = self.model, self.losses
        frames = batch["frames"]
        count, length = frames.shape[:2]
        # crops [B, T, 3, S, S] -> latents [N, c, s, s]; one identity frame serves the T of its clip
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
            whole = model.frame_latents(frames.flatten(0, 1))
            masked = model.masked_latents(masked_frames(batch).flatten(0, 1))
            identity = model.frame_latents(batch["identity"]).repeat_interleave(length, dim=0)
        clean, masked_seen, identity_seen = (model.seen(latents) for latents in (whole, masked, identity))
        steps = self._noise_levels(count, length, frames.device)
        noise = torch.randn_like(clean)
        noisy = model.add_noise(clean, noise, steps)
        context, audio_known = self._context(batch, masked, identity)
        # prediction [N, c, r, s] and its error, by place and noise level
        output = model.predict(noisy, steps, masked_seen, identity_seen, context)
        alpha, sigma = model.alpha_sigma(steps)
        place = torch.where(model.inside, 1.0, losses.outside)
        weight = level_weight(losses.weighting, model.scheduler.config.prediction_type, alpha, sigma)
        error = (output - model.target(clean, noise, steps)) ** 2
        mse = (error * weight * (place / place.mean())).mean()
        total, scalars = mse, {"mse": mse.detach()}
        if losses.mouth:
            mouth = mouth_loss(model.conditioner, context.vector, batch["landmarks"], audio_known)
            total, scalars["mouth"] = total + losses.mouth * mouth, mouth.detach()
        if losses.pixel or losses.detail or self.sync:
            windows = max(1, round(losses.image_share * count))
            rows = slice(0, windows * length)
            estimate = model.clean_of(output[rows], noisy[rows], steps[rows])
            images = model.images(model.whole(estimate, masked[rows]))
            judged = steps[rows] < losses.image_noise * len(model.levels.alpha)
            shown = {name: value[:windows] for name, value in batch.items()}
            for name, value in self._image_losses(shown, images, judged, audio_known[rows]).items():
                total, scalars[name] = total + getattr(losses, name) * value, value.detach()
        return total, scalars

    def _noise_levels(self, count: int, length: int, device: torch.device) -> torch.Tensor:
        """int64 [N]: uniform, but for a share of windows at the noisiest level; one a window for the sync expert, which
        sees whole windows."""
        last = len(self.model.levels.alpha) - 1
        steps = torch.randint(last + 1, (count, 1 if self.sync else length), device=device)
        noisiest = torch.rand(count, 1, device=device) < self.losses.noisiest
        return torch.where(noisiest, last, steps).expand(count, length).flatten()

    def _context(
        self, batch: Batch, masked: torch.Tensor, identity: torch.Tensor
    ) -> tuple[Context, torch.Tensor]:
        """The context of N frames, and bool [N]: whose audio was not dropped."""
        conditioner, corruption = self.model.conditioner, self.corruption
        features = batch["features"]
        (count, length), device = features.shape[:2], features.device
        windows = conditioner.refine_windows(features, features_inside(batch)).flatten(0, 1)
        audio_known = (torch.rand(count, device=device) >= corruption.audio_dropout).repeat_interleave(length)
        if conditioner.config.pose == "none":
            return conditioner(windows, audio_known=audio_known), audio_known
        known = batch["pose_known"].flatten() & (
            torch.rand(count * length, device=device) >= corruption.pose_dropout
        )
        with torch.no_grad():
            pose = self._pose_latents(batch)
            if conditioner.autoregressive and corruption.pose_source == "noised":
                pose = pose + corruption.pose_noise * torch.randn_like(pose)
            elif conditioner.autoregressive and corruption.pose_source == "generated":
                first = conditioner(windows, pose, known, audio_known)
                pose = self._generated_poses(pose, first, masked, identity, length)
        return conditioner(windows, pose, known, audio_known), audio_known

    def _pose_latents(self, batch: Batch) -> torch.Tensor:
        frames = batch["pose"].flatten(0, 1)
        masked = self.model.conditioner.config.pose == "masked"
        return self.model.masked_latents(frames) if masked else self.model.frame_latents(frames)

    def _generated_poses(
        self, pose: torch.Tensor, context: Context, masked: torch.Tensor, identity: torch.Tensor, length: int
    ) -> torch.Tensor:
        """Poses [N, c, s, s] of frames that the model makes in one step from true poses; where the pose frame lies
        before the window it stays the true one."""
        model, offset = self.model, self.model.conditioner.config.pose_offset
        last = torch.full((len(pose),), len(model.levels.alpha) - 1, device=pose.device)
        noise = torch.randn_like(model.seen(masked))
        output = model.predict(noise, last, model.seen(masked), model.seen(identity), context)
        made = model.whole(model.clean_of(output, noise, last), masked).unflatten(0, (-1, length))
        poses = pose.unflatten(0, (-1, length)).clone()
        poses[:, offset:] = made[:, : length - offset]
        return poses.flatten(0, 1)

    def _image_losses(
        self, batch: Batch, images: torch.Tensor, judged: torch.Tensor, audio_known: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses on decoded crops [N, 3, S, S]; judged: bool [N], False where the noise was too much."""
        real = to_unit(batch["frames"].flatten(0, 1))
        rows, columns = mask_span(self.model.conditioner.mask, real.shape[-1])
        keep = judged[:, None, None, None]
        made_inside, real_inside = (x[..., rows, columns] * keep for x in (images, real))
        values = {}
        if self.losses.pixel:
            values["pixel"] = F.l1_loss(made_inside, real_inside)
        if self.losses.detail:
            values["detail"] = detail_error(made_inside, real_inside)
        if self.sync:
            values["sync"] = self._sync_error(batch, images, judged & audio_known)
        return values

    def _sync_error(self, batch: Batch, images: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """The sync expert's loss on decoded crops [N, 3, S, S], mean over the windows that count.

        counted: bool [N], alike in a window; a window without sound, for one, is not to fit any.
        """
        assert self.sync is not None
        shape = batch["frames"].shape[:2]
        real = to_unit(batch["frames"])
        entropy = self.sync(images.float().unflatten(0, shape), real, batch["landmarks"], batch["energies"])
        windows = counted.unflatten(0, shape)[:, 0]
        return (entropy * windows).sum() / windows.sum().clamp(min=1)

    def save(self, folder: Path) -> None:
        save_parts(folder, "SyncDiff", {part: getattr(self.model, part) for part in PARTS})

    def validate(self) -> dict[str, float]:
        return self.validation.scalars(self)

    def pictures(self) -> dict[str, torch.Tensor]:
        return self.validation.pictures()


def masked_frames(batch: Batch) -> torch.Tensor:
    """The frames [B, T, 3, S, S] of which all but the mask is shown: moved in time where the loader did so."""
    frames: torch.Tensor = batch["masked" if "masked" in batch else "frames"]
    return frames
