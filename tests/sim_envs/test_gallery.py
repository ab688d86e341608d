"""The page of tasks is the registry's, and every family has its sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sim_envs import gallery

DOCS = Path(__file__).parents[2] / "docs"


def test_page_holds_the_present_table_and_pictures() -> None:
    text = (DOCS / "tasks.md").read_text()
    table = text.partition(gallery.BEGIN)[2].partition(gallery.END)[0].strip()
    assert table == gallery.table().strip(), "run: python -m sim_envs.gallery"
    for family in gallery.families():
        assert (DOCS / "figures" / "tasks" / f"{family}.jpg").stat().st_size > 5000


def test_updating_replaces_only_what_is_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "tasks.md"
    page.write_text(f"before\n{gallery.BEGIN}\nold\n{gallery.END}\nafter\n")
    gallery.update_page(page)
    once = page.read_text()
    gallery.update_page(page)
    assert page.read_text() == once
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert "`pusht/state`" in once


def test_speed_tables_hold_tasks_and_levels(tmp_path: Path) -> None:
    page, result = tmp_path / "tasks.md", tmp_path / "sims.json"
    page.write_text(f"before\n{gallery.SPEED_BEGIN}\nold\n{gallery.SPEED_END}\nafter\n")
    rows = [
        {"task": "toy/bandit", "steps_per_s": 12345.6},
        {"task": "pusht/state", "steps_per_s": 9.5, "raw_fraction": 0.571, "expert_success": 0.95,
         "seconds_per_demo": 3.283, "episodes": 20},
        {"task": "robosuite/lift", "error": "lost"},
        {"task": "robosuite/lift", "level": "poor", "success": 0.5, "return": 0.5, "steps": 180.4, "episodes": 20},
    ]  # fmt: skip
    result.write_text(json.dumps({"rows": rows}))
    gallery.update_speed(page, result)
    text = page.read_text()
    assert "| `pusht/state` | 10 | 57% | 95% | 20 | 3.28 |" in text and "old" not in text
    assert "| `toy/bandit` | 12,346 |  |  |  |  |" in text
    assert "| `robosuite/lift` | poor | 50% | 0.50 | 180 | 20 |" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")


def test_sheet_shows_each_task(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sheet.jpg"
    gallery.sheet(["toy/rings", "toy/bandit", "pusht/state"], path)
    image = np.asarray(Image.open(path))
    assert image.shape == (gallery.SIZE + 20, 3 * (gallery.SIZE + 6), 3)
    for column in range(3):
        assert image[: gallery.SIZE, column * (gallery.SIZE + 6) :][:, : gallery.SIZE].std() > 3
