"""The ant's quarter turns: a turned ant with its legs passed on does exactly the same."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

import sim_envs
from sim_envs.behaviour.ant import ANKLES, HIPS, SIGNS, AntCourse, features, quarter, torques


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_physics_seen_through_the_features_does_not_change_under_quarter_turns(turns: int) -> None:
    env = AntCourse()
    rng = np.random.default_rng(turns)
    joints, actions = 0.1 * rng.standard_normal(8), rng.uniform(-1, 1, (10, 8))
    seen = []
    for k in (0, turns):
        mujoco.mj_resetData(env.model, env.data)
        env.data.qpos[:] = env.start
        env.data.qpos[3:7] = np.cos(-k * np.pi / 4), 0.0, 0.0, np.sin(-k * np.pi / 4)
        env.data.qpos[7:][HIPS] += np.roll(joints[:4], k)
        env.data.qpos[7:][ANKLES] = SIGNS * np.roll(1.0 + joints[4:], k)
        for action in actions:
            env.data.ctrl[:] = torques(action, k)
            mujoco.mj_step(env.model, env.data, env.substeps)
        seen.append(features(env.data.qpos, env.data.qvel, np.array([0.6, 0.8]), k))
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-9)


def test_direction_is_always_within_45_degrees_of_forward() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        yaw, angle = rng.uniform(-np.pi, np.pi, 2)
        qpos = np.zeros(15)
        qpos[3:7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        direction = np.array([np.cos(angle), np.sin(angle)])
        ahead = features(qpos, np.zeros(14), direction, quarter(qpos, direction))[4:6]
        assert ahead[0] >= np.cos(np.pi / 4) - 1e-9 and np.linalg.norm(ahead) == pytest.approx(1.0)


def test_expert_walks_the_ant_towards_its_goal() -> None:
    env = sim_envs.make("antmaze/umaze").unwrapped
    expert = sim_envs.expert("antmaze/umaze", seed=0)
    observation, _ = env.reset(seed=300)
    expert.reset(env)
    start, first = env.position, np.array(expert.points[0])
    for _ in range(60):
        observation, _, terminated, _, _ = env.step(expert.act(env, observation))
        if terminated:
            break
    before, after = (float(np.linalg.norm(first - p)) for p in (start, env.position))
    assert terminated or after < before - 1.0 or len(expert.points) < 2
    env.close()
