"""Robots as data: one YAML file each, with joints, limits and the topics on which it takes commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from diffbot.control.limits import Limits
from diffbot.errors import ConfigError, unknown

FOLDER = Path(__file__).parent
OUTPUTS = ("joint_trajectory", "forward", "pose", "twist", "joint_target", "gripper")


@dataclass(frozen=True)
class Robot:
    """One robot.

    joints: in the order of its controllers. joint_limits: for absolute joint actions, in rad, rad/s, rad/s^2, rad/s^3.
    workspace: (low, high) corners in m in `base_frame`, for Cartesian actions.
    outputs: settings of each way it takes commands, by kind: topic, and what that kind needs besides.
    """

    name: str
    description: str
    joints: tuple[str, ...]
    base_frame: str
    joint_limits: Mapping[str, tuple[float, ...]]
    workspace: tuple[tuple[float, ...], tuple[float, ...]]
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_output: str = "joint_trajectory"

    def limits(self, space: str) -> Limits:
        """Limits for actions in this space: "joint" or "cartesian"."""
        if space == "joint":
            return Limits.from_dict(self.joint_limits)
        return Limits(workspace_low=self.workspace[0], workspace_high=self.workspace[1])


def robots() -> list[str]:
    """Names of the robots that come with diffbot."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def robot(name: str) -> Robot:
    """A robot by name, or by the path of a YAML file of your own. Raises ConfigError with the nearest name."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise unknown("robot", name, robots(), "diffbot list robots")
    data = yaml.safe_load(path.read_text())
    needed = ("description", "joints", "base_frame", "joint_limits", "workspace", "outputs", "default_output")
    if not isinstance(data, dict):
        raise ConfigError(f"{path} does not describe a robot; it needs {', '.join(needed)}")
    for entry in data:
        if entry not in needed:
            raise unknown(f"entry of {path.name}", str(entry), needed)
    for entry in needed:
        if entry not in data:
            raise ConfigError(f"{path} lacks '{entry}'; a robot needs {', '.join(needed)}")
    for kind in data["outputs"]:
        if kind not in OUTPUTS:
            raise unknown(f"output of {path.name}", str(kind), OUTPUTS)
    low, high = data["workspace"]["low"], data["workspace"]["high"]
    return Robot(
        path.stem,
        str(data["description"]),
        tuple(data["joints"]),
        str(data["base_frame"]),
        {key: tuple(float(v) for v in value) for key, value in data["joint_limits"].items()},
        (tuple(map(float, low)), tuple(map(float, high))),
        data["outputs"],
        str(data["default_output"]),
    )
