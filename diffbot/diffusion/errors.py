"""The one error of this package, and how it names the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DiffusionError(ValueError):
    """A schedule, solver, guidance, constraint or tensor that does not fit the others."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> DiffusionError:
    """Build the error for an unknown name: the wrong value, the nearest match and all valid ones."""
    names = sorted(choices)
    message = f"unknown {kind} '{name}'."
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if match:
        message += f" Did you mean '{match[0]}'?"
    return DiffusionError(f"{message} Valid: {', '.join(names)}.")
