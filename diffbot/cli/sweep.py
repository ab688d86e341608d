"""`diffbot sweep`: every combination of some training settings, on this machine, a Ray cluster or Slurm, in one table.

The grammar is Hydra's multirun: `seed=0,1,2`, `method.horizon=range(8,33,8)`, `method=bc_mlp,diffusion_policy`.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from diffbot.cli.help import verb_help
from diffbot.cli.sweep_launch import LAUNCHERS
from diffbot.cli.sweep_trial import DONE, Trial
from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, unknown

SPEC, TABLE = "sweep.yaml", "results.csv"


@dataclass(frozen=True)
class SweepConfig:
    """How the trials are spread out; given as sweep.<name>=value beside the settings of `diffbot train`."""

    out: str = ""  # folder of the sweep; default runs/sweep
    launcher: str = "local"  # local, ray or slurm
    jobs: int = 1  # trials at a time (local, slurm, and a Ray started here)
    cpus: int = 1  # CPU cores, and threads, of a trial
    gpus: float = 0.0  # GPUs of a trial; parts of one are Ray's only
    evaluate: int = 0  # episodes of evaluation after each training; 0: none
    address: str = ""  # of a Ray cluster, auto or HOST:6379; default: Ray is started here
    minutes: int = 720  # time limit of a Slurm job
    cluster: str = "slurm"  # or local: submitit's jobs as processes of this machine
    slurm: dict[str, Any] = field(default_factory=dict)  # more of Slurm, {partition: gpu, account: lab}

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise unknown("launcher", self.launcher, LAUNCHERS)
        if self.cluster not in ("slurm", "local"):
            raise unknown("cluster", self.cluster, ("slurm", "local"))
        if min(self.jobs, self.cpus, self.minutes) < 1 or min(self.gpus, self.evaluate) < 0:
            raise ConfigError(
                "sweep.jobs, cpus and minutes must be at least 1 and gpus and evaluate not negative"
            )
        if self.launcher == "slurm" and self.gpus != int(self.gpus):
            raise ConfigError(f"Slurm gives whole GPUs, not sweep.gpus={self.gpus}; Ray can share them")


@dataclass(frozen=True)
class Arguments:
    """What is the sweep's own; every other argument is one of `diffbot train`."""

    sweep: SweepConfig = field(default_factory=SweepConfig)


def main(arguments: list[str]) -> int:
    """Run `diffbot sweep [sweep.key=value ...] [key=value,value ...]`. Exit status 1 when a trial failed."""
    from diffbot.cli.config import parse
    from diffbot.cli.train import TrainConfig

    if any(argument in ("-h", "--help") for argument in arguments):
        print(verb_help("sweep", VERB) + "\n\nAll other settings: diffbot train --help")
        return 0
    own = [argument for argument in arguments if argument.startswith("sweep.")]
    settings: SweepConfig = parse(Arguments, own).sweep
    points = grid([argument for argument in arguments if argument not in own])
    for _, overrides in points:
        config = parse(TrainConfig, overrides)  # an unknown setting is refused before anything runs
        if config.out is not None or config.resume is not None:
            raise ConfigError(
                "a sweep chooses the folders of its trials; give sweep.out=FOLDER, not out or resume"
            )
    folder = Path(settings.out or "runs/sweep").resolve()
    trials = plan(points, settings, folder)
    console = Console()
    rows: list[dict[str, Any]] = []
    for row in LAUNCHERS[settings.launcher](trials, settings, folder):
        rows.append(row)
        write_table(folder / TABLE, rows)
        values = ", ".join(f"{name}={row[name]}" for name in points[0][0])
        console.print(
            f"{len(rows)}/{len(trials)}  {row['status']}  {values}  {_result(row)}",
            highlight=False,
            soft_wrap=True,
        )
    rows.sort(key=lambda row: row["trial"])
    write_table(folder / TABLE, rows)
    show(console, rows, list(points[0][0]))
    console.print(f"written: {folder / TABLE}", highlight=False, soft_wrap=True)
    return 0 if all(row["status"] == DONE for row in rows) else 1


def grid(arguments: Sequence[str]) -> list[tuple[dict[str, str], list[str]]]:
    """(swept values, overrides) of every combination, the last setting varying fastest.

    Raises ConfigError where nothing is swept, or where an argument is not Hydra's.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(f"cannot read the arguments: {error}. They have the form key=value.") from error
    columns: list[list[tuple[str, str, bool]]] = []
    for override in parsed:
        key = override.get_key_element()
        if override.is_sweep_override():
            columns.append([(key, str(value), True) for value in override.sweep_string_iterator()])
        else:
            columns.append([(key, override.get_value_element_as_str(), False)])
    if not any(column[0][2] for column in columns):
        raise ConfigError(
            "nothing is swept. Give a setting several values: diffbot sweep task=robosuite/lift seed=0,1,2"
        )
    return [
        ({key.lstrip("+"): value for key, value, swept in point if swept}, [f"{k}={v}" for k, v, _ in point])
        for point in itertools.product(*columns)
    ]


def plan(
    points: Sequence[tuple[Mapping[str, str], Sequence[str]]], settings: SweepConfig, folder: Path
) -> list[Trial]:
    """The trials, with what was asked for written down. A folder of the same sweep is continued, another one refused."""
    record = {"format": 1, "trials": [list(overrides) for _, overrides in points]}
    path = folder / SPEC
    if path.exists():
        if yaml.safe_load(path.read_text()) != record:
            raise ConfigError(f"'{folder}' holds another sweep. Choose another folder: sweep.out=FOLDER")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump(record, sort_keys=False))
        os.replace(part, path)
    return [
        Trial(
            number,
            dict(values),
            tuple(overrides),
            str(folder / f"trial_{number:03d}"),
            os.getcwd(),
            settings.evaluate,
            settings.cpus,
        )
        for number, (values, overrides) in enumerate(points)
    ]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a trial; written whole each time."""
    from diffbot.evaluation.bench import columns

    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns(rows))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def show(console: Console, rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> None:
    """Print the table; where seeds are swept, the mean and spread over them for each setting."""
    measure = "success" if any("success" in row for row in rows) else "validation_loss"
    groups: dict[tuple[str, ...], list[float]] = {}
    others = [name for name in swept if name != "seed"]
    for row in rows:
        values = groups.setdefault(tuple(str(row[name]) for name in others), [])
        value = row.get(measure, row.get("loss"))
        if row["status"] == DONE and value is not None:
            values.append(float(value))
    table = Table(*others, "trials", f"mean {measure}", "standard deviation")
    for key, values in groups.items():
        spread = f"{statistics.stdev(values):.3g}" if len(values) > 1 else ""
        table.add_row(*key, str(len(values)), f"{statistics.mean(values):.4g}" if values else "", spread)
    console.print(table)


def _result(row: Mapping[str, Any]) -> str:
    names = ("success", "validation_loss", "loss")
    found = [f"{name} {row[name]:.4g}" for name in names if isinstance(row.get(name), float)]
    return str(row["problem"]) if "problem" in row else ", ".join(found)


VERB = Verb(
    "train every combination of some settings, on this machine, a Ray cluster or Slurm",
    Arguments,
    lambda config: 0,
    (
        "diffbot sweep task=robosuite/lift seed=0,1,2 method.optimizer.learning_rate=1e-4,3e-4",
        "diffbot sweep task=robosuite/lift method=bc_mlp,diffusion_policy seed=0,1,2 sweep.evaluate=50 sweep.jobs=2",
        "diffbot sweep task=robosuite/lift seed=range(8) sweep.launcher=ray sweep.address=auto sweep.cpus=4",
        "diffbot sweep task=robosuite/lift seed=range(8) sweep.launcher=slurm sweep.gpus=1 sweep.slurm={partition:gpu}",
    ),
)
