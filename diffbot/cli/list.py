"""`diffbot list WHAT`: the names that settings accept, each with a line about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diffbot.cli.verb import Verb


@dataclass(frozen=True)
class ListConfig:
    """Which entries to show."""

    match: str = ""  # only names that contain this text; the whole name of a task shows its contract


def _tasks() -> Iterable[tuple[str, ...]]:
    import sim_envs

    yield ("task", "rate", "horizon", "expert", "success", "about")
    for name in sim_envs.tasks():
        spec = sim_envs.spec(name)
        expert = "yes" if spec.expert else "-"
        yield (name, f"{spec.rate:g} Hz", f"{spec.horizon}", expert, spec.success, spec.description)


def _contract(task: str) -> Table:
    """What a task observes and takes. Raises SimEnvError where its simulator is not installed."""
    import sim_envs
    from diffbot.data.contract import Contract, Field

    env: Any = sim_envs.make(task)
    contract = Contract.from_dict(env.unwrapped.contract())
    env.close()
    qualities = sim_envs.spec(task).qualities if sim_envs.spec(task).expert else ("none",)
    table = Table("key", "shape", "type", "unit", "range", title=f"contract {contract.hash()}")
    table.caption = f"expert: {', '.join(qualities)}"

    def row(key: str, field: Field, note: str = "") -> None:
        bounded = field.low is not None and field.high is not None
        limits = f"{np.min(field.low):g} .. {np.max(field.high):g}" if bounded else ""  # type: ignore[arg-type]
        table.add_row(key, str(tuple(field.shape)), f"{field.dtype}{note}", field.unit, limits)

    for key, field in contract.observations.items():
        row(key, field)
    action = contract.action
    words = (action.meaning, action.space, action.controller)
    row("action", action, f", {', '.join(word for word in words if word)}")
    return table


def _methods() -> Iterable[tuple[str, ...]]:
    from diffbot.methods.registry import methods

    yield ("method", "role", "system", "paper")
    for entry in methods().values():
        yield (entry.name, entry.role, entry.system, entry.paper)


def _solvers() -> Iterable[tuple[str, ...]]:
    from diffbot.diffusion import SOLVERS

    yield ("solver", "order", "stochastic", "evaluations per step", "family")
    for name, info in SOLVERS.items():
        yield (name, str(info.order), str(info.stochastic), str(info.evaluations), info.family)


def _networks() -> Iterable[tuple[str, ...]]:
    from diffbot.networks import NETWORKS

    yield ("network", "about")
    for name, network in NETWORKS.items():
        yield (name, (network.__doc__ or "").strip().splitlines()[0])


def _robots() -> Iterable[tuple[str, ...]]:
    from diffbot.control.robots import robot, robots

    yield ("robot", "joints", "about")
    for name in robots():
        profile = robot(name)
        yield (name, str(len(profile.joints)), profile.description)


def _benchmarks() -> Iterable[tuple[str, ...]]:
    from diffbot.cli.bench import load, names

    yield ("benchmark", "about")
    for name in names():
        yield (name, load(name).SUMMARY)


def _verb(
    what: str, rows: Callable[[], Iterable[tuple[str, ...]]], details: Callable[[str], Table] | None = None
) -> Verb:
    def run(config: ListConfig) -> int:
        head, *body = list(rows())
        table = Table(*head)
        for row in body:
            if config.match in row[0]:
                table.add_row(*row)
        console = Console()
        console.print(table)
        if details and any(config.match == row[0] for row in body):
            console.print(details(config.match))
        return 0

    more = (f"diffbot list {what} match=pusht/state",) if details else ()
    return Verb(f"list {what}", ListConfig, run, (f"diffbot list {what}", *more))


VERBS = {
    "tasks": _verb("tasks", _tasks, _contract),
    "methods": _verb("methods", _methods),
    "solvers": _verb("solvers", _solvers),
    "networks": _verb("networks", _networks),
    "robots": _verb("robots", _robots),
    "benchmarks": _verb("benchmarks", _benchmarks),
}
