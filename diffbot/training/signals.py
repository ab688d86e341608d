"""How a training is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """Remembers SIGTERM and the first Ctrl-C, so that the present step can end and be saved.

    name: of the signal that came, "" while there was none.
    """

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals within the block; a second Ctrl-C interrupts at once. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            if self.name == "SIGINT" and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.name = signal.Signals(number).name

        old = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
