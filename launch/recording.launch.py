"""A simulated task driven by a policy, recorded: ros2 launch diffbot_ros recording.launch.py policy:=… out:=runs/recording"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph(
        "recording",
        ("policy", "task", "out", "rate_scale", "backend", "autorun", "namespace", "view", "port"),
    )
