"""Settings of a training run, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass

from diffbot.errors import ConfigError

DEFAULT_STEPS = 12000
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")


@dataclass(frozen=True)
class TrainingConfig:
    """How long, on what, and what is written when."""

    steps: int | None = None  # gradient steps; 12000 when neither steps nor minutes is given
    minutes: float | None = None  # or: train this long
    batch_size: int = 256  # windows per step, over all processes together
    validation: float = 0.05  # part of the episodes that is held out; 0: none
    validate_every: int = 500  # steps between validation losses
    validation_batches: int = 4  # batches per validation
    log_every: int = 50  # steps between lines of metrics
    checkpoint_every: int = 1000  # steps between checkpoints
    keep: int = 3  # newest checkpoints that are kept
    bundles: int = 0  # newest checkpoints whose policies are kept too, as bundles policies/step_*
    rollout_every: int = 0  # steps between rollouts of the policy in its simulated task; 0: none
    rollout_episodes: int = 10  # episodes of such a rollout
    accelerator: str = "auto"  # Lightning Fabric: auto, cpu, cuda, mps
    devices: str = "1"  # processes on this machine: a number or "auto" for all GPUs
    nodes: int = 1  # machines (started by torchrun)
    precision: str = "32-true"  # or bf16-mixed
    threads: int | None = None  # CPU threads of PyTorch; its own choice when not given
    tensorboard: bool = True  # write TensorBoard event files besides metrics.jsonl

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise ConfigError("give training.steps or training.minutes, not both")
        positive = ("steps", "minutes", "batch_size", "validate_every", "validation_batches", "log_every")
        for name in (*positive, "checkpoint_every", "keep", "rollout_episodes", "nodes", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"training.{name} must be positive, got {value}")
        for name in ("bundles", "rollout_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name} must not be negative, got {getattr(self, name)}")
        if not 0.0 <= self.validation < 1.0:
            raise ConfigError(f"training.validation must be in [0, 1), got {self.validation}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"training.precision '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        if self.devices != "auto" and not self.devices.isdigit():
            raise ConfigError(f"training.devices must be a number or auto, got '{self.devices}'")
