"""Names to tasks: `make`, `spec`, `tasks`, `expert`. Importing this imports no simulator.

Each family is a package `sim_envs/<family>/` whose module `tasks.py` holds `TASKS: tuple[TaskSpec, ...]`; that module
imports nothing heavy. Environments and experts are imported when they are first made.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim_envs.errors import SimEnvError, unknown
from sim_envs.spec import TaskSpec

if TYPE_CHECKING:
    import gymnasium

    from sim_envs.experts.base import Expert

QUALITIES = ("expert", "good", "okay", "poor")
LIST_COMMAND = "diffbot list tasks"

_added: dict[str, TaskSpec] = {}


def register_task(spec: TaskSpec) -> TaskSpec:
    """Add a task of your own. Raises SimEnvError when the id is taken or is not "family/task"."""
    if "/" not in spec.id:
        raise SimEnvError(f"task id '{spec.id}' must have the form family/task")
    if spec.id in _catalogue() or spec.id in _added:
        raise SimEnvError(f"task '{spec.id}' is already registered")
    _added[spec.id] = spec
    return spec


def tasks(group: str = "") -> list[str]:
    """Ids of all tasks, or of those whose group or family is `group`, in alphabetical order."""
    every = {**_catalogue(), **_added}
    return sorted(i for i, s in every.items() if group in ("", s.group, i.split("/")[0]))


def spec(task: str) -> TaskSpec:
    """The TaskSpec of `task`. Raises SimEnvError with the nearest name."""
    every = {**_catalogue(), **_added}
    if task not in every:
        raise unknown("task", task, every, LIST_COMMAND)
    return every[task]


def make(task: str, **options: Any) -> gymnasium.Env:
    """Build the environment of `task`.

    `options` go to the family's constructor (cameras=("agentview",), controller=...). Raises SimEnvError for an unknown
    task or option, and when the simulator's package is missing.
    """
    entry = spec(task)
    build = _load(entry, entry.make)
    valid = option_names(task)
    for name in options:
        if valid is not None and name not in valid:
            raise unknown(f"option of task '{task}'", name, valid)
    return build(task=entry, **{**entry.options, **options})


def expert(task: str, *, seed: int = 0, quality: str = "expert", **options: Any) -> Expert:
    """The scripted expert of `task`; the seed draws its strategy and its noise.

    Raises SimEnvError when the task has none, or for an unknown quality.
    """
    entry = spec(task)
    if not entry.expert:
        having = [name for name in tasks() if spec(name).expert]
        raise SimEnvError(f"task '{task}' has no scripted expert. Tasks that have one: {', '.join(having)}")
    if quality not in entry.qualities:
        raise unknown(f"quality of task '{task}'", quality, entry.qualities)
    return _load(entry, entry.expert)(seed=seed, quality=quality, task=entry, **options)


def register_gymnasium() -> None:
    """Register every task as `diffbot/<family>-<task>-v0`, so that `gymnasium.make` finds it.

    gymnasium 1.x has no plugin entry points, so a program calls this once, or names a module that does:
    `gymnasium.make("sim_envs.gym:diffbot/robosuite-lift-v0")`.
    """
    from gymnasium.envs import registration

    for name in tasks():
        entry = spec(name)
        if entry.gymnasium_id in registration.registry:
            continue
        registration.register(
            id=entry.gymnasium_id, entry_point="sim_envs.registry:make", kwargs={"task": name}
        )


@functools.cache
def _catalogue() -> dict[str, TaskSpec]:
    """Every TaskSpec of the families that lie in this package."""
    import sim_envs

    found: dict[str, TaskSpec] = {}
    for module in pkgutil.iter_modules(sim_envs.__path__):
        # Looked up as a file, because a search through importlib would import the package, and with it its simulator.
        if not any((Path(folder) / module.name / "tasks.py").is_file() for folder in sim_envs.__path__):
            continue
        for entry in importlib.import_module(f"sim_envs.{module.name}.tasks").TASKS:
            if entry.id in found:
                raise SimEnvError(f"task '{entry.id}' is defined twice")
            found[entry.id] = entry
    return found


def _load(entry: TaskSpec, where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "sim_envs"):
            raise
        raise SimEnvError(
            f"task '{entry.id}' needs the package '{package}', which is not installed. "
            f"Install it: pip install 'diffbot[{entry.extra}]'"
        ) from error


def option_names(task: str) -> list[str] | None:
    """Options that `make` takes for `task`, or None when it takes any. Raises SimEnvError as `make` does."""
    entry = spec(task)
    parameters = inspect.signature(_load(entry, entry.make)).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.name not in ("self", "task")]
