"""Multi-agent particles: rewards in closed form, what is seen, the experts."""

from __future__ import annotations

import numpy as np
import pytest

import sim_envs


def put(env, positions: np.ndarray, **marks: np.ndarray) -> dict:
    env.data.qpos[:] = np.ravel(positions)
    env.data.qvel[:] = 0.0
    for name, point in marks.items():
        env.data.mocap_pos[env.model.body(name).mocapid[0], :2] = point
    return env.set_state(env.get_state())


def test_spread_reward_and_success() -> None:
    env = sim_envs.make("particles/spread").unwrapped
    env.reset(seed=0)
    places = np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8]])
    put(env, np.add(places, [0.05, 0.0]), landmark0=places[1], landmark1=places[2], landmark2=places[0])
    _, reward, terminated, _, info = env.step(np.zeros(6, np.float32))
    assert reward == pytest.approx(-0.15, abs=1e-6)
    assert info["success"] and not terminated
    put(env, np.add(places, [0.5, 0.3]))
    assert not env.success()
    put(env, [[0.0, 0.0], [0.13, 0.0], [0.0, 0.8]])  # two overlapping discs: one collision
    before = env.nearest().sum()
    _, reward, *_ = env.step(np.zeros(6, np.float32))
    assert reward == pytest.approx(-before - 1.0, abs=0.1)


def test_local_observations_move_with_the_agent() -> None:
    env = sim_envs.make("particles/spread").unwrapped
    observation, _ = env.reset(seed=3)
    agents, landmarks = observation["agent_positions"].reshape(3, 2), observation["landmarks"].reshape(3, 2)
    for i in range(3):
        local = observation[f"agent{i}"]
        np.testing.assert_allclose(local[2:8].reshape(3, 2), landmarks - agents[i], atol=1e-6)
        np.testing.assert_allclose(local[-2:], agents[i])


def test_touching_the_prey_pays_and_is_remembered() -> None:
    env = sim_envs.make("particles/tag").unwrapped
    env.reset(seed=0)
    away = {"obstacle0": [0.9, 0.9], "obstacle1": [-0.9, 0.9]}
    put(env, [[-0.1, 0.0], [0.5, -0.8], [-0.5, -0.8], [0.0, 0.0]], **away)
    _, reward, _, _, info = env.step(np.array([1, 0, 0, 0, 0, 0], np.float32))
    assert reward > 9 and info["success"]
    state = env.get_state()
    env.reset(seed=1)
    assert not env.success()
    env.set_state(state)
    assert env.success()


def test_prey_flees_and_is_faster() -> None:
    env = sim_envs.make("particles/tag").unwrapped
    env.reset(seed=0)
    put(
        env, [[-0.3, 0.0], [-0.6, 0.3], [-0.6, -0.3], [0.0, 0.0]], obstacle0=[0.9, 0.9], obstacle1=[-0.9, 0.9]
    )
    for _ in range(6):
        observation, *_ = env.step(np.array([1, 0, 1, 0, 1, 0], np.float32))
    assert observation["prey_position"][0] > 0.3
    assert observation["prey_velocity"][0] > observation["agent_velocities"][0]


def test_prey_in_a_forest_is_hidden_unless_an_agent_is_there() -> None:
    env = sim_envs.make("particles/world").unwrapped
    env.reset(seed=0)
    marks = {
        "forest0": [0.6, 0.6],
        "forest1": [-0.7, -0.7],
        "obstacle0": [0.9, -0.9],
        "obstacle1": [-0.9, 0.9],
    }
    far = [[0.0, 0.0], [0.0, -0.5], [-0.5, 0.2]]
    seen = put(env, [*far, [0.3, 0.0]], **marks)
    assert seen["prey_seen"] == [1.0]
    env.last_seen = np.array([0.3, 0.0])
    hidden = put(env, [*far, [0.6, 0.6]])
    assert hidden["prey_seen"] == [0.0] and (hidden["prey_velocity"] == 0).all()
    np.testing.assert_allclose(hidden["prey_position"], [0.3, 0.0])
    found = put(env, [[0.5, 0.45], *far[1:], [0.6, 0.6]])
    np.testing.assert_allclose(found["prey_position"], [0.6, 0.6], atol=1e-6)


@pytest.mark.parametrize(("task", "least"), [("spread", 0.95), ("tag", 0.7), ("world", 0.6)])
def test_experts_beat_chance(task: str, least: float) -> None:
    env, expert = sim_envs.make(f"particles/{task}"), sim_envs.expert(f"particles/{task}", seed=0)
    rates = {}
    for player in ("expert", "random"):
        rng, successes = np.random.default_rng(0), 0
        for seed in range(40):
            observation, info = env.reset(seed=seed)
            expert.reset(env)
            done = False
            while not done:
                action = expert.act(env, observation)
                if player == "random":
                    action = rng.uniform(-1, 1, action.shape).astype(np.float32)
                observation, _, _, truncated, info = env.step(action)
                done = truncated or info["success"]
            successes += info["success"]
        rates[player] = successes / 40
    assert rates["expert"] >= least
    assert rates["expert"] > rates["random"] + 0.2
