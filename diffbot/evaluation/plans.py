"""What a planner intends, sampled several times and drawn over the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diffbot.errors import ConfigError, unknown
from diffbot.methods.bundle import LoadedPolicy

POSITIONS = (
    "position",
    "gripper_position",
    "robot0_eef_pos",
    "torso_position",
    "agent_position",
    "hand_position",
)


def position_key(policy: LoadedPolicy, key: str = "") -> str:
    """The key whose way is drawn: `key`, or the first usual name of a position that the policy plans.

    Raises ConfigError for a policy that plans no states, and for a key that is not among those it plans.
    """
    layout = getattr(policy.method, "layout", None)
    if layout is None or not callable(getattr(policy.method, "plan", None)):
        raise ConfigError(
            f"'{policy.name}' gives actions and plans no states. Train a planner: diffbot train method=diffuser"
        )
    planned = tuple(layout.sizes)
    if key and key not in planned:
        raise unknown("planned key", key, planned)
    for name in (key,) if key else POSITIONS:
        if name in planned:
            if layout.sizes[name] not in (2, 3):
                raise ConfigError(f"'{name}' has {layout.sizes[name]} entries, a way is drawn in 2 or 3")
            return name
    raise ConfigError(f"which key is a position? Give key=..., one of: {', '.join(planned)}")


@torch.no_grad()
def sample_ways(
    policy: LoadedPolicy,
    observation: Mapping[str, np.ndarray],
    key: str,
    samples: int,
    seed: int,
    **options: Any,
) -> np.ndarray:
    """`samples` plans from one observation {key: [...]} without history: float32 [samples, T, 2 or 3] of `key`, raw units.

    options: of the method's `plan`, such as conditions={"return": 1.2}.
    """
    method: Any = policy.method
    rows = {
        name: torch.from_numpy(np.asarray(observation[name]))[None, None].expand(
            samples, method.observation_horizon, *np.shape(observation[name])
        )
        for name in method.keys
    }
    plan = method.plan(
        policy.transforms.forward(rows), generator=torch.Generator().manual_seed(seed), **options
    )
    way: torch.Tensor = policy.transforms.inverse({key: plan.states[key]})[key]
    return way.float().numpy()


def maze_figure(
    ways: np.ndarray, walls: np.ndarray, cell: float, start: np.ndarray, goal: np.ndarray | None
) -> Figure:
    """Plans [N, T, 2] over a maze. walls: [W, 2] centres of the wall cells, `cell` their side, all in m."""
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    for x, y in walls:
        axes.add_patch(Rectangle((x - cell / 2, y - cell / 2), cell, cell, color="#9aa5b1"))
    _ways(axes, ways[..., :2])
    _ends(axes, start[:2], None if goal is None else goal[:2])
    low, high = walls.min(0) - cell / 2, walls.max(0) + cell / 2
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x (m)", ylabel="y (m)")
    figure.tight_layout()
    return figure


def projections_figure(
    ways: np.ndarray, image: np.ndarray | None, start: np.ndarray, goal: np.ndarray | None
) -> Figure:
    """Plans [N, T, 3] from above, from the side and from the front, beside an image of the scene [h, w, 3]."""
    views = ((0, 1, "x (m)", "y (m)"), (0, 2, "x (m)", "z (m)"), (1, 2, "y (m)", "z (m)"))
    count = len(views) + (image is not None)
    figure = Figure(figsize=(3.4 * count, 3.4))
    grid = figure.subplots(1, count)
    if image is not None:
        grid[0].imshow(image)
        grid[0].set_axis_off()
    for axes, (i, j, across, up) in zip(grid[-len(views) :], views, strict=True):
        _ways(axes, ways[..., [i, j]])
        _ends(axes, start[[i, j]], None if goal is None else goal[[i, j]])
        axes.set(xlabel=across, ylabel=up)
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def segments(ways: np.ndarray, height: float) -> np.ndarray:
    """Plans [N, T, 2 or 3] as line segments [N * (T - 1), 2, 3]; plane ones lie at `height` m."""
    if ways.shape[-1] == 2:
        ways = np.concatenate([ways, np.full((*ways.shape[:2], 1), height, ways.dtype)], axis=-1)
    return np.stack([ways[:, :-1], ways[:, 1:]], axis=2).reshape(-1, 2, 3)


def colors(count: int) -> np.ndarray:
    """One colour per plan, uint8 [count, 3]."""
    import matplotlib

    palette: Colormap = matplotlib.colormaps["viridis"]
    return (255 * np.asarray(palette(np.linspace(0.05, 0.9, count)))[:, :3]).astype(np.uint8)


def _ways(axes: Axes, ways: np.ndarray) -> None:
    for way, color in zip(ways, colors(len(ways)) / 255.0, strict=True):
        axes.plot(
            way[:, 0], way[:, 1], color=tuple(color), linewidth=1.2, alpha=0.8, marker=".", markersize=3
        )


def _ends(axes: Axes, start: Sequence[float] | np.ndarray, goal: Sequence[float] | np.ndarray | None) -> None:
    axes.plot(*start, "o", color="black", markersize=8, label="start")
    if goal is not None:
        axes.plot(*goal, "*", color="#e45756", markersize=14, label="goal")
    axes.legend(loc="upper right", fontsize=7)
