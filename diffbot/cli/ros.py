"""`diffbot ros`: policies, simulators and robots as ROS 2 nodes, on machines with and without a ROS installation."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffbot.cli.ros_config import DemoConfig, UpConfig, ViewConfig, graph_settings
from diffbot.cli.termination import raising_on_term
from diffbot.cli.verb import Verb
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, MissingExtraError, require

if TYPE_CHECKING:
    from diffbot_ros.graphs import GraphSettings

SET_UP = (
    "Install them with `make setup`, or: pip install 'diffbot[ros,ros-build]' && "
    "pip install --no-build-isolation ./ros2_ws/src/diffbot_msgs"
)


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
