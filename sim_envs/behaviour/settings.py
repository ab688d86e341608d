"""What each behaviour policy was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from sim_envs.errors import unknown


@dataclass(frozen=True)
class Settings:
    """PPO on one environment. Defaults as in Huang et al. (2022) for MuJoCo; log_std_init is theirs minus a half.

    rollout: steps between two updates, from all environments together. learning_rate falls linearly to a twentieth over
    `steps`. horizon: time limit in steps. medium: the normalised score that the medium policy shall have, that of D4RL's own data.
    """

    environment: str
    medium: float
    environments: int = 16
    rollout: int = 2048
    batch_size: int = 64
    n_epochs: int = 10
    gamma: float = 0.99
    gae_lambda: float = 0.95
    learning_rate: float = 3e-4
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    log_std_init: float = -0.5
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 1_000_000
    snapshot_every: int = 20_480
    horizon: int = 1000


SETTINGS = {
    "locomotion/hopper": Settings("Hopper-v5", medium=44.3),
    "locomotion/walker2d": Settings("Walker2d-v5", medium=62.1),
    # Discounts as tuned in rl-baselines3-zoo (hyperparams/ppo.yml).
    "locomotion/halfcheetah": Settings(
        "HalfCheetah-v5", medium=40.7, gamma=0.98, gae_lambda=0.92, log_std_init=-1.0
    ),
    # The gait of AntMaze's expert.
    "antmaze": Settings(
        "AntCourse", medium=0.0, steps=2_000_000, rollout=4096, batch_size=128, log_std_init=-0.7, horizon=400
    ),
}

# A second training whose best snapshot is the task's "expert"; the other qualities stay those of the first.
LONGER = {
    "locomotion/halfcheetah": Settings("HalfCheetah-v5", medium=40.7, steps=1_600_000),
}


def settings_of(task: str, longer: bool = False) -> Settings:
    """Raises SimEnvError for a task without a behaviour policy, or without a longer training."""
    table = LONGER if longer else SETTINGS
    if task not in table:
        raise unknown("task with behaviour settings", task, table)
    return table[task]
