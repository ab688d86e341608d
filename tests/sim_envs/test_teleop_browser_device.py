"""The browser device without a browser: targets dragged or nudged become motion, and the arm gets there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import sim_envs
from sim_envs.teleoperation import Command, Input, View
from sim_envs.teleoperation.browser import YAW_STEP, BrowserDevice
from sim_envs.teleoperation.devices import Watched
from sim_envs.teleoperation.driver import Driver

pytest.importorskip("viser")


@pytest.fixture(scope="module")
def env() -> Iterator[sim_envs.TaskEnv]:
    env = sim_envs.make("robosuite/lift", horizon=1000)
    yield env
    env.close()


@pytest.fixture
def device(env: sim_envs.TaskEnv) -> Iterator[BrowserDevice]:
    env.reset(seed=5)
    device = BrowserDevice(env, port=0, scene=True)
    yield device
    device.close()


def look(driver: Driver, fresh: bool) -> View:
    position, quaternion = driver.pose()
    grip = driver.grips[driver.arm]
    return View("recording", fresh, 0, 0, False, "", position, quaternion, grip)


def test_page_is_served_to_this_machine_only(device: BrowserDevice) -> None:
    assert device.address.startswith("http://127.0.0.1:") and device.server.get_host() == "127.0.0.1"


def test_arm_reaches_a_dragged_pose(env: sim_envs.TaskEnv, device: BrowserDevice) -> None:
    driver = Driver(env)
    device.show(look(driver, fresh=True))
    assert not device.read().twist.any()
    position, quaternion = driver.pose()
    goal = position + np.array([0.08, -0.05, -0.04])
    w, x, y, z = quaternion
    turned = Rotation.from_rotvec([0, 0, 0.4]) * Rotation.from_quat([x, y, z, w])
    device.drag(goal, turned.as_quat()[[3, 0, 1, 2]])
    first = device.read().twist
    assert np.abs(first).max() <= 1.0 and first[:3] @ (goal - position) > 0 and first[5] > 0
    for _ in range(80):
        env.step(driver.action(device.read())[0])
        device.show(look(driver, fresh=False))
    position, (w, x, y, z) = driver.pose()
    assert np.linalg.norm(position - goal) < 0.005
    assert (turned * Rotation.from_quat([x, y, z, w]).inv()).magnitude() < 0.05
    assert not device.read().twist.any()  # arrived: inside the dead zone


def test_nudges_and_a_fresh_episode(env: sim_envs.TaskEnv, device: BrowserDevice) -> None:
    driver = Driver(env)
    device.show(look(driver, fresh=True))
    device.nudge(np.array([0.0, 0.0, 1.0]))
    assert device.read().twist == pytest.approx([0, 0, 0.4, 0, 0, 0], abs=1e-6)  # gain 2, 1 cm of 5 cm
    device.turn(1.0)
    assert device.read().twist[5] == pytest.approx(2 * YAW_STEP / 0.5, rel=1e-6)
    device.show(look(driver, fresh=True))
    assert not device.read().twist.any()


def test_another_device_leads_while_the_page_commands(env: sim_envs.TaskEnv, device: BrowserDevice) -> None:
    class Hand:
        name, help, shows_images = "hand", "", False

        def read(self) -> Input:
            return Input(np.full(6, 0.1), 1.0, (Command.SUCCESS,))

        def show(self, view: View) -> None: ...

        def close(self) -> None: ...

    driver = Driver(env)
    both = Watched(Hand(), device)
    both.show(look(driver, fresh=True))
    device.nudge(np.array([1.0, 0.0, 0.0]))
    device._giver(Command.START)()
    given = both.read()
    assert given.twist.tolist() == [0.1] * 6 and given.grip == 1.0
    assert given.commands == (Command.SUCCESS, Command.START)
    assert both.read().commands == (Command.SUCCESS,)


def test_two_arms_keep_their_own_gripper() -> None:
    env = sim_envs.make("robosuite/two-arm-lift")
    env.reset(seed=1)
    driver = Driver(env)
    left = driver.pose()[0]
    driver.action(Input(grip=1.0))
    driver.switch()
    assert driver.arms == 2 and np.linalg.norm(driver.pose()[0] - left) > 0.1
    action, active = driver.action(Input(np.array([0, 0, 1.0, 0, 0, 0])))
    assert active and action[6] == 1.0 and action[13] == -1.0
    assert not action[:6].any() and action[7:13].any()
    env.close()
