"""Demonstrators of the particle tasks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.particles.base import ARENA, DAMPING, Particles
from sim_envs.particles.spread import Spread
from sim_envs.spec import TaskSpec


class _Team:
    """Targets for each agent become forces by a PD rule with repulsion between agents and from obstacles."""

    version = "1"
    repulsion = 0.02

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.mode = ""

    def begin(self, base: Particles) -> None:
        """Draw the strength of the noise for this episode."""
        self.noise = Noise(self.rng, np.full(2 * base.agents, 0.05 * self.quality.noise))
        self.pace = self.quality.speed

    def forces(self, base: Particles, targets: np.ndarray) -> np.ndarray:
        """Forces [2 * agents] in [-1, 1] towards targets [agents, 2] in m, float32."""
        positions, velocities = base.positions()[: base.agents], base.velocities()[: base.agents]
        push = 5.0 * (targets - positions) - 0.8 * velocities
        scale = np.maximum(np.linalg.norm(push, axis=1, keepdims=True), 1.0)
        push = self.pace * push / scale
        for i in range(base.agents):
            others = [*np.delete(positions, i, axis=0), *base.marked("obstacle")]
            radii = [0.0] * (base.agents - 1) + [0.15] * len(base.marked("obstacle"))
            for other, radius in zip(others, radii, strict=True):
                gap = positions[i] - other
                distance = float(np.linalg.norm(gap))
                clear = max(distance - radius - base.discs[i].radius, 0.02)
                if clear < 0.2:
                    # Half of it turns sideways, so that two agents that meet pass each other.
                    side = np.array([-gap[1], gap[0]])
                    push[i] += self.repulsion / clear * (gap + 0.5 * side) / max(distance, 1e-6)
        return np.clip(push.ravel() + self.noise.step(), -1.0, 1.0).astype(np.float32)


class SpreadExpert(_Team):
    """Assigns landmarks to agents: the shortest way in all, the shortest longest way, or any. `mode` names the rule."""

    def reset(self, env: Any) -> None:
        """Draw the rule of assignment and assign."""
        base: Spread = env.unwrapped
        self.begin(base)
        rule = str(self.rng.choice(["total", "longest", "any"], p=[0.45, 0.45, 0.1]))
        if self.rng.random() < self.quality.mistakes:
            rule = "any"
        gaps = np.linalg.norm(base.positions()[:, None] - base.marked("landmark")[None], axis=-1)
        orders = [np.array(order) for order in itertools.permutations(range(base.agents))]
        ways = [gaps[np.arange(base.agents), order] for order in orders]
        costs = {"total": [w.sum() for w in ways], "longest": [w.max() for w in ways]}
        if rule == "any":
            self.order = orders[int(self.rng.integers(len(orders)))]
        else:
            self.order = orders[int(np.argmin(costs[rule]))]
        self.mode = f"{rule},{''.join(map(str, self.order))}"

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Forces of all agents, float32 [2 * agents]."""
        base: Spread = env.unwrapped
        return self.forces(base, base.marked("landmark")[self.order])


class ChaseExpert(_Team):
    """Chases straight, cuts the prey off, or surrounds it. `mode` names the plan. Reads the prey's true position."""

    repulsion = 0.006

    def reset(self, env: Any) -> None:
        """Draw the plan and which agent comes from which side."""
        base: Particles = env.unwrapped
        self.begin(base)
        self.plan = str(self.rng.choice(["chase", "cut off", "surround"], p=[0.2, 0.4, 0.4]))
        self.sides = self.rng.permutation(base.agents)
        self.turn = float(self.rng.uniform(0, 2 * np.pi))
        self.lead = float(self.rng.uniform(0.2, 0.5))
        self.mode = f"{self.plan},{''.join(map(str, self.sides))}"

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Forces of all agents, float32 [2 * agents]."""
        base: Particles = env.unwrapped
        agents, prey, velocity = base.positions()[:-1], base.positions()[-1], base.velocities()[-1]
        gaps = np.linalg.norm(agents - prey, axis=1)
        targets = np.repeat(prey[None], base.agents, axis=0)
        if self.plan != "chase":
            top = base.discs[0].force / DAMPING
            targets = prey + np.minimum(gaps[:, None] / top, self.lead) * velocity
        if self.plan == "surround":
            angles = self.turn + 2 * np.pi * self.sides / base.agents
            ring = np.minimum(0.5 * gaps, 0.3)[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
            targets = targets + np.where(gaps[:, None] > 0.3, ring, 0.0)
        return self.forces(base, np.clip(targets, -ARENA + 0.05, ARENA - 0.05))
