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
        return (study(smoke_data(), ("idql", "diffusion_ql"), 16, (0,)),)
    if budget == "cpu":
        return (study(umaze(), ARMS, 128), study(lift(), ("idql", *BASELINES), 128))
    return tuple(study(data, ARMS, 256, (0, 1, 2, 3, 4)) for data in gpu_data())


def judge(results: Results) -> Verdict:
    """On the mazes best of all, on average above the baselines, at about a quarter of Diffusion-QL's training time."""
    on_mazes = averages(results, ARMS, "maze")
    mean = averages(results, ("idql", *BASELINES))
    mazes = [name for name, arm in results.outcomes if "maze" in name and arm == "idql"]
    time = {
        arm: sum(results.figure(name, arm, "train_s") for name in mazes) for arm in ("idql", "diffusion_ql")
    }
    share = time["idql"] / time["diffusion_ql"]
    holds = (
        on_mazes["idql"] >= max(on_mazes.values())
        and mean["idql"] >= max(mean.values())
        and share <= ABOUT_A_QUARTER
    )
    words = ", ".join(f"{arm} {value:.1f}" for arm, value in on_mazes.items())
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
