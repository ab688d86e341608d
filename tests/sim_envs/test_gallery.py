"""The page of tasks is the registry's, and every family has its sheet."""

from __future__ import annotations

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


def test_sheet_shows_each_task(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sheet.jpg"
    gallery.sheet(["toy/rings", "toy/bandit", "pusht/state"], path)
    image = np.asarray(Image.open(path))
    assert image.shape == (gallery.SIZE + 20, 3 * (gallery.SIZE + 6), 3)
    for column in range(3):
        assert image[: gallery.SIZE, column * (gallery.SIZE + 6) :][:, : gallery.SIZE].std() > 3
