"""Train a behaviour policy and keep snapshots of it.

    python -m sim_envs.behaviour.train locomotion/hopper --out runs/behaviour/hopper

Then choose which snapshots to commit: `python -m sim_envs.behaviour.export`. One process, one thread; the same versions on
the same kind of processor give the same weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from pathlib import Path

import numpy as np

from sim_envs.behaviour.ant import AntCourse
from sim_envs.behaviour.ppo import PPO
from sim_envs.behaviour.settings import Settings, settings_of
from sim_envs.gymnasium_tasks.base import build


def train(s: Settings, out: Path, seed: int) -> None:
    """Write `out`/<steps>.safetensors for each snapshot, and a line of `out`/progress.jsonl.

    A snapshot is the policy that plays the rollout which follows it.
    """
    from safetensors.numpy import save_file

    out.mkdir(parents=True, exist_ok=True)
    make = AntCourse if s.environment == "AntCourse" else functools.partial(build, s.environment)
    learner = PPO(s, [make] * s.environments, horizon=s.horizon, seed=seed)
    began, due = time.process_time(), 0
    while True:
        if learner.steps >= min(due, s.steps):
            save_file(learner.weights(), out / f"{learner.steps:08d}.safetensors")
            line = {
                "steps": learner.steps,
                "episodes_before": len(learner.ended),
                "return_before": round(float(np.mean(learner.ended)), 1) if learner.ended else None,
                "std": round(float(np.exp(learner.actor.tail).mean()), 3),
                "cpu_seconds": round(time.process_time() - began, 1),
            }
            with (out / "progress.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
            learner.ended.clear()
            due += s.snapshot_every
        if learner.steps >= s.steps:
            return
        learner.iterate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--longer", action="store_true", help="the second training, for the expert")
    parser.add_argument("--steps", type=int, default=0, help="environment steps; 0: as the settings say")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    settings = settings_of(given.task, given.longer)
    settings = dataclasses.replace(settings, steps=given.steps or settings.steps)
    train(settings, given.out, given.seed)


if __name__ == "__main__":
    main()
