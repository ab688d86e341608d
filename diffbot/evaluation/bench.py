"""What a benchmark returns, how it is timed, and how its result is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class BenchResult:
    """Figures by name (the names that documents and tests refer to), table rows, and the seeds that were used."""

    figures: dict[str, float | int | str | bool]
    rows: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    notes: str = ""


def interleave(
    candidates: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2
) -> dict[str, np.ndarray]:
    """Time callables in turn, A B A B ..., so that a drifting machine hits all alike.

    Returns seconds [repeats] for each name. Ratios are to be taken of medians.
    """
    for run in candidates.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.asarray(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """The machine in words and numbers, as committed with every result."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def commit(root: Path) -> str:
    """The commit of a checkout, with "+changes" when the tree differs from it; "unknown" outside one."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if dirty else "")


def write_result(path: Path, name: str, result: BenchResult, command: str, root: Path) -> None:
    """Write the JSON form of a result; the folder is made when missing."""
    record = {
        "bench": name,
        "figures": {key: _plain(value) for key, value in result.figures.items()},
        "rows": [{key: _plain(value) for key, value in row.items()} for row in result.rows],
        "seeds": list(result.seeds),
        "notes": result.notes,
        "machine": machine(),
        "commit": commit(root),
        "command": command,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Column names of table rows in order of first appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
