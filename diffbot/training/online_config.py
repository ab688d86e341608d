"""Settings of training on an agent's own steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffbot.errors import ConfigError


@dataclass(frozen=True)
class SynthesisConfig:
    """A synthesizer inside the replay buffer; "paper" is SynthER, Lu et al. 2023, Sec. 4.2 and its published code."""

    every: int = (
        0  # environment steps between trainings of a new synthesizer on the replay; 0: none; paper: 10000
    )
    steps: int = 10_000  # its gradient steps each time; paper: 100000
    transitions: int = 100_000  # drawn each time in place of those before; paper: 200000
    ratio: float = 0.5  # part of each batch that is synthetic; paper: 0.5
    batch_size: int = 256  # of its training; paper: 256
    method: str = "synther"
    options: dict[str, Any] = field(default_factory=dict)  # settings of that method

    def __post_init__(self) -> None:
        for name in ("steps", "transitions", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"online.synthesis.{name} must be at least 1, got {getattr(self, name)}")
        if self.every < 0:
            raise ConfigError(f"online.synthesis.every must not be negative, got {self.every}")
        if not 0.0 < self.ratio < 1.0:
            raise ConfigError(f"online.synthesis.ratio must be within (0, 1), got {self.ratio}")


@dataclass(frozen=True)
class OnlineConfig:
    """How long an agent explores, and how it learns meanwhile."""

    steps: int = 100_000  # environment steps, the random ones included
    random_steps: int = 1000  # first steps, uniform over the action's range; learning begins behind them
    updates_per_step: int = 1  # updates for each environment step (SAC 1, SynthER 20)
    capacity: int = 1_000_000  # transitions that are kept
    evaluate_every: int = 5000  # environment steps between evaluations of the acting policy; 0: none
    evaluation_episodes: int = 5
    evaluation_seed: int = (
        200_000  # first environment seed of each evaluation; `diffbot evaluate` begins at 100000
    )
    until_return: float | None = None  # end the training when the mean return of an evaluation reaches this
    env: dict[str, Any] = field(default_factory=dict)  # options of the environment, such as {reward: dense}
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "random_steps", "updates_per_step", "capacity", "evaluation_episodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"online.{name} must be at least 1, got {getattr(self, name)}")
        if self.evaluate_every < 0:
            raise ConfigError(f"online.evaluate_every must not be negative, got {self.evaluate_every}")
        if self.until_return is not None and not self.evaluate_every:
            raise ConfigError("online.until_return needs evaluations: online.evaluate_every=1000")
        if self.random_steps > self.capacity:
            raise ConfigError(
                f"online.capacity={self.capacity} is less than online.random_steps={self.random_steps}"
            )
