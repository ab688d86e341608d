"""The policy node as a process: what is fed to it over DDS gives the very chunks that the policy gives in process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffbot_msgs.msg import StampedArray
from diffbot_ros.convert import chunk_from_message
from diffbot_ros.graphs import NodeSpec
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes
from diffbot_ros.trace import Trace, differing, replay
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from benchmarks._point_robot import point_contract
from diffbot.control.load import load_runner

pytestmark = pytest.mark.ros
RATE = 20.0


def observations(rng: np.random.Generator, steps: int) -> list[dict[str, np.ndarray]]:
    """A recorded episode: the point wanders, the goal stays."""
    goal = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    walk = np.cumsum(rng.normal(0, 0.02, (steps, 2)), axis=0).astype(np.float32)
    return [{"position": position, "goal": goal} for position in walk]


@pytest.mark.parametrize("stitching", ["switch", "rtc"])
def test_replayed_episode_gives_bit_identical_chunks(
    ros_environment: dict[str, str], point_policy: Path, tmp_path: Path, stitching: str
) -> None:
    parameters = {"policy": str(point_policy), "stitching": stitching, "replan": 4, "max_age": 0.0}
    parameters |= {"max_ahead": 0.0, "traces": str(tmp_path / "traces"), "seed": 3}
    node = NodeSpec("policy", parameters)
    episode = observations(np.random.default_rng(1), 40)
    with (
        Processes([node], ros_environment, tmp_path / "log") as processes,
        Probe(point_contract(RATE)) as probe,
    ):
        probe.ready(executor=False)
        probe.reset(77, executor=False)
        for step, values in enumerate(episode):
            probe.publish(values, 10.0 + step / RATE)
            if step % 4 == 0:
                expected = step // 4 + 1
                probe.wait(lambda n=expected: len(probe.chunks) >= n, what=f"chunk {expected}")
                processes.check()
    published = {message.id: chunk_from_message(message) for _, message in probe.chunks}
    assert sorted(published) == list(range(10))

    runner = load_runner(point_policy, seed=3)
    trace = Trace.load(tmp_path / "traces" / "episode_00000077.npz")
    assert (trace.prefixes[-1] is not None) == (stitching == "rtc")
    assert differing(published, replay(trace, runner)) == []
    if stitching == "switch":
        runner.reset(77)
        for step, values in enumerate(episode):
            runner.observe(values, 10.0 + step / RATE)
            if step % 4 == 0:
                chunk = runner.infer()
                assert chunk.actions.tobytes() == published[step // 4].actions.tobytes()
    other = load_runner(point_policy, seed=4)
    assert differing(published, replay(trace, other)), "another seed must give other chunks"


def test_bad_observations_are_refused_and_the_node_lives_on(
    ros_environment: dict[str, str], point_policy: Path, tmp_path: Path
) -> None:
    node = NodeSpec("policy", {"policy": str(point_policy), "replan": 1, "max_age": 0.0, "max_ahead": 0.0})
    good = {"position": np.float32([0.1, 0.2]), "goal": np.float32([0.3, 0.3])}
    with (
        Processes([node], ros_environment, tmp_path / "log") as processes,
        Probe(point_contract(RATE)) as probe,
    ):
        probe.ready(executor=False)
        stamp = 5.0
        for bad, reason in (
            (StampedArray(values=[float("nan"), 0.0]), "NaN"),
            (StampedArray(values=[0.0, 0.0, 0.0]), "3 values"),
            (StampedArray(values=[0.0, 0.0], unit="m"), "comes in 'm'"),
        ):
            before = len(probe.chunks)
            stamp += 1.0
            probe.publish(good, stamp)
            probe.wait(lambda n=before: len(probe.chunks) > n, what="a chunk")
            refused = probe.policy[-1][1].refused
            bad.header.stamp.sec = int(stamp) + 1
            probe.publishers["position"].publish(bad)
            probe.wait(lambda n=refused: probe.policy[-1][1].refused > n, what="the refusal")
            assert reason in probe.policy[-1][1].reason
            assert "position" in probe.policy[-1][1].reason or reason == "NaN"
        probe.publish(good, stamp + 3.0)
        probe.wait(lambda: probe.policy[-1][1].reason == "", what="recovery")
        processes.check()


def test_a_node_that_cannot_be_configured_says_why_and_ends(
    ros_environment: dict[str, str], point_policy: Path, tmp_path: Path
) -> None:
    bindings = tmp_path / "topics.yaml"
    bindings.write_text("observations:\n  positoin: {topic: t}\n")
    for name, parameters, words in (
        ("missing", {"policy": str(tmp_path / "none")}, "no policy bundle at"),
        ("binding", {"policy": str(point_policy), "bindings": str(bindings)}, "Did you mean 'position'?"),
    ):
        with Processes([NodeSpec("policy", parameters)], ros_environment, tmp_path / name) as processes:
            process = processes.running["policy"]
            assert process.wait(timeout=90) == 2
            assert words in processes.tail("policy")


def test_a_policy_that_stands_by_says_so(
    ros_environment: dict[str, str], point_policy: Path, tmp_path: Path
) -> None:
    """Configured but never activated: its heartbeat must not pass for that of a policy that runs."""
    node = NodeSpec("policy", {"policy": str(point_policy), "autostart": False})
    with (
        Processes([node], ros_environment, tmp_path / "log") as processes,
        Probe(point_contract(RATE)) as probe,
    ):
        client = probe.node.create_client(ChangeState, "policy/change_state")
        assert client.wait_for_service(90.0), processes.tail("policy")
        probe.call(client, ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        probe.wait(lambda: len(probe.policy) >= 3, what="heartbeats")
        assert {status.reason for _, status in probe.policy} == {"inactive"}
