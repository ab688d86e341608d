"""`diffbot list WHAT`: the names that settings accept, each with a line about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from diffbot.cli.verb import Verb


@dataclass(frozen=True)
class ListConfig:
    """Which entries to show."""

    match: str = ""  # only names that contain this text


def _tasks() -> Iterable[tuple[str, ...]]:
    import sim_envs

    yield ("task", "rate", "horizon", "success", "about")
    for name in sim_envs.tasks():
        spec = sim_envs.spec(name)
        yield (name, f"{spec.rate:g} Hz", f"{spec.horizon}", spec.success, spec.description)


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


def _verb(what: str, rows: Callable[[], Iterable[tuple[str, ...]]]) -> Verb:
    def run(config: ListConfig) -> int:
        head, *body = list(rows())
        table = Table(*head)
        for row in body:
            if config.match in row[0]:
                table.add_row(*row)
        Console().print(table)
        return 0

    return Verb(f"list {what}", ListConfig, run, (f"diffbot list {what}",))


VERBS = {
    "tasks": _verb("tasks", _tasks),
    "methods": _verb("methods", _methods),
    "solvers": _verb("solvers", _solvers),
    "networks": _verb("networks", _networks),
    "robots": _verb("robots", _robots),
    "benchmarks": _verb("benchmarks", _benchmarks),
}
