"""Wrapped tasks play exactly the episodes of the published environments."""

from __future__ import annotations

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
from dm_control import suite

import sim_envs
from sim_envs.reference_scores import REFERENCE_SCORES, normalised_score

gymnasium.register_envs(gymnasium_robotics)

TWINS = {
    "locomotion/hopper": "Hopper-v5",
    "locomotion/halfcheetah": "HalfCheetah-v5",
    "locomotion/walker2d": "Walker2d-v5",
    "adroit/pen": "AdroitHandPen-v1",
    "pointmaze/medium": "PointMaze_Medium-v3",
    "antmaze/umaze": "AntMaze_UMaze-v5",
}


@pytest.mark.parametrize("task", TWINS)
def test_gymnasium_twin(task: str) -> None:
    ours, theirs = sim_envs.make(task).unwrapped, gymnasium.make(TWINS[task])
    ours.reset(seed=17)
    theirs.reset(seed=17)
    rng = np.random.default_rng(1)
    for _ in range(20):
        action = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)  # type: ignore[arg-type]
        mine, expected = ours.step(action), theirs.step(action.astype(np.float64))
        flat = expected[0]
        if isinstance(flat, dict):
            assert mine[4]["success"] == expected[4]["success"]
            got = np.concatenate([ours.data.qpos, ours.data.qvel])
            wanted = np.concatenate([theirs.unwrapped.data.qpos, theirs.unwrapped.data.qvel])
            np.testing.assert_array_equal(got, wanted)
            np.testing.assert_array_equal(ours.goal, flat["desired_goal"])
        else:
            np.testing.assert_array_equal(np.concatenate(list(mine[0].values())), flat.astype(np.float32))
        assert mine[1] == pytest.approx(expected[1], rel=1e-12)
        if expected[2]:
            assert mine[2]
            break
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("domain", "name"), [("cartpole", "swingup"), ("reacher", "easy"), ("fish", "swim")])
def test_dm_control_twin(domain: str, name: str) -> None:
    ours = sim_envs.make(f"dm_control/{domain}-{name}").unwrapped
    theirs = suite.load(domain, name, task_kwargs={"random": 4})
    observation, _ = ours.reset(seed=4)
    step = theirs.reset()
    rng = np.random.default_rng(1)
    for _ in range(20):
        for key, value in step.observation.items():
            np.testing.assert_array_equal(observation[key], np.ravel(value).astype(np.float32))
        action = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)  # type: ignore[arg-type]
        observation, reward, *_ = ours.step(action)
        step = theirs.step(action.astype(np.float64))
        assert reward == step.reward


def test_kitchen_controller_noise_belongs_to_the_state() -> None:
    env = sim_envs.make("kitchen/complete").unwrapped
    env.reset(seed=1)
    action = np.full(9, 0.3, np.float32)
    env.step(action)
    state = env.get_state()
    first, second = [], []
    for kept in (first, second):
        env.set_state(state)
        kept += [env.step(action)[0]["robot_positions"] for _ in range(5)]
    np.testing.assert_array_equal(first, second)
    assert np.std([x[0] for x in first]) > 0
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'kettle'"):
        sim_envs.make("kitchen/complete", subtasks=("ketle",))


def test_locomotion_success_is_the_reference_return() -> None:
    env = sim_envs.make("locomotion/hopper").unwrapped
    env.reset(seed=0)
    reward = env.step(np.zeros(3, np.float32))[1]
    assert env.episode_return == reward
    assert not env.success()
    env.episode_return = REFERENCE_SCORES["locomotion/hopper"].expert
    assert env.success()


def test_normalised_score() -> None:
    for task, reference in REFERENCE_SCORES.items():
        assert normalised_score(task, reference.random) == 0.0
        assert normalised_score(task, reference.expert) == pytest.approx(100.0)
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'locomotion/hopper'"):
        normalised_score("locomotion/hoper", 1.0)


def test_metaworld_registry_is_the_published_one() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

    from sim_envs.metaworld_tasks.tasks import MT10, MT50

    assert {f"{name}-v3" for name in MT50} == set(ALL_V3_ENVIRONMENTS)
    assert [f"{name}-v3" for name in MT10] == list(MT10_V3)
