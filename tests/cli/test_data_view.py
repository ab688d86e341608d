"""The dataset page in a headless Chromium: it shows, filters, steps, marks and deletes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_replay import record

from diffbot.data.store import EpisodeStore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: make system")


@pytest.fixture
def page_and_store(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "lift.zarr"
    record(path, (3, 4))
    command = [
        sys.executable,
        "-m",
        "diffbot.cli.main",
        "data",
        "view",
        f"path={path}",
        "port=0",
        "seconds=120",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "open http" in line)
        address = line.split()[1]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1200, "height": 1600})
            page.goto(address)
            page.get_by_text("robosuite/lift").wait_for(timeout=60_000)
            yield page, path
            browser.close()
    finally:
        process.terminate()
        process.wait(20)


def test_page_shows_and_deletes(page_and_store: tuple[Any, Path], tmp_path: Path) -> None:
    page, path = page_and_store
    before = EpisodeStore.open(path)
    kept = before.episode(1)
    page.get_by_text("seed 3").wait_for(timeout=30_000)
    page.get_by_text("robot0_eef_pos").first.wait_for(timeout=30_000)
    press(page, "mark / unmark")
    wait(lambda: "marked" in EpisodeStore.open(path).meta_names)
    assert EpisodeStore.open(path).meta("marked").tolist() == [True, False]
    press(page, "delete episode")
    page.get_by_text("seed 4").wait_for(timeout=30_000)
    wait(lambda: len(EpisodeStore.open(path)) == 1)
    after = EpisodeStore.open(path)
    assert len(after) == 1 and after.meta("seed").tolist() == [4]
    for key, value in after.episode(0).items():
        np.testing.assert_array_equal(value, kept[key])
    assert len(page.screenshot(path=str(tmp_path / "page.png"))) > 10_000


def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def press(page: Any, name: str) -> None:
    """Click without waiting for animation frames, which software WebGL delivers slowly."""
    page.get_by_role("button", name=name).dispatch_event("click")
