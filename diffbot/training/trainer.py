"""The training loop of every method."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.errors import DiffbotError
from diffbot.methods.protocol import Inspects, Method
from diffbot.training.accelerator import FabricAccelerator
from diffbot.training.checkpoint import save_checkpoint
from diffbot.training.config import DEFAULT_STEPS, TrainingConfig
from diffbot.training.data import TrainingData, describe_bad
from diffbot.training.metrics import MetricsLog, RunningMean
from diffbot.training.progress import TrainingProgress
from diffbot.training.signals import StopRequest


class NonFiniteLossError(DiffbotError):
    """The loss became NaN or infinite. The last checkpoint before it is kept."""


@dataclass
class Outcome:
    """How a run ended. stopped: "" when its budget was spent, else the name of the signal."""

    step: int
    seconds: float
    stopped: str
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Draws batches, updates the method, validates, logs and checkpoints until the budget is spent.

    Everything that a later step depends on is in the checkpoint, so a resumed run repeats the uninterrupted one exactly
    (bit for bit on CPU) when the budget is in steps.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        config: TrainingConfig,
        folder: Path,
        accelerator: FabricAccelerator,
        *,
        seed: int,
        title: str = "train",
    ) -> None:
        self.method, self.data, self.config = method, data, config
        self.folder, self.accelerator, self.seed, self.title = folder, accelerator, seed, title
        self.first = accelerator.rank == 0
        world = accelerator.world_size
        if config.batch_size % world:
            raise DiffbotError(
                f"training.batch_size={config.batch_size} does not divide by {world} processes"
            )
        self.sampler = data.train.sampler(
            config.batch_size // world, seed, rank=accelerator.rank, world=world
        )
        self.augmentation = torch.Generator().manual_seed(seed * 1013 + accelerator.rank + 1)
        self.means = RunningMean()
        self.step = 0
        self.seconds = 0.0
        self._pending: list[tuple[int, Tensor, np.ndarray]] = []
        self._stop = StopRequest()
        self.latest: dict[str, float] = {}
        self.latest_validation: dict[str, float] = {}
        self.on_save: Callable[[], None] | None = None  # the first process calls it after each checkpoint
        self.on_rollout: Callable[[], dict[str, float]] | None = None  # likewise, where rollouts are due
        if isinstance(method, Inspects):
            method.inspect(data.train)
        method.begin_training(accelerator, seed)

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """Where this process's checkpoints lie (noise differs between processes, so each has its own)."""
        return self.folder / "checkpoints" / ("" if self.first else f"rank_{self.accelerator.rank}")

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        return {
            "method": self.method.training_state(),
            "sampler": self.sampler.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "means": self.means.state(),
            "latest": self.latest,
            "latest_validation": self.latest_validation,
            "step": self.step,
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.method.load_training_state(state["method"])
        self.sampler.load_state_dict(state["sampler"])
        self.augmentation.set_state(state["augmentation"])
        self.means.load(state["means"])
        self.latest, self.latest_validation = dict(state["latest"]), dict(state["latest_validation"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train until the budget is spent or SIGTERM or SIGINT asks to stop; then the state is saved.

        Raises NonFiniteLossError naming the step and its batch.
        """
        config = self.config
        total = None if config.minutes is not None else (config.steps or DEFAULT_STEPS)
        log = MetricsLog(self.folder, self.step, config.tensorboard) if self.first else None
        clock = time.monotonic() - self.seconds
        saved = self.step
        # On CPU looking at the loss costs nothing; elsewhere it would wait for the device, so it is looked at later.
        check_every = 1 if self.accelerator.device.type == "cpu" else config.log_every
        with self._stop.listening(), TrainingProgress(self.title, self.first) as bar:
            try:
                while True:
                    self.seconds = self.accelerator.broadcast(time.monotonic() - clock)
                    done = self._done(total)
                    if done >= 1.0 or self._asked_to_stop():
                        break
                    self._update(done)
                    due = self.step % config.log_every == 0
                    roll = config.rollout_every > 0 and self.step % config.rollout_every == 0
                    save = roll or self.step % config.checkpoint_every == 0
                    if self.step % check_every == 0 or due or save:
                        self._check_losses()
                    if due:
                        self.latest = self.means.take()
                        if log is not None:
                            log.write(self.step, self.latest)
                        bar.show(self._done(total), f"step {self.step}  loss {self.latest['loss']:.4f}")
                    if self.step % config.validate_every == 0 and self.data.validation is not None:
                        self.latest_validation = self.validate()
                        if log is not None:
                            log.write(self.step, self.latest_validation, "validation")
                    if save:
                        self.save()
                        saved = self.step
                    if roll:
                        clock += self._roll_out(log)
                self._check_losses()
                if self.step != saved:
                    self.save()
            finally:
                if log is not None:
                    log.close()
        return Outcome(self.step, self.seconds, self._stop.name, self.latest)

    def _update(self, done: float) -> None:
        indices = next(self.sampler)
        batch = self.data.train.gather(indices, generator=self.sampler.generator())
        batch = batch.to(self.accelerator.device)
        batch = self.data.transforms.forward_batch(batch, generator=self.augmentation)
        metrics = self.method.update(batch, progress=done)
        self.step += 1
        self.means.add(metrics)
        self._pending.append((self.step, torch.as_tensor(metrics["loss"]).detach(), indices))

    def _done(self, total: int | None) -> float:
        """The part of the budget that is spent."""
        if total is not None:
            return self.step / total
        assert self.config.minutes is not None
        return self.seconds / (60.0 * self.config.minutes)

    def _check_losses(self) -> None:
        """Raise NonFiniteLossError for the first loss since the last check that is not finite."""
        if not self._pending:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss, _ in self._pending])).tolist()
        pending, self._pending = self._pending, []
        for ok, (step, loss, indices) in zip(finite, pending, strict=True):
            if ok:
                continue
            batch = self.data.train.gather(indices, generator=np.random.default_rng(0))
            raise NonFiniteLossError(
                f"the loss became {float(loss)} at step {step}, on the batch of {describe_bad(batch, self.data.train)}. "
                f"{self._advice()}"
            )

    def _advice(self) -> str:
        return (
            f"The last good checkpoint is kept in '{self.checkpoints}'. Lower method.optimizer.learning_rate or set "
            "method.optimizer.gradient_clip, or check the data: diffbot data check"
        )

    def validate(self) -> dict[str, float]:
        """Mean metrics of held-out batches; the same windows and noise each time."""
        assert self.data.validation is not None
        means = RunningMean()
        windows = self.data.validation
        generator = torch.Generator(self.accelerator.device).manual_seed(self.seed + 99)
        rng = np.random.default_rng([self.seed, 11])
        order = rng.permutation(len(windows))[: self.config.validation_batches * self.config.batch_size]
        for start in range(0, len(order), self.config.batch_size):
            chosen = order[start : start + self.config.batch_size]
            batch = windows.gather(chosen, generator=rng).to(self.accelerator.device)
            means.add(self.method.validate(self.data.transforms.forward_batch(batch), generator))
        return means.take()

    def save(self) -> None:
        """Write a checkpoint, then what hangs on it (the bundle). Raises NonFiniteLossError rather than keep bad weights."""
        bad = [n for n, t in self.method.policy_state().items() if not bool(torch.isfinite(t).all())]
        if bad:
            raise NonFiniteLossError(
                f"the weights {', '.join(bad[:3])} are not finite after step {self.step}. {self._advice()}"
            )
        save_checkpoint(self.checkpoints, self.step, self.state(), self.config.keep)
        if self.first and self.on_save is not None:
            self.on_save()
        self.accelerator.barrier()

    def _roll_out(self, log: MetricsLog | None) -> float:
        """Rollouts of the policy that was just saved, logged by the first process. Returns their seconds, no training."""
        start = time.monotonic()
        if log is not None and self.on_rollout is not None:
            log.write(self.step, self.on_rollout(), "rollout")
        self.accelerator.barrier()
        return time.monotonic() - start

    # -- stopping -------------------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> bool:
        """Whether a signal came. Several processes agree on it every `log_every` steps, or they would wait forever."""
        if self.accelerator.world_size == 1:
            return bool(self._stop)
        if self.step % self.config.log_every:
            return False
        stop = self.accelerator.any(bool(self._stop))
        if stop and not self._stop:
            self._stop.name = "SIGTERM"
        return stop
