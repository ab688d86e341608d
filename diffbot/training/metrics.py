"""Metrics of a run: one JSON object a line, TensorBoard events, and means since the last line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class RunningMean:
    """Means of metrics since the last `take`. Part of the checkpoint, so that a resumed run writes the same lines."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add the metrics of one step; tensors stay on their device."""
        for name, value in metrics.items():
            value = torch.as_tensor(value, dtype=torch.float64 if not isinstance(value, Tensor) else None)
            value = value.detach().double() if value.device.type != "mps" else value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means, and start anew."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "count": self.count}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.sums = {n: torch.tensor(v, dtype=torch.float64) for n, v in state["sums"].items()}
        self.count = int(state["count"])


class MetricsLog:
    """`metrics.jsonl` and `tensorboard/` of a run folder. Lines beyond `step` (of a killed run) are cut off."""

    def __init__(self, folder: Path, step: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            _cut(self.path, step)
        self._file = self.path.open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, metrics: Mapping[str, float], kind: str = "train") -> None:
        """One line: {"step", "kind", metrics...}; a value that is not finite is written as null."""
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Push everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    """The lines of one kind of a run folder, in order; a torn last line is left out."""
    lines = []
    for text in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = _parse(text)
        if record is not None and record.get("kind") == kind:
            lines.append(record)
    return lines


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(text))
    except ValueError:
        return None  # the line that a killed writer left unfinished


def _cut(path: Path, step: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [text for text in lines if (record := _parse(text)) is not None and record["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
