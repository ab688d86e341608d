"""What a person sees of a training run: a live bar with a time estimate, or a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TrainingProgress:
    """Shows the part of the budget that is spent. `enabled` is False on all processes but the first."""

    def __init__(self, title: str, enabled: bool = True, every: float = 30.0) -> None:
        self.console = Console()
        self.enabled = enabled
        self.live = enabled and self.console.is_terminal
        self.every = every
        self._start = self._last = time.monotonic()
        self._begin: float | None = None
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self._task = self._bar.add_task(title, total=1.0, note="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, done: float, note: str) -> None:
        """`done` in [0, 1]; `note` is a few words (step, loss)."""
        if not self.enabled:
            return
        if self._begin is None:
            self._begin = done
        if self.live:
            self._bar.update(self._task, completed=min(done, 1.0), note=note)
            return
        now = time.monotonic()
        if now - self._last < self.every and done < 1.0:
            return
        self._last = now
        gained = done - self._begin
        left = (now - self._start) * (1.0 - done) / gained if gained > 0 else float("nan")
        self.console.print(f"{self._title}: {done:5.1%}  {note}  {left:.0f} s left", highlight=False)
