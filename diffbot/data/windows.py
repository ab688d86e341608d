"""Batches of windows gathered from contiguous memory.

Every episode lies in RAM with its padding around it, so that each window is one contiguous block and a batch is one
`index_select` over an overlapping view: no per-item Python, no collate, no workers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.memory import PaddedArray, WindowView
from diffbot.data.samplers import PrioritizedSampler, ShuffledSampler, WeightedSampler
from diffbot.data.store import EpisodeStore
from diffbot.data.stream import StreamedArray, decoder_pool, fits_in_memory
from diffbot.data.window_spec import WindowSpec, WindowTable
from diffbot.errors import DataError

log = logging.getLogger(__name__)


class Windows:
    """All windows of a store, or of some of its episodes (`episodes`: their numbers).

    stream: observation keys that stay on disk and are decoded as needed; None: the images, if they are more than half
    of the free memory. Everything else is loaded.
    """

    def __init__(
        self,
        store: EpisodeStore,
        spec: WindowSpec,
        *,
        episodes: Sequence[int] | np.ndarray | None = None,
        stream: Sequence[str] | None = None,
    ) -> None:
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
        self._choose_streams(stream)
        terminated = self._terminated() if spec.next_observations or spec.terminals else None
        cut = spec.next_observations and not store.independent
        self.table = WindowTable.build(
            spec, self._starts, self._ends, self.episodes, terminated if cut else None
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
        indices: np.ndarray | Sequence[int] | Tensor,
        *,
        generator: np.random.Generator | None = None,
        out: Batch | None = None,
        goal_draws: np.ndarray | None = None,
    ) -> Batch:
        """The windows with these numbers, [B] integers in 0..len-1.

        generator: draws the hindsight goals; needed for goal="future" only. out: a batch from `empty` with the same
        B whose memory is written and returned (streamed keys and optional members get new memory). goal_draws: [B]
        numbers in [0, 1) in place of the generator. Raises DataError for a number out of range.
        """
        index = _as_index(indices)
        spec = self.spec
        try:
            table = torch.index_select(self._table, 0, index)
        except IndexError as error:
            low, high = int(index.min()), int(index.max())
            raise DataError(f"window numbers {low}..{high} are not within 0..{len(self) - 1}") from error
        old = out.observations if out else {}
        observations = {
            k: view.take(table[:, column], old.get(k)) for k, (view, column) in self._observations.items()
        }
        view, column = self._views["action"]
        actions = view.take(table[:, column], out.actions if out else None)
        mask = torch.lt(self._range, table[:, :1], **({"out": out.mask} if out else {}))
        more: dict[str, Any] = {}
        for name, key in (("rewards", "reward"), ("terminals", "terminated")):
            if getattr(spec, name):
                view, column = self._views[key]
                more[name] = view.take(table[:, column])
        if spec.next_observations:
            more["next_observations"] = {k: v.take(table[:, c]) for k, (v, c) in self._next.items()}
        if self._needs_steps:
            step = torch.index_select(self._step, 0, index)
            episode = torch.index_select(self._episode, 0, index)
            back, length, stride = spec.back, spec.observation_steps, spec.stride
            for key, array in self._streams.items():
                observations[key] = array.windows(step, episode, -back, length, stride)
                if spec.next_observations:
                    shift = spec.horizon * stride - back
                    more["next_observations"][key] = array.windows(
                        step, episode, shift, spec.observation_horizon, stride
                    )
            if spec.returns:
                more["returns"] = torch.index_select(self._returns, 0, step)
            if spec.goal != "none":
                goal = self._goal_steps(step, episode, generator, goal_draws)
                more["goals"] = {k: self._goal(k, goal, episode) for k in self.goal_keys}
            if spec.task is not None:
                more["task"] = self._task[episode]
        return Batch(observations, actions, mask, index=index, **more)

    def empty(self, count: int, pin_memory: bool = False) -> Batch:
        """Memory for `count` windows, to be filled by `gather(..., out=)`."""
        batch = self.gather(torch.zeros(count, dtype=torch.int64), generator=np.random.default_rng(0))
        return batch.pin_memory() if pin_memory else batch

    def rows_in_memory(self, key: str) -> Tensor:
        """The padded rows [rows, ...] that windows of `key` are cut from."""
        if key not in self._arrays:
            raise DataError(f"'{key}' is not in memory; there are: {', '.join(self._arrays)}")
        return self._arrays[key].data

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
        if store.independent and not spec.single:
            raise DataError(
                f"the rows of '{store.path.name}' are transitions without neighbours, as synthesizers write them; this method "
                "needs sequences. Use a method that learns from transitions (diffbot list methods), or recorded episodes"
            )
        if not set(self.goal_keys) <= set(self.keys):
            raise DataError(f"goal_keys {self.goal_keys} must be among the observation keys {self.keys}")
        wants = {
            "reward": spec.rewards or spec.returns,
            "terminated": spec.terminals or spec.next_observations,
        }
        for key, wanted in wants.items():
            if wanted:
                store.array(key)

    def _choose_streams(self, stream: Sequence[str] | None) -> None:
        if stream is None:
            images = [k for k in self.keys if k in self.store.contract.image_keys]
            stream = () if fits_in_memory(self.store, images) else images
        for key in stream:
            if key not in self.keys:
                raise DataError(f"cannot stream '{key}': the observation keys are {', '.join(self.keys)}")
        self.streamed = tuple(stream)
        self._pool = decoder_pool() if self.streamed else None

    def _terminated(self) -> np.ndarray:
        terminated = self.store.read("terminated", 0, self.store.steps).reshape(self.store.steps).astype(bool)
        early = np.flatnonzero(terminated) if not self.store.independent else np.zeros(0, np.int64)
        inner = early[~np.isin(early, self._ends - 1)]
        if len(inner):
            raise DataError(
                f"{self.store.path}: 'terminated' is True at step {inner[0]}, which does not end an episode"
            )
        return terminated

    def _load(self, terminated: np.ndarray | None) -> None:
        spec, table = self.spec, self.table
        ahead = spec.ahead if spec.observe_future else 0
        following = tuple(
            f"next_{key}" for key in self.keys if spec.next_observations and self.store.independent
        )
        if spec.next_observations and not following:
            ahead = max(ahead, spec.horizon * spec.stride)
        self._arrays: dict[str, PaddedArray] = {}
        self._streams = {k: StreamedArray(self.store, k, self._pool) for k in self.streamed if self._pool}
        self._resident = tuple(k for k in self.keys if k not in self._streams)
        for key in self._resident:
            self._arrays[key] = PaddedArray.load(self.store, key, self.episodes, spec.back, ahead)
        for key in following:
            self._arrays[key] = PaddedArray.load(self.store, key, self.episodes, 0, 0)
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
        self._step, self._episode = torch.from_numpy(table.step), torch.from_numpy(table.episode)
        self._last = torch.from_numpy(self._ends - 1)
        self._range = torch.arange(spec.horizon)
        self._needs_steps = spec.returns or spec.goal != "none" or spec.task is not None
        self._needs_steps = self._needs_steps or bool(self._streams)
        self._index_views()

    def _index_views(self) -> None:
        """One row of numbers for each window, so that a batch looks up one cache line of each: valid actions, bases."""
        spec, to = self.spec, self.spec.observation_horizon
        columns: dict[tuple[int, int], int] = {}
        numbers = [self.table.valid]
        for array in self._arrays.values():
            if (array.before, array.after) not in columns:
                columns[array.before, array.after] = len(numbers)
                numbers.append(array.base(self.table.step, self.table.episode))
        self._table = torch.from_numpy(np.stack(numbers, 1))

        def plan(key: str, shift: int, length: int) -> tuple[WindowView, int]:
            array = self._arrays[key]
            return array.window_view(shift, length, spec.stride), columns[array.before, array.after]

        self._views = {k: plan(k, 0, spec.horizon) for k in self._arrays if k not in self.keys}
        self._observations = {k: plan(k, -spec.back, spec.observation_steps) for k in self._resident}
        if spec.next_observations and self.store.independent:
            self._next = {k: plan(f"next_{k}", 0, 1) for k in self._resident}
        elif spec.next_observations:
            self._next = {k: plan(k, spec.horizon * spec.stride - spec.back, to) for k in self._resident}

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

    def _goal(self, key: str, goal: Tensor, episode: Tensor) -> Tensor:
        if key in self._streams:
            return self._streams[key].windows(goal, episode, 0, 1, 1)[:, 0]
        return self._arrays[key].rows(goal, episode)

    def _goal_steps(
        self, step: Tensor, episode: Tensor, generator: np.random.Generator | None, draws: np.ndarray | None
    ) -> Tensor:
        last = self._last[episode]
        if self.spec.goal == "final":
            return last
        if draws is None:
            if generator is None:
                raise DataError("goal='future' draws goals at random: pass gather(..., generator=)")
            draws = generator.random(len(step))
        ahead = (last - step).numpy()
        nearest = np.minimum(1, ahead)  # the last step has only itself
        return step + torch.from_numpy(nearest + (draws * (ahead - nearest + 1)).astype(np.int64))


def _as_index(indices: np.ndarray | Sequence[int] | Tensor) -> Tensor:
    """int64 [B]; arrays of int64 share their memory."""
    if isinstance(indices, np.ndarray) and indices.dtype == np.int64:
        return torch.from_numpy(indices)
    return torch.as_tensor(indices, dtype=torch.int64)
