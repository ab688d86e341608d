"""One policy as evaluator and robot run it: stamped observations in, chunks out, bit-identical for identical input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffbot.control.chunk import Chunk
from diffbot.control.engine import accelerate
from diffbot.control.history import ObservationHistory
from diffbot.control.stitch import CommittedPrefix
from diffbot.errors import BundleError
from diffbot.methods.protocol import Memory, Prefix, Remembering

if TYPE_CHECKING:
    from diffbot.methods.bundle import LoadedPolicy

ACTION_KEY = "action"


def step_seed(seed: int, episode_seed: int, step: int) -> int:
    """The 63-bit seed of the noise of one control step."""
    words = np.random.SeedSequence([seed, episode_seed, step]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


class PolicyRunner:
    """Observation history, forward transforms, `act`, inverse transforms.

    The noise of a chunk comes from a generator seeded by (seed, episode seed, step index), the step index being the time
    since the episode's start in control steps: equal observations give bit-identical chunks wherever they are computed.

    policy: what `load_bundle` returns. seed: of the run. backend: a name of `diffbot.control.engine.BACKENDS` or "auto";
    bit-identity holds between runs on the same back end.

    A policy that goes on from its last plan (`Remembering`) is given what it left behind; then a chunk depends on the
    episode's earlier chunks too, and the same observations and inferences in the same order give the same chunks.
    """

    def __init__(self, policy: LoadedPolicy, *, seed: int = 0, backend: str = "auto") -> None:
        if not hasattr(policy.method, "act"):
            raise BundleError(
                f"'{policy.name}' makes data, it does not act. Use it with: diffbot synthesize bundle={policy.path}"
            )
        self.policy = policy
        self.method = policy.method
        self.contract = policy.contract
        self.inputs = policy.contract.select(tuple(policy.method.keys))
        self.seed = seed
        self.backend = backend
        self.period = 1.0 / self.contract.rate
        self.history = ObservationHistory(self.method.observation_horizon, self.period)
        self.device = _device_of(self.method)
        self.engines = accelerate(self.method, backend, self.device)
        self._hash = self.contract.hash()
        self.reset(0)

    @property
    def horizon(self) -> int:
        """Steps H of a chunk."""
        return int(self.method.horizon)

    @property
    def action_horizon(self) -> int:
        """Steps that the method means to be executed of a chunk."""
        return int(self.method.action_horizon)

    def reset(self, episode_seed: int, start: float | None = None) -> None:
        """Begin an episode. start: s, time of its step 0; the first observation's stamp when None."""
        if episode_seed < 0:
            raise ValueError(f"an episode seed is not negative, got {episode_seed}")
        self.episode_seed = episode_seed
        self.history.clear()
        self._start = start
        self._chunks = 0
        self._memory: tuple[Memory, int] | None = None

    def observe(self, observation: Mapping[str, np.ndarray], time: float) -> bool:
        """Take the observation stamped `time` (s). False when it is not newer than the last one, which is then ignored.

        Keys that the method does not read are left out. Raises ContractError for a missing key, wrong shape or dtype, or values
        that are not finite.
        """
        self.inputs.check_observation(observation)
        taken = self.history.push({key: observation[key] for key in self.inputs.observations}, time)
        if taken and self._start is None:
            self._start = time
        return taken

    def infer(self, prefix: CommittedPrefix | None = None) -> Chunk:
        """The chunk for the newest observation. Raises LookupError while there is none."""
        arrays = self.history.sample()
        newest = self.history.newest
        assert newest is not None and self._start is not None
        generator = torch.Generator(device=self.device)
        step = max(0, round((newest - self._start) * self.contract.rate))
        generator.manual_seed(step_seed(self.seed, self.episode_seed, step))
        # A prefix is met by guidance, which differentiates through the network: no_grad tensors can take part in that.
        with torch.inference_mode() if prefix is None else torch.no_grad():
            batch = {k: torch.from_numpy(v).unsqueeze(0).to(self.device) for k, v in arrays.items()}
            observation, committed = self._transformed(batch, prefix)
            actions = self._act(observation, step, generator, committed)
            actions = self.policy.transforms.inverse({ACTION_KEY: actions}, context=batch)[ACTION_KEY][0]
        chunk = Chunk(
            actions=actions.to("cpu", torch.float32).numpy(),
            start=newest,
            step=self.period,
            id=self._chunks,
            contract_hash=self._hash,
            observation_time=newest,
        )
        self._chunks += 1
        return chunk

    def warm_up(self, rounds: int = 3) -> None:
        """Run on made-up observations of the contract's shapes, so that the first real inference is not a slow one.

        Afterwards shapes that were not met run uncompiled. Leaves no other trace: history, episode and chunk count are as before.
        """
        saved = self.history, self._start, self._chunks, self._memory
        self.history, self._start = ObservationHistory(self.history.horizon, self.period), 0.0
        blank = {k: np.zeros(f.shape, f.dtype) for k, f in self.inputs.observations.items()}
        self.history.push(blank, 0.0)
        try:
            for _ in range(rounds):
                self.infer()
        finally:
            self.history, self._start, self._chunks, self._memory = saved
        for engine in self.engines:
            engine.sealed = True

    def _act(
        self,
        observation: dict[str, torch.Tensor],
        step: int,
        generator: torch.Generator,
        prefix: Prefix | None,
    ) -> torch.Tensor:
        """Actions [1, H, A] in the method's space; what the method wants to remember is kept for its next chunk."""
        if not isinstance(self.method, Remembering):
            return self.method.act(observation, generator=generator, prefix=prefix)
        memory, then = self._memory if self._memory is not None else (None, step)
        actions, remembered = self.method.act_on(
            observation, memory, step - then, generator=generator, prefix=prefix
        )
        self._memory = (remembered, step) if remembered else None
        return actions

    def _transformed(
        self, batch: dict[str, torch.Tensor], prefix: CommittedPrefix | None
    ) -> tuple[dict[str, torch.Tensor], Prefix | None]:
        """Raw observations [1, To, ...] and prefix in the method's space."""
        if prefix is None:
            return self.policy.transforms.forward(batch), None
        committed = torch.from_numpy(prefix.actions).unsqueeze(0).to(self.device)
        values = self.policy.transforms.forward({**batch, ACTION_KEY: committed})
        weights = torch.from_numpy(prefix.weights).to(self.device)
        return values, Prefix(values.pop(ACTION_KEY), weights)


def _device_of(method: object) -> torch.device:
    parameters = getattr(method, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
