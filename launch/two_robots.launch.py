"""Two simulated robots with a policy each, in their own namespaces: ros2 launch diffbot_ros two_robots.launch.py policy:=…"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph("two_robots", ("policy", "task", "rate_scale", "backend", "autorun", "view", "port"))
