"""Choose which snapshots of a training are kept, and write them into the package.

    python -m sim_envs.behaviour.export locomotion/hopper runs/behaviour/hopper

Every snapshot plays a few episodes. "expert" is the best of them, "medium" the first whose score comes within two points of
the settings' (else the nearest), and the stages lie at equal intervals from the first snapshot to "medium". Weights
are stored in 16 bits; what is measured is measured with those.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import sim_envs
from sim_envs.behaviour.policy import FOLDER, GaussianPolicy, from_arrays
from sim_envs.behaviour.settings import settings_of
from sim_envs.reference_scores import normalised_score

STAGES = 12
FIRST_SEED = 200_000  # neither collection nor evaluation uses these


def export(task: str, run: Path, episodes: int, out: Path) -> None:
    """Write `out`/<task>.safetensors and print what was chosen."""
    from safetensors.numpy import load_file, save_file

    files = sorted(run.glob("*.safetensors"))
    arrays = [{name: _small(name, value) for name, value in load_file(file).items()} for file in files]
    steps = [int(file.stem) for file in files]
    env = sim_envs.make(task)
    returns = []
    for step, weights in zip(steps, arrays, strict=True):
        returns.append(mean_return(env, from_arrays(weights), episodes))
        print(f"{step:>9} steps  return {returns[-1]:8.1f}  score {normalised_score(task, returns[-1]):6.1f}")
    chosen = choose([normalised_score(task, value) for value in returns], settings_of(task).medium)
    about = {
        "steps": {quality: steps[i] for quality, i in chosen.items()},
        "returns": {quality: round(returns[i], 1) for quality, i in chosen.items()},
    }
    stacked = {name: np.stack([arrays[i][name] for i in chosen.values()]) for name in arrays[0]}
    path = out / f"{task.split('/')[1]}.safetensors"
    save_file(stacked, path, metadata={"about": json.dumps(about)})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {about}")


def choose(scores: list[float], medium: float) -> dict[str, int]:
    """Index of the snapshot for each quality, from the scores of all, in order of training."""
    near = [i for i, score in enumerate(scores) if abs(score - medium) <= 2.0]
    middle = near[0] if near else int(np.argmin(np.abs(np.array(scores) - medium)))
    stages = np.linspace(0, middle, STAGES + 1)[:-1].round().astype(int)
    return {
        **{f"stage-{i + 1:02d}": int(index) for i, index in enumerate(stages)},
        "medium": middle,
        "expert": int(np.argmax(scores)),
    }


def mean_return(env: Any, policy: GaussianPolicy, episodes: int) -> float:
    """Mean return of the policy with its noise, over seeds from 200000."""
    total = 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        rng = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            action = policy.sample(np.concatenate(list(observation.values())), rng)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += reward
            ended = terminated or truncated
    return total / episodes


def _small(name: str, value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16) if name.endswith(".weight") else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("run", type=Path, help="folder that train wrote")
    parser.add_argument("--episodes", type=int, default=5, help="episodes that each snapshot plays")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    export(given.task, given.run, given.episodes, given.out)


if __name__ == "__main__":
    main()
