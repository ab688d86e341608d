"""Graphs as they run: two robots in their namespaces, a policy with nothing but DDS between it and the arm, any task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffbot_msgs.msg import Command
from diffbot_ros.episodes import EpisodeClient
from diffbot_ros.graphs import GraphSettings, NodeSpec, build_graph
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes
from diffbot_ros.trace import differing, load_traces, replay

from benchmarks._point_robot import PointArm, point_contract, task_bundle
from diffbot.control.load import load_runner
from diffbot.methods.registry import build_config
from diffbot.training.config import TrainingConfig
from diffbot.training.run import RunSpec, start

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(scope="module")
def pusht_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mujoco")
    return task_bundle(tmp_path_factory.mktemp("pusht"), "pusht/state", episodes=2, steps=50)


def test_two_robots_do_not_hear_each_other(
    ros_environment: dict[str, str], pusht_policy: Path, tmp_path: Path
) -> None:
    """Both run another seed at the same time; each one's chunks are those of its own policy and observations."""
    settings = GraphSettings(policy=str(pusht_policy), rate_scale=3.0, traces=str(tmp_path / "traces"))
    nodes = build_graph("two_robots", settings)
    assert sorted({node.namespace for node in nodes}) == ["robot1", "robot2"]
    for node in nodes:
        if node.executable == "policy":
            node.parameters["traces"] = str(tmp_path / node.namespace)
    names = ("robot1", "robot2")
    with Processes(nodes, ros_environment, tmp_path / "log") as processes, ExitStack() as stack:
        clients = {n: stack.enter_context(EpisodeClient(processes.check, namespace=n)) for n in names}
        for client in clients.values():
            client.wait_ready()
        clients["robot1"].begin(11)
        second = clients["robot2"].run(22)
        first = clients["robot1"].finish()
        for client in clients.values():
            client.settle()
    runner = load_runner(pusht_policy, seed=0, backend="auto")
    for name, episode, seed in (("robot1", first, 11), ("robot2", second, 22)):
        assert episode.seed == seed and episode.steps == 300
        (trace,) = [trace for trace in load_traces(tmp_path / name) if trace.seed == seed]
        assert len(episode.chunks) > 300 / 16
        assert differing(episode.chunks, replay(trace, runner)) == []


def test_remote_policy_has_nothing_but_dds(
    ros_environment: dict[str, str], point_policy: Path, point_profile: Path, tmp_path: Path
) -> None:
    """The graph `remote` in a namespace and a process group of its own drives an executor that another program started."""
    arm = NodeSpec(
        "executor", {"contract": str(point_policy), "robot": str(point_profile), "action_horizon": 8}, "arm7"
    )
    command = [sys.executable, "-m", "diffbot.cli.main", "ros", "up", "graph=remote"]
    command += [f"policy={point_policy}", "namespace=arm7", f"out={tmp_path / 'far'}"]
    far = {**ros_environment, "DIFFBOT_PARENT": ""}
    with (
        Processes([arm], ros_environment, tmp_path / "near"),
        Probe(point_contract(), namespace="arm7") as probe,
        subprocess.Popen(command, env=far, start_new_session=True, stdout=subprocess.DEVNULL) as remote,
    ):
        try:
            probe.ready()
            probe.reset(3)
            with PointArm(probe, 20.0) as point:
                begin = np.abs(point.position - point.goal).max()
                probe.wait(lambda: np.abs(point.position - point.goal).max() < 0.3 * begin, what="the goal")
                assert len([m for _, m in probe.commands if m.chunk_id >= 0]) > 5
                remote.send_signal(signal.SIGTERM)
                assert remote.wait(60) == 0
                probe.wait(lambda: probe.commands[-1][1].status == Command.HOLD, what="the hold")
                assert any("inactive" in m.reason for _, m in probe.commands), "it said that it ends"
                probe.wait(lambda: "policy_silent" in probe.commands[-1][1].reason, what="the silence")
        finally:
            if remote.poll() is None:
                os.killpg(remote.pid, signal.SIGKILL)


@pytest.mark.parametrize("method", ["diffusion_policy", "decision_diffuser"])
def test_any_task_with_a_vector_action_runs_in_the_demo(tmp_path: Path, method: str) -> None:
    """A maze at 100 Hz whose action is a force; a planner of states, whose own inverse model makes the actions, as well."""
    pytest.importorskip("gymnasium_robotics")
    policy = task_bundle(tmp_path / "bundle", "pointmaze/umaze", episodes=2, steps=50)
    if method != "diffusion_policy":
        small: dict[str, Any] = {"network": "mlp", "network_options": {"width": 64}, "inference_steps": 3}
        small |= {"horizon": 16, "action_horizon": 8}
        training = TrainingConfig(steps=10, batch_size=32, validation=0.0, threads=1, tensorboard=False)
        store = tmp_path / "bundle" / "task.zarr"
        spec = RunSpec(method, build_config(method, small), store, training, task="pointmaze/umaze")
        policy = start(spec, tmp_path / "run").bundle
    out = tmp_path / "ros"
    command = [sys.executable, "-m", "diffbot.cli.main", "ros", "demo", f"policy={policy}", f"out={out}"]
    done = subprocess.run(
        [*command, "task=pointmaze/umaze", "episodes=1"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "ros.json").read_text())
    assert record["ros.chunks_equal"] is True and record["ros.steps"] > 100


def test_a_policy_of_absolute_poses_drives_the_simulated_arm(tmp_path: Path) -> None:
    """The simulator takes the action mode from the bundle; a task that cannot fit is refused with both sides."""
    pytest.importorskip("robosuite")
    policy = task_bundle(
        tmp_path / "bundle", "robosuite/lift", episodes=1, steps=20, length=20, action_mode="absolute"
    )
    out = tmp_path / "ros"
    command = [sys.executable, "-m", "diffbot.cli.main", "ros", "demo", f"policy={policy}", f"out={out}"]
    command += ["episodes=1", "rate_scale=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "ros.json").read_text())
    assert record["ros.chunks_equal"] is True and record["ros.steps"] > 50
    done = subprocess.run([*command, "task=pusht/state"], capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    words = " ".join((done.stdout + done.stderr).split())
    assert "the policy was trained for task=robosuite/lift" in words.lower()
