"""One training of a sweep: a `diffbot train` in a process of its own, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Trial:
    """What one worker is told. All paths are absolute, in a file system that every machine sees.

    values: the swept settings of this trial. overrides: all arguments of `diffbot train` but `out`. directory: where
    the sweep was started, so that relative paths mean the same. evaluate: episodes of evaluation after the training.
    threads: CPU threads of its processes; None leaves PyTorch's choice.
    """

    number: int
    values: dict[str, str]
    overrides: tuple[str, ...]
    folder: str
    directory: str
    evaluate: int = 0
    threads: int | None = None


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train (or continue, or find finished) and evaluate one trial; its row of the table.

    A trial that fails is a row with its last line of output, not an exception: the others go on.
    """
    folder = Path(trial.folder)
    folder.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = {"trial": trial.number, **trial.values, "status": FAILED}
    begun = (folder / "run.yaml").exists()
    arguments = [f"resume={folder}"] if begun else [*trial.overrides, f"out={folder}"]
    problem = _diffbot(trial, "train", arguments)
    if problem:
        return {**row, "problem": problem}
    report = json.loads((folder / "policy" / "report.json").read_text())
    row |= {name: report.get(name) for name in ("loss", "validation_loss", "steps", "seconds", "parameters")}
    if trial.evaluate:
        arguments = [f"policy={folder}", f"episodes={trial.evaluate}", "workers=1", "video=0"]
        problem = _diffbot(trial, "evaluate", arguments)
        if problem:
            return {**row, "problem": problem}
        record = json.loads((folder / "evaluation" / "report.json").read_text())
        row |= {"success": record["success"], "low": record["interval"][0], "high": record["interval"][1]}
    return {**row, "status": DONE}


def _diffbot(trial: Trial, verb: str, arguments: list[str]) -> str:
    """Run one verb with its output in <verb>.log; "" or the last line of a failure."""
    log = Path(trial.folder) / f"{verb}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffbot.cli.main", verb, *arguments],
            cwd=trial.directory,
            env={**os.environ, **_threads(trial)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if status == 0:
        return ""
    lines = log.read_text().strip().splitlines()
    return lines[-1] if lines else f"diffbot {verb} ended with status {status}"


def _threads(trial: Trial) -> Mapping[str, str]:
    if trial.threads is None:
        return {}
    return {name: str(trial.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
