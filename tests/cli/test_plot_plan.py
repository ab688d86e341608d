"""`diffbot plot plan`: plans over a maze as a picture and in the browser, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from diffbot.cli.main import main
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.evaluation.plans import maze_figure, projections_figure, segments
from diffbot.methods.registry import build_config
from diffbot.training.config import TrainingConfig
from diffbot.training.run import RunSpec, start

WALLS = np.array([(x, y) for x in range(-2, 3) for y in range(-2, 3) if abs(x) == 2 or abs(y) == 2], float)


def test_every_plan_is_drawn_where_it_goes() -> None:
    ways = np.random.default_rng(0).uniform(-1, 1, (5, 7, 2)).astype(np.float32)
    axes = maze_figure(ways, WALLS, 1.0, ways[0, 0], np.zeros(2)).axes[0]
    drawn = [line.get_xydata() for line in axes.lines[:5]]
    np.testing.assert_allclose(drawn, ways)
    assert len(axes.patches) == len(WALLS) == 16
    assert axes.get_xlim() == (-2.5, 2.5)


def test_projections_show_all_three_axes() -> None:
    ways = np.random.default_rng(0).normal(size=(2, 4, 3))
    figure = projections_figure(ways, np.zeros((8, 8, 3), np.uint8), ways[0, 0], None)
    assert len(figure.axes) == 4
    for axes, pair in zip(figure.axes[1:], ((0, 1), (0, 2), (1, 2)), strict=True):
        np.testing.assert_allclose(axes.lines[1].get_xydata(), ways[1][:, list(pair)])


def test_segments_join_neighbours() -> None:
    ways = np.arange(12.0).reshape(2, 3, 2)
    lines = segments(ways, 0.5)
    assert lines.shape == (4, 2, 3) and (lines[..., 2] == 0.5).all()
    np.testing.assert_array_equal(lines[0, 1, :2], lines[1, 0, :2])
    np.testing.assert_array_equal(lines[2, 0, :2], ways[1, 0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planner and a policy that have seen the small maze for a moment."""
    import sim_envs

    folder = tmp_path_factory.mktemp("plot")
    env = sim_envs.make("pointmaze/umaze")
    store = EpisodeStore.create(folder / "data.zarr", Contract.from_dict(env.unwrapped.contract()))
    env.close()
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for _ in range(4):
            rows = {k: rng.uniform(-1, 1, (20, 2)) for k in ("position", "velocity", "goal", "action")}
            rows["reward"] = rng.uniform(size=20)
            writer.append({k: v.astype(np.float32) for k, v in rows.items()}, {"success": True})
    training = TrainingConfig(steps=2, batch_size=8, tensorboard=False, validation=0.0)
    small = {"network_options": {"down_dims": [8, 16]}, "guide_dims": [8], "horizon": 8, "inference_steps": 3}
    for method, options in (("diffuser", small), ("bc_mlp", {"width": 8})):
        start(RunSpec(method, build_config(method, options), folder / "data.zarr", training), folder / method)
    return folder


def test_picture_of_a_maze(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures" / "plans.png"
    assert main(["plot", "plan", f"policy={runs / 'diffuser'}", "samples=3", f"out={out}"]) == 0
    assert "3 plans of 'position'" in capsys.readouterr().out
    image = matplotlib.image.imread(out)
    assert image.shape[:2] == (450, 450) and image.std() > 0.05


def test_page_shows_the_plans(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("viser")
    settings = ["samples=2", "out=", "browser=true", "port=0", "seconds=0.2"]
    assert main(["plot", "plan", f"policy={runs / 'diffuser'}", *settings]) == 0
    assert "open http://127.0.0.1:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("bc_mlp", [], "plans no states"),
        ("diffuser", ["key=positon"], "Did you mean 'position'"),
        ("diffuser", ["samples=0"], "samples must be at least 1"),
        ("diffuser", ["+conditions.return=1.0"], "conditions belong to a decision_diffuser"),
        ("diffuser", ["task=pointmaze/umase"], "Did you mean"),
    ],
)
def test_what_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str], method: str, settings: list[str], words: str
) -> None:
    assert main(["plot", "plan", f"policy={runs / method}", "out=", *settings]) == 2
    assert words in capsys.readouterr().err
