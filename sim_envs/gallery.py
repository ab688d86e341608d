"""Pictures and tables of every task: `python -m sim_envs.gallery` rewrites docs/tasks.md and docs/figures/tasks/.

One sheet for each family shows its tasks at the start of the episode with seed 0.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sim_envs

BEGIN, END = "<!-- tasks: begin -->", "<!-- tasks: end -->"
SIZE = 192
COLUMNS = 6


def families() -> dict[str, list[str]]:
    """Tasks by the first part of their id."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for task in sim_envs.tasks():
        grouped[task.split("/")[0]].append(task)
    return dict(grouped)


def table() -> str:
    """Markdown of all families: one picture sheet and one table each."""
    parts = []
    for family, tasks in families().items():
        lines = [
            f"### {family}",
            "",
            f"![Tasks of {family}](figures/tasks/{family}.jpg)",
            "",
            "| task | what | rate [Hz] | horizon [steps] | expert | success |",
            "|---|---|---|---|---|---|",
        ]
        for task in tasks:
            spec = sim_envs.spec(task)
            expert = "yes" if spec.expert else "no"
            cells = (f"`{task}`", spec.description, f"{spec.rate:.4g}", spec.horizon, expert, spec.success)
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def picture(task: str, size: int = SIZE) -> np.ndarray:
    """The first camera's image at the start of the episode with seed 0, uint8 [size, size, 3]."""
    env = sim_envs.make(task)
    env.reset(seed=0)
    base = env.unwrapped
    image = base.render_image(base.available_cameras[0], size, size)  # type: ignore[attr-defined]
    env.close()
    return image


def sheet(tasks: Sequence[str], path: Path) -> None:
    """Write the pictures of `tasks` with their names into one JPEG."""
    from PIL import Image, ImageDraw

    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    canvas = Image.new("RGB", (columns * (SIZE + 6), rows * (SIZE + 20)), "white")
    draw = ImageDraw.Draw(canvas)
    for index, task in enumerate(tasks):
        x, y = (index % columns) * (SIZE + 6), (index // columns) * (SIZE + 20)
        canvas.paste(Image.fromarray(picture(task)), (x, y))
        draw.text((x + 2, y + SIZE + 4), task.split("/")[1], fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=82)


def update_page(page: Path) -> None:
    """Replace what stands between the two markers of the page by the present table."""
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}")


def main() -> None:
    """Write the page's tables and the sheets of all families or of those named."""
    parser = argparse.ArgumentParser(prog="python -m sim_envs.gallery", description=__doc__)
    parser.add_argument("families", nargs="*", help="families whose sheet is drawn; default: all")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the documentation")
    options = parser.parse_args()
    update_page(options.docs / "tasks.md")
    for family, tasks in families().items():
        if not options.families or family in options.families:
            sheet(tasks, options.docs / "figures" / "tasks" / f"{family}.jpg")
            print(f"{family}: {len(tasks)} tasks")


if __name__ == "__main__":
    main()
