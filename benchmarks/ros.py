"""What the nodes add to a policy: latency beyond the network's own time, jitter of the commands, lost steps and images.

Three processes over DDS on one machine: a robot (this process: a point that publishes at the control rate and follows
what it is told), a policy node that infers on every observation, and an executor node.

latency: per chunk, from the stamp of the observation to the arrival of the command at the robot, less the network's
inference time and less the wait for the executor's next control step (which belongs to the control rate, not to the
nodes): (chunk at the executor - observation stamp - inference) + (command at the robot - the step's nominal time).
jitter: |time between two commands - period| as they arrive at the robot. missed, repeated: numbers of control steps.

machine_*: pauses of the machine itself, met by watchers at the highest priority on each core (see _pauses); a virtual
machine has them. undisturbed.*: the same figures over the spans into which no such pause fell, and disturbed_share the
part that is left out of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from diffbot_ros.graphs import NodeSpec
from diffbot_ros.isolation import Domain, node_environment
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes

from benchmarks._pauses import Pauses
from benchmarks._point_robot import PointArm, point_bundle, point_contract, point_robot
from diffbot.evaluation.bench import BenchResult

SUMMARY = "latency, jitter and losses of the ROS 2 nodes over DDS"
WARM_S = 2.0


@dataclass(frozen=True)
class Config:
    """How long and how hard."""

    duration: float = 600.0  # s of control at `rate`
    rate: float = 100.0  # Hz of observations and commands
    inference_steps: int = 10  # solver steps of the policy: its load on the other core
    image_duration: float = 0.0  # s of images; 0: a tenth of `duration`, at least 10
    image_rate: float = 30.0  # Hz of 480x640x3 images
    realtime_priority: int = 0  # SCHED_FIFO priority of the executor's control thread, where it is allowed
    watch_machine: bool = (
        False  # tell pauses of the machine itself apart; needs the right to real-time priority
    )
    folder: str = ""  # scratch; default: a temporary folder


def run(config: Config) -> BenchResult:
    """Both phases, one after the other."""
    with tempfile.TemporaryDirectory(prefix="diffbot-bench-ros-") as scratch, Domain() as domain:
        folder = Path(config.folder or scratch)
        environment = node_environment(domain.id, folder / "log")
        environment["OMP_NUM_THREADS"] = "1"
        os.environ.update({k: v for k, v in environment.items() if k.startswith(("ROS_", "FASTRTPS_"))})
        control = _control(config, folder / "control", environment)
        images = _images(config, folder / "images", environment)
    figures: dict[str, float | int | str | bool] = {**control, **images}
    return BenchResult(figures, seeds=[0], notes=(__doc__ or "").split("\n\n", 1)[1].strip())


def _control(config: Config, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    policy = point_bundle(folder, rate=config.rate, inference_steps=config.inference_steps)
    executor = {
        "contract": str(policy),
        "robot": str(point_robot(folder)),
        "action_horizon": 1,
        "realtime_priority": config.realtime_priority,
    }
    nodes = [
        NodeSpec("policy", {"policy": str(policy), "replan": 1}),
        NodeSpec("executor", executor),
    ]
    with (
        Processes(nodes, environment, folder / "log") as processes,
        Probe(point_contract(config.rate)) as probe,
    ):
        probe.ready()
        probe.reset(0)
        with PointArm(probe, config.rate):
            probe.wait(lambda: any(c.chunk_id >= 0 for _, c in probe.commands), what="the first command")
            time.sleep(WARM_S)
            for record in (probe.commands, probe.chunks):
                record.clear()
            with Pauses() if config.watch_machine else nullcontext() as pauses:
                end = time.monotonic() + config.duration
                while time.monotonic() < end:
                    processes.check()
                    time.sleep(0.5)
            epoch = probe.now() - time.monotonic()
            commands, chunks = list(probe.commands), list(probe.chunks)
        late = probe.executor[-1][1].late
    inference = {message.id: message.inference_s for _, message in chunks}
    arrivals = np.array([arrival for arrival, _ in commands])
    sequence = np.array([message.sequence for _, message in commands], np.int64)
    steps = np.diff(sequence)
    latency, spans, previous = [], [], -1
    for arrival, message in commands:
        if message.chunk_id >= 0 and message.chunk_id != previous and message.chunk_id in inference:
            nominal = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
            network = inference[message.chunk_id]
            latency.append(message.chunk_delay - network + (arrival + epoch - nominal))
            spans.append((nominal - epoch - message.step_index / config.rate, arrival))
        previous = message.chunk_id
    held = sum(message.chunk_id < 0 for _, message in commands)
    figures = {
        **_summary(np.array(latency), np.diff(arrivals), steps, 1.0 / config.rate),
        "held": held,
        "late": int(late),
        "commands": len(commands),
        "chunks": len(chunks),
        "inference_p50_ms": _ms(list(inference.values()), 0.5),
        "inference_p99_ms": _ms(list(inference.values()), 0.99),
        "duration_s": config.duration,
    }
    if pauses is None:
        return figures
    lengths = np.diff(pauses.intervals, axis=1)
    figures |= {
        "machine_pauses": len(lengths),
        "machine_paused_s": round(float(lengths.sum()), 3),
        "machine_pause_max_ms": _ms(lengths, 1.0),
    }
    # a command that a pause made late also shortens the period after it
    between = ~pauses.meet(arrivals[:-1] - 1.0 / config.rate, arrivals[1:])
    whole = ~pauses.meet(*np.array(spans).T) if spans else np.zeros(0, bool)
    calm = _summary(np.array(latency)[whole], np.diff(arrivals)[between], steps[between], 1.0 / config.rate)
    figures |= {f"undisturbed.{name}": value for name, value in calm.items()}
    figures["disturbed_share"] = round(1.0 - float(between.mean()), 4)
    return figures


def _summary(latency: np.ndarray, periods: np.ndarray, steps: np.ndarray, period: float) -> dict[str, float]:
    """The figures of latencies [n] in s, and of the times in s and the numbers of steps [m] from command to command."""
    jitter = np.abs(periods - period)[steps == 1]
    return {
        "latency_p50_ms": _ms(latency, 0.5),
        "latency_p99_ms": _ms(latency, 0.99),
        "jitter_p50_ms": _ms(jitter, 0.5),
        "jitter_p99_ms": _ms(jitter, 0.99),
        "missed": int((steps[steps > 1] - 1).sum()),
        "repeated": int((steps < 1).sum()),
    }


def _images(config: Config, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Images of 480x640x3, published best effort to a recorder node that only counts; the part that it did not get."""
    contract = point_contract(config.image_rate, (480, 640))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(contract.to_dict()))
    duration = config.image_duration or max(10.0, config.duration / 10)
    parameters = {"contract": str(path), "bag": False, "episodes": False}
    nodes = [NodeSpec("recorder", parameters)]
    topic = "observation/camera_image"
    with Processes(nodes, environment, folder / "log") as processes, Probe(contract) as probe:
        probe.wait(lambda: "/recorder" in probe.diagnostics, what="the recorder")
        while not all(p.get_subscription_count() for p in probe.publishers.values()):
            processes.check()
            time.sleep(0.05)
        with PointArm(probe, config.image_rate) as arm:
            end = time.monotonic() + duration
            while time.monotonic() < end:
                processes.check()
                time.sleep(0.2)
        sent, seen = arm.sent, -1
        while (count := int(probe.diagnostic("/recorder", topic) or 0)) != seen:
            seen = count
            time.sleep(2.5)  # two periods of the diagnostics
    return {"images": sent, "image_loss": (sent - seen) / sent, "image_duration_s": duration}


def _ms(values: list[float] | np.ndarray, quantile: float) -> float:
    return round(1e3 * float(np.quantile(values, quantile)), 3) if len(values) else float("nan")
