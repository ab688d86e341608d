"""Which nodes make up a running system: one description, started by `diffbot ros up` and by the launch files alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from diffbot.control.load import load_contract
from diffbot.errors import ConfigError, unknown

MAX_AGE = 0.2  # s, of an observation on a robot


@dataclass(frozen=True)
class NodeSpec:
    """One node: the module of diffbot_ros that runs it, its parameters, namespace and topic renames."""

    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)
    namespace: str = ""
    remappings: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """namespace/executable."""
        return f"{self.namespace}/{self.executable}" if self.namespace else self.executable

    def arguments(self) -> list[str]:
        """Command-line arguments after the executable's name."""
        arguments = ["--ros-args"]
        for name, value in self.parameters.items():
            arguments += ["-p", f"{name}:={json.dumps(value)}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace}"]
        for old, new in self.remappings.items():
            arguments += ["-r", f"{old}:={new}"]
        return arguments if len(arguments) > 1 else []


@dataclass(frozen=True)
class GraphSettings:
    """What a graph is built from. Empty values leave the nodes' own defaults."""

    policy: str = ""
    task: str = ""
    robot: str = ""
    output: str = ""
    bindings: str = ""
    seed: int = 0
    backend: str = "auto"
    stitching: str = "switch"
    action_horizon: int = 0
    rate_scale: float = 1.0
    rate: float = 0.0
    autorun: int = -1
    traces: str = ""
    device: str = "joystick"
    contract: str = ""
    action_server: bool = False
    out: str = "runs/recording"
    namespace: str = ""
    namespaces: tuple[str, ...] = ("robot1", "robot2")
    view: bool = False
    scene: bool = False
    host: str = "127.0.0.1"
    port: int = 8090


def simulation(settings: GraphSettings) -> list[NodeSpec]:
    """Policy, executor and simulator of one task, all on simulated time."""
    contract = load_contract(_needed("policy", settings.policy))
    simulator = {
        "task": settings.task or contract.task,
        "contract": settings.policy,
        "rate_scale": float(settings.rate_scale),
        "autorun": settings.autorun,
    }
    following = {"use_sim_time": True}
    # Ages are of the simulated clock, what delays a message is of the wall clock.
    age = {"max_age": max(1.0, float(settings.rate_scale)) * MAX_AGE}
    return [
        NodeSpec("simulator", simulator),
        NodeSpec("executor", {**_executor(settings), **following}),
        NodeSpec("policy", {**_policy(settings), **following, **age}),
        *([NodeSpec("run_policy")] if settings.action_server else []),
    ]


def robot(settings: GraphSettings) -> list[NodeSpec]:
    """Policy and executor for a real arm; its driver and cameras run already."""
    _needed("policy", settings.policy)
    _needed("robot", settings.robot)
    nodes = [NodeSpec("executor", _executor(settings)), NodeSpec("policy", _policy(settings))]
    if settings.action_server:
        nodes.append(NodeSpec("run_policy", {"robot_nodes": ["policy", "executor"]}))
    return nodes


def remote(settings: GraphSettings) -> list[NodeSpec]:
    """The policy alone, on the machine with the GPU; the executor runs on the robot's."""
    _needed("policy", settings.policy)
    return [NodeSpec("policy", _policy(settings))]


def teleoperation(settings: GraphSettings) -> list[NodeSpec]:
    """An operator's device on a simulated task, recorded. With a policy: shared control."""
    task = _needed("task", settings.task)
    contract = settings.contract or _needed("policy", settings.policy)
    clock = {"use_sim_time": True}
    simulator = {
        "task": task,
        "contract": contract,
        "rate_scale": float(settings.rate_scale),
        "autorun": settings.seed,
    }
    nodes = [
        NodeSpec("simulator", simulator),
        NodeSpec("recorder", {"contract": contract, "out": settings.out, **clock}),
    ]
    operator = {"contract": contract, "device": settings.device, "share": bool(settings.policy), **clock}
    nodes.append(NodeSpec("teleop", operator))
    if settings.policy:
        aside = {"command": "policy_command"}
        nodes.append(NodeSpec("executor", {**_executor(settings), **clock}, remappings=aside))
        nodes.append(NodeSpec("policy", {**_policy(settings), **clock}))
    return nodes


def recording(settings: GraphSettings) -> list[NodeSpec]:
    """The simulation graph with a recorder beside it."""
    contract = _needed("policy", settings.policy)
    recorder = {"contract": contract, "out": settings.out, "use_sim_time": True}
    return [*simulation(settings), NodeSpec("recorder", recorder)]


def two_robots(settings: GraphSettings) -> list[NodeSpec]:
    """The simulation graph twice, each in its namespace and with a clock of its own."""
    return [node for name in settings.namespaces for node in _inside(name, simulation(settings))]


def view(settings: GraphSettings) -> list[NodeSpec]:
    """The live view alone, of a graph that runs already."""
    return [_view(settings, "", settings.port, settings.scene)]


def _inside(namespace: str, nodes: list[NodeSpec]) -> list[NodeSpec]:
    """The nodes in a namespace; a simulator among them has its clock there too."""
    clock = any(node.executable == "simulator" for node in nodes)
    moved = {"/clock": f"/{namespace}/clock"} if clock else {}
    return [
        replace(
            node,
            namespace=f"{namespace}/{node.namespace}".rstrip("/"),
            remappings={**moved, **node.remappings},
        )
        for node in nodes
    ]


def _view(settings: GraphSettings, namespace: str, port: int, scene: bool) -> NodeSpec:
    parameters: dict[str, Any] = {
        "contract": settings.contract or _needed("policy", settings.policy),
        "host": settings.host,
        "port": port,
        "scene": scene,
    }
    if settings.bindings:
        parameters["bindings"] = settings.bindings
    return NodeSpec("view", parameters, namespace)


def _policy(settings: GraphSettings) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "policy": settings.policy,
        "seed": settings.seed,
        "backend": settings.backend,
    }
    parameters["stitching"] = settings.stitching
    if settings.bindings:
        parameters["bindings"] = settings.bindings
    if settings.traces:
        parameters["traces"] = settings.traces
    if settings.action_horizon:
        parameters["replan"] = settings.action_horizon
    return parameters


def _executor(settings: GraphSettings) -> dict[str, Any]:
    parameters: dict[str, Any] = {"contract": settings.policy, "stitching": settings.stitching}
    if settings.robot:
        parameters |= {"robot": settings.robot, "output": settings.output}
    if settings.rate:
        parameters["rate"] = float(settings.rate)
    if settings.action_horizon:
        parameters["action_horizon"] = settings.action_horizon
    return parameters


def _needed(name: str, value: str) -> str:
    if not value:
        raise ConfigError(f"this graph needs {name}=…; see: diffbot ros up --help")
    return value


GRAPHS: dict[str, Callable[[GraphSettings], list[NodeSpec]]] = {
    graph.__name__: graph for graph in (simulation, robot, remote, teleoperation, recording, two_robots, view)
}


def build_graph(name: str, settings: GraphSettings) -> list[NodeSpec]:
    """The nodes of the graph `name`, with view=True a live view for each robot, on one port after the other.

    Raises ConfigError for an unknown graph or a missing setting.
    """
    if name not in GRAPHS:
        raise unknown("graph", name, GRAPHS, "diffbot ros up --help")
    nodes = GRAPHS[name](settings)
    if settings.namespace.strip("/"):
        nodes = _inside(settings.namespace.strip("/"), nodes)
    if settings.view and name != "view":
        for i, namespace in enumerate(dict.fromkeys(node.namespace for node in nodes)):
            scene = any(n.executable == "simulator" and n.namespace == namespace for n in nodes)
            port = settings.port and settings.port + i
            nodes.append(_view(settings, namespace, port, scene))
    return nodes
