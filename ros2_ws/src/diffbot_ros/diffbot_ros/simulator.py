"""The simulator node: any task of sim_envs as a robot.

Topics out: `observation/<key>` for each observation (StampedArray or Image), `joint_states` where the task has joint
positions, `/clock`, `episode_result`, `~/state` (the whole state, while somebody listens). In: `command`.
Service: `~/reset` takes the seed of an episode and starts it.
"""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from diffbot_msgs.msg import Command, EpisodeResult, StampedArray
from diffbot_msgs.srv import ResetEpisode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

import sim_envs
from diffbot.control.load import load_contract, require_fit
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, ContractError
from diffbot_ros import qos
from diffbot_ros.convert import NANOSECONDS
from diffbot_ros.fields import to_message
from diffbot_ros.node import INACTIVE, Node, run
from diffbot_ros.simulated import SimulatedRobot
from sim_envs.errors import SimEnvError

PARAMETERS: dict[str, tuple[Any, str]] = {
    "task": ("robosuite/lift", "task of sim_envs"),
    "contract": (
        "",
        "bundle or contract.yaml of the policy that is to drive it: its images, controller and action mode are chosen",
    ),
    "cameras": ([""], "cameras to observe; [''] for those of the contract"),
    "options": (
        "",
        "further options of the task, YAML: '{controller: JOINT_POSITION}'; they take precedence",
    ),
    "rate_scale": (1.0, "simulated seconds per second; the control rate is multiplied by it"),
    "lockstep": (True, "wait for the command of each step rather than hold when it is late"),
    "command_timeout": (2.0, "s (wall time) to wait for a command in lockstep"),
    "joint_key": ("joint_pos", "observation that is also published as joint_states"),
    "autorun": (
        -1,
        "seed of a first episode to start without being asked, each next one with the next seed; -1: wait",
    ),
}


class SimulatorNode(Node):
    """One simulated robot."""

    def __init__(self) -> None:
        super().__init__("simulator", PARAMETERS)
        self._robot: SimulatedRobot | None = None
        self._episodes = self._successes = self._commands = 0

    def configure(self) -> None:
        settings = self.settings
        if not settings["rate_scale"] > 0:
            raise ConfigError(f"rate_scale must be positive, got {settings['rate_scale']}")
        try:
            options = yaml.safe_load(settings["options"] or "{}")
        except yaml.YAMLError as error:
            raise ConfigError(f"options is not YAML: {error}") from error
        if not isinstance(options, dict):
            raise ConfigError(f"options must be a mapping, got {settings['options']!r}")
        wanted = load_contract(settings["contract"]) if settings["contract"] else None
        options = {**self._matching(wanted), **options}
        cameras = tuple(name for name in settings["cameras"] if name)
        if cameras:
            options["cameras"] = cameras
        robot = SimulatedRobot(
            lambda: sim_envs.make(settings["task"], **options),
            self._observe,
            self._finish,
            float(settings["rate_scale"]),
            bool(settings["lockstep"]),
            float(settings["command_timeout"]),
        )
        try:
            self._contract = contract = robot.start()
        except SimEnvError as error:
            raise ConfigError(str(error)) from error
        if wanted is not None:
            try:
                require_fit(wanted, contract, "simulator")
            except ContractError:
                robot.stop()
                raise
        self._robot = robot
        self._outputs = {
            key: self.create_publisher(
                Image if field.kind == "image" else StampedArray,
                f"observation/{key}",
                qos.IMAGE_WRITER if field.kind == "image" else qos.OBSERVATION_WRITER,
            )
            for key, field in contract.observations.items()
        }
        self._joints = self._joint_publisher(contract, settings["joint_key"])
        self._state = self.create_publisher(StampedArray, "~/state", qos.OBSERVATION_WRITER)
        self._clock_publisher = self.create_publisher(Clock, "/clock", qos.CLOCK)
        self._results = self.create_publisher(EpisodeResult, "episode_result", qos.EVENT)
        self._input = self.create_subscription(Command, "command", self._receive, qos.COMMAND)
        self._service = self.create_service(ResetEpisode, "~/reset", self._reset)

    def _matching(self, wanted: Contract | None) -> dict[str, Any]:
        """Options that make the task fit the contract."""
        if wanted is None:
            return {}
        try:
            return sim_envs.matching_options(self.settings["task"], wanted.to_dict())
        except SimEnvError as error:
            raise ConfigError(str(error)) from error

    def activate(self) -> None:
        if self.settings["autorun"] >= 0 and self._robot is not None:
            self._robot.reset(int(self.settings["autorun"]))

    def cleanup(self) -> None:
        if self._robot is None:
            return
        self._robot.stop()
        self._robot = None
        singles = (self._joints, self._state, self._clock_publisher, self._results)
        for publisher in (*self._outputs.values(), *singles):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self.destroy_subscription(self._input)
        self.destroy_service(self._service)

    # In the executor thread -------------------------------------------------------------------------------------

    def _receive(self, message: Command) -> None:
        if self._robot is None or message.reason == "no_chunk":
            return
        values = np.frombuffer(message.values, dtype=np.float32)
        if values.shape != self._contract.action.shape or not np.isfinite(values).all():
            self.get_logger().error(
                f"a command of {values.size} values was refused: the task takes {self._contract.action.size} "
                "finite ones",
                throttle_duration_sec=1.0,
            )
            return
        self._commands += 1
        stamp = message.header.stamp
        self._robot.command(stamp.sec * NANOSECONDS + stamp.nanosec, values.copy())

    def _reset(self, request: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        if self._robot is None or not self.active:
            response.message = f"the simulator node is not active. {self.error}".strip()
            return response
        try:
            response.stamp = _stamp(self._robot.reset(request.seed))
            response.success = True
        except TimeoutError as error:
            response.message = str(error)
        return response

    def _joint_publisher(self, contract: Contract, key: str) -> Any:
        if key not in contract.observations:
            return None
        return self.create_publisher(JointState, "joint_states", qos.OBSERVATION_WRITER)

    # From the simulation thread ---------------------------------------------------------------------------------

    def _observe(self, values: Mapping[str, np.ndarray], time_ns: int) -> None:
        for key, publisher in self._outputs.items():
            publisher.publish(
                to_message(self._contract.observations[key], values[key], time_ns / NANOSECONDS)
            )
        if self._joints is not None:
            key = self.settings["joint_key"]
            positions = np.asarray(values[key], np.float64).ravel()
            names = self._contract.observations[key].names or tuple(
                f"joint{i}" for i in range(positions.size)
            )
            message = JointState(name=list(names), position=positions.tolist())
            message.header.stamp = _stamp(time_ns)
            self._joints.publish(message)
        if self._robot is not None and self._state.get_subscription_count():
            state = StampedArray(values=array.array("d", self._robot.state().tobytes()))
            state.header.stamp = _stamp(time_ns)
            self._state.publish(state)
        self._clock_publisher.publish(Clock(clock=_stamp(time_ns)))

    def _finish(self, seed: int, success: bool, steps: int, held: int, total: float) -> None:
        self._episodes += 1
        self._successes += success
        message = EpisodeResult(seed=seed, success=success, steps=steps, held=held, episode_return=total)
        assert self._robot is not None
        message.header.stamp = _stamp(self._robot.time_ns)
        self._results.publish(message)
        outcome = "success" if success else "no success"
        self.get_logger().info(f"episode {seed}: {outcome} after {steps} steps, {held} of them held")
        if self.settings["autorun"] >= 0:
            self._robot.begin(seed + 1)

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        late = self._robot.late if self._robot is not None else 0
        values = {"episodes": self._episodes, "successes": self._successes, "late": late}
        return self.level(DiagnosticStatus.OK), "active" if self.active else INACTIVE, values


def _stamp(time_ns: int) -> Time:
    return Time(sec=time_ns // NANOSECONDS, nanosec=time_ns % NANOSECONDS)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.simulator, or ros2 run diffbot_ros simulator."""
    return run(SimulatorNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
