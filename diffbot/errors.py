"""Errors that a user reads: one clear message that says what, where, the valid choices and the fix."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

# A longer list of choices is cut to the nearest ones; the command that lists them all follows it.
LONG_LIST, SHOWN = 30, 8


class DiffbotError(Exception):
    """Base of every error caused by the user's input. The command line prints it and exits with 2."""


class ConfigError(DiffbotError):
    """A setting is unknown, has the wrong type or contradicts another."""


class ContractError(DiffbotError):
    """Two sides disagree about what an observation or an action is."""


class DataError(DiffbotError):
    """A dataset is missing, corrupt, or does not hold what is asked of it."""


class BundleError(DiffbotError):
    """A policy bundle is missing, truncated or inconsistent."""


class MissingExtraError(DiffbotError):
    """An optional dependency is not installed."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was most likely meant to be, or None."""
    names = list(choices)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    tails = {choice.rsplit("/", 1)[-1]: choice for choice in names}
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1], tails, n=1, cutoff=0.6)
    return tails[close[0]] if close else None


def unknown(kind: str, name: str, choices: Iterable[str], command: str = "") -> ConfigError:
    """Build the error for an unknown name.

    `kind` is the noun ("task"), `choices` the valid names, `command` what lists them ("diffbot list tasks").
    """
    names = sorted(choices)
    message = f"unknown {kind} '{name}'."
    match = nearest(name, names)
    if match:
        message += f" Did you mean '{match}'?"
    if len(names) > LONG_LIST:
        shown = difflib.get_close_matches(name, names, n=SHOWN, cutoff=0.0)
        message += f" Valid, among {len(names)}: {', '.join(sorted(shown))}, ..."
    else:
        message += f" Valid: {', '.join(names) if names else '(none)'}."
    if command:
        message += f" See: {command}"
    return ConfigError(message)


def require(module: str, extra: str, purpose: str = "") -> ModuleType:
    """Import an optional dependency, or say which extra installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name.split(".")[0]):
            raise
        what = f" for {purpose}" if purpose else ""
        raise MissingExtraError(
            f"the package '{module}' is needed{what} but is not installed. Install it: pip install 'diffbot[{extra}]'"
        ) from error
