"""The error that a user of the simulators reads."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

# A longer list of choices is cut to the nearest ones.
LONG_LIST, SHOWN = 30, 8


class SimEnvError(Exception):
    """A simulator, task or option was asked for that cannot be had; the message says what is valid and what helps."""


def unknown(kind: str, name: str, choices: Iterable[str], command: str = "") -> SimEnvError:
    """Build the error for an unknown name: the nearest match, the valid names, and what lists them."""
    names = sorted(choices)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not close:
        tails = {choice.rsplit("/", 1)[-1]: choice for choice in names}
        close = [tails[t] for t in difflib.get_close_matches(name.rsplit("/", 1)[-1], tails, n=1, cutoff=0.6)]
    message = f"unknown {kind} '{name}'."
    if close:
        message += f" Did you mean '{close[0]}'?"
    if len(names) > LONG_LIST:
        shown = difflib.get_close_matches(name, names, n=SHOWN, cutoff=0.0)
        message += f" Valid, among {len(names)}: {', '.join(sorted(shown))}, ..."
    else:
        message += f" Valid: {', '.join(names) if names else '(none)'}."
    return SimEnvError(f"{message} See: {command}" if command else message)


def require(module: str, extra: str = "sim") -> ModuleType:
    """Import a simulator package, or raise SimEnvError that names the extra which installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:
            raise
        raise SimEnvError(
            f"the package '{top}' is not installed. Install it: pip install 'diffbot[{extra}]'"
        ) from error
