"""A leader arm publishes its joints in another process's stead; the simulated arm follows until it falls silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sim_envs
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.collect_device import StoreArchive
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from sim_envs.teleoperation import TeleoperationSession

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[sim_envs.TaskEnv]:
    monkeypatch.setenv("ROS_DOMAIN_ID", "87")
    env = sim_envs.make("robosuite/lift", controller="JOINT_POSITION", action_mode="absolute", horizon=1000)
    yield env
    env.close()


class Arm:
    """The leader's side: a node that publishes from its own thread."""

    def __init__(self, start: np.ndarray, names: list[str], steps: int) -> None:
        import threading

        self.start, self.names, self.steps = start, names, steps
        self.context = rclpy.Context()
        self.context.init()
        self.thread = threading.Thread(target=self.play, daemon=True)

    def play(self) -> None:
        from sensor_msgs.msg import JointState
        from std_msgs.msg import String

        node = rclpy.create_node("leader_arm", context=self.context)
        joints = node.create_publisher(JointState, "leader/joint_states", 10)
        commands = node.create_publisher(String, "leader/command", 10)
        while joints.get_subscription_count() == 0 or commands.get_subscription_count() == 0:
            time.sleep(0.02)
        commands.publish(String(data="start"))
        for i in range(self.steps):
            posture = self.start.copy()
            posture[0] += min(0.3, 0.02 * i)
            joints.publish(JointState(name=self.names, position=[*posture.tolist(), 1.0]))
            time.sleep(0.05)
        node.destroy_node()

    def close(self) -> None:
        self.thread.join(30)
        self.context.try_shutdown()


def test_arm_follows_the_leader_until_it_is_silent(env: sim_envs.TaskEnv, tmp_path: Path) -> None:
    from sim_envs.teleoperation.leader import LeaderTopic

    contract = Contract.from_dict(env.unwrapped.contract())
    store = EpisodeStore.create(tmp_path / "lift.zarr", contract)
    archive = StoreArchive(store, env, CollectConfig(task="robosuite/lift", device="leader-topic"), "ada")
    device = LeaderTopic(env)
    session = TeleoperationSession(env, device, archive, seeds=iter(range(5, 9)), episodes=2)
    start = np.asarray(session.observation["robot0_joint_pos"], np.float64)
    arm = Arm(start, list(contract.action.names), 40)
    arm.thread.start()
    try:
        assert session.run() == "lost"
    finally:
        arm.close()
        device.close()
    assert "silent" in session.message and len(store) == 1
    arrays = store.episode(0)
    assert arrays["robot0_joint_pos"][-1, 0] - start[0] == pytest.approx(0.3, abs=0.05)
    assert arrays["action"][:, 0].max() - start[0] == pytest.approx(0.3, abs=1e-3)
    assert arrays["action"][-1, 7] == 1.0 and str(store.episode_meta(0)["ended"]) == "device lost"


def test_needs_joint_set_points() -> None:
    from sim_envs.teleoperation.leader import LeaderTopic

    env = sim_envs.make("robosuite/lift")
    with pytest.raises(sim_envs.SimEnvError, match="JOINT_POSITION"):
        LeaderTopic(env)
    env.close()


class Hand:
    """A tracked controller: it moves 6 cm aside and 5 cm up, turns by 0.3 rad about the vertical, closes, and is still."""

    def __init__(self, steps: int) -> None:
        import threading

        self.steps, self.context = steps, rclpy.Context()
        self.context.init()
        self.thread = threading.Thread(target=self.play, daemon=True)

    def play(self) -> None:
        from geometry_msgs.msg import PoseStamped
        from std_msgs.msg import Float32, String

        node = rclpy.create_node("hand", context=self.context)
        poses = node.create_publisher(PoseStamped, "leader/pose", 10)
        grips = node.create_publisher(Float32, "leader/grip", 10)
        commands = node.create_publisher(String, "leader/command", 10)
        while min(p.get_subscription_count() for p in (poses, grips, commands)) == 0:
            time.sleep(0.02)
        for i in range(self.steps):
            message, share = PoseStamped(), min(1.0, max(0, i - 5) / 15)
            message.pose.position.x, message.pose.position.y = 4.0, 1.0 + 0.06 * share
            message.pose.position.z = -2.0 + 0.05 * share
            message.pose.orientation.z = float(np.sin(0.15 * share + 0.5))
            message.pose.orientation.w = float(np.cos(0.15 * share + 0.5))
            poses.publish(message)
            if i == 3:
                commands.publish(String(data="start"))
            if i == 25:
                grips.publish(Float32(data=1.0))
            time.sleep(0.05)
        commands.publish(String(data="stop"))
        node.destroy_node()

    def close(self) -> None:
        self.thread.join(30)
        self.context.try_shutdown()


def test_gripper_repeats_the_motion_of_a_pose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.spatial.transform import Rotation

    from sim_envs.teleoperation.leader import LeaderPose

    monkeypatch.setenv("ROS_DOMAIN_ID", "88")
    env = sim_envs.make("robosuite/lift", horizon=1000)
    store = EpisodeStore.create(tmp_path / "lift.zarr", Contract.from_dict(env.unwrapped.contract()))
    archive = StoreArchive(store, env, CollectConfig(task="robosuite/lift", device="leader-pose"), "bob")
    device = LeaderPose(env)
    session = TeleoperationSession(env, device, archive, seeds=iter(range(5, 9)), episodes=1)
    start, before = session.driver.pose()
    hand = Hand(70)
    hand.thread.start()
    try:
        assert session.run() == "done"
    finally:
        hand.close()
        device.close()
        env.close()
    episode, meta = store.episode(0), store.episode_meta(0)
    moved = episode["robot0_eef_pos"][-1] - start
    np.testing.assert_allclose(moved, [0.0, 0.06, 0.05], atol=0.01)
    after = Rotation.from_quat(episode["robot0_eef_quat"][-1].astype(np.float64))
    turn = after * Rotation.from_quat(before[[1, 2, 3, 0]]).inv()
    np.testing.assert_allclose(turn.as_rotvec(), [0.0, 0.0, 0.3], atol=0.06)
    assert episode["action"][0, 6] == -1.0 and episode["action"][-1, 6] == 1.0
    assert [str(meta[key]) for key in ("operator", "device", "ended")] == ["bob", "leader-pose", "stopped"]
