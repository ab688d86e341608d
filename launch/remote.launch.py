"""The policy node alone, on another machine than the robot: ros2 launch diffbot_ros remote.launch.py policy:=… bindings:=…"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph("remote", ("policy", "bindings", "backend", "stitching", "namespace", "view", "port"))
