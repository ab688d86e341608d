"""What one verb of the command line is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verb:
    """A verb: its one-line summary, the dataclass of its settings, and the function that runs it.

    run: called with an instance of `config`; returns the exit status.
    examples: whole command lines for --help.
    """

    summary: str
    config: type
    run: Callable[[Any], int]
    examples: tuple[str, ...] = ()
