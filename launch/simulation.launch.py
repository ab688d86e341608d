"""A simulated task driven by a policy: ros2 launch diffbot_ros simulation.launch.py policy:=runs/lift/policy"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph(
        "simulation",
        (
            "policy",
            "task",
            "rate_scale",
            "backend",
            "stitching",
            "autorun",
            "action_server",
            "namespace",
            "view",
            "port",
        ),
    )
