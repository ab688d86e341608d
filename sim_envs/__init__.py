"""Simulated tasks behind one registry, following Gymnasium's conventions. Importing it loads no simulator."""

from sim_envs.errors import SimEnvError
from sim_envs.matching import matching_options
from sim_envs.registry import QUALITIES, expert, make, register_gymnasium, register_task, spec, tasks
from sim_envs.spec import TaskSpec

__all__ = [
    "QUALITIES",
    "SimEnvError",
    "TaskSpec",
    "expert",
    "make",
    "matching_options",
    "register_gymnasium",
    "register_task",
    "spec",
    "tasks",
]
