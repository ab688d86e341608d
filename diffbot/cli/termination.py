"""SIGTERM as Ctrl-C."""

from __future__ import annotations

import functools
import signal
from typing import Any


class raising_on_term:  # noqa: N801
    """Inside this context SIGTERM raises KeyboardInterrupt, so that everything is ended in order."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, functools.partial(self._raise))

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _raise(number: int, frame: Any) -> None:
        raise KeyboardInterrupt
