"""Scripted experts of the robosuite tasks."""

from __future__ import annotations

from sim_envs.robosuite.experts.base import ScriptedExpert
from sim_envs.spec import TaskSpec


def make_expert(*, seed: int, quality: str, task: TaskSpec) -> ScriptedExpert:
    """The expert of a robosuite task."""
    from sim_envs.robosuite.experts import tabletop

    experts: dict[str, type[ScriptedExpert]] = {
        "robosuite/lift": tabletop.LiftExpert,
    }
    return experts[task.id](seed=seed, quality=quality)
