"""Pictures and tables of every task: `python -m sim_envs.gallery` rewrites docs/tasks.md and docs/figures/tasks/.

One sheet for each family shows its tasks at the start of the episode with seed 0. With `--speed FILE`, a result of
`diffbot bench sims --json FILE`, only the page's tables of speed and of quality levels are written again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sim_envs

BEGIN, END = "<!-- tasks: begin -->", "<!-- tasks: end -->"
SPEED_BEGIN, SPEED_END = "<!-- speed: begin -->", "<!-- speed: end -->"
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


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of the rows of the benchmark: one table of the tasks, and one of the quality levels."""
    tasks = [row for row in rows if "steps_per_s" in row]
    levels = [row for row in rows if "level" in row]
    lines = [
        "| task | steps/s | of `mj_step` | expert's success | episodes | s for a demonstration |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(tasks, key=lambda row: str(row["task"])):
        share = f"{row['raw_fraction']:.0%}" if "raw_fraction" in row else ""
        success = f"{row['expert_success']:.0%}" if "expert_success" in row else ""
        seconds = f"{row['seconds_per_demo']:.2f}" if "seconds_per_demo" in row else ""
        cells = (
            f"`{row['task']}`",
            f"{row['steps_per_s']:,.0f}",
            share,
            success,
            row.get("episodes", ""),
            seconds,
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    if levels:
        lines += ["", "| task | level | success | return | steps | episodes |", "|---|---|---|---|---|---|"]
    for row in levels:
        numbers = f"{row['success']:.0%} | {row['return']:.2f} | {row['steps']:.0f} | {row['episodes']}"
        lines.append(f"| `{row['task']}` | {row['level']} | {numbers} |")
    return "\n".join(lines)


def update_page(page: Path) -> None:
    """Replace what stands between the two markers of the page by the present table."""
    _replace(page, BEGIN, END, table())


def update_speed(page: Path, result: Path) -> None:
    """Replace the page's tables of speed by those of a benchmark's result."""
    _replace(page, SPEED_BEGIN, SPEED_END, speed_table(json.loads(result.read_text())["rows"]))


def _replace(page: Path, begin: str, end: str, new: str) -> None:
    head, _, rest = page.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(f"{head}{begin}\n\n{new}\n\n{end}{tail}")


def main() -> None:
    """Write the page's tables and the sheets of all families or of those named."""
    parser = argparse.ArgumentParser(prog="python -m sim_envs.gallery", description=__doc__)
    parser.add_argument("families", nargs="*", help="families whose sheet is drawn; default: all")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the documentation")
    parser.add_argument("--speed", type=Path, help="result of `diffbot bench sims --json`: its tables only")
    options = parser.parse_args()
    if options.speed:
        update_speed(options.docs / "tasks.md", options.speed)
        return
    update_page(options.docs / "tasks.md")
    for family, tasks in families().items():
        if not options.families or family in options.families:
            sheet(tasks, options.docs / "figures" / "tasks" / f"{family}.jpg")
            print(f"{family}: {len(tasks)} tasks")


if __name__ == "__main__":
    main()
