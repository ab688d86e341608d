"""`diffbot ros`: policies, simulators and robots as ROS 2 nodes, on machines with and without a ROS installation."""

from __future__ import annotations

import dataclasses
import functools
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffbot.cli.evaluate import find_bundle
from diffbot.cli.verb import Verb
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, MissingExtraError, require

if TYPE_CHECKING:
    from diffbot_ros.graphs import GraphSettings

SET_UP = (
    "Install them with `make setup`, or: pip install 'diffbot[ros,ros-build]' && "
    "pip install --no-build-isolation ./ros2_ws/src/diffbot_msgs"
)


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


def check_ros() -> None:
    """Raise MissingExtraError when rclpy or the project's interfaces are not installed."""
    require("rclpy", "ros", "ROS 2 nodes")
    try:
        import diffbot_msgs.msg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"the ROS 2 interfaces 'diffbot_msgs' are not installed. {SET_UP}") from error


def run_demo(config: DemoConfig) -> int:
    """Run the episodes, compare the chunks with those computed in process, write ros.json; status 1 when they differ."""
    check_ros()
    if config.episodes < 1:
        raise ConfigError(f"episodes must be at least 1, got {config.episodes}")
    from diffbot.cli.ros_demo import demo

    return demo(config)


def run_up(config: UpConfig) -> int:
    """Start the nodes of a graph and wait; the output of each goes to a file."""
    check_ros()
    out = Path(config.out)
    settings = graph_settings(
        config,
        contract=_task_contract(config.task, out) if config.task and not config.policy else "",
        autorun=-1 if config.action_server else config.seed,
        out=str(out / "recording"),
    )
    return _keep_up(config.graph, settings, out, config.domain)


def run_view(config: ViewConfig) -> int:
    """Serve the live view of a running graph until it is interrupted."""
    check_ros()
    require("viser", "view", "the live view")
    return _keep_up("view", graph_settings(config), Path(config.out), config.domain)


def _keep_up(graph: str, settings: GraphSettings, out: Path, domain: int) -> int:
    """Run the nodes of a graph until Ctrl-C or SIGTERM; raises DiffbotError when one of them ends by itself."""
    from diffbot_ros.graphs import build_graph
    from diffbot_ros.isolation import node_environment
    from diffbot_ros.processes import Processes
    from rich.console import Console

    nodes = build_graph(graph, settings)
    environment = node_environment(None if domain < 0 else domain, out / "log")
    console = Console()
    with raising_on_term(), Processes(nodes, environment, out / "log") as processes:
        for node in nodes:
            console.print(f"{node.title}: {processes.log(node.title)}", highlight=False)
        console.print("running; end with Ctrl-C")
        pages = {node.title for node in nodes if node.executable == "view"}
        try:
            while True:
                processes.check()
                for title in [title for title in pages if (page := _address(processes.tail(title)))]:
                    pages.remove(title)
                    console.print(f"{title}: open {page}", highlight=False, soft_wrap=True)
                time.sleep(0.2)
        except KeyboardInterrupt:
            console.print("ending")
    return 0


def _address(log: str) -> str:
    found = re.findall(r"open (http://\S+)", log)
    return found[-1] if found else ""


def _task_contract(task: str, out: Path) -> str:
    """Write the contract of a simulated task to <out>/contract.yaml."""
    import yaml

    import sim_envs

    env: Any = sim_envs.make(task)
    try:
        contract = env.unwrapped.contract()
    finally:
        env.close()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "contract.yaml"
    path.write_text(yaml.safe_dump(Contract.from_dict(contract).to_dict()))
    return str(path)


class raising_on_term:  # noqa: N801
    """Inside this context SIGTERM raises KeyboardInterrupt, so that everything is ended in order."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, functools.partial(self._raise))

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _raise(number: int, frame: Any) -> None:
        raise KeyboardInterrupt


def milliseconds(values: list[float], quantile: float) -> float:
    """A quantile of seconds, in ms."""
    return round(1e3 * float(np.quantile(values, quantile)), 3) if values else float("nan")


VERBS = {
    "demo": Verb(
        "a simulated robot driven by a policy node over DDS, with success rate and equality of the chunks",
        DemoConfig,
        run_demo,
        (
            "diffbot ros demo policy=runs/lift/policy",
            "diffbot ros demo policy=runs/lift episodes=10 rate_scale=2",
        ),
    ),
    "up": Verb(
        "start a graph of nodes: simulation, robot, remote, teleoperation, recording, two_robots",
        UpConfig,
        run_up,
        (
            "diffbot ros up graph=simulation policy=runs/lift/policy",
            "diffbot ros up graph=robot policy=runs/lift/policy robot=ur5e bindings=topics.yaml",
            "diffbot ros up graph=simulation policy=runs/lift view=true",
        ),
    ),
    "view": Verb(
        "a browser page of a running graph: robot, planned chunk, executed path, latency, limits",
        ViewConfig,
        run_view,
        (
            "diffbot ros view policy=runs/lift/policy scene=true",
            "diffbot ros view policy=runs/lift/policy namespace=robot1",
        ),
    ),
}
