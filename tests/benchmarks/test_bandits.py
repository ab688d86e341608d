"""The 2-D bandits: data whose optimum is known, and the policies that should find it."""

from __future__ import annotations

import numpy as np
import pytest

import sim_envs
from benchmarks.bandits import ARMS, Config, data_of, measure, train


def test_points_and_rewards_are_those_of_the_task() -> None:
    env = sim_envs.make("toy/bandit").unwrapped
    points, rewards = data_of(env, Config(points=4000))
    gaps = np.linalg.norm(points.numpy()[:, None] - env.shape.support, axis=-1)
    assert gaps.min(1).mean() < 2 * env.shape.noise
    for mode in range(4):
        assert float(rewards[gaps.argmin(1) == mode].mean()) == pytest.approx(env.rewards[mode], abs=0.1)
    perfect = measure(env, np.tile(env.shape.support[env.rewards.argmax()], (10, 1)))
    assert perfect == {"distance": 0.0, "best": 1.0, "modes": 0.25, "off": 0.0}
    spread = measure(env, env.shape.support)
    assert (spread["modes"], spread["best"], spread["off"]) == (1.0, 0.25, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Diffusion-BC", "Diffusion-QL", "IDQL"])
def test_bandit(name: str) -> None:
    """Reinforcement goes to the mode that pays most, imitation of the same kind does not (Wang et al. 2023, Fig. 1)."""
    env = sim_envs.make("toy/bandit").unwrapped
    config = Config(steps=1000)
    points, rewards = data_of(env, config)
    method, settings, learns = ARMS[name]
    found = measure(env, train(env, method, settings, points, rewards, config))
    assert (found["distance"] < 0.35) == learns
