"""Nodes as child processes on a machine without `ros2 launch`: started together, watched, and ended without leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffbot.errors import DiffbotError
from diffbot_ros.graphs import NodeSpec
from diffbot_ros.node import PARENT_VARIABLE

STOP_S = 15.0
TAIL = 2000
DDS_PORT, DDS_DOMAIN_GAIN = 7400, 250  # DDSI-RTPS 2.2, section 9.6.1.1


class Processes:
    """The processes of one graph. A context manager: leaving it ends them all.

    environment: see isolation.node_environment. log_dir: one file of output for each node.
    """

    def __init__(self, nodes: Sequence[NodeSpec], environment: dict[str, str], log_dir: Path) -> None:
        self.nodes = list(nodes)
        self.environment = {**environment, PARENT_VARIABLE: str(os.getpid())}
        self.log_dir = log_dir
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._killed = False

    def __enter__(self) -> Processes:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for node in self.nodes:
                self.start(node)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self, title: str) -> Path:
        """Where a node's output goes."""
        return self.log_dir / f"{title.replace('/', '_')}.log"

    def start(self, node: NodeSpec, environment: Mapping[str, str] | None = None) -> None:
        """Start one node; `environment`: variables besides those of all nodes."""
        command = [sys.executable, "-m", f"diffbot_ros.{node.executable}", *node.arguments()]
        self.run(node.title, command, environment)

    def run(self, title: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a process, in a session of its own: an interrupt of the terminal reaches us, and we end it in order."""
        with self.log(title).open("ab") as output:
            self.running[title] = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**self.environment, **(environment or {})},
                start_new_session=True,
            )

    def end(self, title: str, number: int = signal.SIGINT, timeout: float = STOP_S) -> int:
        """End one node with a signal and wait; returns its exit status. Raises subprocess.TimeoutExpired."""
        process = self.running.pop(title)
        process.send_signal(number)
        code = process.wait(timeout)
        self._killed = self._killed or code < 0
        return code

    def check(self) -> None:
        """Raise DiffbotError with the end of its output when a node has ended."""
        for title, process in self.running.items():
            code = process.poll()
            if code is not None:
                raise DiffbotError(f"the node '{title}' ended with status {code}:\n{self.tail(title)}")

    def tail(self, title: str) -> str:
        """The end of a node's output."""
        return self.log(title).read_text(errors="replace")[-TAIL:].strip() or "(no output)"

    def stop(self, timeout: float = STOP_S) -> None:
        """Interrupt all nodes, wait for them, and kill what does not end."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + timeout
        for process in self.running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._killed or any(process.returncode < 0 for process in self.running.values()):
            clean_shared_memory(self.environment)
        self.running.clear()


def clean_shared_memory(environment: dict[str, str]) -> None:
    """Remove the shared-memory segments of processes that were killed; those of living ones are locked and stay."""
    tool = Path(sys.prefix) / "tools" / "fastdds" / "fastdds.py"
    if tool.is_file():
        subprocess.run(
            [sys.executable, str(tool), "shm", "clean"], env=environment, capture_output=True, timeout=30
        )
    if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        # The tool leaves the ports of killed processes. This domain was ours alone, and nobody is left in it.
        first = DDS_PORT + DDS_DOMAIN_GAIN * int(environment.get("ROS_DOMAIN_ID", "0"))
        for port in range(first, first + DDS_DOMAIN_GAIN):
            for path in Path("/dev/shm").glob(f"*fastrtps_port{port}*"):
                path.unlink(missing_ok=True)
