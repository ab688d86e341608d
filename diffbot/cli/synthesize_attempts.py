"""Attempts at demonstrations: numbered, each reproducible from its number, judged by a trial before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError
from diffbot.evaluation.demonstrate import Attempt, attempt, replays
from diffbot.methods.demonstrations import Demonstration, Sources
from diffbot.methods.retargeting import Path as GripperPath
from diffbot.methods.synthesizers.demo_augmentation import DemoAugmentationConfig, Demonstrator

FIRST_SEED = 1_000_000  # far from the seeds of recordings and of evaluations
PHASE = 500_000  # seeds of one phase: re-targeting, then diffusion
ENOUGH = 0.1  # of them that have to succeed
RETARGETING, DIFFUSION = "re-targeting", "diffusion"
MOST = 40  # attempts for one episode

Proposal = tuple[tuple[GripperPath, ...], str]
Propose = Callable[[dict[str, np.ndarray], np.random.Generator], Proposal]
"""(first observation, generator) -> one path for each segment, and where they come from."""
Tried = tuple[int, Attempt, str]
"""Number, episode, and where its paths come from."""


@dataclass
class Workshop:
    """What every attempt needs. seed: of the whole command."""

    env: Any
    found: Sources
    demonstrations: list[Demonstration]
    source: EpisodeStore
    config: DemoAugmentationConfig
    seed: int

    def attempts(self, propose: Propose, phase: int, start: int) -> Iterator[Tried]:
        """Attempts number `start`, `start` + 1, ... of a phase; each depends on its number and the seed alone."""
        from sim_envs.robosuite.set_points import towards

        for number in count(start):
            rng = np.random.default_rng([self.seed, phase, number])
            label = ""

            def begin(observation: dict[str, np.ndarray], rng: np.random.Generator = rng) -> Demonstrator:
                nonlocal label
                paths, label = propose(observation, rng)
                return Demonstrator(paths, self.found.frames, self.found.scene, self.config, rng)

            tried = attempt(self.env, begin, towards, first_seed(self.seed, phase) + number)
            if tried.success and not replays(self.env, tried):
                tried = replace(tried, success=False)
            yield number, tried, label

    def fill(
        self, store: EpisodeStore, propose: Propose, phase: int, goal: int, trial: Sequence[Tried]
    ) -> None:
        """Append accepted attempts until there are `goal` episodes, going on behind those that are there.

        trial: attempts 0, 1, ... where they were made already. Raises DataError after MOST attempts for each episode.
        """
        kept = tally(store, self.seed, phase)[1]
        rest = [entry for entry in trial if entry[0] >= kept]
        going_on = chain(rest, self.attempts(propose, phase, max(kept, len(trial))))
        while len(store) < goal:
            number, found, mode = next(going_on)
            if number >= MOST * goal:
                raise DataError(
                    f"only {len(store)} of {goal} episodes after {number} attempts; '{store.path.name}' keeps them"
                )
            if found.success:
                meta = {
                    "success": np.bool_(True),
                    "seed": found.seed,
                    "mode": mode,
                    "quality": "synthetic",
                    "return": float(found.arrays["reward"].sum()),
                }
                store.append(found.arrays, meta)


def first_seed(seed: int, phase: int) -> int:
    """The environment seed of attempt 0 of a phase: 0 for re-targeting, 1 for diffusion."""
    return FIRST_SEED + (2 * seed + phase) * PHASE


def tally(store: EpisodeStore, seed: int, phase: int) -> tuple[int, int]:
    """How many episodes of a phase a store holds, and how many attempts were made up to the last of them."""
    seeds = store.meta("seed") if len(store) else np.zeros(0, np.int64)
    mine = seeds[(seeds >= first_seed(seed, phase)) & (seeds < first_seed(seed, phase + 1))]
    return len(mine), int(mine.max()) - first_seed(seed, phase) + 1 if len(mine) else 0


class Record:
    """Acceptance of the trials, kept in the run's folder so that a command that goes on need not repeat them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def trial(self, name: str, attempts: Iterator[Tried], number: int) -> list[Tried]:
        """The first `number` attempts, or none when their acceptance is on record."""
        if name in self.values:
            return []
        tried = list(islice(attempts, number))
        self.values[name] = sum(found.success for _, found, _ in tried) / len(tried)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.values))
        part.replace(self.path)
        return tried

    def problems(self) -> list[str]:
        """What is wrong with the acceptance, in words."""
        return [
            f"{rate:.0%} of the first attempts by {name} reached success (at least {ENOUGH:.0%})"
            for name, rate in self.values.items()
            if rate < ENOUGH
        ]


def refuse(problems: list[str], force: bool) -> None:
    if problems and not force:
        raise DataError(
            f"too few attempts succeed, nothing is written: {'; '.join(problems)}. Give more or other sources, smaller "
            "bends (method.spread=0 method.turn=0), the symmetry of the objects (method.symmetry.NAME=N), longer training "
            "(training.steps=...); or go on all the same, and mark it: force=true"
        )
