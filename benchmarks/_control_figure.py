"""Success (or coverage) and seam jump against delay, one row of panels for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"switch": "#9d9d9d", "blend": "#f58518", "ensemble": "#54a24b", "rtc": "#4c78a8"}


def draw(rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], path: Path) -> None:
    """Write the picture. rows, figures: of the benchmark's result."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    picture = Figure(figsize=(9, 3.1 * len(tasks)))
    grid = picture.subplots(len(tasks), 2, squeeze=False)
    for (left, right), task in zip(grid, tasks, strict=True):
        mine = [row for row in rows if row["task"] == task]
        score = "coverage" if "coverage" in mine[0] else "success"
        bounds = ("coverage_low", "coverage_high") if score == "coverage" else ("low", "high")
        modes = list(dict.fromkeys(row["mode"] for row in mine))
        for shift, mode in zip(np.linspace(-0.12, 0.12, len(modes)), modes, strict=True):
            cells = sorted((row for row in mine if row["mode"] == mode), key=lambda row: row["delay"])
            delay = np.array([row["delay"] for row in cells])
            value = np.array([row[score] for row in cells])
            spread = [[abs(row[score] - row[bound]) for row in cells] for bound in bounds]
            style = {
                "color": COLOURS.get(mode),
                "marker": "o",
                "markersize": 3,
                "linewidth": 1.4,
                "label": mode,
            }
            left.errorbar(delay + shift, value, yerr=spread, elinewidth=0.7, capsize=2, **style)
            right.plot(delay, [row["seam_jump"] for row in cells], **style)
        if f"{task}.in_chunk_step" in figures:
            level = figures[f"{task}.in_chunk_step"]
            right.axhline(level, color="black", linestyle=":", linewidth=1, label="step inside a chunk")
        left.set(ylabel=f"{task}: {score}, 95 %", xlabel="delay (control steps)", ylim=(0.0, 1.05))
        right.set(ylabel="seam jump", xlabel="delay (control steps)", ylim=(0.0, None))
        for axes in (left, right):
            axes.grid(alpha=0.3)
    handles, labels = grid[0][1].get_legend_handles_labels()
    picture.legend(handles, labels, loc="upper center", ncol=len(labels), fontsize=8)
    picture.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - 0.3 / picture.get_figheight()))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)
