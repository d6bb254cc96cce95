"""Generate faces in one pass, judged by pixels, the sync expert and a discriminator.

Everything but the loss is SyncDiff's: crops, mask, sound, first stage of the audio network, autoencoder and the network
itself, which here gets zeros for noisy latents and one noise level. So a comparison of the two compares training
objectives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from syncdiff_data.loader import Batch
from syncdiff_data.records import UserError
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_model.autoencoder import to_unit
from syncdiff_model.checkpoint import PARTS, save_parts
from syncdiff_model.gan import Discriminator, Gate, real_error
from syncdiff_model.losses import SyncLoss
from syncdiff_model.mask import mask_span
from syncdiff_model.presets import Settings
from syncdiff_model.rollout import ONE_PASS
from syncdiff_model.syncdiff import SyncDiff
from syncdiff_model.tasks.audio import mouth_loss
from syncdiff_model.tasks.base import Loss, ParameterGroup, to_device
from syncdiff_model.tasks.syncdiff import SyncDiffTask, masked_frames

GAN, REGRESSION = "GAN", "Regression"
"""Class names of checkpoints, with and without discriminator or expert."""


class GanTask(SyncDiffTask):
    """Wav2Lip's recipe on SyncDiff's networks."""

    sampling = ONE_PASS

    def __init__(self, settings: Settings, model: SyncDiff, held_out: Sequence[Batch] = ()):
        """held_out: batches that only validation sees, and that open the expert's gate."""
        if settings.conditioning.pose != "none" or settings.diffusion.prediction != "sample":
            raise UserError(
                "A GAN predicts clean latents in one pass and sees no pose: use conditioning.pose none and "
                "diffusion.prediction sample."
            )
        super().__init__(settings, model, held_out)
        self.gan, self.held_out = settings.gan, held_out
        self.phases = ("generator", "discriminator") if self.gan.adversarial else ("generator",)
        self.trained["gate"] = self.gate = Gate()
        if self.gan.adversarial:
            self.trained["discriminator"] = Discriminator(self.gan.widths)
        if self.gan.sync:
            expert = SyncExpert.from_pretrained(self.losses.sync_expert)
            self.frozen["sync_expert"] = expert.network.requires_grad_(False)
            self.sync = SyncLoss(expert)

    @staticmethod
    def sync_weight(settings: Settings) -> float:
        return settings.gan.sync

    def phase_parameters(self, phase: str) -> list[torch.nn.Parameter]:
        names = ("discriminator",) if phase == "discriminator" else ("conditioner", "denoiser")
        return [p for name in names for p in self.trained[name].parameters() if p.requires_grad]

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        if phase == "discriminator":
            return [(self.phase_parameters(phase), self.gan.discriminator_rate)]
        return super().parameter_groups(phase)

    def forward(self, batch: Batch, phase: str = "generator", step: int = 0) -> Loss:
        if phase == "discriminator":
            return self._discriminate(batch)
        made, vector, audio_known = self._generate(batch)
        real = to_unit(batch["frames"].flatten(0, 1))
        made_inside, real_inside = self._inside(made), self._inside(real)
        sync, adversarial = self._share_of_sync(), self.gan.adversarial
        error = F.l1_loss(made_inside, real_inside)
        total, scalars = (1 - sync - adversarial) * error, {"l1": error.detach()}
        if self.gan.mouth:
            mouth = mouth_loss(self.model.conditioner, vector, batch["landmarks"], audio_known)
            total, scalars["mouth"] = total + self.gan.mouth * mouth, mouth.detach()
        if sync:
            entropy = self._sync_error(batch, made, audio_known)
            total, scalars["sync"] = total + sync * entropy, entropy.detach()
        if adversarial:
            fooled = real_error(self.trained["discriminator"](made_inside), real=True)
            total, scalars["adversarial"] = total + adversarial * fooled, fooled.detach()
        return total, scalars

    def _generate(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Crops [N, 3, S, S] in [-1, 1], audio vectors [N, C], and bool [N]: whose audio was not dropped."""
        model, frames = self.model, batch["frames"]
        length = frames.shape[1]
        # crops [B, T, 3, S, S] -> latents [N, c, s, s] -> clean latents [N, c, r, s] -> crops [N, 3, S, S]
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
            masked = model.masked_latents(masked_frames(batch).flatten(0, 1))
            identity = model.frame_latents(batch["identity"]).repeat_interleave(length, dim=0)
        context, audio_known = self._context(batch, masked, identity)
        seen = model.seen(masked)
        last = torch.full((len(seen),), len(model.levels.alpha) - 1, device=seen.device)
        clean = model.predict(torch.zeros_like(seen), last, seen, model.seen(identity), context)
        return model.images(model.whole(clean, masked)), context.vector, audio_known

    def _discriminate(self, batch: Batch) -> Loss:
        with torch.no_grad():
            made, _, _ = self._generate(batch)
        discriminator = self.trained["discriminator"]
        real = to_unit(batch["frames"].flatten(0, 1))
        error = real_error(discriminator(self._inside(real)), real=True)
        error = (error + real_error(discriminator(self._inside(made)), real=False)) / 2
        return error, {"error": error.detach()}

    def _inside(self, images: torch.Tensor) -> torch.Tensor:
        rows, columns = mask_span(self.model.conditioner.mask, images.shape[-1])
        return images[..., rows, columns]

    def _share_of_sync(self) -> float:
        return self.gan.sync if self.sync and bool(self.gate.open) else 0.0

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """SyncDiff's scalars, and validation/sync_of_chance: the expert's loss as a share of a guess's, which opens the
        gate."""
        scalars = super().validate()
        if not self.sync or not self.held_out:
            return scalars
        self.trained.eval()
        shares = []
        with torch.random.fork_rng():  # the same windows without sound every time
            torch.manual_seed(0)
            for batch in self.held_out:
                moved = to_device(batch, self.device)
                made, _, audio_known = self._generate(moved)
                error = self._sync_error(moved, made, audio_known)
                shares.append(float(error) / math.log(batch["energies"].shape[1]))
        self.trained.train()
        scalars["validation/sync_of_chance"] = share = sum(shares) / len(shares)
        if share < self.gan.sync_gate:
            self.gate.unlock()
        return scalars

    def save(self, folder: Path) -> None:
        name = GAN if self.gan.adversarial or self.gan.sync else REGRESSION
        save_parts(folder, name, {part: getattr(self.model, part) for part in PARTS})
