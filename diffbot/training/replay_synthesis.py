"""A synthesizer inside a replay buffer (SynthER, Lu et al. 2023, Sec. 4.2, Alg. 1): learned anew as the replay grows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.replay import ReplayBuffer
from diffbot.data.transforms import TransformGroup
from diffbot.data.transitions import into_range
from diffbot.errors import DataError, unknown
from diffbot.methods.protocol import Accelerator, Inspects, Synthesizer
from diffbot.methods.registry import build_config, method_by_name, methods
from diffbot.training.online_config import SynthesisConfig

BLOCK = 10_000


class ReplaySynthesis:
    """Holds what the newest synthesizer drew, as a replay buffer of its own."""

    def __init__(
        self, config: SynthesisConfig, contract: Contract, accelerator: Accelerator, seed: int
    ) -> None:
        entry = method_by_name(config.method)
        if entry.role != "synthesizer":
            known = [name for name, other in methods().items() if other.role == "synthesizer"]
            raise unknown("synthesizer", config.method, known, "diffbot list methods")
        self.config, self.contract, self.accelerator, self.seed = config, contract, accelerator, seed
        self.cls: Any = entry.cls
        self.settings = build_config(config.method, dict(config.options))
        self.rounds = 0  # trainings so far
        self.drawn: ReplayBuffer | None = None

    def renew(self, replay: ReplayBuffer) -> dict[str, float]:
        """Train a synthesizer on all of the replay and let what it draws take the place of what is there.

        Returns "loss" (mean of the last tenth of the training), "outside" (part of the drawn actions that were more than
        5 % of the range beyond it), "reward" and "reward_real" (means), "seconds". Raises DataError for draws that are not
        finite.
        """
        start = time.monotonic()
        synthesizer, transforms, loss = self._train(replay)
        seed = np.random.SeedSequence([self.seed, self.rounds, 2]).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.accelerator.device).manual_seed(int(seed) >> 1)
        drawn = ReplayBuffer(self.contract, replay.keys, self.config.transitions)
        outside = 0.0
        while len(drawn) < self.config.transitions:
            count = min(BLOCK, self.config.transitions - len(drawn))
            rows, beyond = _raw_rows(
                synthesizer.synthesize(count, generator=generator), transforms, self.contract
            )
            drawn.extend(rows)
            outside += beyond * count / self.config.transitions
        self.drawn = drawn
        self.rounds += 1
        return {
            "loss": loss,
            "outside": outside,
            "reward": float(drawn.arrays["reward"].mean()),
            "reward_real": float(replay.arrays["reward"][: len(replay)].mean()),
            "seconds": time.monotonic() - start,
        }

    def _train(self, replay: ReplayBuffer) -> tuple[Synthesizer, TransformGroup, float]:
        """A new synthesizer, normalised and trained on the replay."""
        config, contract = self.config, self.contract.select(replay.keys)
        transforms: TransformGroup = self.cls.transforms(self.settings, contract)
        transforms.fit({name: array[: len(replay)] for name, array in replay.arrays.items()})
        seed = self.seed + 7919 * (self.rounds + 1)
        synthesizer = self.cls(self.settings, transforms.transformed_contract(contract), seed=seed)
        if isinstance(synthesizer, Inspects):
            synthesizer.inspect(replay)  # type: ignore[arg-type]
        synthesizer.begin_training(self.accelerator, seed)
        rng = np.random.default_rng([self.seed, self.rounds, 1])
        losses = []
        for step in range(config.steps):
            batch = replay.sample(config.batch_size, rng).to(self.accelerator.device)
            metrics = synthesizer.update(transforms.forward_batch(batch), progress=step / config.steps)
            if step >= 0.9 * config.steps - 1:
                losses.append(torch.as_tensor(metrics["loss"]).detach())
        return synthesizer, transforms, float(torch.stack(losses).mean())

    def state(self) -> dict[str, Any]:
        """The number of trainings and what the last one drew; the synthesizer itself is not needed again."""
        return {"rounds": self.rounds, "drawn": None if self.drawn is None else self.drawn.state()}

    def load_state(self, state: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        """Inverse of `state`."""
        self.rounds = int(state["rounds"])
        if state["drawn"] is not None:
            self.drawn = ReplayBuffer(self.contract, keys, self.config.transitions)
            self.drawn.load_state(state["drawn"])


def _raw_rows(
    batch: Batch, transforms: TransformGroup, contract: Contract
) -> tuple[dict[str, torch.Tensor], float]:
    """Synthesized transitions as rows of a replay buffer, and the part of the actions outside the contract."""
    assert batch.next_observations is not None and batch.rewards is not None and batch.terminals is not None
    raw = transforms.inverse({**batch.observations, "action": batch.actions})
    following = transforms.inverse(batch.next_observations)
    rows = {key: raw[key][:, 0].cpu() for key in batch.observations}
    rows |= {f"next_{key}": following[key][:, 0].cpu() for key in batch.observations}
    rows["reward"] = batch.rewards[:, 0].cpu()
    action, outside = into_range(raw["action"][:, 0].cpu().numpy(), contract)
    rows["action"] = torch.from_numpy(action)
    for name, values in rows.items():
        if not bool(torch.isfinite(values).all()):
            raise DataError(
                f"the synthesizer drew '{name}' that is not finite. Train it longer (online.synthesis.steps=...) or at a "
                "lower rate (online.synthesis.options={optimizer: {learning_rate: 1e-4}})"
            )
    rows["terminated"] = batch.terminals[:, 0].cpu()
    return rows, outside
