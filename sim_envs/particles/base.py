"""Discs in a square arena, driven by forces: what the particle tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from sim_envs import fields
from sim_envs.mujoco_env import MujocoTaskEnv
from sim_envs.spec import TaskSpec

ARENA = 1.2  # m, half side of the walled square
SUBSTEPS = 5
DAMPING = 4.0  # kg/s; the top speed is force / damping


@dataclass(frozen=True)
class Disc:
    """A movable disc: radius in m, largest force on each axis in N (mass 1 kg), colour."""

    name: str
    radius: float
    force: float
    rgba: str


def arena_model(
    discs: Sequence[Disc], obstacles: Mapping[str, float], marks: Mapping[str, tuple[float, str]]
) -> str:
    """MJCF of the arena with discs, round obstacles (name: radius) and marks without contact (name: radius, colour).

    Obstacles and marks are mocap bodies, so that a reset can place them and the state holds where they are.
    """
    walls = "".join(
        f'<geom class="solid" type="box" pos="{x} {y} 0.05" size="{sx} {sy} 0.05" rgba="0.4 0.4 0.4 1"/>'
        for x, y, sx, sy in (
            (ARENA + 0.05, 0, 0.05, ARENA + 0.1),
            (-ARENA - 0.05, 0, 0.05, ARENA + 0.1),
            (0, ARENA + 0.05, ARENA + 0.1, 0.05),
            (0, -ARENA - 0.05, ARENA + 0.1, 0.05),
        )
    )
    moving = "".join(
        f'<body name="{d.name}" pos="0 0 0.05"><joint name="{d.name}_x" type="slide" axis="1 0 0" damping="{DAMPING}"/>'
        f'<joint name="{d.name}_y" type="slide" axis="0 1 0" damping="{DAMPING}"/>'
        f'<geom class="solid" name="{d.name}" type="cylinder" size="{d.radius} 0.05" mass="1" rgba="{d.rgba}"/></body>'
        for d in discs
    )
    fixed = "".join(
        f'<body name="{name}" mocap="true" pos="0 0 0.05">'
        f'<geom class="solid" type="cylinder" size="{radius} 0.05" rgba="0.25 0.25 0.25 1"/></body>'
        for name, radius in obstacles.items()
    )
    flat = "".join(
        f'<body name="{name}" mocap="true" pos="0 0 0.002">'
        f'<geom type="cylinder" size="{radius} 0.002" rgba="{colour}" contype="0" conaffinity="0"/></body>'
        for name, (radius, colour) in marks.items()
    )
    motors = "".join(
        f'<motor joint="{d.name}_{axis}" gear="{d.force}" ctrlrange="-1 1"/>' for d in discs for axis in "xy"
    )
    return f"""
<mujoco model="particles">
  <option timestep="0.02" gravity="0 0 0" integrator="implicitfast" cone="elliptic"/>
  <visual><headlight ambient="0.6 0.6 0.6" diffuse="0.4 0.4 0.4" specular="0 0 0"/></visual>
  <default>
    <geom condim="1" contype="0" conaffinity="0"/>
    <default class="solid"><geom contype="1" conaffinity="1" solref="0.04 1"/></default>
  </default>
  <worldbody>
    <camera name="overhead" pos="0 0 3.7" fovy="40"/>
    <geom type="plane" size="{ARENA} {ARENA} 0.1" rgba="0.97 0.97 0.97 1"/>
    {walls}{fixed}{flat}{moving}
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>"""


class Particles(MujocoTaskEnv):
    """Base of the particle tasks at 10 Hz. The first `agents` discs are controlled by the action.

    Action: forces of all agents, [2 * agents] in [-1, 1], named "agent0_x", "agent0_y", "agent1_x" and so on.
    """

    available_cameras = ("overhead",)

    def __init__(
        self,
        task: TaskSpec,
        discs: Sequence[Disc],
        agents: int,
        observations: Mapping[str, dict[str, Any]],
        obstacles: Mapping[str, float],
        marks: Mapping[str, tuple[float, str]],
        **options: Any,
    ):
        self.discs, self.agents = tuple(discs), agents
        model = mujoco.MjModel.from_xml_string(arena_model(discs, obstacles, marks))
        self._mocap = {name: model.body(name).mocapid[0] for name in (*obstacles, *marks)}
        self._geom = {disc.name: model.geom(disc.name).id for disc in discs}
        names = agent_names(agents, ("x", "y"))
        act = fields.action(2 * agents, unit="full force", space="cartesian", controller="force", names=names)
        super().__init__(
            task,
            model,
            mujoco.MjData(model),
            observations=observations,
            action=act,
            substeps=SUBSTEPS,
            **options,
        )

    def positions(self) -> np.ndarray:
        """Positions [discs, 2] in m."""
        return self.data.qpos.reshape(-1, 2).copy()

    def velocities(self) -> np.ndarray:
        """Velocities [discs, 2] in m/s."""
        return self.data.qvel.reshape(-1, 2).copy()

    def marked(self, prefix: str) -> np.ndarray:
        """Positions [N, 2] in m of the obstacles or marks whose names begin with `prefix`."""
        chosen = [index for name, index in self._mocap.items() if name.startswith(prefix)]
        return self.data.mocap_pos[chosen, :2].copy()

    def scatter(self, rng: np.random.Generator, radii: Mapping[str, float], gap: float = 0.02) -> None:
        """Place obstacles and marks (name: radius), then the discs, at random without overlap, all at rest."""
        mujoco.mj_resetData(self.model, self.data)
        taken: list[tuple[np.ndarray, float]] = []

        def free(radius: float) -> np.ndarray:
            while True:
                point = rng.uniform(-1.0, 1.0, 2)
                if all(np.linalg.norm(point - other) > radius + r + gap for other, r in taken):
                    taken.append((point, radius))
                    return point

        for name, radius in radii.items():
            self.data.mocap_pos[self._mocap[name], :2] = free(radius)
        self.data.qpos[:] = np.concatenate([free(disc.radius) for disc in self.discs])
        mujoco.mj_forward(self.model, self.data)

    def simulate(self, forces: np.ndarray) -> set[frozenset[str]]:
        """Apply forces [2 * discs] in [-1, 1] for one control step. Returns the pairs of discs that touched."""
        self.data.ctrl[:] = forces
        names = {geom: name for name, geom in self._geom.items()}
        touched = set()
        for _ in range(self.substeps):
            mujoco.mj_step(self.model, self.data)
            for pair in self.data.contact.geom[: self.data.ncon].tolist():
                if pair[0] in names and pair[1] in names:
                    touched.add(frozenset((names[pair[0]], names[pair[1]])))
        return touched


def agent_names(agents: int, entries: Sequence[str]) -> list[str]:
    """["agent0_<entry>", ..., "agent1_<entry>", ...]."""
    return [f"agent{i}_{entry}" for i in range(agents) for entry in entries]
