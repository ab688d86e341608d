"""Scripted experts of the robosuite tasks."""

from __future__ import annotations

from sim_envs.robosuite.experts.base import ScriptedExpert
from sim_envs.spec import TaskSpec


def make_expert(*, seed: int, quality: str, task: TaskSpec) -> ScriptedExpert:
    """The expert of a robosuite task."""
    from sim_envs.robosuite.experts import door, pick, tabletop, two_arm

    experts: dict[str, type[ScriptedExpert]] = {
        "robosuite/lift": tabletop.LiftExpert,
        "robosuite/stack": tabletop.StackExpert,
        "robosuite/can": pick.CanExpert,
        "robosuite/square": pick.SquareExpert,
        "robosuite/door": door.DoorExpert,
        "robosuite/two-arm-lift": two_arm.PotExpert,
    }
    return experts[task.id](seed=seed, quality=quality)
