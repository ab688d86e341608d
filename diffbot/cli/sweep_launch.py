"""Where the trials of a sweep run: processes here, a Ray cluster, or Slurm through submitit.

Each takes the trials and yields their rows as they finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from diffbot.cli.sweep_trial import Trial, run_trial
from diffbot.errors import DiffbotError, require

Row = dict[str, Any]


def run_local(trials: Sequence[Trial], settings: Any, folder: Path) -> Iterator[Row]:
    """`settings.jobs` trials at a time on this machine."""
    with ThreadPoolExecutor(settings.jobs) as pool:
        waiting = [pool.submit(run_trial, trial) for trial in trials]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def run_ray(trials: Sequence[Trial], settings: Any, folder: Path) -> Iterator[Row]:
    """One Ray task per trial with `settings.cpus` and `settings.gpus`, on the cluster at `settings.address`.

    Without an address Ray is started on this machine for as long as the sweep runs. A trial whose machine is lost is
    run again elsewhere, from its last checkpoint.
    """
    ray = require("ray", "ray", "sweep.launcher=ray")
    started = not ray.is_initialized()
    if started:
        own = {"num_cpus": settings.jobs * settings.cpus}
        options: dict[str, Any] = {"address": settings.address} if settings.address else own
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **options)
        except ConnectionError as error:
            raise DiffbotError(
                f"no Ray cluster answers at '{settings.address}': {error}. Start one: ray start --head"
            ) from error
    try:
        task = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=3)(run_trial)
        waiting = {task.remote(trial): trial for trial in trials}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            trial = waiting.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield lost(trial, error)
    finally:
        if started:
            ray.shutdown()


def run_slurm(trials: Sequence[Trial], settings: Any, folder: Path) -> Iterator[Row]:
    """One Slurm job array through submitit; `settings.cluster` "local" runs the same jobs as processes here."""
    submitit = require("submitit", "slurm", "sweep.launcher=slurm")
    executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=settings.cluster)
    options: dict[str, Any] = {
        "timeout_min": settings.minutes,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": int(settings.gpus),
        "name": f"diffbot-{folder.name}",
    }
    if settings.cluster == "slurm":
        options["slurm_array_parallelism"] = settings.jobs
        options |= {f"slurm_{name}": value for name, value in settings.slurm.items()}
    executor.update_parameters(**options)
    jobs = executor.map_array(run_trial, list(trials))
    by_id = {job.job_id: trial for job, trial in zip(jobs, trials, strict=True)}
    try:
        for job in submitit.helpers.as_completed(jobs):
            try:
                yield job.result()
            except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
                yield lost(by_id[job.job_id], error)
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()


def lost(trial: Trial, error: Exception) -> Row:
    """The row of a trial whose process died without an answer."""
    return {
        "trial": trial.number,
        **trial.values,
        "status": "lost",
        "problem": str(error).strip().splitlines()[0],
    }


LAUNCHERS: dict[str, Callable[[Sequence[Trial], Any, Path], Iterator[Row]]] = {
    "local": run_local,
    "ray": run_ray,
    "slurm": run_slurm,
}
