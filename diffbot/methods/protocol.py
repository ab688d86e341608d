"""What every method offers: a policy that acts, and a method that learns. Shapes: B batch, To observation steps, H horizon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from diffbot.data.contract import Contract

if TYPE_CHECKING:
    from diffbot.data.batch import Batch
    from diffbot.data.transforms import TransformGroup
    from diffbot.data.window_spec import WindowSpec
    from diffbot.data.windows import Windows
    from diffbot.methods.retargeting import Path

Observation = Mapping[str, Tensor]
Memory = Mapping[str, Tensor]
"""What a policy wants to know again at its next call (its last plan): tensors by name."""


@dataclass(frozen=True)
class Prefix:
    """Actions that are already committed, to which a new chunk is tied (real-time chunking, Black et al. 2025, Sec. 4).

    actions: [B, H, A] in the transformed space, index 0 is the action for the newest observation.
    weights: [H] in [0, 1]; 1 keeps the action as it is, 0 leaves it free.
    """

    actions: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        if self.actions.dim() != 3:
            raise ValueError(f"prefix actions must be [B, H, A], got {tuple(self.actions.shape)}")
        if self.weights.shape != self.actions.shape[1:2]:
            raise ValueError(
                f"prefix weights must be [{self.actions.shape[1]}] for actions {tuple(self.actions.shape)}, "
                f"got {tuple(self.weights.shape)}"
            )


def blend(actions: Tensor, prefix: Prefix | None) -> Tensor:
    """Pull a finished chunk [B, H, A] to the prefix: what policies do that do not denoise."""
    if prefix is None:
        return actions
    return torch.lerp(actions, prefix.actions.to(actions), prefix.weights.to(actions)[None, :, None])


@runtime_checkable
class Policy(Protocol):
    """Observation history -> action chunk. All tensors are in the transformed (normalised) space."""

    observation_horizon: int
    """To: steps of observation, the newest last."""
    horizon: int
    """H: steps of a chunk; index 0 is the action for the newest observation."""
    action_horizon: int
    """Ta <= H: steps that are executed before the next chunk."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys that the policy reads."""
        ...

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """Chunk [B, H, A] for `observation` {key: [B, To, ...]}; all randomness comes from `generator`."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A policy whose chunk also depends on what it did before: warm-started plans, recurrent states.

    The memory is a value that the caller keeps, not a state of the policy: equal arguments give equal chunks, batches and
    processes cannot mix their memories, and an episode begins by passing None.
    """

    def act_on(
        self,
        observation: Observation,
        memory: Memory | None,
        elapsed: int,
        *,
        generator: torch.Generator,
        prefix: Prefix | None = None,
    ) -> tuple[Tensor, Memory]:
        """Chunk [B, H, A] and the memory for the next call.

        memory: of the last call, None at an episode's start. elapsed: control steps between the two observations.
        """
        ...


class Accelerator(Protocol):
    """Where and in what precision a method trains. Lightning Fabric stands behind it in the trainer."""

    device: torch.device
    rank: int
    world_size: int

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which losses are computed (mixed precision)."""
        ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their mean over all processes, in place."""
        ...


class LocalAccelerator:
    """One process on one device in full precision."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Full precision: nothing to do."""
        return nullcontext()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """One process: nothing to do."""


@runtime_checkable
class Inspects(Protocol):
    """A method that looks at all its training data before the first update."""

    def inspect(self, windows: Windows) -> None:
        """Take what training needs to know of the data (raw, not transformed). Raises DataError for unfit data."""
        ...


class Learns(Protocol):
    """What learns from batches. Built as `Class(config, contract, seed=0)`.

    `config` is the frozen dataclass registered with the class; `contract` describes observations and actions as the
    method sees them, that is after the transforms. A method that is only built can act (after `load_policy_state`);
    `begin_training` makes what training needs besides.
    """

    config: Any

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """The training windows: horizons, keys and what else of an episode `update` needs."""
        ...

    @classmethod
    def transforms(cls, config: Any, contract: Contract) -> TransformGroup:
        """The unfitted transform pairs that this method wants for a dataset with this contract."""
        ...

    def to(self, device: torch.device | str) -> Learns:
        """Move all weights."""
        ...

    def begin_training(self, accelerator: Accelerator, seed: int = 0) -> None:
        """Make optimisers, averages and the noise generator."""
        ...

    def update(self, batch: Batch, *, progress: float = 0.0) -> dict[str, Tensor | float]:
        """One gradient step on a transformed batch. `progress` in [0, 1] is the part of the budget already spent.

        Returns metrics; "loss" is always among them.
        """
        ...

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor | float]:
        """The metrics of a held-out batch with the weights that act; changes nothing."""
        ...

    def policy_state(self) -> dict[str, Tensor]:
        """The weights that act (the average, where one is kept), by name."""
        ...

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `policy_state`. Raises ValueError naming missing, unknown or misshapen entries."""
        ...

    def training_state(self) -> dict[str, Any]:
        """Everything that `update` depends on besides the batch: tensors and JSON-able values, nested in dicts and lists."""
        ...

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        ...


@runtime_checkable
class Method(Policy, Learns, Protocol):
    """A policy that learns from batches."""


@runtime_checkable
class Explores(Method, Protocol):
    """A policy that can gather the data that it learns from."""

    def explore(self, observation: Observation, *, generator: torch.Generator) -> Tensor:
        """Chunk [B, H, A] that tries out what the policy does not know yet; arguments as of `act`."""
        ...


@runtime_checkable
class Synthesizer(Learns, Protocol):
    """Makes data instead of acting."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys that it reads and writes."""
        ...

    def synthesize(self, count: int, *, generator: torch.Generator) -> Batch:
        """`count` single transitions in the transformed space; all randomness comes from `generator`."""
        ...


@runtime_checkable
class DemonstrationSynthesizer(Learns, Protocol):
    """Proposes whole demonstrations, which count only once the simulator has played them to success."""

    @property
    def segments(self) -> int:
        """Segments of a demonstration, one for each run of equal gripper commands."""
        ...

    def propose(
        self,
        scene: np.ndarray,
        pattern: tuple[float, ...],
        transforms: TransformGroup,
        generator: torch.Generator,
    ) -> tuple[Path, ...]:
        """A gripper path for each segment, in the segment's frame, drawn for a scene [C]; pattern: gripper commands."""
        ...
