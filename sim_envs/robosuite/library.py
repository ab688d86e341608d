"""Import of robosuite without the warnings that it logs while it loads."""

from __future__ import annotations

import functools
import logging
from types import ModuleType

from sim_envs.errors import require


@functools.cache
def robosuite() -> ModuleType:
    """The package robosuite. Raises SimEnvError when it is not installed.

    While it loads it logs about a private macro file and optional robot packages that nothing here needs; those records
    are held back, and everything that it logs later passes.
    """
    logger = logging.getLogger("robosuite_logs")

    def only_errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(only_errors)
    try:
        package = require("robosuite")
    finally:
        logger.removeFilter(only_errors)
    logger.setLevel(logging.WARNING)
    return package
