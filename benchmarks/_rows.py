"""What a row of the table of systems is made of: studies (data and seeds), arms (the system and its baselines), a verdict."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.errors import unknown
from diffbot.evaluation.statistics import mean_interval

ROWS = Path(__file__).parent / "rows"
BUDGETS = ("smoke", "cpu", "gpu")


@dataclass(frozen=True)
class Job:
    """One (study, arm, seed). folder: its own, empty at the start. shared: of the study, where `prepare` put the data."""

    folder: Path
    shared: Path
    seed: int
    budget: str


@dataclass(frozen=True)
class Outcome:
    """What a job found. value: the study's metric, higher is better. train_s: CPU seconds of training.

    parameters: weights that act. figures: further numbers by name ("loss_first", "loss_last", ...).
    """

    value: float
    train_s: float = 0.0
    parameters: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One competitor. settings: JSON-able; a finished job is used again while they stay the same."""

    name: str
    run: Callable[[Job], Outcome]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Arms that get the same data, seeds and budget. prepare: makes the data in `shared`, once, going on where it stopped."""

    name: str
    metric: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    prepare: Callable[[Path], None] = lambda shared: None
    about: str = ""  # data, sizes and evaluation in words, printed with the results

    def arm(self, name: str) -> Arm:
        """Raises ConfigError for an unknown name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise unknown("arm", name, [a.name for a in self.arms])


@dataclass(frozen=True)
class Verdict:
    """Whether the claim held, and why in one sentence with its numbers."""

    holds: bool
    why: str


class Results:
    """The outcomes of a row, by study and arm; seeds in rising order."""

    def __init__(self, outcomes: Mapping[tuple[str, str], Mapping[int, Outcome]]) -> None:
        self.outcomes = outcomes

    def of(self, study: str, arm: str) -> list[Outcome]:
        """One outcome per seed. Raises KeyError for what was not run."""
        return list(self.outcomes[study, arm].values())

    def values(self, study: str, arm: str) -> np.ndarray:
        """float64 [seeds]."""
        return np.array([outcome.value for outcome in self.of(study, arm)], np.float64)

    def mean(self, study: str, arm: str) -> float:
        """Mean over the seeds."""
        return float(self.values(study, arm).mean())

    def interval(self, study: str, arm: str) -> tuple[float, float, float]:
        """Mean and 95 % Student-t interval over the seeds; the bounds are NaN for one seed."""
        values = self.values(study, arm)
        if len(values) < 2:
            return float(values[0]), float("nan"), float("nan")
        return mean_interval(values)  # type: ignore[arg-type]

    def figure(self, study: str, arm: str, name: str) -> float:
        """Mean over the seeds of a further figure, of "train_s" or of "parameters"."""
        found = [
            {**o.figures, "train_s": o.train_s, "parameters": o.parameters}[name] for o in self.of(study, arm)
        ]
        return float(np.mean(found))


@dataclass(frozen=True)
class Row:
    """One system of the table."""

    id: str  # in the map of systems: "P3"
    system: str
    paper: str
    claim: str
    studies: Callable[[str], tuple[Study, ...]]  # of a budget
    judge: Callable[[Results], Verdict]


def row_ids() -> list[str]:
    """Ids of the rows that exist, in the order of their family and number."""
    ids = [path.stem.upper() for path in ROWS.glob("*.py") if not path.stem.startswith("_")]
    return sorted(ids, key=lambda name: ("FPQSOM".find(name[0]), int(name[1:])))


def load_row(name: str) -> Row:
    """Import benchmarks/rows/<id>.py. Raises ConfigError for an unknown id."""
    if name.upper() not in row_ids():
        raise unknown("system", name, row_ids(), "diffbot bench systems --help")
    row: Row = importlib.import_module(f"benchmarks.rows.{name.lower()}").ROW
    assert row.id == name.upper(), f"benchmarks/rows/{name.lower()}.py says its id is {row.id}"
    return row


def fingerprint(row: Row, budget: str, study: Study, arm: Arm, seed: int) -> str:
    """What a finished job is recognised by."""
    given = [row.id, budget, study.name, study.metric, arm.name, arm.settings, seed]
    return sha256(dumps(given, sort_keys=True, default=str).encode()).hexdigest()


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """The JSON form of an outcome."""
    record = asdict(outcome)
    record["figures"] = {name: float(value) for name, value in outcome.figures.items()}
    return record | {"value": float(outcome.value), "train_s": float(outcome.train_s)}
