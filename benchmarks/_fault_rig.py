"""A point arm, a policy node and an executor node, all alive and moving, to which faults are done."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diffbot_msgs.msg import ActionChunk, Command, StampedArray
from diffbot_ros.convert import to_duration, to_time
from diffbot_ros.graphs import NodeSpec
from diffbot_ros.isolation import Domain
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes
from lifecycle_msgs.srv import ChangeState

from benchmarks._point_robot import JOINTS, LIMITS, PointArm, point_bundle, point_contract, point_robot
from diffbot.errors import DiffbotError

HOLDING = (Command.STOPPING, Command.HOLD, Command.STOPPED)
PATIENCE_S = 120.0  # for a node to start and to answer
SAFETY_TOLERANCE = 1e-3  # relative: commands are float32


@dataclass
class Rig:
    """The running system. `specs` are the nodes by title, for starting them again; `far` is a second ROS domain."""

    processes: Processes
    probe: Probe
    arm: PointArm
    rate: float
    folder: Path
    specs: dict[str, NodeSpec] = field(default_factory=dict)
    far: int = 0

    # What a fault can do ----------------------------------------------------------------------------------------

    def send(self, title: str, number: int) -> None:
        """Send a signal to a node."""
        self.processes.running[title].send_signal(number)

    def end(self, title: str, number: int = signal.SIGKILL) -> None:
        """End a node and wait until it is gone."""
        self.processes.end(title, number, timeout=30)

    def restart(self, title: str) -> None:
        """Start a node again."""
        self.processes.start(self.specs[title])

    def renew(self) -> None:
        """Start both nodes anew: a fault that was not recovered from must not be counted for the next one too."""
        for title in self.specs:
            if title in self.processes.running:
                self.end(title)
            self.restart(title)

    def array(self, key: str, values: list[float], **entries: Any) -> None:
        """Publish an observation message as it stands."""
        message = StampedArray(values=values, **entries)
        message.header.stamp = to_time(self.probe.now())
        self.probe.publishers[key].publish(message)

    def chunk(self, **changes: Any) -> None:
        """Publish a chunk of zeros with changes; start: s relative to now; values: [steps, 2]."""
        values = np.asarray(changes.pop("values", np.zeros((16, 2))), np.float32)
        start = self.probe.now() + changes.pop("start", 0.0)
        message = ActionChunk(
            contract_hash=self.probe.contract.hash(),
            id=10_000,
            step=to_duration(1.0 / self.rate),
            names=list(JOINTS),
            values=values.ravel().tolist(),
            valid=[True] * len(values),
            source=self.probe.policy[-1][1].source,
        )
        message.header.stamp = to_time(start)
        for name, value in changes.items():
            setattr(message, name, value)
        self.probe.chunk_publisher.publish(message)

    def lifecycle(self, node: str, transition: int) -> None:
        """Ask a node for a lifecycle transition."""
        client = self.probe.node.create_client(ChangeState, f"{node}/change_state")
        try:
            if not client.wait_for_service(PATIENCE_S):
                raise DiffbotError(f"{node} has no lifecycle service")
            request = ChangeState.Request()
            request.transition.id = transition
            self.probe.call(client, request, PATIENCE_S)
        finally:
            self.probe.node.destroy_client(client)

    # A policy on another machine --------------------------------------------------------------------------------

    def move_away(self) -> None:
        """Start the policy in a ROS domain of its own, joined to this one by nothing but a bridge."""
        self.end("policy", signal.SIGINT)
        self.processes.start(self.specs["policy"], {"ROS_DOMAIN_ID": str(self.far)})
        self.bridge()

    def bridge(self) -> None:
        """Start the bridge."""
        bridge = str(Path(__file__).with_name("_fault_bridge.py"))
        self.processes.run("bridge", [sys.executable, "-P", bridge, str(self.far), *self.probe.publishers])

    def move_back(self) -> None:
        """End of `move_away`."""
        self.end("bridge", signal.SIGKILL)
        self.end("policy", signal.SIGINT)
        self.restart("policy")

    # What is seen -----------------------------------------------------------------------------------------------

    def follows(self, count: int = 5) -> bool:
        """Whether the latest commands follow a chunk."""
        latest = self.probe.commands[-count:]
        return len(latest) == count and all(m.chunk_id >= 0 for _, m in latest)

    def wait_following(self, timeout: float = 60.0) -> None:
        """Wait until new commands follow a chunk."""
        seen = len(self.probe.commands)
        self.probe.wait(lambda: len(self.probe.commands) >= seen + 8 and self.follows(), timeout, "following")

    def counter(self, name: str) -> int:
        """A counter of the executor, as its latest status has it."""
        status = self.probe.executor[-1][1]
        return next((int(pair.value) for pair in status.counters if pair.key == name), 0)


@contextmanager
def rig(folder: Path, environment: dict[str, str], rate: float) -> Iterator[Rig]:
    """Start everything and wait until the arm follows."""
    policy = point_bundle(folder, rate=rate)
    specs = {
        "policy": NodeSpec("policy", {"policy": str(policy), "replan": 4}),
        "executor": NodeSpec(
            "executor", {"contract": str(policy), "robot": str(point_robot(folder)), "action_horizon": 4}
        ),
    }
    with (
        Processes(list(specs.values()), environment, folder / "log") as processes,
        Probe(point_contract(rate)) as probe,
        Domain() as far,
    ):
        probe.ready()
        probe.reset(0)
        with PointArm(probe, rate) as arm:
            system = Rig(processes, probe, arm, rate, folder, specs, far.id)
            system.wait_following()
            yield system


def violations(commands: list[tuple[float, Command]], rate: float) -> list[str]:
    """Limits that the commanded values break, from their finite differences; gaps in the sequence start anew."""
    found: list[str] = []
    runs: list[list[np.ndarray]] = []
    previous: Command | None = None
    for _, message in commands:
        if message.reason == "no_chunk":
            previous = None
            continue
        values = np.array(message.values, np.float64)
        if not np.isfinite(values).all():
            found.append("non-finite command")
        if previous is None or message.sequence != previous.sequence + 1:
            runs.append([])
        runs[-1].append(values)
        previous = message
    for run in runs:
        x = np.stack(run)
        derived: dict[str, np.ndarray] = {"velocity": np.diff(x, axis=0) * rate}
        derived["acceleration"] = np.diff(derived["velocity"], axis=0) * rate
        derived["jerk"] = np.diff(derived["acceleration"], axis=0) * rate
        # Four ulps of a value near 1 in float32, as they grow with each difference.
        noise = {"velocity": rate * 5e-7, "acceleration": rate**2 * 1e-6, "jerk": rate**3 * 2e-6}
        if (x < np.array(LIMITS["low"]) - 1e-6).any() or (x > np.array(LIMITS["high"]) + 1e-6).any():
            found.append(f"position {x.min():.4f}..{x.max():.4f}")
        for name, value in derived.items():
            limit = np.array(LIMITS[name]) * (1 + SAFETY_TOLERANCE) + noise[name]
            if value.size and (np.abs(value) > limit).any():
                found.append(f"{name} {np.abs(value).max():.4f}")
    return found


Undo = Callable[[], None]
