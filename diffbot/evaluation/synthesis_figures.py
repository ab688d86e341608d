"""Pictures of synthesized transitions beside real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REAL, MADE = "tab:blue", "tab:orange"


def marginals(real: np.ndarray, made: np.ndarray, names: Sequence[str], columns: int = 6) -> Figure:
    """Histograms of every entry. real, made: [N, D]; names: [D]."""
    rows = -(-real.shape[1] // columns)
    figure = Figure(figsize=(2.1 * columns, 1.5 * rows), layout="constrained")
    for i, name in enumerate(names):
        axes: Axes = figure.add_subplot(rows, columns, i + 1)
        low, high = np.quantile(np.concatenate([real[:, i], made[:, i]]), [0.002, 0.998])
        edges = np.linspace(low, high if high > low else low + 1.0, 41)
        axes.hist(real[:, i], edges, density=True, color=REAL, alpha=0.6)
        axes.hist(made[:, i], edges, density=True, color=MADE, histtype="step", linewidth=1.2)
        axes.set_title(name, fontsize=7)
        axes.tick_params(labelsize=5)
        axes.set_yticks([])
    return figure


def correlations(real: np.ndarray, made: np.ndarray) -> Figure:
    """The correlation matrices of both and their difference. real, made: [N, D]."""
    used = (real.std(0) > 1e-9) & (made.std(0) > 1e-9)
    first, second = (np.corrcoef(m[:, used], rowvar=False) for m in (real, made))
    figure = Figure(figsize=(9.5, 3.1), layout="constrained")
    for i, (title, matrix) in enumerate(
        (("real", first), ("synthesized", second), ("difference", second - first))
    ):
        axes: Axes = figure.add_subplot(1, 3, i + 1)
        shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set_title(title)
    figure.colorbar(shown, ax=figure.axes)
    return figure


def projection(real: np.ndarray, made: np.ndarray) -> Figure:
    """Both sets on the two principal axes of the real one, entries divided by their deviations."""
    scale = np.where(real.std(0) > 1e-6, real.std(0), 1.0)
    centre = real.mean(0)
    axes_of = np.linalg.svd((real - centre) / scale, full_matrices=False)[2][:2]
    figure = Figure(figsize=(8, 4), layout="constrained")
    for i, (title, matrix, colour) in enumerate((("real", real, REAL), ("synthesized", made, MADE))):
        axes: Axes = figure.add_subplot(
            1, 2, i + 1, **({"sharex": figure.axes[0], "sharey": figure.axes[0]} if i else {})
        )
        x, y = ((matrix - centre) / scale @ axes_of.T).T
        axes.scatter(x, y, s=2, alpha=0.3, color=colour)
        axes.set_title(title)
    return figure


def distributions(curves: dict[str, np.ndarray], label: str) -> Figure:
    """Cumulative distributions on a logarithmic axis. curves: name -> positive values [N]."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes: Axes = figure.add_subplot()
    for name, values in curves.items():
        ordered = np.sort(np.maximum(values, 1e-9))
        axes.plot(ordered, np.linspace(0, 1, len(ordered)), label=name)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("part of the transitions")
    axes.legend()
    return figure
