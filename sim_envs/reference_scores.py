"""Returns that normalised scores are measured against: 0 is a random policy, 100 an expert."""

from __future__ import annotations

from dataclasses import dataclass

from sim_envs.errors import unknown


@dataclass(frozen=True)
class ReferenceScore:
    """Mean undiscounted return of one episode of a random policy and of an expert, and where the two come from."""

    random: float
    expert: float
    source: str


# D4RL's own maze2d-v1 references (23.85 to 161.86, 13.13 to 277.39, 6.7 to 273.99) are of one fixed goal and a slower
# controller; here every episode draws its goal, so both ends were measured anew.
_MAZE = "measured here: uniform actions and the scripted expert, sparse reward, 200 episodes from seed 200000"
_D4RL = "Fu et al., D4RL, 2020, infos.py (gym v2 bodies; the v5 bodies differ slightly)"

REFERENCE_SCORES = {
    "locomotion/hopper": ReferenceScore(-20.272305, 3234.3, _D4RL),
    "locomotion/halfcheetah": ReferenceScore(-280.178953, 12135.0, _D4RL),
    "locomotion/walker2d": ReferenceScore(1.629008, 4592.3, _D4RL),
    "pointmaze/umaze": ReferenceScore(15.7, 198.2, _MAZE),
    "pointmaze/medium": ReferenceScore(9.0, 387.2, _MAZE),
    "pointmaze/large": ReferenceScore(9.4, 456.2, _MAZE),
    "kitchen/complete": ReferenceScore(0.0, 4.0, "Fu et al., D4RL, 2020: number of sub-tasks done"),
    "adroit/pen": ReferenceScore(
        96.262799, 3076.8331017826877, "Fu et al., D4RL, 2020, infos.py (pen-v1, 100 steps)"
    ),
}


def normalised_score(task: str, episode_return: float) -> float:
    """100 * (return - random) / (expert - random), the D4RL score. Raises SimEnvError for a task without reference."""
    if task not in REFERENCE_SCORES:
        raise unknown("task with reference scores", task, REFERENCE_SCORES)
    reference = REFERENCE_SCORES[task]
    return 100.0 * (episode_return - reference.random) / (reference.expert - reference.random)
