"""Windows per second beside the usual torch Dataset of single windows with a DataLoader and default collate."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from diffbot.data.batch import Batch
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.loader import Loader
from diffbot.data.store import EpisodeStore
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.evaluation.bench import BenchResult

SUMMARY = "batches of windows: gathered from RAM, against a Dataset of single windows with a DataLoader"


@dataclass(frozen=True)
class Config:
    """Sizes of the two cases and of the measurement."""

    state_episodes: int = 400
    image_episodes: int = 20
    steps: int = 150  # of each episode
    repeats: int = 9  # interleaved rounds of every contender
    seconds: float = 0.4  # of each contender in each round
    windows_for_memory: int = 1_000_000
    threads: int = 1  # of torch, for every contender; 0: one for each processor
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One kind of data and how it is batched."""

    name: str
    contract: Contract
    spec: WindowSpec
    batch_size: int
    episodes: int


class ItemDataset(Dataset):
    """The usual way: arrays in RAM, one window sliced and padded for each item, a dictionary of tensors."""

    def __init__(self, store: EpisodeStore, spec: WindowSpec) -> None:
        self.arrays, self.spec = store.load([*store.contract.observations, "action"]), spec
        self.keys = list(store.contract.observations)
        pairs = zip(store.episode_starts, store.episode_ends, strict=True)
        self.index = [(t, int(start), int(end)) for start, end in pairs for t in range(start, end)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        t, start, end = self.index[i]
        first = t - self.spec.observation_horizon + 1
        observations = {}
        for key in self.keys:
            part = self.arrays[key][max(first, start) : t + 1]
            if first < start:
                part = np.concatenate([np.repeat(part[:1], start - first, 0), part])
            observations[key] = torch.from_numpy(part)
        actions = self.arrays["action"][t : min(t + self.spec.horizon, end)]
        valid = len(actions)
        if valid < self.spec.horizon:
            actions = np.concatenate([actions, np.repeat(actions[-1:], self.spec.horizon - valid, 0)])
        mask = torch.arange(self.spec.horizon) < valid
        return {"observations": observations, "actions": torch.from_numpy(actions), "mask": mask}


def run(config: Config) -> BenchResult:
    """Measure both cases and the growth of memory."""
    state = Contract({"state": Field((23,))}, Action((7,)), 20.0)
    camera = Field((84, 84, 3), dtype="uint8", kind="image")
    images = Contract({"left": camera, "right": camera}, Action((7,)), 20.0)
    spec = WindowSpec(observation_horizon=2, horizon=16)
    cases = [
        Case("state", state, spec, 256, config.state_episodes),
        Case("image", images, spec, 64, config.image_episodes),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases:
                store = _fill(Path(folder) / f"{case.name}.zarr", case, config)
                measured = _measure(case, store, config)
                rows += measured
                best = {r["way"]: r for r in measured}
                peer = max(r["windows_per_s"] for r in measured if r["way"].startswith("DataLoader"))
                ours = best["diffbot"]
                figures[f"{case.name}.windows_per_s"] = ours["windows_per_s"]
                figures[f"{case.name}.ratio"] = ours["windows_per_s"] / peer
                figures[f"{case.name}.memcpy_fraction"] = (
                    ours["windows_per_s"] / best["memcpy"]["windows_per_s"]
                )
                figures[f"{case.name}.cached_memcpy_fraction"] = (
                    ours["windows_per_s"] / best["memcpy within the caches"]["windows_per_s"]
                )
                if case.name == "state":
                    figures["rss_growth_mb"] = _memory_growth(store, case, config)
    finally:
        torch.set_num_threads(threads)
    notes = (
        f"{config.threads or os.cpu_count()} torch threads. memcpy: the bytes of a batch copied in one piece from a block of "
        "256 MB to another. memcpy within the caches: each tensor of a batch copied in one piece from a random place of the "
        "dataset to one small buffer. windows/s are medians over interleaved rounds."
    )
    return BenchResult(figures, rows, [config.seed], notes)


def _fill(path: Path, case: Case, config: Config) -> EpisodeStore:
    rng = np.random.default_rng(config.seed)
    store = EpisodeStore.create(path, case.contract, {"made": "benchmark loader"})
    with store.writer() as writer:
        for _ in range(case.episodes):
            arrays: dict[str, np.ndarray] = {"action": rng.normal(size=(config.steps, 7)).astype(np.float32)}
            for key, field in case.contract.observations.items():
                shape = (config.steps, *field.shape)
                if field.kind == "image":
                    arrays[key] = rng.integers(0, 256, shape, dtype=np.uint8)
                else:
                    arrays[key] = rng.normal(size=shape).astype(np.float32)
            writer.append(arrays)
    return store


def _measure(case: Case, store: EpisodeStore, config: Config) -> list[dict[str, Any]]:
    windows, dataset = Windows(store, case.spec), ItemDataset(store, case.spec)
    assert len(windows) == len(dataset)
    sampler, memory = windows.sampler(case.batch_size, config.seed), windows.empty(case.batch_size)
    ours = Loader(windows, windows.sampler(case.batch_size, config.seed))
    loaders = {f"DataLoader, {n} workers": _endless(dataset, case.batch_size, n, config.seed) for n in (0, 2)}
    _require_equal(windows, dataset)
    contenders: dict[str, Callable[[], Any]] = {
        "diffbot": lambda: next(ours),
        "diffbot, one batch at a time": lambda: windows.gather(next(sampler), out=memory),
        "memcpy": _memcpy_large(memory),
        "memcpy within the caches": _memcpy_cached(windows, memory, config.seed),
        **{name: partial(next, loader) for name, loader in loaders.items()},
    }
    streamed = None
    if case.contract.image_keys:
        on_disk = Windows(store, case.spec, stream=case.contract.image_keys)
        streamed = Loader(on_disk, on_disk.sampler(case.batch_size, config.seed))
        contenders["diffbot, streamed from disk"] = lambda: next(streamed)
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(config.repeats + 1):
        for name, draw in contenders.items():
            speeds[name].append(case.batch_size / _seconds_each(draw, config.seconds))
    for loader in loaders.values():
        loader.close()
    if streamed is not None:
        streamed.close()
    return [
        {
            "case": case.name,
            "way": name,
            "windows_per_s": float(np.median(values[1:])),
            "slowest": min(values[1:]),
            "fastest": max(values[1:]),
        }
        for name, values in speeds.items()
    ]


def _endless(dataset: ItemDataset, batch_size: int, workers: int, seed: int) -> Generator[Any, None, None]:
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        generator=generator,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )
    while True:
        yield from loader


def _require_equal(windows: Windows, dataset: ItemDataset) -> None:
    """Both ways must give the same numbers."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(windows), 50)
    ours = windows.gather(index)
    for row, i in enumerate(index):
        item = dataset[int(i)]
        assert torch.equal(ours.actions[row], item["actions"]) and torch.equal(ours.mask[row], item["mask"])
        for key, value in item["observations"].items():
            assert torch.equal(ours.observations[key][row], value)


def _memcpy_cached(windows: Windows, memory: Batch, seed: int) -> Callable[[], None]:
    """One plain block copy for each tensor of a batch, from a new random place each time."""
    rng = np.random.default_rng(seed)
    pairs = []
    for key, target in (*memory.observations.items(), ("action", memory.actions)):
        source, count = windows.rows_in_memory(key).view(-1), target.numel()
        places = rng.integers(0, source.numel() - count, 4096).tolist()
        pairs.append((source, torch.empty(count, dtype=target.dtype), count, places))
    state = {"turn": 0}

    def copy() -> None:
        state["turn"] = (state["turn"] + 1) % 4096
        for source, target, count, places in pairs:
            start = places[state["turn"]]
            target.copy_(source[start : start + count])

    return copy


def _memcpy_large(memory: Batch) -> Callable[[], None]:
    """The bytes of a batch from one 256 MB block to another, front to back: the machine's plain bandwidth."""
    count = sum(v.nbytes for v in (*memory.observations.values(), memory.actions))
    source, target = torch.ones(256 << 20, dtype=torch.uint8), torch.ones(256 << 20, dtype=torch.uint8)
    state = {"at": 0}

    def copy() -> None:
        at = state["at"]
        target[at : at + count].copy_(source[at : at + count])
        state["at"] = at + count if at + 2 * count <= len(source) else 0

    return copy


def _seconds_each(draw: Callable[[], Any], seconds: float) -> float:
    """Seconds for one call, over about `seconds` of calls."""
    draw()
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(4):
            draw()
        count += 4
    return spent / count


def _memory_growth(store: EpisodeStore, case: Case, config: Config) -> float:
    """MB by which the process grows while a million windows are drawn."""
    windows = Windows(store, case.spec)
    loader = Loader(windows, windows.sampler(case.batch_size, config.seed))
    batches = config.windows_for_memory // case.batch_size
    for _ in range(200):
        next(loader)
    before = _rss_mb()
    for _ in range(batches):
        next(loader)
    return _rss_mb() - before


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
