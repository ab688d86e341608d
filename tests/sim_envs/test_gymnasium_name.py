"""gymnasium makes a task of ours from its name alone, with the module that registers them."""

from __future__ import annotations

import subprocess
import sys


def test_gymnasium_makes_a_task_by_name() -> None:
    code = (
        "import gymnasium; env = gymnasium.make('sim_envs.gym:diffbot/pusht-state-v0'); "
        "observation, info = env.reset(seed=1); print(type(info['success']).__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("bool")
