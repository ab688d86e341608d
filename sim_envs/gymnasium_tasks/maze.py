"""PointMaze and AntMaze of gymnasium-robotics (after Fu et al., "D4RL", 2020, sections 5 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.errors import SimEnvError
from sim_envs.gymnasium_tasks.base import (
    FREE_CAMERA,
    GymnasiumTask,
    build,
    generator_state,
    set_generator_state,
)
from sim_envs.spec import TaskSpec

GOAL_RADIUS = 0.45  # m, as published
_XY = ("x", "y")


class _Maze(GymnasiumTask):
    """What both mazes share: goal, goal radius, map, camera from above."""

    available_cameras = (FREE_CAMERA,)

    def __init__(self, task: TaskSpec, inner: Any, **options: Any):
        Path(inner.tmp_xml_file_path).unlink(missing_ok=True)  # the published class leaves its XML behind
        size = max(inner.maze.map_length, inner.maze.map_width) * inner.maze.maze_size_scaling
        self.viewpoint = (0.0, 0.0, 0.0, 1.25 * size, 90.0, -89.9)
        super().__init__(task, inner, seen=0, **options)

    @property
    def goal(self) -> np.ndarray:
        """Goal position [2] in m."""
        return np.array(self.inner.goal, dtype=np.float64)

    @property
    def position(self) -> np.ndarray:
        """Position [2] of the agent in m."""
        return self.data.qpos[:2].copy()

    @property
    def free_cells(self) -> dict[tuple[int, int], np.ndarray]:
        """(row, column) of every cell that is not wall, with the position [2] of its centre in m."""
        maze = self.inner.maze
        cells = [(i, j) for i, row in enumerate(maze.maze_map) for j, cell in enumerate(row) if cell != 1]
        return {cell: maze.cell_rowcol_to_xy(np.array(cell)) for cell in cells}

    def place(self, start: np.ndarray | None = None, goal: np.ndarray | None = None) -> Observation:
        """Put the resting agent at `start` [2] and the goal at `goal` [2], in m. Raises SimEnvError inside a wall."""
        for point in (start, goal):
            if point is not None and tuple(self.inner.maze.cell_xy_to_rowcol(point)) not in self.free_cells:
                raise SimEnvError(f"{np.round(point, 3).tolist()} lies in a wall of '{self.task.id}'")
        if start is not None:
            self.data.qpos[:2] = start
            self.data.qvel[:] = 0.0
        if goal is not None:
            self.set_memory(np.concatenate([goal, self.memory()[2:]]))
        return self.set_state(self.get_state())

    def flat(self, observation: Any) -> np.ndarray:
        return np.zeros(0)  # positions and velocities are observed from the physics directly

    def success(self) -> bool:
        return bool(np.linalg.norm(self.position - self.goal) <= GOAL_RADIUS)

    def memory(self) -> np.ndarray:
        goal = np.asarray(getattr(self.inner, "goal", np.zeros(2)), dtype=np.float64)
        return np.concatenate([goal, generator_state(self.inner.np_random)])

    def set_memory(self, memory: np.ndarray) -> None:
        self.inner.goal = memory[:2]
        set_generator_state(self.inner.np_random, memory[2:])
        self.inner.update_target_site_pos()


class PointMaze(_Maze):
    """Drive a ball (mass 4.2 kg, damping 1 kg/s) through a maze to the goal at 100 Hz.

    Observation: position [m], velocity [m/s], goal [m]. Action: force in units of 100 N in [-1, 1]^2.
    Reward: 1 in every step within 0.45 m of the goal ("dense": exp(-distance)). With `continuing` (as published) the
    episode goes on at the goal, else it terminates there; `new_goals` draws another goal each time one is reached.
    """

    def __init__(
        self,
        task: TaskSpec,
        maze: str,
        reward: str = "sparse",
        continuing: bool = True,
        new_goals: bool = False,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = build(
            f"PointMaze_{maze}-v3", reward_type=reward, continuing_task=continuing, reset_target=new_goals
        )
        half = 0.5 * max(inner.maze.map_length, inner.maze.map_width)
        super().__init__(
            task,
            inner,
            observations={
                "position": fields.state(2, "m", low=-half, high=half, names=_XY),
                "velocity": fields.state(2, "m/s", low=-6.0, high=6.0, names=_XY),
                "goal": fields.state(2, "m", low=-half, high=half, names=_XY),
            },
            action=fields.action(2, unit="100 N", space="cartesian", controller="force", names=_XY),
            substeps=1,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def observe_state(self) -> Observation:
        return {"position": self.data.qpos[:2], "velocity": self.data.qvel[:2], "goal": self.goal}

    def set_observation(self, observation: Observation) -> None:
        """The ball with this position and velocity, and the goal."""
        self.set_kinematics(np.asarray(observation["position"]), np.asarray(observation["velocity"]))
        self.set_memory(np.concatenate([observation["goal"], self.memory()[2:]]))


class AntMaze(_Maze):
    """Walk an ant (8 joints) through a maze of 4 m cells to the goal at 20 Hz.

    Observation: torso position [3] m, torso orientation [4] (wxyz), joint angles [8] rad, velocities [14], goal [2] m.
    Action: normalised joint torques [8]. Reward: 1 within 0.45 m of the goal, where the episode ends.
    """

    def __init__(
        self,
        task: TaskSpec,
        maze: str,
        reward: str = "sparse",
        continuing: bool = False,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = build(
            f"AntMaze_{maze}-v5", reward_type=reward, continuing_task=continuing, reset_target=False
        )
        half = 2.0 * max(inner.maze.map_length, inner.maze.map_width)
        joints = ("hip1", "ankle1", "hip2", "ankle2", "hip3", "ankle3", "hip4", "ankle4")
        super().__init__(
            task,
            inner,
            observations={
                "torso_position": fields.state(3, "m", low=-half, high=half, names=("x", "y", "z")),
                "torso_orientation": fields.state(4, "1", low=-1.0, high=1.0, names=("w", "x", "y", "z")),
                "joint_positions": fields.state(8, "rad", "joint", names=joints),
                "torso_velocity": fields.state(6, "m/s, rad/s", names=("vx", "vy", "vz", "wx", "wy", "wz")),
                "joint_velocities": fields.state(8, "rad/s", "joint", names=joints),
                "goal": fields.state(2, "m", low=-half, high=half, names=_XY),
            },
            action=fields.action(8, unit="1", space="joint", controller="torque", frame="joint"),
            substeps=inner.ant_env.frame_skip,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def observe_state(self) -> Observation:
        q, v = self.data.qpos, self.data.qvel
        return {
            "torso_position": q[:3],
            "torso_orientation": q[3:7],
            "joint_positions": q[7:15],
            "torso_velocity": v[:6],
            "joint_velocities": v[6:14],
            "goal": self.goal,
        }
