"""What every task promises: contract, spaces, seeds, exact states, time limits."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

import sim_envs
from diffbot.data.contract import Contract
from sim_envs.env import TaskEnv

TASKS = [
    "pusht/state",
    "pointmaze/umaze",
    "pointmaze/large",
    "antmaze/umaze",
    "locomotion/hopper",
    "locomotion/halfcheetah",
    "locomotion/walker2d",
    "kitchen/complete",
    "adroit/pen",
    "fetch/push",
    "fetch/pick-and-place",
    "metaworld/reach",
    "metaworld/pick-place",
    "metaworld/door-open",
    "metaworld/mt10",
    "dm_control/cartpole-swingup",
    "dm_control/walker-walk",
    "dm_control/reacher-easy",
    "dm_control/manipulation-lift-brick",
    "particles/spread",
    "particles/tag",
    "particles/world",
    "toy/two-moons",
    "toy/bandit",
]
STEPS, BRANCH = 24, 9


def make(task: str) -> TaskEnv:
    env = sim_envs.make(task).unwrapped
    assert isinstance(env, TaskEnv)
    return env


def actions(env: TaskEnv) -> list[np.ndarray]:
    rng, space = np.random.default_rng(3), env.action_space
    return [rng.uniform(space.low, space.high).astype(np.float32) for _ in range(STEPS)]  # type: ignore[attr-defined]


def same(left: tuple, right: tuple) -> None:
    for key, value in left[0].items():
        np.testing.assert_array_equal(value, right[0][key], err_msg=key)
    assert left[1:4] == right[1:4]
    assert left[4]["success"] == right[4]["success"]


@pytest.mark.parametrize("task", TASKS)
def test_contract_seeds_and_exact_states(task: str) -> None:
    spec, env = sim_envs.spec(task), make(task)
    contract = Contract.from_dict(env.contract())
    assert contract.task == task
    assert contract.rate == pytest.approx(spec.rate, rel=1e-4)
    observation, info = env.reset(seed=5)
    contract.check_observation(observation)
    assert env.observation_space.contains(observation)
    assert info["success"] is False
    taken, state, played = actions(env), None, []
    for step, action in enumerate(taken):
        if step == BRANCH:
            state, before = env.get_state(), observation
        observation, *rest = env.step(action)
        played.append((observation, *rest))
        assert env.observation_space.contains(observation)
        if rest[1]:
            break

    other = make(task)
    other.reset(seed=11)
    if not played[0][2]:
        other.step(taken[0])
    if state is not None:
        assert state.dtype == np.float64 and state.ndim == 1 and np.isfinite(state).all()
        restored = other.set_state(state)
        for key, value in before.items():
            np.testing.assert_array_equal(restored[key], value, err_msg=key)
        np.testing.assert_array_equal(other.get_state(), state)
        for step in range(BRANCH, len(played)):
            same(other.step(taken[step]), played[step])
        with pytest.raises(sim_envs.SimEnvError, match="state of task"):
            other.set_state(state[:-1])
    other.reset(seed=5)  # a used environment starts the same episode
    for action, expected in zip(taken, played, strict=False):
        same(other.step(action), expected)
    env.close()
    other.close()


DIGEST = """
import hashlib, sys, numpy as np, sim_envs
total = hashlib.sha256()
for task in sys.argv[1:]:
    env = sim_envs.make(task).unwrapped
    rng, space = np.random.default_rng(0), env.action_space
    observation, _ = env.reset(seed=123)
    for _ in range(15):
        for key in sorted(observation):
            total.update(observation[key].tobytes())
        observation, reward, terminated, _, _ = env.step(rng.uniform(space.low, space.high).astype(np.float32))
        total.update(np.float64(reward).tobytes())
        if terminated:
            break
print(total.hexdigest())
"""


def test_other_processes_play_the_same_episodes() -> None:
    chosen = [
        "pusht/state",
        "pointmaze/umaze",
        "locomotion/hopper",
        "metaworld/push",
        "dm_control/walker-walk",
    ]
    chosen += ["particles/tag", "toy/bandit", "fetch/push"]
    same_digest(*chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        *["robosuite/lift", "robosuite/two-arm-lift", "kitchen/complete", "adroit/pen", "antmaze/umaze"],
        *["dm_control/manipulation-lift-brick", "metaworld/mt10", "locomotion/walker2d", "particles/world"],
    ],
)
def test_other_processes_play_the_same_episodes_of_every_group(task: str) -> None:
    same_digest(task)


def same_digest(*tasks: str) -> None:
    """Two processes play the same episodes of `tasks`, bit for bit."""
    command = [sys.executable, "-c", DIGEST, *tasks]
    digests = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


@pytest.mark.parametrize("task", ["particles/spread", "fetch/push", "locomotion/halfcheetah"])
def test_time_limit_truncates_and_does_not_terminate(task: str) -> None:
    env = make(task)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)  # type: ignore[arg-type]
    horizon = sim_envs.spec(task).horizon
    ends = [env.step(still)[2:4] for _ in range(horizon)]
    assert ends == [(False, False)] * (horizon - 1) + [(False, True)]


@pytest.mark.parametrize("task", ["pusht/state", "toy/bandit", "particles/spread"])
def test_bad_actions_are_refused(task: str) -> None:
    env = make(task)
    env.reset(seed=0)
    wrong = np.zeros(env.action_space.shape, np.float32)  # type: ignore[arg-type]
    wrong[0] = np.nan
    with pytest.raises(sim_envs.SimEnvError, match="NaN"):
        env.step(wrong)
    with pytest.raises(sim_envs.SimEnvError, match="shape"):
        env.step(np.zeros(7))


@pytest.mark.parametrize("task", ["pusht/image", "pointmaze/umaze", "particles/world", "metaworld/push"])
def test_images_show_the_scene_and_do_not_change_it(task: str) -> None:
    first = make(task)
    camera = first.available_cameras[0]
    env = sim_envs.make(task, cameras=(camera,), image_size=(48, 64)).unwrapped
    plain, _ = first.reset(seed=2)
    observation, _ = env.reset(seed=2)
    image = observation[f"{camera}_image"]
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.std() > 5
    assert env.contract()["observations"][f"{camera}_image"]["kind"] == "image"
    for action in actions(first)[:8]:
        plain, observation = first.step(action)[0], env.step(action)[0]
    for key in set(plain) - {f"{camera}_image"}:
        np.testing.assert_array_equal(plain[key], observation[key])
    assert (env.render_image(camera, 48, 64) != image).any()
    with pytest.raises(sim_envs.SimEnvError, match="camera"):
        sim_envs.make(task, cameras=("nowhere",))
    first.close()
    env.close()
