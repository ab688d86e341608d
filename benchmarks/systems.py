"""The table of systems: each row trains and evaluates a system and its baselines on the same data, seeds and budget.

A row is one file of benchmarks/rows/. Every (study, arm, seed) is a job in a process of its own with one thread; a
finished job is used again while its settings stay the same, so an interrupted table goes on where it stopped. Results
stand in benchmarks/results/systems/<id>.json and are drawn together in docs/systems.md.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks._rows import (
    BUDGETS,
    Arm,
    Job,
    Outcome,
    Results,
    Row,
    Study,
    Verdict,
    fingerprint,
    load_row,
    plain_outcome,
    row_ids,
)
from benchmarks._systems_page import write_page
from diffbot.errors import ConfigError, DiffbotError, unknown
from diffbot.evaluation.bench import BenchResult, write_result

SUMMARY = "the table of systems: each against the baselines that its claim names"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Config:
    """Which rows, how large."""

    only: tuple[str, ...] = ()  # ids, [P1,P2]; empty: every row
    budget: str = "smoke"  # smoke: seconds a row; cpu: two cores, under an hour a row; gpu: the papers' sizes
    folder: str = "runs/systems"  # datasets, runs and finished jobs
    workers: int = 0  # processes; 0: one per core
    write: bool = True  # cpu and gpu: write benchmarks/results/systems and docs/systems.md


def run(config: Config) -> BenchResult:
    """Run the rows one after the other. Raises DiffbotError naming the jobs that failed, after all others are done."""
    if config.budget not in BUDGETS:
        raise unknown("budget", config.budget, BUDGETS)
    rows = [load_row(name) for name in config.only or row_ids()]
    figures: dict[str, float | int | str | bool] = {}
    table, seeds = [], set()
    for row in rows:
        result, verdict = run_row(row, config)
        if config.write and config.budget != "smoke":
            command = f"diffbot bench systems --only {row.id} --budget {config.budget}"
            write_result(
                ROOT / "benchmarks/results/systems" / f"{row.id.lower()}.json",
                "systems",
                result,
                command,
                ROOT,
            )
            write_page(ROOT)
        figures |= {f"{row.id}.{name}": value for name, value in result.figures.items()}
        seeds |= set(result.seeds)
        table += [{"system": row.id, **line} for line in result.rows]
        Console().print(
            f"{row.id} {row.system}: {'holds' if verdict.holds else 'does not hold'}. {verdict.why}"
        )
    return BenchResult(figures, table, sorted(seeds))


def run_row(row: Row, config: Config) -> tuple[BenchResult, Verdict]:
    """Run what is missing of one row and judge it."""
    studies = row.studies(config.budget)
    results = Results(_outcomes(row, studies, config))
    verdict = row.judge(results)
    result = describe(row, studies, results, config.budget)
    result.figures["holds"] = verdict.holds
    result.notes = verdict.why
    return result, verdict


def describe(row: Row, studies: tuple[Study, ...], results: Results, budget: str) -> BenchResult:
    """Figures `<study>.<arm>.<mean|low|high|train_s|parameters>` and one table line per study and arm."""
    figures: dict[str, float | int | str | bool] = {"budget": budget}
    lines, seeds = [], set()
    for study in studies:
        seeds |= set(study.seeds)
        for arm in study.arms:
            mean, low, high = results.interval(study.name, arm.name)
            place = f"{study.name}.{arm.name}"
            outcomes = results.of(study.name, arm.name)
            names = sorted(set().union(*(outcome.figures for outcome in outcomes)))
            shared = [name for name in names if all(name in outcome.figures for outcome in outcomes)]
            figures |= {f"{place}.mean": mean, f"{place}.low": low, f"{place}.high": high}
            for name in ("train_s", "parameters", *shared):
                figures[f"{place}.{name}"] = results.figure(study.name, arm.name, name)
            lines.append(
                {
                    "study": study.name,
                    "arm": arm.name,
                    "metric": study.metric,
                    "mean": mean,
                    "interval": f"[{low:.3f}, {high:.3f}]",
                    "values": " ".join(f"{value:.3f}" for value in results.values(study.name, arm.name)),
                    "train_s": results.figure(study.name, arm.name, "train_s"),
                    "parameters": int(results.figure(study.name, arm.name, "parameters")),
                    "about": study.about,
                }
            )
    return BenchResult(figures, lines, sorted(seeds))


# -- jobs ---------------------------------------------------------------------------------------------------------


def _outcomes(
    row: Row, studies: tuple[Study, ...], config: Config
) -> dict[tuple[str, str], dict[int, Outcome]]:
    """Every outcome of the row: read where a job is finished, else computed."""
    base = Path(config.folder).resolve() / config.budget / row.id.lower()
    found: dict[tuple[str, str], dict[int, Outcome]] = {
        (study.name, arm.name): {} for study in studies for arm in study.arms
    }
    failures = []
    with _pool(config) as pool:
        waiting: dict[Future[None], Study] = {
            pool.submit(_prepare, row.id, config.budget, study.name, base): study for study in studies
        }
        running: dict[Future[Outcome], tuple[Study, Arm, int]] = {}
        for ready in as_completed(waiting):
            study = waiting[ready]
            ready.result()
            for seed, arm in _order(study):
                known = _finished(row, config.budget, study, arm, seed, base)
                if known is not None:
                    found[study.name, arm.name][seed] = known
                    continue
                arguments = (row.id, config.budget, study.name, arm.name, seed, base)
                running[pool.submit(_job, *arguments)] = (study, arm, seed)
        for done in as_completed(running):
            study, arm, seed = running[done]
            error = done.exception()
            if error is not None:
                failures.append(f"{study.name}/{arm.name}/seed {seed}: {type(error).__name__}: {error}")
                continue
            found[study.name, arm.name][seed] = done.result()
            print(f"{row.id} {study.name} {arm.name} seed {seed}: {done.result().value:.3f}", flush=True)
    if failures:
        raise DiffbotError(
            f"{len(failures)} of the jobs of {row.id} failed: {'; '.join(sorted(failures))}. The same command runs them again"
        )
    return {key: dict(sorted(outcomes.items())) for key, outcomes in found.items()}


def _pool(config: Config) -> Executor:
    """A fresh process for each job: its thread count, seeds and memory are its own. Smoke stays in this process."""
    if config.budget == "smoke":
        return Here()
    workers = config.workers or os.cpu_count() or 1
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), max_tasks_per_child=1)


class Here(Executor):
    """Runs what is submitted at once, in this process: starting one costs more than a job of the smoke budget."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """The future is done when this returns."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def _order(study: Study) -> Iterator[tuple[int, Arm]]:
    """Seed by seed, so that an interrupted study has whole seeds."""
    for seed in study.seeds:
        for arm in study.arms:
            yield seed, arm


def _place(base: Path, study: Study, arm: Arm, seed: int) -> Path:
    return base / study.name / arm.name / f"seed_{seed}"


def _finished(row: Row, budget: str, study: Study, arm: Arm, seed: int, base: Path) -> Outcome | None:
    """The outcome of a finished job with the same settings."""
    path = _place(base, study, arm, seed) / "outcome.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    if record.pop("fingerprint") != fingerprint(row, budget, study, arm, seed):
        return None
    return Outcome(**record)


def _study(row_id: str, budget: str, name: str) -> tuple[Row, Study]:
    import torch

    torch.set_num_threads(1)
    row = load_row(row_id)
    for study in row.studies(budget):
        if study.name == name:
            return row, study
    raise ConfigError(f"{row_id} has no study '{name}' at budget {budget}")


def _prepare(row_id: str, budget: str, name: str, base: Path) -> None:
    _, study = _study(row_id, budget, name)
    shared = base / name / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    study.prepare(shared)


def _job(row_id: str, budget: str, study_name: str, arm_name: str, seed: int, base: Path) -> Outcome:
    row, study = _study(row_id, budget, study_name)
    arm = study.arm(arm_name)
    folder = _place(base, study, arm, seed)
    # What an interrupted job left cannot be trusted to have the same settings, and its seconds are lost.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outcome = arm.run(Job(folder, base / study.name / "shared", seed, budget))
    record = plain_outcome(outcome) | {"fingerprint": fingerprint(row, budget, study, arm, seed)}
    part = folder / "outcome.json.part"
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, folder / "outcome.json")
    return outcome
