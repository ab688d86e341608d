"""The faults: what is done to the running system, what must follow, and how soon it can be known."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import yaml
from diffbot_ros.graphs import NodeSpec
from lifecycle_msgs.msg import Transition
from std_srvs.srv import SetBool

from benchmarks._fault_rig import Rig, Undo
from diffbot.errors import DiffbotError

Values = dict[str, np.ndarray]

SILENCE = 0.5  # s, the executor's policy_timeout
STARVED = 0.2 + 2 / 50 + 0.1  # s: an observation's age limit, two periods, one heartbeat
CHUNK = 16 / 50  # s, length of a chunk


@dataclass(frozen=True)
class Fault:
    """One fault.

    do: injects it and returns what ends it. expect: "hold" (a hold whose reason contains `reason`), "count" (the
    executor's counter `reason` rises while it goes on), "run" (it goes on), "gone" (no commands: the arm stays where it
    is), "report" (it goes on and `reason` is in the diagnostics of the node `where`).
    known_after: s after which the fault is noticeable by the limits that the nodes were given.
    prepare: what has to be there before; returns what takes it away after the arm has recovered.
    """

    name: str
    do: Callable[[Rig], Undo]
    expect: str
    reason: str
    known_after: float = 0.0
    where: str = ""
    prepare: Callable[[Rig], Undo] | None = None


def _edit(change: Callable[[int, Values, float], tuple[Values, float] | None]) -> Callable[[Rig], Undo]:
    """A fault of the observations as they leave the robot."""

    def do(rig: Rig) -> Undo:
        rig.arm.edit = change

        def undo() -> None:
            rig.arm.edit = None

        return undo

    return do


def _with(key: str, value: object) -> Callable[[int, Values, float], tuple[Values, float]]:
    return lambda step, values, stamp: ({**values, key: np.asarray(value, np.float32)}, stamp)


def _raw(key: str, values: list[float], **entries: object) -> Callable[[Rig], Undo]:
    """The robot publishes a wrong message in place of one observation."""

    def do(rig: Rig) -> Undo:
        def change(step: int, good: Values, stamp: float) -> tuple[Values, float]:
            rig.array(key, values, **entries)
            return {k: v for k, v in good.items() if k != key}, stamp

        rig.arm.edit = change

        def undo() -> None:
            rig.arm.edit = None

        return undo

    return do


def _chunk(**changes: object) -> Callable[[Rig], Undo]:
    def do(rig: Rig) -> Undo:
        rig.chunk(**changes)
        return lambda: None

    return do


def _killed(number: int) -> Callable[[Rig], Undo]:
    def do(rig: Rig) -> Undo:
        rig.end("policy", number)
        return lambda: rig.restart("policy")

    return do


def _hung(rig: Rig) -> Undo:
    rig.send("policy", signal.SIGSTOP)
    return lambda: rig.send("policy", signal.SIGCONT)


def _slow(rig: Rig) -> Undo:
    for _ in range(6):
        rig.send("policy", signal.SIGSTOP)
        time.sleep(0.12)
        rig.send("policy", signal.SIGCONT)
        time.sleep(0.08)
    return lambda: None


def _executor_hung(rig: Rig) -> Undo:
    rig.send("executor", signal.SIGSTOP)
    time.sleep(0.3)
    rig.send("executor", signal.SIGCONT)
    return lambda: None


def _far(rig: Rig) -> Undo:
    """The policy runs in another ROS domain, as on another machine: one bridge is all that joins it to the arm."""
    rig.move_away()
    return rig.move_back


def _cable_pulled(rig: Rig) -> Undo:
    """Nothing passes any more, and nobody is told."""
    rig.send("bridge", signal.SIGSTOP)
    return lambda: rig.send("bridge", signal.SIGCONT)


def _network_replaced(rig: Rig) -> Undo:
    """The bridge is gone for good; another one comes, and both sides discover each other anew."""
    rig.end("bridge", signal.SIGKILL)
    return rig.bridge


RIVAL = "rival/policy"


def _rival(rig: Rig) -> Undo:
    """A second policy node on the same topics that stands by."""
    topics = ("chunk", "policy_status", *(f"observation/{key}" for key in rig.probe.publishers))
    parameters = {**rig.specs["policy"].parameters, "seed": 1, "autostart": False}
    node = NodeSpec("policy", parameters, "rival", {topic: f"/{topic}" for topic in topics})
    rig.processes.start(node)
    rig.lifecycle(RIVAL, Transition.TRANSITION_CONFIGURE)
    return lambda: rig.end(RIVAL, signal.SIGINT)


def _two_policies(rig: Rig) -> Undo:
    rig.lifecycle(RIVAL, Transition.TRANSITION_ACTIVATE)
    return lambda: rig.lifecycle(RIVAL, Transition.TRANSITION_DEACTIVATE)


def _deactivated(rig: Rig) -> Undo:
    rig.lifecycle("policy", Transition.TRANSITION_DEACTIVATE)
    return lambda: rig.lifecycle("policy", Transition.TRANSITION_ACTIVATE)


def _emergency(rig: Rig) -> Undo:
    rig.probe.emergency_stop(True)
    return lambda: rig.probe.emergency_stop(False)


def _executor_ended(number: int) -> Callable[[Rig], Undo]:
    def do(rig: Rig) -> Undo:
        rig.end("executor", number)
        return lambda: rig.restart("executor")

    return do


def _robot_restarted(rig: Rig) -> Undo:
    """The robot's publishers vanish from the graph and are found again."""
    probe = rig.probe
    rig.arm.edit = lambda step, values, stamp: None
    time.sleep(0.05)
    for publisher in probe.publishers.values():
        probe.node.destroy_publisher(publisher)

    def undo() -> None:
        probe.make_publishers()
        rig.arm.edit = None

    return undo


def _disk_full(rig: Rig) -> Undo:
    """A recorder that may write not a byte more than one into any file, as on a full disk."""
    contract = rig.folder / "contract.yaml"
    contract.write_text(yaml.safe_dump(rig.probe.contract.to_dict()))
    node = NodeSpec("recorder", {"contract": str(contract), "out": str(rig.folder / "recording")})
    rig.processes.start(node)
    pid = rig.processes.running["recorder"].pid
    rig.probe.wait(lambda: bool(rig.probe.diagnostic("/recorder", "command")), 60, "the recorder")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, 1))
    client = rig.probe.node.create_client(SetBool, "recorder/end_episode")
    # It answers "no success", which is the point: what is written must be told to have failed.
    with contextlib.suppress(DiffbotError):
        rig.probe.call(client, SetBool.Request(data=True))
    rig.probe.node.destroy_client(client)
    return lambda: rig.end("recorder", signal.SIGINT)


def _jump_back() -> Callable[[Rig], Undo]:
    def do(rig: Rig) -> Undo:
        rig.arm.edit = lambda step, values, stamp: (values, stamp - 0.12)
        return lambda: None  # the clock stays back: the policy must take it up again by itself

    return do


def _swapped(step: int, values: Values, stamp: float) -> tuple[Values, float]:
    return values, stamp - (0.05 if step % 2 else 0.0)


def _dropping(share: float) -> Callable[[int, Values, float], tuple[Values, float] | None]:
    rng = np.random.default_rng(0)
    return lambda step, values, stamp: None if rng.random() < share else (values, stamp)


def _twice(rig: Rig) -> Undo:
    def change(step: int, values: Values, stamp: float) -> tuple[Values, float]:
        rig.probe.publish(values, stamp)
        return values, stamp

    rig.arm.edit = change

    def undo() -> None:
        rig.arm.edit = None

    return undo


NAN = float("nan")
FAULTS = (
    Fault("observation NaN", _edit(_with("position", [NAN, 0.0])), "hold", "NaN"),
    Fault("observation infinite", _edit(_with("goal", [np.inf, 0.0])), "hold", "infinite"),
    Fault("observation too long", _edit(_with("position", [0.0, 0.0, 0.0])), "hold", "3 values"),
    Fault("observation empty", _raw("position", []), "hold", "0 values"),
    Fault("observation in another unit", _raw("position", [0.0, 0.0], unit="deg"), "hold", "'deg'"),
    Fault(
        "joints in another order", _raw("position", [0.0, 0.0], names=["joint2", "joint1"]), "hold", "named"
    ),
    Fault("old stamps", _edit(lambda i, v, t: (v, t - 1.0)), "hold", "old"),
    Fault("future stamps", _edit(lambda i, v, t: (v, t + 5.0)), "hold", "future"),
    Fault("clock set back", _jump_back(), "hold", "not newer"),
    Fault("observations out of order", _edit(_swapped), "hold", "not newer"),
    Fault(
        "one topic drops out",
        _edit(lambda i, v, t: ({"position": v["position"]}, t)),
        "hold",
        "waiting for 'goal'",
        STARVED,
    ),
    Fault(
        "all observations drop out", _edit(lambda i, v, t: None), "hold", "no complete observation", STARVED
    ),
    Fault("robot driver restarts", _robot_restarted, "hold", "no complete observation", STARVED),
    Fault("every second observation lost", _edit(_dropping(0.5)), "run", ""),
    Fault("observations sent twice", _twice, "run", ""),
    Fault("policy killed", _killed(signal.SIGKILL), "hold", "starved|policy_silent", min(CHUNK, SILENCE)),
    Fault("policy terminated", _killed(signal.SIGTERM), "hold", "inactive|starved", CHUNK),
    Fault("policy hung", _hung, "hold", "starved|policy_silent", min(CHUNK, SILENCE)),
    Fault("policy slow", _slow, "run", ""),
    Fault(
        "policy cut off", _cable_pulled, "hold", "starved|policy_silent", min(CHUNK, SILENCE), prepare=_far
    ),
    Fault(
        "network replaced",
        _network_replaced,
        "hold",
        "starved|policy_silent",
        min(CHUNK, SILENCE),
        prepare=_far,
    ),
    Fault("two policies on one topic", _two_policies, "hold", "two_policies", prepare=_rival),
    Fault("policy deactivated", _deactivated, "hold", "inactive"),
    Fault("chunk for another contract", _chunk(contract_hash="0123456789ab"), "count", "contract_mismatch"),
    Fault("chunk with NaN", _chunk(values=np.full((16, 2), np.nan)), "count", "non_finite_chunk"),
    Fault("chunk of other joints", _chunk(names=["a", "b"]), "hold", "malformed_chunk"),
    Fault("chunk that contradicts itself", _chunk(valid=[True] * 3), "hold", "malformed_chunk"),
    Fault("chunk of the past", _chunk(start=-10.0), "count", "out_of_order_chunk|stale_chunk"),
    Fault("chunk of the future", _chunk(start=100.0), "count", "future_chunk"),
    Fault("chunk of another episode", _chunk(episode=99), "count", "other_episode"),
    Fault("chunk far outside the range", _chunk(values=np.full((16, 2), 1e6)), "limit", ""),
    Fault("chunk that jumps", _chunk(values=np.tile([0.9, -0.9], (16, 1))), "limit", ""),
    Fault("emergency stop", _emergency, "hold", "estop"),
    Fault("executor hung", _executor_hung, "run", ""),
    Fault("executor killed", _executor_ended(signal.SIGKILL), "gone", ""),
    Fault("executor terminated", _executor_ended(signal.SIGTERM), "gone", ""),
    Fault("disk full while recording", _disk_full, "report", "recording ended", 3.0, "/recorder"),
)
