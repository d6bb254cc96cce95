"""The training loop: plain PyTorch, resumable at every checkpoint, alone or beside peers (distributed.py).

The random state of a step (noise, noise levels, dropout) is seeded by the run's seed, the step's number and the
rank, and the loader counts samples, so a resumed run has the batches, the noise and the losses of an uninterrupted one.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch.nn.parallel import DistributedDataParallel

from syncdiff_data.loader import Batch, Loader
from syncdiff_data.records import UserError
from syncdiff_model.checkpoint import BEST, load_state, replace_folder, step_name, write_checkpoint
from syncdiff_model.distributed import Peers
from syncdiff_model.event_log import EventLog, open_event_log
from syncdiff_model.presets import TrainConfig
from syncdiff_model.sync_data import SyncBatches
from syncdiff_model.tasks.base import Task, to_device

STATE = "training_state.pt"
REPORT_EVERY_S = 10.0


class Trainer:
    """A task with its optimisers, the EMA of its parameters and the number of steps done."""

    def __init__(
        self,
        task: Task,
        loader: Loader | SyncBatches,
        config: TrainConfig,
        run: Path,
        device: str = "cpu",
        peers: Peers | None = None,
    ):
        self.task, self.loader, self.config, self.folder, self.device = task, loader, config, run, device
        self.peers = peers or Peers()
        task.to(device)
        self.module = self.peers.wrap(task)
        self.params = [param for param in task.trained.parameters() if param.requires_grad]
        self.optimizers = {
            phase: torch.optim.AdamW(
                [{"params": group, "rate": rate} for group, rate in task.parameter_groups(phase)],
                config.learning_rate,
                betas=(0.9, 0.99),
                weight_decay=config.weight_decay,
            )
            for phase in task.phases
        }
        self.ema = EMAModel(self.params, decay=config.ema_decay, use_ema_warmup=True)
        self.step, self.started = 0, time.monotonic()
        self.best: float = -math.inf
        """Best validation value so far."""

    def resume(self, checkpoint: Path) -> None:
        """Load a checkpoint's weights, optimiser, EMA and position in the data. UserError when it is damaged."""
        state = load_state(checkpoint / STATE)
        try:
            _check_finite(state)
            self.task.trained.load_state_dict(state["trained"])
            for phase, optimizer in self.optimizers.items():
                _load_optimizer(optimizer, state["optimizers"][phase])
            self.ema.load_state_dict(state["ema"])
            _check_alike(self.ema.shadow_params, self.params)
            self.loader.load_state_dict(state["loader"])
            self.step, self.best = state["step"], float(state.get("best", -math.inf))
            if checkpoint.name != step_name(self.step):
                raise ValueError(f"it is of step {self.step}")
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"{checkpoint / STATE} is not the state of this training ({error}): remove {checkpoint}, and "
                "--resume goes on from the one before."
            ) from error
        self.ema.to(self.device)

    def run(self) -> list[float]:
        """Train to config.steps, or until max_seconds are over, and leave a checkpoint there.

        Returns the losses of these steps. UserError when the loss stops being finite.
        """
        config, losses = self.config, list[float]()
        self.started = time.monotonic()
        progress = Progress(self.step, config.steps, config.max_seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_event_log(self.folder, self.step) if self.peers.is_first else nullcontext() as log:
            self._train(log, losses, progress)
        if self.peers.is_first:
            progress.finish(self.step, losses)
        return losses

    def _train(self, log: EventLog | None, losses: list[float], progress: Progress) -> None:
        """The steps of `run`, which appends their losses."""
        config, batches = self.config, iter(self.loader)
        saved = self.step
        # At least one step, however short the time: a run always leaves a checkpoint.
        over = False
        while self.step < config.steps and not over:
            loss, scalars = self.train_step(*itertools.islice(batches, config.accumulate))
            losses.append(loss)
            if log and self.step % config.log_every == 0:
                for name, value in scalars.items():
                    log.add_scalar(name, float(value), self.step)
            if self.peers.is_first:
                progress.show(self.step, loss)
            if log and config.validate_every and self.step % config.validate_every == 0:
                self._validate(log)
            if self.step % config.checkpoint_every == 0:
                self._save_with(log)
                saved = self.step
            over = config.max_seconds is not None and self._seconds() > config.max_seconds
        if saved != self.step:
            self._save_with(log)

    def _save_with(self, log: EventLog | None) -> None:
        """Save, the log first: a run that goes on from this checkpoint does not log the steps before it again."""
        if log:
            log.flush()
        self.save()

    def train_step(self, *batches: Batch) -> tuple[float, dict[str, Any]]:
        """One step of every optimiser on the mean gradient of `batches`: the loss, summed over the phases, and the
        scalars to log."""
        config = self.config
        torch.manual_seed((config.seed * 1_000_003 + self.step) * self.peers.count + self.peers.rank)
        rate = config.learning_rate * lr_lambda(self.step, config, self._seconds())
        moved = [to_device(batch, self.device) for batch in batches]
        self.task.trained.train()
        total, logged = 0.0, dict[str, Any]()
        for phase, optimizer in self.optimizers.items():
            loss, scalars, norm = self._phase_step(phase, optimizer, rate, moved)
            total += loss
            prefix = f"{phase}/" if len(self.optimizers) > 1 else ""
            logged |= {f"{prefix}{name}": value for name, value in scalars.items()}
            logged |= {f"{prefix}loss": loss, f"{prefix}gradient_norm": norm}
        self.ema.step(self.params)
        self.step += 1
        return total, {"learning_rate": rate, **logged}

    def _phase_step(
        self, phase: str, optimizer: torch.optim.Optimizer, rate: float, batches: Sequence[Batch]
    ) -> tuple[float, dict[str, Any], torch.Tensor]:
        """Mean loss, the last batch's scalars, and the norm of the gradient."""
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.module.zero_grad()
        losses, scalars = [], dict[str, Any]()
        for number, batch in enumerate(batches, start=1):
            with self._averaging(number == len(batches)):
                with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
                    loss, scalars = self.module(batch, phase, self.step)
                (loss / len(batches)).backward()
            losses.append(float(loss.detach()))
        parameters = self.task.phase_parameters(phase)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        mean = sum(losses) / len(losses)
        if not self.peers.all_true(math.isfinite(mean) and bool(torch.isfinite(norm))):
            raise UserError(self._not_finite(mean, float(norm), batches))
        optimizer.step()
        return mean, scalars, norm

    def _averaging(self, now: bool) -> AbstractContextManager[None]:
        """Peers average their gradients once a step, at the last of its batches."""
        if now or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context

    def _seconds(self) -> float:
        """Since the run began, by the first peer's clock; a clock that decides nothing is not shared."""
        return (
            0.0 if self.config.max_seconds is None else self.peers.from_first(time.monotonic() - self.started)
        )

    def save(self) -> None:
        """Write a checkpoint: the parts with EMA weights, to sample from, and all that `resume` needs."""

        def fill(folder: Path) -> None:
            with self._ema_weights():
                self.task.save(folder)
            state = {
                "step": self.step,
                "best": self.best,
                "trained": self.task.trained.state_dict(),
                "optimizers": {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()},
                "ema": self.ema.state_dict(),
                "loader": self.loader.state_dict(),
            }
            with (folder / STATE).open("wb") as file:  # by its path, torch does not say why it cannot write
                torch.save(state, file)

        if self.peers.is_first:
            write_checkpoint(self.folder, self.step, fill, self.config.keep_checkpoints)
        self.peers.wait()

    def _validate(self, log: EventLog) -> None:
        """Log the task's validation scalars and pictures under EMA weights; save the best ones' parts to `best/`."""
        with self._ema_weights():
            scalars = self.task.validate()
            for name, value in scalars.items():
                log.add_scalar(name, value, self.step)
            for name, picture in self.task.pictures().items():
                log.add_image(name, picture, self.step)
            best = scalars.get(self.task.best_of or "")
            if best is not None and best > self.best:
                self.best = best
                replace_folder(self.folder / BEST, self.task.save)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scalars.items())
        print(f"step {self.step}: {shown}", file=sys.stderr, flush=True)

    def _not_finite(self, loss: float, norm: float, batches: Sequence[Batch]) -> str:
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        clips = ", ".join(clip for batch in batches for clip in batch.get("clip_id", ())) or "unknown"
        return (
            f"The {what} of step {self.step} in {self.folder} is {value} (clips {clips}): lower the learning "
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


def _check_finite(state: Any) -> None:
    """ValueError where a tensor of a training state holds nan or inf, which every later step would spread."""
    if torch.is_tensor(state):
        if not bool(torch.isfinite(state).all()):
            raise ValueError("it holds values that are not finite")
    elif isinstance(state, dict | list):
        for part in state.values() if isinstance(state, dict) else state:
            _check_finite(part)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Its moments; its options stay this run's. ValueError where a moment is not of its parameter's shape."""
    own = [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, options in zip(optimizer.param_groups, own):
        group.update(options)
    for parameter, moments in optimizer.state.items():
        _check_alike([moments["exp_avg"], moments["exp_avg_sq"]], [parameter] * 2)


def _check_alike(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    """ValueError where tensors differ in number, type or shape."""
    for one, other in zip(found, expected, strict=True):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise ValueError(
                f"a parameter is {other.dtype} {list(other.shape)} and what belongs to it {one.dtype} {list(one.shape)}"
            )


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
        if not losses:
            self._print(f"nothing to train: step {step} is done, of {self.steps} that are asked for")
            return
        recent = losses[-50:]
        loss = f", mean loss {sum(recent) / len(recent):.4f}"
        whole = step >= self.steps
        self._print(
            f"{'stopped' if whole else 'ended by its clock'} at step {step} of {self.steps} after "
            f"{time.monotonic() - self.started:.0f} s{loss}{'' if whole else '; --resume goes on'}"
        )

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
