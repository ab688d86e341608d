"""The registry: names, errors, laziness, gymnasium's names."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest

import sim_envs
from sim_envs.errors import require
from sim_envs.spec import TaskSpec


def test_importing_loads_no_simulator_and_listing_tasks_neither() -> None:
    code = (
        "import sys, sim_envs; sim_envs.tasks(); sim_envs.spec('robosuite/lift');"
        "print([m for m in ('mujoco', 'robosuite', 'gymnasium', 'dm_control', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert out.stderr == ""


def test_every_spec_is_complete() -> None:
    for name in sim_envs.tasks():
        spec = sim_envs.spec(name)
        assert spec.id == name
        assert spec.horizon > 0 and spec.rate > 0
        assert spec.success and spec.description and ":" in spec.make


@pytest.mark.parametrize("wrong", ["robosuite/lfit", "lift", "robosuite/lifts"])
def test_unknown_task_names_the_nearest(wrong: str) -> None:
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'robosuite/lift'"):
        sim_envs.make(wrong)


def test_unknown_option_quality_and_missing_expert() -> None:
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'cameras'"):
        sim_envs.make("robosuite/lift", camera=("agentview",))
    with pytest.raises(sim_envs.SimEnvError, match="Valid: expert, good, okay, poor"):
        sim_envs.expert("robosuite/lift", quality="perfect")


def test_register_task_adds_once() -> None:
    spec = TaskSpec("own/there", "own.module:Env", 10, 10.0, "arrived", "a test", extra="own")
    sim_envs.register_task(spec)
    try:
        assert sim_envs.spec("own/there") is spec
        with pytest.raises(sim_envs.SimEnvError, match="already"):
            sim_envs.register_task(spec)
        with pytest.raises(
            sim_envs.SimEnvError, match=r"'own', which is not installed.*pip install 'diffbot\[own\]'"
        ):
            sim_envs.make("own/there")
        with pytest.raises(sim_envs.SimEnvError, match="no scripted expert"):
            sim_envs.expert("own/there")
    finally:
        sim_envs.registry._added.clear()


def test_missing_package_says_what_to_install() -> None:
    with pytest.raises(sim_envs.SimEnvError, match=r"pip install 'diffbot\[sim\]'"):
        require("a_simulator_that_is_not_there")


def test_gymnasium_makes_the_task_by_its_name() -> None:
    sim_envs.register_gymnasium()
    sim_envs.register_gymnasium()  # a second call changes nothing
    env = gymnasium.make("diffbot/robosuite-lift-v0")
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert info["success"] is False
    env.step(env.action_space.sample())
    env.close()
