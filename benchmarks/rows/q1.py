"""Q1, Diffusion-QL: PointMaze, Hopper and sparse Lift on mixed data against BC, TD3+BC and IQL."""

from __future__ import annotations

from benchmarks._offline import BASELINES, averages, study
from benchmarks._offline_data import gpu_data, hopper, lift, smoke_data, umaze
from benchmarks._rows import Results, Row, Study, Verdict

ARMS = ("diffusion_ql", *BASELINES)


def studies(budget: str) -> tuple[Study, ...]:
    """cpu: small sets, 128 units; gpu: the published sizes and 256 units."""
    if budget == "smoke":
        return (study(smoke_data(), ("diffusion_ql", "td3_bc"), 16, (0,)),)
    if budget == "cpu":
        return tuple(study(data, ARMS, 128) for data in (umaze(), hopper(), lift()))
    return tuple(study(data, ARMS, 256, (0, 1, 2, 3, 4)) for data in gpu_data())


def judge(results: Results) -> Verdict:
    """Above every baseline on average over the studies."""
    mean = averages(results, ARMS)
    words = ", ".join(f"{arm} {value:.1f}" for arm, value in mean.items())
    best = max(value for arm, value in mean.items() if arm != "diffusion_ql")
    return Verdict(mean["diffusion_ql"] > best, f"Average normalised scores: {words}.")


ROW = Row(
    id="Q1",
    system="Diffusion-QL",
    paper="Wang et al., ICLR 2023",
    claim="on average over mixed data above BC, TD3+BC and IQL",
    studies=studies,
    judge=judge,
)
