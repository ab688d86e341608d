"""A person's Lift episode, led from the page in a headless Chromium, stored, and replayed exactly."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim_envs
from diffbot.cli.data_replay import replay
from diffbot.data.store import EpisodeStore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SEED = 5  # its cube lies square to the gripper
NUDGES = (("3 cm", 0.03), ("1 cm", 0.01), ("3 mm", 0.003))

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: make system"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[tuple[Any, Path, subprocess.Popen[str]]]:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "lift.zarr"
    command = [sys.executable, "-m", "diffbot.cli.main", "collect", "task=robosuite/lift", "device=browser"]
    command += [f"out={path}", "port=0", f"seed={SEED}", "episodes=2", "operator=ada", "scene=false"]
    command += ["cameras=[agentview]", "image_size=[48,48]"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "open http" in line)
        address = line.split("open ")[1].split()[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1000, "height": 1800})
            page.goto(address)
            page.get_by_text("start begins to record").wait_for(timeout=60_000)
            yield page, path, process
            browser.close()
    finally:
        process.terminate()
        process.wait(20)


def test_lift_led_from_the_page(session: tuple[Any, Path, subprocess.Popen[str]], tmp_path: Path) -> None:
    page, path, process = session
    assert page.locator("img").count() >= 2  # front and wrist cameras
    # A first try is discarded, a second kept and undone.
    press(page, "start")
    page.get_by_text("recording").first.wait_for()
    press(page, "+x")
    press(page, "discard")
    page.get_by_text("discarded").wait_for()
    press(page, "start")
    page.get_by_text("recording").first.wait_for()
    press(page, "close")
    wait(lambda: "closed" in status(page))
    press(page, "stop")
    page.get_by_text("stored 1").wait_for()
    assert EpisodeStore.open(path).meta("success").tolist() == [False]
    press(page, "undo")
    page.get_by_text("stored 0").wait_for()
    assert len(EpisodeStore.open(path)) == 0

    env = sim_envs.make("robosuite/lift")
    cube = env.reset(seed=SEED)[0]["object"][:3].astype(float)
    press(page, "start")
    page.get_by_text("recording").first.wait_for()
    lead(page, {0: cube[0], 1: cube[1]})
    arrive(page)
    lead(page, {2: cube[2]})
    arrive(page)
    closed_at = steps(page)
    press(page, "close")
    wait(lambda: steps(page) > closed_at + 20)
    lead(page, {2: cube[2] + 0.12})
    page.get_by_text("stored 1").wait_for(timeout=60_000)
    assert len(page.screenshot(path=str(tmp_path / "page.png"))) > 10_000
    press(page, "quit")
    assert process.wait(30) == 0

    store = EpisodeStore.open(path)
    assert len(store) == 1
    meta, arrays = store.episode_meta(0), store.episode(0)
    assert bool(meta["success"]) and int(meta["seed"]) == SEED
    assert [str(meta[k]) for k in ("operator", "device", "ended", "labelled_by")] == [
        "ada", "browser", "terminated", "simulator",
    ]  # fmt: skip
    lifted = arrays["object"][-1, 2] - arrays["object"][0, 2]
    assert lifted > 0.01 and arrays["action"][0, :6].any() and arrays["action"][-1, 6] == 1
    images = arrays["agentview_image"]
    assert images.shape == (len(arrays["action"]), 48, 48, 3) and (images[0] != images[-1]).any()
    result = replay(env, arrays, meta, 0)
    assert result.success and float(result.drift.max()) == 0.0
    env.close()


def status(page: Any) -> str:
    """The lines of the page that change."""
    return str(page.get_by_text("gripper (").first.inner_text())


def steps(page: Any) -> int:
    """Control steps of the running episode."""
    found = re.search(r"step (\d+)", str(page.get_by_text("stored ").first.inner_text()))
    assert found is not None
    return int(found[1])


def poses(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """Gripper and target, m."""
    found = re.findall(r"\(([-\d., ]+)\) m", status(page))
    gripper, target = (np.array([float(v) for v in text.split(",")]) for text in found[:2])
    return gripper, target


def lead(page: Any, goal: dict[int, float]) -> None:
    """Press the nudges that bring the target to `goal` (axis to m), long ones first."""
    for label, length in NUDGES:
        press(page, label)
        page.get_by_text(f"nudge {label}").wait_for()
        for axis, value in goal.items():
            while abs(distance := value - poses(page)[1][axis]) > 0.6 * length:
                before = poses(page)[1][axis]
                press(page, ("+" if distance > 0 else "-") + "xyz"[axis])
                # The page sends a second click on the same button only after a moment.
                wait(lambda axis=axis, before=before: poses(page)[1][axis] != before, 10.0)


def arrive(page: Any) -> None:
    wait(lambda: bool(np.linalg.norm(np.subtract(*poses(page))) < 0.006))


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def press(page: Any, name: str) -> None:
    """Click without waiting for animation frames, which software WebGL delivers slowly."""
    page.get_by_role("button", name=name, exact=True).dispatch_event("click")
