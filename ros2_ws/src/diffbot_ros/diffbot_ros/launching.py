"""The graphs of `graphs.py` as launch descriptions, for `ros2 launch` on a machine with a ROS installation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from diffbot_ros.graphs import GraphSettings, build_graph
from diffbot_ros.isolation import PROFILE


def settings_from(arguments: dict[str, str]) -> GraphSettings:
    """Launch arguments are text; each becomes what the settings' field is. Empty ones keep the default."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(GraphSettings):
        text = arguments.get(field.name, "")
        if text == "":
            continue
        default: Any = field.default
        if isinstance(default, bool):
            values[field.name] = text.lower() in ("true", "1", "yes")
        else:
            values[field.name] = tuple(text.split(",")) if isinstance(default, tuple) else type(default)(text)
    return GraphSettings(**values)


def launch_graph(graph: str, names: Sequence[str]) -> Any:
    """A launch description of one graph whose settings `names` are launch arguments."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node

    from launch import LaunchDescription  # type: ignore[attr-defined]

    def nodes(context: Any) -> list[Any]:
        given = {name: LaunchConfiguration(name).perform(context) for name in names}
        return [
            Node(
                package="diffbot_ros",
                executable=spec.executable,
                namespace=spec.namespace,
                parameters=[spec.parameters],
                remappings=list(spec.remappings.items()),
                output="screen",
            )
            for spec in build_graph(graph, settings_from(given))
        ]

    defaults = {field.name: field.default for field in dataclasses.fields(GraphSettings)}
    declared = [
        DeclareLaunchArgument(name, default_value="", description=f"default: {defaults[name]!r}")
        for name in names
    ]
    profile = SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE))
    return LaunchDescription([*declared, profile, OpaqueFunction(function=nodes)])
