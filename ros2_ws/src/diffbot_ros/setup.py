"""ament_python package of the nodes; `pip install diffbot` brings the library that they run."""

import os
from pathlib import Path

from setuptools import setup

NODES = ("policy", "executor", "simulator", "teleop", "recorder", "run_policy", "view")
HERE = Path(__file__).resolve().parent
# colcon wants the paths of data files relative to the package.
LAUNCH = [os.path.relpath(path, HERE) for path in sorted((HERE.parents[2] / "launch").glob("*.launch.py"))]

setup(
    name="diffbot_ros",
    version="0.1.0",
    packages=["diffbot_ros"],
    package_data={"diffbot_ros": ["*.xml", "*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/diffbot_ros"]),
        ("share/diffbot_ros", ["package.xml"]),
        ("share/diffbot_ros/launch", LAUNCH),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="diffbot",
    maintainer_email="diffbot@users.noreply.github.com",
    description="Nodes that run a diffbot policy bundle on a robot or in simulation",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"{node} = diffbot_ros.{node}:main" for node in NODES]},
)
