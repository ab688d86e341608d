"""Tag and world: agents chase a faster prey (Lowe et al., "MADDPG", NeurIPS 2017: predator-prey and its variant).

The prey is part of the task and follows a fixed rule, as in the offline datasets of these tasks, where it is a
pre-trained policy: away from the agents, off walls and obstacles, and in "world" towards food.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.particles.base import ARENA, Disc, Particles, agent_names
from sim_envs.spec import TaskSpec

AGENT, PREY = Disc("agent", 0.075, 4.0, "0.85 0.25 0.2 1"), Disc("prey", 0.05, 5.2, "0.2 0.7 0.3 1")
OBSTACLE, FOREST, FOOD = 0.15, 0.25, 0.03  # radii in m


class Chase(Particles):
    """Three agents catch one prey.

    Observation (frame of the arena): agent positions [6] m, velocities [6] m/s, prey position [2] (where it was last seen)
    and velocity [2] (zero while unseen), whether it is seen [1], obstacles [4] m, in "world" also food [4] and forests [4],
    and for each agent "agentI": own velocity and position, then the others, obstacles and prey relative to it.
    Reward: 10 in each step in which an agent touches the prey, minus 0.1 times the nearest agent's distance to it.
    """

    forests = 0
    food = 0

    def __init__(
        self,
        task: TaskSpec,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        agents = 3
        discs = [Disc(f"agent{i}", AGENT.radius, AGENT.force, AGENT.rgba) for i in range(agents)]
        names = agent_names(agents, ("x", "y"))
        observations = {
            "agent_positions": fields.state(2 * agents, "m", "arena", low=-ARENA, high=ARENA, names=names),
            "agent_velocities": fields.state(2 * agents, "m/s", "arena", names=names),
            "prey_position": fields.state(2, "m", "arena", low=-ARENA, high=ARENA, names=("x", "y")),
            "prey_velocity": fields.state(2, "m/s", "arena", names=("x", "y")),
            "prey_seen": fields.state(1, "1", "", low=0.0, high=1.0),
            "obstacles": fields.state(4, "m", "arena", low=-ARENA, high=ARENA),
        }
        if self.food:
            observations["food"] = fields.state(2 * self.food, "m", "arena", low=-ARENA, high=ARENA)
            observations["forests"] = fields.state(2 * self.forests, "m", "arena", low=-ARENA, high=ARENA)
        local = 4 + 2 * (agents - 1) + 4 + 2
        observations |= {f"agent{i}": fields.state(local, "m, m/s", "arena and agent") for i in range(agents)}
        self.marks = {f"forest{i}": (FOREST, "0.55 0.8 0.55 0.6") for i in range(self.forests)}
        self.marks |= {f"food{i}": (FOOD, "0.95 0.6 0.1 1") for i in range(self.food)}
        self.caught, self.last_seen = 0, np.zeros(2)
        super().__init__(
            task,
            [*discs, PREY],
            agents,
            observations,
            {f"obstacle{i}": OBSTACLE for i in range(2)},
            self.marks,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        marks = {name: radius for name, (radius, _) in self.marks.items()}
        self.scatter(rng, {**{f"obstacle{i}": OBSTACLE for i in range(2)}, **marks})
        self.caught, self.last_seen = 0, self.positions()[-1]

    def seen(self) -> bool:
        """Whether an agent can see the prey: it is in no forest, or an agent is in the same one."""
        positions = self.positions()
        for forest in self.marked("forest"):
            inside = np.linalg.norm(positions - forest, axis=1) < FOREST
            if inside[-1]:
                return bool(inside[:-1].any())
        return True

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        touched = self.simulate(np.concatenate([action, self._flee()]))
        touches = sum("prey" in pair for pair in touched)
        self.caught += touches
        positions = self.positions()
        if self.seen():
            self.last_seen = positions[-1]
        nearest = np.linalg.norm(positions[:-1] - positions[-1], axis=1).min()
        return 10.0 * touches - 0.1 * float(nearest), False

    def _flee(self) -> np.ndarray:
        """Force [2] of the prey: repelled by agents, walls and obstacles, drawn to the nearest food."""
        positions = self.positions()
        prey = positions[-1]
        force = np.zeros(2)
        sources = [(agent, 0.35) for agent in positions[:-1]]
        sources += [(obstacle, 0.05) for obstacle in self.marked("obstacle")]
        for source, strength in sources:
            gap = prey - source
            distance = max(float(np.linalg.norm(gap)), 1e-6)
            force += strength * gap / distance**3
        force -= 0.03 * np.sign(prey) / np.maximum(ARENA - np.abs(prey), 0.02) ** 2
        if self.food:
            gaps = self.marked("food") - prey
            gap = gaps[np.linalg.norm(gaps, axis=1).argmin()]
            force += 0.8 * gap / max(float(np.linalg.norm(gap)), 0.1)
        return force / max(float(np.abs(force).max()), 1.0)

    def success(self) -> bool:
        return self.caught > 0

    def observe_state(self) -> Observation:
        positions, velocities, obstacles = self.positions(), self.velocities(), self.marked("obstacle")
        seen = self.seen()
        prey = positions[-1] if seen else self.last_seen
        observation = {
            "agent_positions": positions[:-1].ravel(),
            "agent_velocities": velocities[:-1].ravel(),
            "prey_position": prey,
            "prey_velocity": velocities[-1] if seen else np.zeros(2),
            "prey_seen": np.array([float(seen)]),
            "obstacles": obstacles.ravel(),
        }
        if self.food:
            observation["food"] = self.marked("food").ravel()
            observation["forests"] = self.marked("forest").ravel()
        for i in range(self.agents):
            own = positions[i]
            others = np.delete(positions[:-1], i, axis=0) - own
            parts = [velocities[i], own, others.ravel(), (obstacles - own).ravel(), prey - own]
            observation[f"agent{i}"] = np.concatenate(parts)
        return observation

    def extra_state(self) -> np.ndarray:
        return np.array([self.caught, *self.last_seen])

    def set_extra_state(self, extra: np.ndarray) -> None:
        self.caught, self.last_seen = int(extra[0]), extra[1:].copy()


class Tag(Chase):
    """Catch a prey among obstacles."""


class World(Chase):
    """Catch a prey that is drawn to two pieces of food and cannot be seen in two forests."""

    forests = 2
    food = 2
