"""Spread: agents share out landmarks without speaking (Lowe et al., "MADDPG", NeurIPS 2017: cooperative navigation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.particles.base import ARENA, Disc, Particles, agent_names
from sim_envs.spec import TaskSpec

COVERED = 0.10  # m
RADIUS = 0.07  # m


class Spread(Particles):
    """Three agents cover three landmarks.

    Observation (frame of the arena): agent positions [2n] m, velocities [2n] m/s, landmark positions [2n] m, and for each
    agent "agentI" [4n+2]: own velocity, landmarks and other agents relative to it, own position.
    Reward: minus the sum over landmarks of the nearest agent's distance, minus 1 for each pair that collides.
    """

    def __init__(
        self,
        task: TaskSpec,
        agents: int = 3,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        discs = [Disc(f"agent{i}", RADIUS, 6.0, "0.25 0.41 0.88 1") for i in range(agents)]
        marks = {f"landmark{i}": (0.05, "0.9 0.5 0.1 1") for i in range(agents)}
        local = {
            f"agent{i}": fields.state(4 * agents + 2, "m, m/s", "arena and agent") for i in range(agents)
        }
        names = agent_names(agents, ("x", "y"))
        super().__init__(
            task,
            discs,
            agents,
            {
                "agent_positions": fields.state(
                    2 * agents, "m", "arena", low=-ARENA, high=ARENA, names=names
                ),
                "agent_velocities": fields.state(2 * agents, "m/s", "arena", names=names),
                "landmarks": fields.state(2 * agents, "m", "arena", low=-ARENA, high=ARENA),
                **local,
            },
            {},
            marks,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        self.scatter(rng, {f"landmark{i}": RADIUS for i in range(self.agents)})

    def nearest(self) -> np.ndarray:
        """Distance [landmarks] in m of each landmark's nearest agent."""
        gaps = self.marked("landmark")[:, None] - self.positions()[None]
        return np.linalg.norm(gaps, axis=-1).min(1)

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        collisions = len(self.simulate(action))
        return -float(self.nearest().sum()) - collisions, False

    def success(self) -> bool:
        return bool((self.nearest() <= COVERED).all())

    def observe_state(self) -> Observation:
        positions, velocities, landmarks = self.positions(), self.velocities(), self.marked("landmark")
        observation = {
            "agent_positions": positions.ravel(),
            "agent_velocities": velocities.ravel(),
            "landmarks": landmarks.ravel(),
        }
        for i in range(self.agents):
            others = np.delete(positions, i, axis=0) - positions[i]
            parts = [velocities[i], (landmarks - positions[i]).ravel(), others.ravel(), positions[i]]
            observation[f"agent{i}"] = np.concatenate(parts)
        return observation
