"""The training loop: plain PyTorch, one process, resumable at every checkpoint.

The random state of a step (noise, noise levels, dropout) is seeded by the run's seed and the step's number, and the
loader counts samples, so a resumed run has the batches, the noise and the losses of an uninterrupted one.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch.utils.tensorboard import SummaryWriter

from syncdiff_data.loader import Batch, Loader
from syncdiff_data.records import UserError
from syncdiff_model.checkpoint import load_state, write_checkpoint
from syncdiff_model.presets import TrainConfig
from syncdiff_model.sync_data import SyncBatches
from syncdiff_model.tasks import Task

STATE = "training_state.pt"
REPORT_EVERY_S = 10.0


class Trainer:
    """A task with its optimiser, the EMA of its parameters and the number of steps done."""

    def __init__(
        self, task: Task, loader: Loader | SyncBatches, config: TrainConfig, run: Path, device: str = "cpu"
    ):
        self.task, self.loader, self.config, self.folder, self.device = task, loader, config, run, device
        task.to(device)
        self.params = [param for param in task.trained.parameters() if param.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.params, config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.ema = EMAModel(self.params, decay=config.ema_decay, use_ema_warmup=True)
        self.step, self.started = 0, time.monotonic()
        self.best: float = -math.inf
        """Best validation value so far."""

    def resume(self, checkpoint: Path) -> None:
        """Load a checkpoint's weights, optimiser, EMA and position in the data. UserError when it is damaged."""
        state = load_state(checkpoint / STATE)
        self.task.trained.load_state_dict(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.device)
        self.loader.load_state_dict(state["loader"])
        self.step, self.best = state["step"], state.get("best", -math.inf)

    def run(self) -> list[float]:
        """Train to config.steps, or until max_seconds are over, and leave a checkpoint there.

        Returns the losses of these steps. UserError when the loss stops being finite.
        """
        config, losses = self.config, list[float]()
        self.started = time.monotonic()
        progress = Progress(self.step, config.steps, config.max_seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step)
        batches = iter(self.loader)
        saved = self.step
        # At least one step, however short the time: a run always leaves a checkpoint.
        over = False
        while self.step < config.steps and not over:
            loss, scalars = self.train_step(next(batches))
            losses.append(loss)
            if self.step % config.log_every == 0:
                for name, value in scalars.items():
                    writer.add_scalar(name, float(value), self.step)
            progress.show(self.step, loss)
            if config.validate_every and self.step % config.validate_every == 0:
                self._validate(writer)
            if self.step % config.checkpoint_every == 0:
                self.save()
                saved = self.step
            over = config.max_seconds is not None and time.monotonic() - self.started > config.max_seconds
        if saved != self.step:
            self.save()
        writer.close()
        progress.finish(self.step, losses)
        return losses

    def train_step(self, batch: Batch) -> tuple[float, dict[str, Any]]:
        """One optimiser step: its loss, and the scalars to log."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        rate = config.learning_rate * lr_lambda(self.step, config, time.monotonic() - self.started)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = {
            name: value.to(self.device) if torch.is_tensor(value) else value for name, value in batch.items()
        }
        self.task.trained.train()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            loss, scalars = self.task.loss(batch)
        if not torch.isfinite(loss):
            raise UserError(self._not_finite("loss", loss.detach(), batch))
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, config.clip_norm)
        if not torch.isfinite(norm):
            raise UserError(self._not_finite("gradient", norm, batch))
        self.optimizer.step()
        self.ema.step(self.params)
        self.step += 1
        value = float(loss.detach())
        return value, {"loss": value, "gradient_norm": norm, "learning_rate": rate, **scalars}

    def save(self) -> Path:
        """Write a checkpoint: the parts with EMA weights, to sample from, and all that `resume` needs."""

        def fill(folder: Path) -> None:
            with self._ema_weights():
                self.task.save(folder)
            state = {
                "step": self.step,
                "best": self.best,
                "trained": self.task.trained.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "loader": self.loader.state_dict(),
            }
            torch.save(state, folder / STATE)

        return write_checkpoint(self.folder, self.step, fill, self.config.keep_checkpoints)

    def _validate(self, writer: SummaryWriter) -> None:
        """Log the task's validation scalars under EMA weights; save the best ones' parts to `best/`."""
        with self._ema_weights():
            scalars = self.task.validate()
            for name, value in scalars.items():
                writer.add_scalar(name, value, self.step)
            best = scalars.get(self.task.best_of or "")
            if best is not None and best > self.best:
                self.best = best
                self.task.save(self.folder / "best")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scalars.items())
        print(f"step {self.step}: {shown}", file=sys.stderr, flush=True)

    def _not_finite(self, what: str, value: torch.Tensor, batch: Batch) -> str:
        clips = ", ".join(batch.get("clip_id", ())) or "unknown"
        return (
            f"The {what} of step {self.step} in {self.folder} is {float(value)} (clips {clips}): lower the learning "
            f"rate ({self.config.learning_rate:g} now), look at these clips, and resume from the last checkpoint."
        )

    @contextmanager
    def _ema_weights(self) -> Iterator[None]:
        """The networks hold the EMA weights inside the `with`."""
        self.ema.store(self.params)
        self.ema.copy_to(self.params)
        try:
            yield
        finally:
            self.ema.restore(self.params)


def lr_lambda(step: int, config: TrainConfig, seconds: float = 0.0) -> float:
    """The learning rate of a step relative to its peak: a linear rise, a plateau, a linear fall at the end.

    seconds: since the run began. Where the clock ends the run, the rate falls over the same share of its time.
    """
    rise = (step + 1) / config.warmup_steps if config.warmup_steps else 1.0
    fall = (config.steps - step) / config.decay_steps if config.decay_steps else 1.0
    by_clock = 1.0
    if config.max_seconds is not None and config.decay_steps:
        by_clock = (1 - seconds / config.max_seconds) * config.steps / config.decay_steps
    return max(0.0, min(1.0, rise, fall, by_clock))


class Progress:
    """A line every ten seconds: steps, loss, steps per second and the time left."""

    def __init__(self, step: int, steps: int, max_seconds: float | None):
        self.first, self.steps, self.max_seconds = step, steps, max_seconds
        self.started = self.shown = time.monotonic()

    def show(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.shown < REPORT_EVERY_S:
            return
        self.shown, elapsed = now, now - self.started
        rate = (step - self.first) / elapsed
        left = (self.steps - step) / rate
        if self.max_seconds is not None:
            left = min(left, self.max_seconds - elapsed)
        self._print(f"step {step} of {self.steps}, loss {loss:.4f}, {rate:.2f} steps/s, {left:.0f} s left")

    def finish(self, step: int, losses: list[float]) -> None:
        recent = losses[-50:]
        loss = f", mean loss {sum(recent) / len(recent):.4f}" if recent else ""
        self._print(
            f"stopped at step {step} of {self.steps} after {time.monotonic() - self.started:.0f} s{loss}"
        )

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
