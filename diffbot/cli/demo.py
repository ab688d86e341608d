"""`diffbot demo`: collect, train, evaluate and run over ROS 2, each by the very command a user types, then one report."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diffbot.cli.verb import Verb
from diffbot.errors import DiffbotError


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration from nothing to an arm that a ROS 2 policy node drives."""

    task: str = "robosuite/lift"  # any task with a scripted expert
    demonstrations: int = 100  # episodes that the expert records
    episodes: int = 50  # evaluation episodes, in process and over ROS 2, on the same seeds
    seed: int = 100000  # first evaluation seed; demonstrations use seeds from 0 up
    ros: bool = True  # false: leave out the ROS 2 part
    out: str = "runs/demo"  # where everything but the dataset is written


def run(config: DemoConfig) -> int:
    """Run the four steps and write report.json and report.html; status 1 when success is below 0.95."""
    from diffbot.cli.demo_report import write_page

    out = Path(config.out)
    dataset = Path("datasets") / f"{config.task.rsplit('/', 1)[-1]}.zarr"
    policy = out / "train" / "policy"
    evaluation, ros = out / "evaluation", out / "ros"
    steps = {
        "collect": ["collect", f"task={config.task}", f"episodes={config.demonstrations}", f"out={dataset}"],
        "train": [
            "train",
            f"task={config.task}",
            "method=diffusion_policy",
            f"dataset={dataset}",
            f"out={policy.parent}",
        ],
        "evaluate": [
            *("evaluate", f"policy={policy}", f"episodes={config.episodes}"),
            *(f"seed={config.seed}", f"out={evaluation}"),
        ],
    }
    if config.ros:
        steps["ros"] = [
            *("ros", "demo", f"policy={policy}", f"episodes={config.episodes}"),
            *(f"seed={config.seed}", f"out={ros}"),
        ]
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    for name, arguments in steps.items():
        seconds[name] = _step(name, arguments)
    report = _figures(evaluation, ros if config.ros else None)
    report["wall_s"] = round(time.perf_counter() - start, 1)
    report["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    report["commands"] = {name: " ".join(["diffbot", *arguments]) for name, arguments in steps.items()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    write_page(out, report, dataset)
    _table(report)
    Console().print(f"report: {out / 'report.html'}")
    reached = report["evaluate.success"] >= 0.95 and report.get("ros.success", 1.0) >= 0.95
    return 0 if reached and report.get("ros.chunks_equal", True) else 1


def _training(task: str, dataset: Path, folder: Path) -> list[str]:
    """Train, or go on with the run that an earlier demonstration left."""
    if (folder / "run.yaml").exists():
        return ["train", f"resume={folder}"]
    return ["train", f"task={task}", "method=diffusion_policy", f"dataset={dataset}", f"out={folder}"]


def _step(name: str, arguments: list[str]) -> float:
    """Run one command of the demonstration in its own process; returns its seconds."""
    Console().rule(f"[bold]{name}")
    Console().print(f"$ diffbot {' '.join(arguments)}", highlight=False)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "diffbot.cli.main", *arguments]).returncode
    if code != 0:
        raise DiffbotError(
            f"step '{name}' ended with status {code}. Run it alone: diffbot {' '.join(arguments)}"
        )
    return time.perf_counter() - start


def _figures(evaluation: Path, ros: Path | None) -> dict[str, Any]:
    """The figures of the demonstration, by the names that its issue and documents use."""
    record = json.loads((evaluation / "report.json").read_text())
    report = {"evaluate.success": record["success"], "evaluate.interval": record["interval"]}
    if ros is not None:
        record = json.loads((ros / "ros.json").read_text())
        report |= {key: record[key] for key in record if key.startswith("ros.")}
    return report


def _table(report: dict[str, Any]) -> None:
    table = Table("figure", "value", title="demo")
    for key, value in report.items():
        if key != "commands":
            table.add_row(key, str(value))
    Console().print(table)


VERB = Verb(
    "the whole way: collect, train, evaluate and run over ROS 2, with a report",
    DemoConfig,
    run,
    ("diffbot demo", "diffbot demo ros=false episodes=20"),
)
