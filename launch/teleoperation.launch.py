"""An operator on a simulated task, recorded: ros2 launch diffbot_ros teleoperation.launch.py task:=… contract:=contract.yaml"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph(
        "teleoperation",
        ("task", "contract", "policy", "device", "out", "rate_scale", "seed", "namespace", "view", "port"),
    )
