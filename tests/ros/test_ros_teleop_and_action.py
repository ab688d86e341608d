"""An operator's device under the same limits, and episodes through the action."""

from __future__ import annotations

import dataclasses
import runpy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from diffbot_msgs.action import RunPolicy
from diffbot_ros import launching, qos
from diffbot_ros.graphs import GRAPHS, GraphSettings, NodeSpec, build_graph, simulation
from diffbot_ros.launching import settings_from
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState, Joy

from benchmarks._point_robot import point_contract, task_bundle


@pytest.mark.ros
def test_leader_arm_is_followed_and_its_silence_holds(
    ros_environment: dict[str, str], tmp_path: Path
) -> None:
    contract = tmp_path / "contract.yaml"
    contract.write_text(yaml.safe_dump(point_contract().to_dict()))
    node = NodeSpec("teleop", {"contract": str(contract), "device": "leader"})
    with Processes([node], ros_environment, tmp_path / "log"), Probe(point_contract()) as probe:
        leader = probe.node.create_publisher(JointState, "leader/joint_states", qos.OBSERVATION_WRITER)
        state = JointState(name=["joint2", "joint1"], position=[-0.5, 0.25])
        _repeat(lambda: leader.publish(state), probe, lambda m: list(m.values) == [0.25, -0.5], "following")
        probe.wait(lambda: probe.commands[-1][1].reason == "starved", what="the hold")
        np.testing.assert_array_equal(probe.commands[-1][1].values, np.float32([0.25, -0.5]))


@pytest.mark.ros
def test_joystick_needs_its_dead_man_switch(ros_environment: dict[str, str], tmp_path: Path) -> None:
    base = point_contract()
    action = dataclasses.replace(base.action, meaning="delta", space="cartesian")
    delta = dataclasses.replace(base, action=action)
    contract = tmp_path / "contract.yaml"
    contract.write_text(yaml.safe_dump(delta.to_dict()))
    node = NodeSpec("teleop", {"contract": str(contract), "device": "joystick", "scale": 0.5})
    with Processes([node], ros_environment, tmp_path / "log"), Probe(delta) as probe:
        stick = probe.node.create_publisher(Joy, "joy", qos.OBSERVATION_WRITER)
        held, free = Joy(axes=[1.0, -1.0], buttons=[1]), Joy(axes=[1.0, -1.0], buttons=[0])
        _repeat(lambda: stick.publish(held), probe, lambda m: list(m.values) == [0.5, -0.5], "motion")
        _repeat(lambda: stick.publish(free), probe, lambda m: list(m.values) == [0.0, 0.0], "standstill")


def _repeat(send: Callable[[], None], probe: Probe, fits: Callable[[Any], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not (probe.commands and fits(probe.commands[-1][1])):
        assert time.monotonic() < deadline, what
        send()
        time.sleep(0.03)  # the pace of a device


@pytest.mark.ros
def test_action_runs_an_episode_and_can_be_cancelled(ros_environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    policy = task_bundle(tmp_path, "pusht/state", episodes=2, steps=50)
    nodes = simulation(GraphSettings(policy=str(policy), rate_scale=10.0, action_server=True))
    context = rclpy.Context()
    rclpy.init(context=context)
    client_node = rclpy.create_node("asks", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(client_node)
    ending = threading.Event()

    def spin() -> None:
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        with Processes(nodes, ros_environment, tmp_path / "log") as processes:
            client = ActionClient(client_node, RunPolicy, "run_policy")
            assert client.wait_for_server(90.0), processes.tail("run_policy")
            heard: list[Any] = []
            handle = _done(client.send_goal_async(RunPolicy.Goal(seed=5), feedback_callback=heard.append))
            assert handle.accepted
            answer = _done(handle.get_result_async())
            assert answer.status == 4, answer.result.message  # GoalStatus.STATUS_SUCCEEDED
            assert answer.result.chunks >= 30 and answer.result.duration > 1.0 and heard
            handle = _done(client.send_goal_async(RunPolicy.Goal(seed=6)))
            _done(handle.cancel_goal_async())
            answer = _done(handle.get_result_async())
            assert (answer.status, answer.result.message) == (5, "cancelled")  # STATUS_CANCELED
            client.destroy()
    finally:
        ending.set()
        thread.join()
        executor.shutdown()
        client_node.destroy_node()
        context.try_shutdown()


def _done(future: Any, timeout: float = 120.0) -> Any:
    event = threading.Event()
    future.add_done_callback(lambda _: event.set())
    assert event.wait(timeout), "no answer"
    return future.result()


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_serve_launch_files_and_processes_alike(
    graph: str, point_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "policy": str(point_policy),
        "task": "pusht/state",
        "robot": "ur5e",
        "rate_scale": "2",
        "autorun": "3",
    }
    settings = settings_from({**given, "stitching": ""})
    assert (settings.rate_scale, settings.autorun, settings.stitching) == (2.0, 3, "switch")
    nodes = build_graph(graph, settings)
    titles = [node.title for node in nodes]
    assert len(titles) == len(set(titles))
    root = Path(__file__).resolve().parents[2]
    for node in nodes:
        assert (root / f"ros2_ws/src/diffbot_ros/diffbot_ros/{node.executable}.py").is_file()
        assert node.arguments()[:1] in ([], ["--ros-args"])
    asked: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(launching, "launch_graph", lambda *arguments: asked.append(arguments))
    runpy.run_path(str(root / "launch" / f"{graph}.launch.py"))["generate_launch_description"]()
    ((name, arguments),) = asked
    assert name == graph
    assert set(arguments) <= {field.name for field in dataclasses.fields(GraphSettings)}
