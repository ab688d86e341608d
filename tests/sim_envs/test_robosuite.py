"""robosuite tasks: contracts, determinism, exact states, equality with robosuite's own stepping, success."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sim_envs
from diffbot.data.contract import Contract

TASKS = ("lift", "stack", "can", "square", "door", "two-arm-lift")


@pytest.fixture(scope="module", params=TASKS)
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    env = sim_envs.make(f"robosuite/{request.param}")
    yield env
    env.close()


@pytest.fixture(scope="module")
def lift() -> Iterator[Any]:
    env = sim_envs.make("robosuite/lift")
    yield env
    env.close()


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_contract_describes_the_observation(env: Any) -> None:
    contract = Contract.from_dict(env.contract())
    observation, _ = env.reset(seed=5)
    contract.check_observation(observation)
    assert set(contract.observations) == set(observation) == set(env.observation_space.spaces)
    assert contract.rate == 20
    assert contract.action.meaning == "delta" and contract.action.controller == "OSC_POSE"
    assert len(contract.observations["object"].names) == observation["object"].size
    assert env.observation_space.contains(observation)
    assert env.action_space.contains(env.action_space.sample())


def test_seed_decides_the_episode_whatever_came_before(env: Any) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (5, *env.action_space.shape))
    runs = []
    for seed in (7, 3, 7):
        observation, _ = env.reset(seed=seed)
        runs.append([observation, *(env.step(action)[0] for action in actions)])
    assert all(same(a, b) for a, b in zip(runs[0], runs[2], strict=True))
    assert not same(runs[0][0], runs[1][0])


def test_state_restores_exactly(env: Any) -> None:
    generator = np.random.default_rng(1)
    env.reset(seed=11)
    for _ in range(15):
        env.step(generator.uniform(-1, 1, env.action_space.shape))
    state = env.get_state()
    actions = generator.uniform(-1, 1, (10, *env.action_space.shape))
    first = [env.step(action)[:2] for action in actions]
    after = env.get_state()
    env.reset(seed=12)
    env.set_state(state)
    assert np.array_equal(env.get_state(), state)
    second = [env.step(action)[:2] for action in actions]
    assert all(same(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, second, strict=True))
    assert np.array_equal(env.get_state(), after)


def test_observation_is_a_function_of_the_state(env: Any) -> None:
    env.reset(seed=2)
    observation = env.step(np.ones(env.action_space.shape))[0]
    assert same(env.set_state(env.get_state()), observation)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("lift", {}),
        ("lift", {"action_mode": "absolute"}),
        ("lift", {"controller": "JOINT_POSITION"}),
        ("two-arm-lift", {}),
    ],
    ids=["delta", "absolute", "joint", "two-arm"],
)
def test_stepping_equals_robosuites_own(task: str, options: dict[str, str]) -> None:
    """The physics of our loop against `robosuite.step` from the same state: equal to the last bit."""
    env = sim_envs.make(f"robosuite/{task}", **options)
    env.reset(seed=4)
    generator = np.random.default_rng(3)
    if "action_mode" in options:
        from sim_envs.robosuite.actions import Twist

        actions = [
            env.encode(Twist(0.04 * generator.standard_normal(3), np.full(3, 0.1), 1.0)) for _ in range(8)
        ]
    else:
        actions = list(generator.uniform(-1, 1, (8, *env.action_space.shape)))
    state = env.get_state()
    for action in actions:
        env.step(action)
    ours = np.array(env.raw.sim.data.qpos)
    env.set_state(state)
    for action in actions:
        env.raw.step(np.asarray(action, np.float64))
    assert np.array_equal(np.array(env.raw.sim.data.qpos), ours)
    env.close()


def test_same_trajectory_in_another_process(lift: Any) -> None:
    code = (
        "import sim_envs, numpy as np, hashlib\n"
        "env = sim_envs.make('robosuite/lift'); env.reset(seed=21)\n"
        "for a in np.random.default_rng(9).uniform(-1, 1, (10, 7)): env.step(a)\n"
        "print(hashlib.sha256(env.get_state().tobytes()).hexdigest())"
    )
    outs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    import hashlib

    lift.reset(seed=21)
    for action in np.random.default_rng(9).uniform(-1, 1, (10, 7)):
        lift.step(action)
    digest = hashlib.sha256(lift.get_state().tobytes()).hexdigest()
    assert [out.stdout.strip() for out in outs] == [digest, digest]
    assert outs[0].stderr == ""  # robosuite's import chatter is held back


def test_unseeded_resets_differ_and_follow_the_first_seed(lift: Any) -> None:
    def three() -> list[np.ndarray]:
        lift.reset(seed=8)
        return [lift.reset()[0]["object"] for _ in range(2)]

    first, second = three(), three()
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_bad_actions_and_states_are_refused(lift: Any) -> None:
    lift.reset(seed=0)
    with pytest.raises(sim_envs.SimEnvError, match=r"shape \(7,\), got \(6,\)"):
        lift.step(np.zeros(6))
    with pytest.raises(sim_envs.SimEnvError, match="NaN"):
        lift.step(np.full(7, np.nan))
    with pytest.raises(sim_envs.SimEnvError, match="shape"):
        lift.set_state(np.zeros(3))
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'agentview'"):
        lift.render_image("agentveiw", 8, 8)
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'OSC_POSE'"):
        sim_envs.make("robosuite/lift", controller="OSC_POSES")


def test_success_is_the_cubes_height(lift: Any) -> None:
    lift.reset(seed=0)
    raw = lift.raw
    joint = raw.cube.joints[0]
    pose = np.array(raw.sim.data.get_joint_qpos(joint))
    results = []
    for height in (0.03, 0.039, 0.041, 0.2):
        raw.sim.data.set_joint_qpos(joint, [pose[0], pose[1], 0.8 + height, 1, 0, 0, 0])
        lift.set_state(lift.get_state())
        results.append(lift.success())
    assert results == [False, False, True, True]


def test_horizon_truncates_and_success_terminates() -> None:
    env = sim_envs.make("robosuite/lift", horizon=3)
    env.reset(seed=0)
    ends = [env.step(np.zeros(7))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    env.close()


@pytest.mark.parametrize("controller", ["OSC_POSE", "JOINT_POSITION"])
def test_absolute_actions_reach_their_set_point(controller: str) -> None:
    env = sim_envs.make("robosuite/lift", controller=controller, action_mode="absolute")
    env.reset(seed=0)
    names = Contract.from_dict(env.contract()).action.names
    assert names[0] == ("robot0_x" if controller == "OSC_POSE" else "robot0_joint1")
    from scipy.spatial.transform import Rotation

    from sim_envs.robosuite.observations import eef_pose

    position, rotation = eef_pose(env.raw)
    joints = np.array(env.raw.sim.data.qpos[env.raw.robots[0]._ref_joint_pos_indexes])
    if controller == "OSC_POSE":
        goal = np.concatenate([position + 0.05, Rotation.from_matrix(rotation).as_rotvec(), [-1.0]])
    else:
        goal = np.concatenate([joints + 0.1, [-1.0]])
    for _ in range(60):
        observation = env.step(goal)[0]
    reached = observation["robot0_eef_pos" if controller == "OSC_POSE" else "robot0_joint_pos"]
    assert np.abs(reached - goal[: len(reached)]).max() < 5e-3
    env.close()


def test_passes_gymnasiums_own_checks(recwarn: pytest.WarningsRecorder) -> None:
    from gymnasium.utils.env_checker import check_env

    env = sim_envs.make("robosuite/lift", render_mode="rgb_array")
    check_env(env)
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_vectorised_over_processes_equals_single() -> None:
    import gymnasium

    vector = gymnasium.vector.AsyncVectorEnv([lambda: sim_envs.make("robosuite/lift")] * 2, context="spawn")
    together = vector.reset(seed=[3, 4])[0]
    vector.close()
    env = sim_envs.make("robosuite/lift")
    for i, seed in enumerate((3, 4)):
        alone = env.reset(seed=seed)[0]
        assert all(np.array_equal(together[key][i], alone[key]) for key in alone)
    env.close()
