"""Q3, IDQL: PointMaze and sparse Lift on mixed data against Diffusion-QL, BC, TD3+BC and IQL; and its training time."""

from __future__ import annotations

from benchmarks._offline import BASELINES, averages, study
from benchmarks._offline_data import gpu_data, lift, smoke_data, umaze
from benchmarks._rows import Results, Row, Study, Verdict

ARMS = ("idql", "diffusion_ql", *BASELINES)
ABOUT_A_QUARTER = 0.35  # of Diffusion-QL's training time


def studies(budget: str) -> tuple[Study, ...]:
    """cpu: small sets, 128 units; gpu: the published sizes and 256 units."""
    if budget == "smoke":
        return (study(smoke_data(), ARMS, 16, (0,)),)
    if budget == "cpu":
        return (study(umaze(), ARMS, 128), study(lift(), ("idql", *BASELINES), 128))
    return tuple(study(data, ARMS, 256, (0, 1, 2, 3, 4)) for data in gpu_data())


def judge(results: Results) -> Verdict:
    """On the mazes best of all, on average above the baselines, at about a quarter of Diffusion-QL's training time."""
    names = list(dict.fromkeys(name for name, _ in results.outcomes))
    mazes = [name for name in names if "maze" in name]
    on_mazes = {arm: sum(results.mean(name, arm) for name in mazes) / len(mazes) for arm in ARMS}
    mean = averages(results, ("idql", *BASELINES))
    time = sum(results.figure(name, "idql", "train_s") for name in mazes)
    share = time / sum(results.figure(name, "diffusion_ql", "train_s") for name in mazes)
    holds = (
        on_mazes["idql"] >= max(on_mazes.values())
        and mean["idql"] > max(mean[arm] for arm in BASELINES)
        and share <= ABOUT_A_QUARTER
    )
    words = ", ".join(f"{arm} {on_mazes[arm]:.1f}" for arm in ARMS)
    over = ", ".join(f"{arm} {value:.1f}" for arm, value in mean.items())
    why = f"Maze: {words}. Average: {over}. Training time {share:.2f} of Diffusion-QL's."
    return Verdict(holds, why)


ROW = Row(
    id="Q3",
    system="IDQL",
    paper="Hansen-Estruch et al., 2023",
    claim="best on the maze, on average above BC, TD3+BC and IQL, at about a quarter of Diffusion-QL's training time",
    studies=studies,
    judge=judge,
)
