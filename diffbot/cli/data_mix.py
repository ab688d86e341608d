"""`diffbot data merge | split`: datasets into one, and one into two."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from diffbot.cli.verb import Verb
from diffbot.data import edit
from diffbot.data.merge import merge
from diffbot.data.store import EpisodeStore


@dataclass(frozen=True)
class MergeConfig:
    """Settings of `diffbot data merge`."""

    paths: list[str] = MISSING  # the datasets, [a.zarr,b.zarr]; their contracts must match
    out: str = MISSING  # where the new dataset goes
    ratios: list[float] = field(default_factory=list)  # episodes of each, in proportion; empty: all
    seed: int = 0  # which episodes, where not all are taken


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `diffbot data split`."""

    path: str = MISSING  # the dataset
    train: str = MISSING  # where the training episodes go
    validation: str = MISSING  # where the validation episodes go
    fraction: float = 0.1  # of the episodes for validation
    seed: int = 0  # which episodes


def run_merge(config: MergeConfig) -> int:
    """Merge."""
    store = merge(
        [EpisodeStore.open(p) for p in config.paths], config.out, config.ratios or None, config.seed
    )
    counts = [int((store.meta("source") == i).sum()) for i in range(len(config.paths))]
    parts = ", ".join(f"{n} of {path}" for n, path in zip(counts, config.paths, strict=True))
    print(f"{config.out}: {len(store)} episodes ({parts})")
    return 0


def run_split(config: SplitConfig) -> int:
    """Split."""
    store = EpisodeStore.open(config.path)
    first, second = edit.split(store, config.train, config.validation, config.fraction, config.seed)
    print(f"{config.train}: {len(first)} episodes\n{config.validation}: {len(second)} episodes")
    return 0


MERGE = Verb(
    "several datasets into one, also in given proportions",
    MergeConfig,
    run_merge,
    ("diffbot data merge paths=[expert.zarr,poor.zarr] ratios=[3,1] out=mixed.zarr",),
)
SPLIT = Verb(
    "whole episodes for training and validation",
    SplitConfig,
    run_split,
    ("diffbot data split path=lift.zarr train=train.zarr validation=val.zarr fraction=0.1",),
)
