"""Which options make a task's environment fit a contract."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import sim_envs
from diffbot.cli.evaluate import task_environment
from diffbot.data.contract import Contract
from diffbot.errors import ContractError
from diffbot.evaluation.evaluate import check_environment


def contract_of(task: str, **options: Any) -> dict[str, Any]:
    env: Any = sim_envs.make(task, **options)
    try:
        return env.unwrapped.contract()
    finally:
        env.close()


@pytest.fixture(scope="module")
def absolute_joints() -> dict[str, Any]:
    return contract_of("robosuite/lift", controller="JOINT_POSITION", action_mode="absolute")


def test_the_environment_of_a_contract_is_made_again(absolute_joints: dict[str, Any]) -> None:
    contract = Contract.from_dict(absolute_joints)
    options = sim_envs.matching_options("robosuite/lift", absolute_joints)
    assert options == {"controller": "JOINT_POSITION", "action_mode": "absolute"}
    make_env, spec = task_environment(contract)
    assert spec.id == "robosuite/lift"
    env = make_env()
    try:
        check_environment(env, contract)
        assert env.unwrapped.action_mode == "absolute"
    finally:
        env.close()


@pytest.mark.parametrize("mode", ["delta", "absolute"])
@pytest.mark.parametrize("controller", ["OSC_POSE", "JOINT_POSITION"])
def test_every_mode_of_an_arm_is_found(absolute_joints: dict[str, Any], controller: str, mode: str) -> None:
    given = copy.deepcopy(absolute_joints)
    given["action"] |= {"meaning": mode, "controller": controller}
    assert sim_envs.matching_options("robosuite/square", given) == {
        "controller": controller,
        "action_mode": mode,
    }


def test_images_decide_cameras_and_size_and_a_task_is_given_only_what_it_offers() -> None:
    given = copy.deepcopy(contract_of("pusht/state"))
    assert sim_envs.matching_options("pusht/state", given) == {}
    image = {"shape": [32, 48, 3], "dtype": "uint8", "kind": "image"}
    given["observations"]["agentview_image"] = image
    options = sim_envs.matching_options("pusht/state", given)
    assert options == {"cameras": ("agentview",), "image_size": (32, 48)}
    given["cameras"] = {"agentview_image": {"name": "overhead"}}
    assert sim_envs.matching_options("pusht/state", given)["cameras"] == ("overhead",)
    given["observations"]["wrist_image"] = {**image, "shape": [64, 64, 3]}
    with pytest.raises(sim_envs.SimEnvError, match="these differ: agentview_image 32x48, wrist_image 64x64"):
        sim_envs.matching_options("pusht/state", given)
    given["observations"] = {"picture": image}
    given["cameras"] = {}
    with pytest.raises(sim_envs.SimEnvError, match="'picture' is an image of an unknown camera"):
        sim_envs.matching_options("pusht/state", given)


def test_what_no_option_makes_fit_is_refused_with_the_way_out(absolute_joints: dict[str, Any]) -> None:
    unknown = copy.deepcopy(absolute_joints)
    unknown["action"]["controller"] = "JOINT_POSITIONS"
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'JOINT_POSITION'"):
        task_environment(Contract.from_dict(unknown))[0]()
    env: Any = sim_envs.make("pusht/state")
    try:
        with pytest.raises(ContractError, match=r"trained for task=robosuite/lift, this is pusht/state"):
            check_environment(env, Contract.from_dict(absolute_joints))
        other = copy.deepcopy(env.unwrapped.contract())
        other["rate"] = 7.0
        with pytest.raises(
            ContractError, match=r"rate: policy 7 Hz, environment \d+ Hz\n.*collect task=pusht/state"
        ):
            check_environment(env, Contract.from_dict(other))
    finally:
        env.close()
