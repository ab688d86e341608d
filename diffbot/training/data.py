"""From a dataset to batches: the checks before training, the held-out episodes, windows and fitted transforms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DataError


@dataclass(frozen=True)
class TrainingData:
    """What a run reads. contract: of the raw data. method_contract: as the method sees it, after the transforms."""

    store: EpisodeStore
    contract: Contract
    method_contract: Contract
    transforms: TransformGroup
    train: Windows
    validation: Windows | None


def load_data(
    path: Path,
    method_class: Any,
    config: Any,
    *,
    held_out: float,
    seed: int,
    episodes: int | None = None,
    transforms: TransformGroup | None = None,
) -> TrainingData:
    """Open a dataset for a method. Raises DataError, ConfigError or ContractError with the fix where they do not fit.

    held_out: part of the episodes for validation, drawn by `seed`. episodes: use only this many, the first ones (a
    resumed run's dataset may have grown). transforms: fitted ones of a resumed run; fitted here when None.
    """
    store = EpisodeStore.open(path)
    count = len(store) if episodes is None else episodes
    if count < 1 or count > len(store):
        raise DataError(
            f"'{path}' has {len(store)} episodes, the run needs {max(count, 1)}. Record some: diffbot collect"
        )
    contract = store.contract
    spec: WindowSpec = method_class.window(config, contract)
    check_fit(store, spec, count, path)
    train, validation = split(count, held_out, seed)
    if transforms is None:
        transforms = method_class.transforms(config, contract)
        relative = any(t.needs for chain in transforms.transforms.values() for t in chain)
        transforms.fit(
            Windows(store, spec, episodes=train) if relative else store, None if relative else train
        )
    seen = contract.select(tuple(key for key in transforms.transforms if key != "action"))
    transforms.check(seen)
    return TrainingData(
        store,
        contract,
        transforms.transformed_contract(seen),
        transforms,
        Windows(store, spec, episodes=train),
        Windows(store, spec, episodes=validation) if len(validation) else None,
    )


def check_fit(store: EpisodeStore, spec: WindowSpec, episodes: int, path: Path) -> None:
    """Refuse, before anything is trained, a horizon longer than every episode and arrays that are not there."""
    longest = int(store.episode_lengths[:episodes].max())
    if spec.ahead + 1 > longest:
        raise ConfigError(
            f"horizon {spec.horizon} is longer than every episode of '{path}' (the longest has {longest} steps). "
            f"Set method.horizon={max(1, longest // spec.stride)} or less, or record longer episodes."
        )
    needed = {
        "reward": (spec.rewards or spec.returns, "rewards"),
        "terminated": (spec.terminals or spec.next_observations, "terminations"),
    }
    for key, (wanted, what) in needed.items():
        if wanted and key not in store.keys:
            raise DataError(
                f"this method learns from {what}, but '{path}' has no array '{key}'. It has: {', '.join(store.keys)}. "
                f"Record it anew with {what}, or choose a method that imitates (diffbot list methods)."
            )
    for key in (*(spec.keys or ()), "action"):
        if key not in store.keys:
            raise DataError(
                f"'{path}' lacks the array '{key}' that its contract names; it has: {', '.join(store.keys)}. "
                "The dataset is damaged: diffbot data check"
            )


def split(episodes: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted numbers of the training and validation episodes; at least one of each when anything is held out."""
    if held_out == 0.0 or episodes == 1:
        return np.arange(episodes), np.arange(0)
    number = min(max(1, round(held_out * episodes)), episodes - 1)
    order = np.random.default_rng([seed, 7]).permutation(episodes)
    return np.sort(order[number:]), np.sort(order[:number])


def describe_bad(batch: Batch, windows: Windows) -> str:
    """Where a batch came from, and which of its tensors are not finite."""
    index = batch.index
    assert index is not None
    episodes = np.unique(windows.table.episode[index.cpu().numpy()])
    bad = [name for name, t in batch.tensors() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    text = (
        f"windows {index[:6].tolist()}{'...' if len(index) > 6 else ''} of episodes {episodes[:10].tolist()}"
    )
    return text + (f"; its data are not finite in: {', '.join(bad)}" if bad else "; its data are finite")
