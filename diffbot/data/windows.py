"""Batches of windows gathered from contiguous memory.

Every episode lies in RAM with its padding around it, so that each window is one contiguous block and a batch is one
`index_select` over an overlapping view: no per-item Python, no collate, no workers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.memory import PaddedArray
from diffbot.data.samplers import PrioritizedSampler, ShuffledSampler, WeightedSampler
from diffbot.data.store import EpisodeStore
from diffbot.data.window_spec import WindowSpec, WindowTable
from diffbot.errors import DataError

log = logging.getLogger(__name__)


class Windows:
    """All windows of a store, or of some of its episodes (`episodes`: their numbers)."""

    def __init__(
        self, store: EpisodeStore, spec: WindowSpec, *, episodes: Sequence[int] | np.ndarray | None = None
    ):
        self.store, self.spec = store, spec
        self.keys = spec.keys if spec.keys is not None else tuple(store.contract.observations)
        chosen = np.arange(len(store)) if episodes is None else np.asarray(episodes, np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(store)):
            raise DataError(f"episodes {chosen.min()}..{chosen.max()} are not within 0..{len(store) - 1}")
        self.episodes = np.unique(chosen)
        if len(self.episodes) != len(chosen):
            raise DataError("the same episode is listed twice")
        self._starts, self._ends = store.episode_starts, store.episode_ends
        self._check_keys()
        terminated = self._terminated() if spec.next_observations or spec.terminals else None
        self.table = WindowTable.build(
            spec, self._starts, self._ends, self.episodes, terminated if spec.next_observations else None
        )
        if not len(self.table.step):
            raise DataError(f"{store.path} gives no window: {len(self.episodes)} episodes, {spec}")
        if self.table.skipped_episodes:
            log.warning(
                "%d of %d episodes are too short for a window",
                self.table.skipped_episodes,
                len(self.episodes),
            )
        self._load(terminated)

    def __len__(self) -> int:
        return len(self.table.step)

    # -- gathering ------------------------------------------------------------------------------------------------

    def gather(
        self,
        indices: np.ndarray | Tensor,
        *,
        generator: np.random.Generator | None = None,
        out: Batch | None = None,
    ) -> Batch:
        """The windows with these numbers, [B] integers in 0..len-1.

        generator: draws the hindsight goals; needed for goal="future" only. out: a batch from `empty` with the same
        B whose memory is written and returned. Raises DataError for a number out of range.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        spec, count = self.spec, len(index)
        if count and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise DataError(
                f"window numbers {int(index.min())}..{int(index.max())} are not within 0..{len(self) - 1}"
            )
        step, episode = self._step[index], self._episode[index]
        old = out.observations if out else {}
        observations = {
            k: self._arrays[k].windows(
                step, episode, -spec.back, spec.observation_steps, spec.stride, old.get(k)
            )
            for k in self.keys
        }
        actions = self._arrays["action"].windows(
            step, episode, 0, spec.horizon, spec.stride, out.actions if out else None
        )
        mask = torch.lt(self._range, self._valid[index, None], **({"out": out.mask} if out else {}))
        more: dict[str, object] = {}
        if spec.rewards:
            more["rewards"] = self._arrays["reward"].windows(step, episode, 0, spec.horizon, spec.stride)
        if spec.terminals:
            more["terminals"] = self._arrays["terminated"].windows(
                step, episode, 0, spec.horizon, spec.stride
            )
        if spec.returns:
            more["returns"] = self._returns[step]
        if spec.next_observations:
            shift, to = (spec.horizon - spec.observation_horizon + 1) * spec.stride, spec.observation_horizon
            more["next_observations"] = {
                k: self._arrays[k].windows(step, episode, shift, to, spec.stride) for k in self.keys
            }
        if spec.goal != "none":
            goal = self._goal_steps(step, episode, generator)
            more["goals"] = {k: self._arrays[k].rows(goal, episode) for k in self.goal_keys}
        if spec.task is not None:
            more["task"] = self._task[episode]
        return Batch(observations, actions, mask, index=index, **more)  # type: ignore[arg-type]

    def empty(self, count: int, pin_memory: bool = False) -> Batch:
        """Memory for `count` windows, to be filled by `gather(..., out=)`."""
        batch = self.gather(torch.zeros(count, dtype=torch.int64), generator=np.random.default_rng(0))
        return batch.pin_memory() if pin_memory else batch

    # -- sampling -------------------------------------------------------------------------------------------------

    def sampler(self, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> ShuffledSampler:
        """Endless batches of window numbers; each epoch is a fresh permutation of all windows."""
        return ShuffledSampler(len(self), batch_size, seed, rank=rank, world=world)

    def weighted_sampler(
        self, batch_size: int, seed: int, episode_weights: np.ndarray, *, rank: int = 0, world: int = 1
    ) -> WeightedSampler:
        """Endless batches drawn with replacement; `episode_weights` [episodes of the store] weigh whole episodes."""
        weights = np.asarray(episode_weights, np.float64)
        if weights.shape != (len(self.store),):
            raise DataError(f"episode_weights has shape {weights.shape}, needs ({len(self.store)},)")
        windows = np.bincount(self.table.episode, minlength=len(self.store))
        each = np.divide(weights, windows, out=np.zeros_like(weights), where=windows > 0)
        return WeightedSampler(each[self.table.episode], batch_size, seed, rank=rank, world=world)

    def prioritized_sampler(self, batch_size: int, seed: int, alpha: float = 0.6) -> PrioritizedSampler:
        """Endless batches drawn by priority^alpha; new windows have the highest priority seen."""
        return PrioritizedSampler(len(self), batch_size, seed, alpha=alpha)

    # -- preparation ----------------------------------------------------------------------------------------------

    def _check_keys(self) -> None:
        spec, store = self.spec, self.store
        self.goal_keys = spec.goal_keys if spec.goal_keys is not None else self.keys
        for key in (*self.keys, *self.goal_keys, "action"):
            store.array(key)
        if not set(self.goal_keys) <= set(self.keys):
            raise DataError(f"goal_keys {self.goal_keys} must be among the observation keys {self.keys}")
        wants = {
            "reward": spec.rewards or spec.returns,
            "terminated": spec.terminals or spec.next_observations,
        }
        for key, wanted in wants.items():
            if wanted:
                store.array(key)

    def _terminated(self) -> np.ndarray:
        terminated = self.store.read("terminated", 0, self.store.steps).reshape(self.store.steps).astype(bool)
        early = np.flatnonzero(terminated)
        inner = early[~np.isin(early, self._ends - 1)]
        if len(inner):
            raise DataError(
                f"{self.store.path}: 'terminated' is True at step {inner[0]}, which does not end an episode"
            )
        return terminated

    def _load(self, terminated: np.ndarray | None) -> None:
        spec = self.spec
        table = self.table
        self._step, self._episode = torch.from_numpy(table.step), torch.from_numpy(table.episode)
        self._valid, self._range = torch.from_numpy(table.valid), torch.arange(spec.horizon)
        ahead = spec.ahead if spec.observe_future else 0
        if spec.next_observations:
            ahead = max(ahead, spec.horizon * spec.stride)
        self._last = torch.from_numpy(self._ends - 1)
        self._arrays: dict[str, PaddedArray] = {}
        for key in self.keys:
            self._arrays[key] = PaddedArray.load(self.store, key, self.episodes, spec.back, ahead)
        self._arrays["action"] = PaddedArray.load(
            self.store, "action", self.episodes, 0, spec.ahead, zero_end=spec.pad_action == "zero"
        )
        if spec.rewards or spec.returns:
            reward = (
                self.store.read("reward", 0, self.store.steps).reshape(self.store.steps).astype(np.float32)
            )
            self._arrays["reward"] = self._padded(reward)
            if spec.returns:
                self._returns = torch.from_numpy(self._returns_to_go(reward))
        if spec.terminals and terminated is not None:
            self._arrays["terminated"] = self._padded(terminated)
        if spec.task is not None:
            self.tasks, numbers = np.unique(self.store.meta(spec.task).astype(str), return_inverse=True)
            self._task = torch.from_numpy(numbers.astype(np.int64).reshape(-1))

    def _padded(self, values: np.ndarray) -> PaddedArray:
        return PaddedArray.build(
            values, self._starts, self._ends, self.episodes, 0, self.spec.ahead, zero_end=True
        )

    def _returns_to_go(self, reward: np.ndarray) -> np.ndarray:
        """R_t = sum over k of discount^k r_{t+k}, to the end of the episode; float32 [steps]."""
        out = np.zeros(len(reward), np.float32)
        for e in self.episodes:
            part = reward[self._starts[e] : self._ends[e]].astype(np.float64)
            out[self._starts[e] : self._ends[e]] = lfilter([1.0], [1.0, -self.spec.discount], part[::-1])[
                ::-1
            ]
        return out

    def _goal_steps(self, step: Tensor, episode: Tensor, generator: np.random.Generator | None) -> Tensor:
        last = self._last[episode]
        if self.spec.goal == "final":
            return last
        if generator is None:
            raise DataError("goal='future' draws goals at random: pass gather(..., generator=)")
        ahead = (last - step).numpy()
        drawn = generator.integers(np.minimum(1, ahead), ahead, endpoint=True)
        return step + torch.from_numpy(drawn)
