"""The environment that keeps the nodes of one run to themselves, and the domain that no other run has."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from diffbot.errors import ConfigError

FIRST_DOMAIN, LAST_DOMAIN = 1, 101
CLAIM_PORT = 22119
PROFILE = Path(__file__).with_name("fastdds.xml")


class Domain:
    """A ROS domain claimed for as long as this object is open: the claim is a bound local port.

    Raises ConfigError when all domains are taken.
    """

    def __init__(self) -> None:
        numbers = list(range(FIRST_DOMAIN, LAST_DOMAIN + 1))
        random.Random(os.getpid()).shuffle(numbers)
        for number in numbers:
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                claim.bind(("127.0.0.1", CLAIM_PORT + number))
            except OSError:
                claim.close()
                continue
            self.id = number
            self._socket = claim
            return
        raise ConfigError(f"all ROS domains {FIRST_DOMAIN}..{LAST_DOMAIN} are in use on this machine")

    def close(self) -> None:
        """Give the domain back."""
        self._socket.close()

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def node_environment(
    domain: int | None = None, log_dir: Path | None = None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment of a node process: this machine only, quick discovery, large shared-memory segments.

    domain: ROS_DOMAIN_ID, or None to keep the caller's network settings (robots on other machines) as they are.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("HOME", str(Path.cwd()))
    environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE))
    environment.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")
    if domain is not None:
        environment["ROS_DOMAIN_ID"] = str(domain)
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        environment.pop("ROS_LOCALHOST_ONLY", None)
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        environment["ROS_LOG_DIR"] = str(log_dir)
    return environment
