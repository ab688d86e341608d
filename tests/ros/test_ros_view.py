"""The live view: what it computes by closed forms and against MuJoCo, and the page of running nodes in a browser."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffbot_ros.graphs import GraphSettings, build_graph
from diffbot_ros.processes import Processes
from diffbot_ros.skeleton import Skeleton
from diffbot_ros.view_track import Track, find_position, motion_columns, strip

from benchmarks._point_robot import point_contract, task_bundle
from diffbot.control import Chunk
from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EEF = {"robot0_eef_pos": Field((3,), unit="m", names=("x", "y", "z"))}
NAMES = tuple(f"robot0_{n}" for n in ("x", "y", "z", "rx", "ry", "rz", "gripper"))
OSC = Action((7,), unit="0.05 m, 0.5 rad", names=NAMES, meaning="delta", space="cartesian")
LIFT = Contract(EEF, OSC, rate=20.0)
URDF = """<robot name="arm"><link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="tip"/>
<joint name="j1" type="revolute"><parent link="base"/><child link="a"/><origin xyz="0 0 0.3" rpy="0.1 0.2 0.3"/>
<axis xyz="0 0 2"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
<joint name="j3" type="prismatic"><parent link="b"/><child link="c"/><origin xyz="0.2 0 0" rpy="0 0.4 0"/>
<axis xyz="1 1 0"/><limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
<joint name="j2" type="continuous"><parent link="a"/><child link="b"/><origin xyz="0.1 0.2 0"/><axis xyz="0 1 0"/></joint>
<joint name="end" type="fixed"><parent link="c"/><child link="tip"/><origin xyz="0 0 0.1" rpy="1 0 0"/></joint>
</robot>"""


def test_delta_ribbon_adds_up_from_where_the_robot_was() -> None:
    track = Track(LIFT, find_position(LIFT))
    track.observe(np.array([0.1, 0.2, 0.9]))
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 7)).astype(np.float32)
    track.arrive(1.0, 7.0)
    track.plan(Chunk(actions, 1.0, 0.05), 7.25)
    assert list(track.delays) == [0.25]
    track.observe(np.array([0.5, 0.5, 0.5]))  # it has moved since: the plan has not
    ribbon = track.ribbon()
    assert ribbon is not None and ribbon.shape == (7, 3)
    np.testing.assert_allclose(ribbon[0], [0.1, 0.2, 0.9])
    np.testing.assert_allclose(np.diff(ribbon, axis=0), 0.05 * actions[:, :3].astype(np.float64), atol=1e-12)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (OSC, ((0, 1), 0.05)),
        (dataclasses.replace(OSC, unit="m, quaternion"), ((0, 1), 1.0)),
        (dataclasses.replace(OSC, unit="100 N"), None),
        (dataclasses.replace(OSC, unit="m/s"), None),
        (dataclasses.replace(OSC, unit="mm"), None),
        (dataclasses.replace(OSC, space="joint"), None),
        (Action((2,), unit="m", names=("y", "x"), space="cartesian"), ((1, 0), 1.0)),
        (Action((1,), unit="m", space="cartesian"), None),
    ],
)
def test_only_metres_are_a_motion(action: Action, expected: Any) -> None:
    assert motion_columns(action, 2) == expected


def test_position_is_found_or_named() -> None:
    assert find_position(LIFT) == "robot0_eef_pos"
    assert find_position(point_contract()) == ""
    assert find_position(point_contract(), "goal") == "goal"
    planar = Field((2,), unit="m", names=("x", "y"))
    things = {"block_position": planar, "pusher_position": planar, "speed": Field((2,), unit="m/s")}
    assert find_position(Contract(things, OSC, rate=10.0)) == "pusher_position"
    with pytest.raises(ConfigError, match="Did you mean 'position'"):
        find_position(point_contract(), "positoin")


def test_signal_is_ascending_and_each_time_belongs_to_one_curve() -> None:
    contract = point_contract(20.0)
    track = Track(contract, "")
    for i in range(200):
        track.command(i * 0.05, np.array([i, -i], np.float64))
    track.plan(Chunk(np.arange(32, dtype=np.float32).reshape(16, 2), 199 * 0.05 - 0.1, 0.05), 0.0)
    times, done, planned = track.signal(1)
    assert (np.diff(times) > 0).all() and (np.isnan(done) ^ np.isnan(planned)).all()
    assert done[times == 0.0] == -199 and times[0] >= -4.0
    np.testing.assert_array_equal(planned[times > 0], np.arange(7, 32, 2))
    assert not track.delays, "its observation was never seen"
    track.begin(1)
    assert not track.commands and track.chunk is None and track.ribbon() is None


def test_strip_has_the_points_in_its_middle_and_the_width() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [1, 1, 1], [1, 1, 2.0]])
    vertices, faces = strip(points, 0.2)
    pairs = vertices.reshape(-1, 2, 3).astype(np.float64)
    np.testing.assert_allclose(pairs.mean(1), points, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1), 0.2, atol=1e-6)
    np.testing.assert_allclose(pairs[:, 0, 2], pairs[:, 1, 2], atol=1e-6)
    assert faces.shape == (8, 3) and faces.max() == len(vertices) - 1


def test_skeleton_has_the_poses_of_mujoco() -> None:
    mujoco = pytest.importorskip("mujoco")
    skeleton = Skeleton(URDF)
    assert skeleton.moving == ["j1", "j2", "j3"] and skeleton.base == "base"
    inertia = (
        '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
    )
    text = re.sub(r'<link name="(\w+)"/>', rf'<link name="\1">{inertia}</link>', URDF)
    text = text.replace("<link", '<mujoco><compiler fusestatic="false"/></mujoco><link', 1)
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = {name: float(v) for name, v in zip(skeleton.moving, rng.uniform(-1, 1, 3), strict=True)}
        for name, value in values.items():
            data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        poses = skeleton.poses(values)
        for link in ("a", "b", "c", "tip"):
            np.testing.assert_allclose(poses[link][:3, 3], data.body(link).xpos, atol=1e-9, err_msg=link)
            np.testing.assert_allclose(
                poses[link][:3, :3].ravel(), data.body(link).xmat, atol=1e-9, err_msg=link
            )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot", "not XML"),
        (URDF.replace('<parent link="b"/>', '<parent link="tip"/>'), "form a loop"),
        (URDF.replace('<parent link="b"/>', '<parent link="other"/>'), "2 root links"),
        ("<mujoco/>", "not a URDF"),
        (URDF.replace('type="fixed"', 'type="ball"'), "joint 'end' is of type 'ball'"),
        (URDF.replace("0 0 2", "0 0 0"), "axis of length 0"),
        (URDF.replace("0 0 0.3", "0 0"), "'0 0' where three numbers"),
        (URDF.replace('<parent link="base"/>', '<parent link="tip"/>'), "0 root links"),
    ],
)
def test_broken_descriptions_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Skeleton(text)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: make system")
def test_page_of_a_running_graph(ros_environment: dict[str, str], tmp_path: Path) -> None:
    """Ribbon, path, latency, counters and status are on the page of real nodes, and follow them."""
    pytest.importorskip("mujoco")
    playwright = pytest.importorskip("playwright.sync_api")
    policy = task_bundle(tmp_path, "pusht/state", episodes=2, steps=50)
    settings = GraphSettings(policy=str(policy), rate_scale=1.0, autorun=100000, view=True, port=0)
    nodes = build_graph("simulation", settings)
    assert nodes[-1].executable == "view"
    nodes[-1].parameters["refresh"] = 2.0  # a browser without a graphics card draws slowly
    with Processes(nodes, ros_environment, tmp_path / "log") as processes, playwright.sync_playwright() as p:
        address = ""
        deadline = time.monotonic() + 90
        while not address:
            processes.check()
            assert time.monotonic() < deadline, processes.tail("view")
            found = re.findall(r"open (http://127\.0\.0\.1:\d+)", processes.tail("view"))
            address = found[0] if found else ""
            time.sleep(0.1)
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.goto(address)
        for text in (
            "diffusion_policy",
            "inference p50 / p99",
            "limits and refusals",
            "observation to chunk",
        ):
            page.get_by_text(text).first.wait_for(timeout=120_000)
        page.get_by_text("pusher_position").first.wait_for(timeout=90_000)

        def value(name: str) -> str:
            return page.locator(f"xpath=//tr[td[1]='{name}']/td[2]").first.inner_text()

        before = int(value("chunks"))
        deadline = time.monotonic() + 60
        while int(value("chunks")) <= before:
            assert time.monotonic() < deadline, "the page stands still"
            time.sleep(0.2)
        assert re.fullmatch(r"[\d.]+ / [\d.]+ ms", value("observation to chunk p50 / p99"))
        picture = tmp_path / "view.png"
        page.screenshot(path=str(picture), timeout=120_000)
        assert orange(picture) > 50, "no ribbon on the page"
        processes.end("policy")
        page.get_by_text("starved").or_(page.get_by_text("inactive")).first.wait_for(timeout=90_000)
        browser.close()


def orange(picture: Path) -> int:
    """Pixels of the ribbon's colour, shaded by the light, in the scene beside the panels."""
    image = np.asarray(__import__("PIL.Image").Image.open(picture).convert("RGB")).astype(int)
    r, g, b = np.moveaxis(image[200:, :560], 2, 0)
    return int(((r > 150) & (g > 0.3 * r) & (g < 0.85 * r) & (b < 0.6 * r)).sum())


def test_view_needs_a_policy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "diffbot_ros.view"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "'contract' must name a policy bundle" in done.stderr
