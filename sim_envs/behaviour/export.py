"""Choose which snapshots of a training are kept, and write them into the package.

    python -m sim_envs.behaviour.export locomotion/hopper runs/behaviour/hopper
    python -m sim_envs.behaviour.export locomotion/halfcheetah runs/behaviour/halfcheetah --longer runs/behaviour/halfcheetah2

Every snapshot plays a few episodes. "medium" is the first whose score comes within two points of the settings' (else the
nearest), and the stages lie at equal intervals from the first snapshot to "medium"; all these play with the noise they learned
with. "expert" is the best of the last third (of the longer training if there is one) without noise: the best four play again. Of a gait (antmaze)
only the expert is kept. Weights are stored in 16 bits; what is measured is measured with those.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import sim_envs
from sim_envs.behaviour.ant import AntCourse
from sim_envs.behaviour.policy import FOLDER, GaussianPolicy, from_arrays
from sim_envs.behaviour.settings import settings_of
from sim_envs.reference_scores import REFERENCE_SCORES, normalised_score

STAGES = 12
FIRST_SEED = 200_000  # neither collection nor evaluation uses these
FINALISTS = 4  # snapshots that contend for the expert's place
AGAIN = 20  # episodes on other seeds for which they do, and which measure what was chosen


def export(task: str, run: Path, longer: Path | None, episodes: int, out: Path) -> None:
    """Write `out`/<name>.safetensors and print what was chosen."""
    from safetensors.numpy import save_file

    s = settings_of(task)
    env = AntCourse() if s.environment == "AntCourse" else sim_envs.make(task)

    def score(weights: dict[str, np.ndarray], first: int, count: int) -> float:
        mean = mean_return(env, from_arrays(weights), first, count, s.horizon)
        return normalised_score(task, mean) if task in REFERENCE_SCORES else mean

    kept: dict[str, tuple[int, dict[str, np.ndarray]]] = {}
    if task in REFERENCE_SCORES:
        steps, snapshots = _read(run)
        scores = [score(weights, FIRST_SEED, episodes) for weights in snapshots]
        print("with noise", [round(value, 1) for value in scores], flush=True)
        kept = {name: (steps[i], snapshots[i]) for name, i in choose(scores, s.medium).items()}
    steps, snapshots = _read(longer or run)
    start = 2 * len(steps) // 3
    quiet = [{**weights, "std": 0 * weights["std"]} for weights in snapshots[start:]]
    scores = [score(weights, FIRST_SEED, episodes) for weights in quiet]
    print("without noise", [round(value, 1) for value in scores], flush=True)
    finalists = np.argsort(scores)[-FINALISTS:]
    best = int(max(finalists, key=lambda i: score(quiet[i], FIRST_SEED + 1000, AGAIN)))
    kept["expert"] = (steps[start + best], quiet[best])
    about = {
        "steps": {name: step for name, (step, _) in kept.items()},
        "scores": {
            name: round(score(kept[name][1], FIRST_SEED + 1000, AGAIN), 1)
            for name in ("medium", "expert")
            if name in kept
        },
    }
    stacked = {key: np.stack([weights[key] for _, weights in kept.values()]) for key in snapshots[0]}
    path = out / f"{task.split('/')[-1]}.safetensors"
    save_file(stacked, path, metadata={"about": json.dumps(about)})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {about}")


def choose(scores: list[float], medium: float) -> dict[str, int]:
    """Index of the snapshot for the stages and medium, from the scores of all in order of training."""
    near = [i for i, score in enumerate(scores) if abs(score - medium) <= 2.0]
    middle = near[0] if near else int(np.argmin(np.abs(np.array(scores) - medium)))
    stages = np.linspace(0, middle, STAGES + 1)[:-1].round().astype(int)
    return {**{f"stage-{i + 1:02d}": int(index) for i, index in enumerate(stages)}, "medium": middle}


def mean_return(env: Any, policy: GaussianPolicy, first_seed: int, episodes: int, horizon: int) -> float:
    """Mean return of the policy with its noise, over `episodes` seeds."""
    total = 0.0
    for seed in range(first_seed, first_seed + episodes):
        rng = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        for _ in range(horizon):
            seen = (
                np.concatenate(list(observation.values())) if isinstance(observation, dict) else observation
            )
            observation, reward, terminated, _, _ = env.step(policy.sample(seen, rng))
            total += reward
            if terminated:
                break
    return total / episodes


def _read(run: Path) -> tuple[list[int], list[dict[str, np.ndarray]]]:
    """Steps and arrays of the snapshots in a folder."""
    from safetensors.numpy import load_file

    files = sorted(run.glob("*.safetensors"))
    if not files:
        raise sim_envs.SimEnvError(f"no snapshots in {run}. Make some: python -m sim_envs.behaviour.train")
    snapshots = [{name: _small(name, value) for name, value in load_file(file).items()} for file in files]
    return [int(file.stem) for file in files], snapshots


def _small(name: str, value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16) if name.endswith(".weight") else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("run", type=Path, help="folder that train wrote")
    parser.add_argument("--longer", type=Path, help="folder that train --longer wrote")
    parser.add_argument("--episodes", type=int, default=10, help="episodes that each snapshot plays")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    export(given.task, given.run, given.longer, given.episodes, given.out)


if __name__ == "__main__":
    main()
