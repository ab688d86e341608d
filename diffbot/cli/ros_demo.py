"""The body of `diffbot ros demo`: three processes over DDS, then the same chunks once more in this process."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffbot_ros.episodes import Episode, EpisodeClient, summary
from diffbot_ros.graphs import GraphSettings, simulation
from diffbot_ros.isolation import Domain, node_environment
from diffbot_ros.processes import Processes
from diffbot_ros.trace import differing, load_traces, replay, write_json
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from diffbot.cli.evaluate import find_bundle
from diffbot.cli.ros_config import DemoConfig, graph_settings
from diffbot.cli.termination import raising_on_term
from diffbot.control.load import load_runner
from diffbot.evaluation.statistics import wilson_interval


def demo(config: DemoConfig) -> int:
    """Run all episodes, verify, write <out>/ros.json and print a table."""
    policy = find_bundle(config.policy)
    out = Path(config.out) if config.out else policy.parent / "ros"
    traces = out / "traces"
    if traces.exists():
        shutil.rmtree(traces)
    settings = graph_settings(config, seed=config.policy_seed, traces=str(traces.resolve()))
    start = time.perf_counter()
    with raising_on_term():
        episodes = _run(config, settings, out)
    differences = verify(config, str(policy), episodes, traces)
    record = figures(config, episodes, differences)
    record["wall_s"] = round(time.perf_counter() - start, 1)
    write_json(out / "ros.json", record)
    _print(record, differences, out / "ros.json")
    return 0 if not differences else 1


def _run(config: DemoConfig, settings: GraphSettings, out: Path) -> list[Episode]:
    episodes: list[Episode] = []
    nodes = simulation(settings)
    with Domain() as domain:
        environment = node_environment(domain.id, out / "log")
        os.environ.update(
            {k: v for k, v in environment.items() if k.startswith(("ROS_", "FASTRTPS_", "HOME"))}
        )
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with (
            Processes(nodes, environment, out / "log") as processes,
            EpisodeClient(processes.check) as client,
            progress,
        ):
            bar = progress.add_task("starting the nodes", total=config.episodes)
            client.wait_ready()
            for seed in range(config.seed, config.seed + config.episodes):
                episodes.append(client.run(seed))
                wins = sum(episode.success for episode in episodes)
                progress.update(bar, advance=1, description=f"over DDS: {wins} of {len(episodes)} succeeded")
            client.settle()
    return episodes


def verify(config: DemoConfig, policy: str, episodes: list[Episode], traces: Path) -> list[str]:
    """Compute every published chunk again from what the node consumed; one line for each difference."""
    torch.set_num_threads(1)  # as in the node
    runner = load_runner(policy, seed=config.policy_seed, backend=config.backend)
    runner.warm_up()
    by_seed = {trace.seed: trace for trace in load_traces(traces)}
    lines = []
    for episode in episodes:
        if episode.seed not in by_seed:
            lines.append(f"episode {episode.seed}: the policy node left no trace")
            continue
        found = differing(episode.chunks, replay(by_seed[episode.seed], runner))
        lines += [f"episode {episode.seed}: {line}" for line in found]
    return lines


def figures(config: DemoConfig, episodes: list[Episode], differences: list[str]) -> dict[str, Any]:
    """The figures of a run, by the names that documents and issues use."""
    wins = sum(episode.success for episode in episodes)
    low, high = wilson_interval(wins, len(episodes))
    latency = [value for episode in episodes for value in episode.latency]
    inference = [value for episode in episodes for value in episode.inference]
    return {
        "ros.success": wins / len(episodes),
        "ros.interval": [round(low, 4), round(high, 4)],
        "ros.chunks_equal": not differences,
        "ros.episodes": len(episodes),
        "ros.chunks": sum(len(episode.chunks) for episode in episodes),
        "ros.latency_p50_ms": milliseconds(latency, 0.5),
        "ros.latency_p99_ms": milliseconds(latency, 0.99),
        "ros.inference_p50_ms": milliseconds(inference, 0.5),
        "ros.inference_p99_ms": milliseconds(inference, 0.99),
        "ros.steps": sum(episode.steps for episode in episodes),
        "ros.held_steps": sum(episode.held for episode in episodes),
        "ros.rate_scale": config.rate_scale,
        "chunk_latency_ms": [round(1e3 * value, 3) for value in latency],
        "seeds": [episode.seed for episode in episodes],
        "rows": summary(episodes),
        "differences": differences[:100],
    }


def _print(record: dict[str, Any], differences: list[str], path: Path) -> None:
    table = Table("figure", "value", title="policy over ROS 2")
    for key, value in record.items():
        if key.startswith("ros."):
            table.add_row(key, str(value))
    console = Console()
    console.print(table)
    for line in differences[:5]:
        console.print(f"[red]{line}", highlight=False)
    console.print(f"written: {path}", highlight=False)


def milliseconds(values: list[float], quantile: float) -> float:
    """A quantile of seconds, in ms."""
    return round(1e3 * float(np.quantile(values, quantile)), 3) if values else float("nan")
