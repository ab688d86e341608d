"""A browser page of a graph that runs already: ros2 launch diffbot_ros view.launch.py policy:=… scene:=true"""

from diffbot_ros.launching import launch_graph


def generate_launch_description():
    return launch_graph("view", ("policy", "contract", "bindings", "scene", "host", "port", "namespace"))
