"""What is measured on held-out windows while SyncDiff trains: the loss, how the lips follow, what rolling out costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from syncdiff_data.faces import FaceConfig, load_backend
from syncdiff_data.landmarks import opening
from syncdiff_data.loader import Batch
from syncdiff_data.records import FPS
from syncdiff_model.conditioning import features_inside
from syncdiff_model.rollout import Rollout, SamplingConfig, advance, contexts_of, sample
from syncdiff_model.syncdiff import SyncDiff
from syncdiff_model.tasks.base import NEGATIVE_LOSS, Task, grid, negative_loss, to_device

SHOWN = 10
"""Frames in a picture."""


class Validation:
    """Fixed windows, fixed noise. Nothing is measured without windows."""

    def __init__(self, model: SyncDiff, batches: Sequence[Batch], sampling: SamplingConfig):
        self.model, self.batches, self.sampling = model, batches, sampling
        self.best_of = NEGATIVE_LOSS if batches else None
        self.backend = load_backend(FaceConfig(), {}) if batches else None

    @torch.no_grad()
    def scalars(self, task: Task) -> dict[str, float]:
        """validation/: negative_loss; opening, the correlation over time of the generated mouth's opening with the true
        one, mean over windows, and opening_spread, the ratio of their standard deviations; where a frame depends on the
        one before, rollout_gap: the mouth's error (mean squared, latents) rolled out less that with true poses."""
        if not self.batches:
            return {}
        task.trained.eval()
        scalars = negative_loss(task, self.batches)
        correlations, spreads, gaps = list[float](), list[float](), list[float]()
        for batch in self.batches:
            made = self._rolled_out(batch)
            openings = [
                (self._openings(crops, landmarks), opening(landmarks.numpy()))
                for crops, landmarks in zip(made, batch["landmarks"])
            ]
            for found, real in openings:
                if found is not None and found.std() > 0 and real.std() > 0:
                    correlations.append(float(np.corrcoef(found, real)[0, 1]))
                    spreads.append(float(found.std() / real.std()))
            if self.model.conditioner.autoregressive:
                gaps.append(self._gap(batch, made))
        for name, values in (("opening", correlations), ("opening_spread", spreads), ("rollout_gap", gaps)):
            if values:
                scalars[f"validation/{name}"] = float(np.mean(values))
        task.trained.train()
        return scalars

    def _rolled_out(self, batch: Batch) -> list[np.ndarray]:
        """Generated windows, uint8 [T, S, S, 3] each; the first frame has no pose, as at the beginning of a clip."""
        model = self.model
        moved = to_device(batch, model.device)
        refined = refined_windows(model, moved)
        identity = model.seen(model.frame_latents(moved["identity"]))
        length = refined.shape[1]
        # features [T + K - 1, D'] from half a window before the first frame on, so time 0 lies there
        lead = model.conditioner.config.context // 2
        rollouts = [
            Rollout(identity[row : row + 1], torch.cat([windows[0], windows[1:, -1]]))
            for row, windows in enumerate(refined)
        ]
        times = (np.arange(length) + lead) / FPS
        crops = batch["frames"].permute(0, 1, 3, 4, 2).numpy()
        return advance(model, rollouts, list(crops), [times] * len(crops), self.sampling)

    def _gap(self, batch: Batch, made: Sequence[np.ndarray]) -> float:
        model = self.model
        moved = to_device(batch, model.device)
        frames = moved["frames"].flatten(0, 1)
        masked, whole = model.masked_latents(frames), model.frame_latents(frames)
        identity = model.frame_latents(moved["identity"]).repeat_interleave(moved["frames"].shape[1], dim=0)
        pose = model.frame_latents(moved["pose"].flatten(0, 1))
        windows = refined_windows(model, moved).flatten(0, 1)
        contexts = contexts_of(model, windows, pose, moved["pose_known"].flatten(), self.sampling)
        forced = sample(model, model.seen(masked), model.seen(identity), contexts, self.sampling)
        rolled = torch.from_numpy(np.concatenate(made)).permute(0, 3, 1, 2).to(model.device)
        inside = model.inside.float()

        def error(latents: torch.Tensor) -> float:
            squared = (latents - model.seen(whole)) ** 2 * inside
            return float(squared.mean() / inside.mean())

        return error(model.seen(model.frame_latents(rolled))) - error(forced)

    def _openings(self, crops: np.ndarray, landmarks: torch.Tensor) -> np.ndarray | None:
        """Opening of generated crops, float64 [T]; None where no face is found in them."""
        assert self.backend is not None
        found = self.backend.detect([crops[0]])[0]
        if not len(found):
            return None
        boxes = np.repeat(found[:1, :4], len(crops), axis=0)
        return opening(self.backend.landmarks(list(crops), boxes))

    @torch.no_grad()
    def pictures(self) -> dict[str, torch.Tensor]:
        """A clip's frames above the ones that were generated one after another."""
        if not self.batches:
            return {}
        training = self.model.denoiser.training
        self.model.denoiser.eval(), self.model.conditioner.eval()
        first = {name: value[:1] for name, value in self.batches[0].items()}
        made = torch.from_numpy(self._rolled_out(first)[0]).permute(0, 3, 1, 2)
        self.model.denoiser.train(training), self.model.conditioner.train(training)
        step = max(1, len(made) // SHOWN)
        return {"rolled_out": grid([first["frames"][0][::step][:SHOWN], made[::step][:SHOWN]])}


def refined_windows(model: SyncDiff, batch: Batch) -> torch.Tensor:
    """A batch's feature windows as the conditioner takes them: [B, T, K, D']."""
    return model.conditioner.refine_windows(batch["features"], features_inside(batch))
