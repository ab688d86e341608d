"""The figures of evaluation reports. Each function returns a matplotlib figure and shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def loss_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Loss against gradient steps on a log axis; `curves` maps a name to (steps, values)."""
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name, linewidth=1.2)
    axes.set(xlabel="gradient step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def success_bars(results: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Success rate with its interval; `results` maps a name to (rate, low, high)."""
    figure = Figure(figsize=(7, 0.7 + 0.6 * len(results)))
    axes = figure.subplots()
    for row, (name, (rate, low, high)) in enumerate(results.items()):
        axes.barh(row, rate, color="#4c78a8", height=0.5)
        axes.errorbar(rate, row, xerr=[[rate - low], [high - rate]], color="black", capsize=4)
        axes.text(0.01, row, f"{name}: {rate:.2f} [{low:.2f}, {high:.2f}]", va="center", color="white")
    axes.set(xlim=(0, 1.02), xlabel="success rate, 95 % interval", yticks=[])
    axes.invert_yaxis()
    return figure


def timing_histogram(milliseconds: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Distribution of durations with their median and 99th percentile in the legend."""
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    for name, values in milliseconds.items():
        data = np.asarray(values, dtype=np.float64)
        p50, p99 = np.percentile(data, [50, 99])
        axes.hist(data, bins=40, alpha=0.6, label=f"{name}: median {p50:.1f} ms, p99 {p99:.1f} ms")
    axes.set(xlabel=label, ylabel="count")
    axes.legend()
    return figure


def signals(time: np.ndarray, values: np.ndarray, names: Sequence[str], seams: np.ndarray) -> Figure:
    """Commanded actions [steps, dimensions] over time in seconds, with the instants at which a new chunk took over."""
    rows = values.shape[1]
    figure = Figure(figsize=(7, 0.9 * rows + 0.6))
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for i, axes in enumerate(grid):
        axes.step(time, values[:, i], where="post", linewidth=1.2)
        for seam in seams:
            axes.axvline(seam, color="#e45756", alpha=0.3, linewidth=0.8)
        axes.set_ylabel(names[i] if names else f"a{i}", fontsize=8)
        axes.grid(alpha=0.3)
    grid[-1].set_xlabel("time (s)")
    return figure
