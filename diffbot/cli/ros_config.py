"""What the verbs of `diffbot ros` are told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffbot.cli.evaluate import find_bundle

if TYPE_CHECKING:
    from diffbot_ros.graphs import GraphSettings


@dataclass(frozen=True)
class NodesConfig:
    """What every graph of nodes is told."""

    policy: str = ""  # bundle folder, or the run that holds it
    task: str = ""  # simulated task; default: the one that the policy was trained on
    rate_scale: float = 1.0  # simulated seconds per second; 1: real time
    stitching: str = "switch"  # how a new chunk takes over: switch, blend, ensemble or rtc
    action_horizon: int = 0  # steps between inferences; 0: the policy's own
    backend: str = "auto"  # inference engine


@dataclass(frozen=True)
class DemoConfig(NodesConfig):
    """Closed loop over DDS: a simulator, an executor and a policy node, each a process of its own."""

    policy: str = "???"
    episodes: int = 50  # number of seeds
    seed: int = 100000  # first environment seed, as in `diffbot evaluate`
    policy_seed: int = 0  # seed of the policy's own noise
    out: str = ""  # default: ros/ beside the policy


@dataclass(frozen=True)
class UpConfig(NodesConfig):
    """A graph of nodes that runs until it is interrupted."""

    graph: str = "simulation"  # simulation, robot, remote, teleoperation, recording, two_robots, view
    robot: str = ""  # robot profile: diffbot list robots
    output: str = ""  # how the robot takes commands; default: the profile's
    bindings: str = ""  # YAML from contract keys to topics
    seed: int = 0  # of the policy's noise; first episode of a simulator that runs by itself
    rate: float = 0.0  # Hz of the executor; 0: the contract's
    device: str = (
        "joystick"  # teleoperation: joystick, leader; keyboard: python -m diffbot_ros.teleop in a terminal
    )
    action_server: bool = (
        False  # simulation, robot: serve the action run_policy (then no episode starts by itself)
    )
    namespace: str = ""  # of all nodes: several robots on one network
    view: bool = False  # a browser page of each robot
    host: str = "127.0.0.1"  # of the page: only this machine unless you say otherwise
    port: int = 8090  # of the page, the next ones for further robots; 0: any free one
    out: str = "runs/ros"  # logs and recordings
    domain: int = -1  # ROS domain; -1: as the environment says


@dataclass(frozen=True)
class ViewConfig:
    """A browser page of a graph that runs already: it listens and sends nothing."""

    policy: str = "???"  # bundle folder, or the run that holds it
    namespace: str = ""  # of the robot, where several run
    scene: bool = False  # draw the simulated task
    bindings: str = ""  # YAML from contract keys to topics
    host: str = "127.0.0.1"  # only this machine unless you say otherwise
    port: int = 8090  # of the page; 0: any free one
    out: str = "runs/ros"  # its log
    domain: int = -1  # ROS domain; -1: as the environment says


def graph_settings(config: NodesConfig | ViewConfig, **more: Any) -> GraphSettings:
    """What a graph is built from: the entries of `config` by their names, a bundle's absolute path, and `more`."""
    from diffbot_ros.graphs import GraphSettings

    names = {field.name for field in dataclasses.fields(GraphSettings)}
    given = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in names
    }
    if config.policy:
        given["policy"] = str(find_bundle(config.policy).resolve())
    return GraphSettings(**{**given, **more})
