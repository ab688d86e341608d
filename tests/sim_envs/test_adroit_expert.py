"""The planner that turns the pen in the hand."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

import sim_envs


def begin(env_seed: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """An episode with its expert: environment, expert, first observation."""
    env: Any = sim_envs.make("adroit/pen")
    observation, _ = env.reset(seed=env_seed)
    expert: Any = sim_envs.expert("adroit/pen", seed=seed)
    expert.reset(env)
    return env, expert, observation


def test_place_and_direction_of_the_pen_are_the_simulators() -> None:
    env, expert, _ = begin(3)
    inner, data = env.unwrapped.inner, mujoco.MjData(env.unwrapped.model)
    for joints in np.random.default_rng(0).uniform(-0.5, 0.5, (5, 6)):
        data.qpos[24:30] = joints
        mujoco.mj_forward(env.unwrapped.model, data)
        place, direction = expert.pen_at(joints)
        ends = data.site_xpos[[inner.obj_t_site_id, inner.obj_b_site_id]]
        np.testing.assert_allclose(place, data.xpos[inner.obj_body_id], atol=1e-12)
        np.testing.assert_allclose(direction, (ends[0] - ends[1]) / inner.pen_length, atol=1e-12)
    env.close()


def test_planning_repeats_and_changes_nothing_in_the_episode() -> None:
    actions = []
    for _ in range(2):
        env, expert, observation = begin(5, seed=7)
        before = env.unwrapped.get_state()
        actions.append(expert.act(env, observation))
        np.testing.assert_array_equal(env.unwrapped.get_state(), before)
        env.close()
    np.testing.assert_array_equal(*actions)
    assert actions[0].shape == (24,) and np.abs(actions[0]).max() <= 1.0


def test_it_turns_the_pen() -> None:
    env, expert, observation = begin(200_004, seed=200_004)
    for _ in range(60):
        observation, _, _, _, info = env.step(expert.act(env, observation))
        if info["success"]:
            break
    assert info["success"]
    env.close()


@pytest.mark.slow
def test_it_turns_most_pens() -> None:
    wins = 0
    for seed in range(500, 506):
        env, expert, observation = begin(seed, seed)
        for _ in range(200):
            observation, _, _, _, info = env.step(expert.act(env, observation))
            if info["success"]:
                wins += 1
                break
        env.close()
    assert wins >= 4
