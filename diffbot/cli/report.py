"""`diffbot report synthesis`: a page with pictures that says how good a synthesized dataset is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from diffbot.cli.synthesize import gather
from diffbot.cli.verb import Verb
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError
from diffbot.evaluation.report import Report
from diffbot.evaluation.synthesis import DynamicsError, dynamics_error, quality, transition_matrix


@dataclass(frozen=True)
class SynthesisReportConfig:
    """Which datasets are compared."""

    real: str = "???"  # the recorded dataset
    synthetic: str = "???"  # the synthesized one
    out: str = ""  # folder of the page; empty: <synthetic>.report beside it
    task: str = ""  # simulator that checks the dynamics; empty: the dataset's; none: do not check
    samples: int = 4000  # transitions compared, drawn by `seed`
    seed: int = 0


def run(config: SynthesisReportConfig) -> int:
    """Measure, draw, and write report.html, report.json and the pictures."""
    if config.samples < 200:
        raise ConfigError(f"samples must be at least 200, got {config.samples}")
    real_store, made_store = EpisodeStore.open(config.real), EpisodeStore.open(config.synthetic)
    keys = tuple(made_store.contract.observations)
    real_store.contract.select(keys).require_match(made_store.contract, "real", "synthesized")
    real, made = (gather(store, 2 * config.samples, config.seed) for store in (real_store, made_store))
    found = quality(real, made, keys, seed=config.seed, most=config.samples)
    task = config.task or real_store.contract.task
    dynamics = None if task in ("", "none") else _dynamics(task, real, made, keys)
    out = Path(config.out) if config.out else made_store.path.with_suffix(".report")
    out.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(out, real, made, keys, real_store, config.samples, dynamics)
    figures: dict[str, Any] = found.record()
    for name, error in (dynamics or {}).items():
        figures[f"dynamics_error_{name}"] = error.median
        figures[f"reward_error_{name}"] = float(np.median(error.reward_error))
    record = {"figures": figures, "provenance": made_store.provenance}
    (out / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    _page(out, real_store, made_store, figures, pictures, found.problems())
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}")
    print(f"written: {out / 'report.html'}")
    return 0


def _dynamics(task: str, real: Any, made: Any, keys: tuple[str, ...]) -> dict[str, DynamicsError] | None:
    """The one-step errors of both sets, or None where observations do not say the state."""
    import sim_envs
    from sim_envs.errors import SimEnvError

    env: Any = sim_envs.make(task)
    try:
        return {
            name: dynamics_error(env, real, rows, keys)
            for name, rows in (("real", real), ("synthetic", made))
        }
    except (SimEnvError, KeyError) as error:
        print(f"dynamics not checked: {error}")
        return None
    finally:
        env.close()


def _pictures(
    out: Path,
    real: Any,
    made: Any,
    keys: tuple[str, ...],
    store: EpisodeStore,
    most: int,
    dynamics: dict[str, DynamicsError] | None,
) -> list[str]:
    """Write the PNG files; their names in reading order."""
    from diffbot.evaluation import synthesis_figures as draw

    a, b = (transition_matrix(rows, keys)[:most] for rows in (real, made))
    scale = np.where(a.std(0) > 1e-6, a.std(0), 1.0)
    half = len(a) // 2
    tree = cKDTree(a[half:] / scale)
    distances = {"held-out real": tree.query(a[:half] / scale)[0], "synthesized": tree.query(b / scale)[0]}
    figures = {
        "marginals": draw.marginals(a, b, _names(store, keys)),
        "correlations": draw.correlations(a, b),
        "projection": draw.projection(a, b),
        "nearest": draw.distributions(distances, "distance to the nearest real transition (deviations)"),
    }
    if dynamics is not None:
        curves = {name: error.error for name, error in dynamics.items()}
        figures["dynamics"] = draw.distributions(curves, "one-step error (deviations of a step)")
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=90)
    return list(figures)


def _names(store: EpisodeStore, keys: tuple[str, ...]) -> list[str]:
    def entries(key: str) -> list[str]:
        field = store.contract.action if key == "action" else store.contract.observations[key]
        return [f"{key}.{n}" for n in (field.names or range(field.size))]

    state = [name for key in keys for name in entries(key)]
    return [*state, *entries("action"), "reward", *(f"next {name}" for name in state)]


CAPTIONS = {
    "marginals": "Every entry of a transition: real filled, synthesized outlined",
    "correlations": "Correlations between entries",
    "projection": "Both sets on the two principal axes of the real one",
    "nearest": "How far the samples are from the data; copies would stand far left of the held-out curve",
    "dynamics": "The simulator put into each s and given a: how far its s' is from the transition's",
}


def _page(
    out: Path,
    real: EpisodeStore,
    made: EpisodeStore,
    figures: dict[str, float],
    pictures: list[str],
    problems: list[str],
) -> None:
    page = Report(f"{made.path.name} beside {real.path.name}")
    verdict = f"Fails its checks: {'; '.join(problems)}." if problems else "Passes its checks."
    page.text(f"{made.steps} transitions drawn by {made.provenance.get('method', '?')}. {verdict}")
    page.table(("figure", "value"), [(name, f"{value:.4g}") for name, value in figures.items()])
    for name in pictures:
        page.image(out / f"{name}.png", CAPTIONS[name])
    page.write(out / "report.html")


VERBS = {
    "synthesis": Verb(
        "how good a synthesized dataset is, as a page with pictures",
        SynthesisReportConfig,
        run,
        (
            "diffbot report synthesis real=datasets/hopper.zarr synthetic=datasets/hopper-synthetic.zarr out=report",
        ),
    )
}
