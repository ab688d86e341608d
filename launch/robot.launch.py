"""A policy on a real arm: ros2 launch diffbot_ros robot.launch.py policy:=… robot:=ur5e bindings:=topics.yaml"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph(
        "robot",
        (
            "policy",
            "robot",
            "output",
            "bindings",
            "rate",
            "backend",
            "stitching",
            "action_server",
            "namespace",
            "view",
            "port",
        ),
    )
