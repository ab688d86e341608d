"""`diffbot sweep`: Hydra's multirun grammar, one table, on this machine, on Ray and on submitit."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from diffbot.cli.main import main
from diffbot.cli.sweep import SweepConfig, grid, plan
from diffbot.cli.sweep_trial import DONE, run_trial
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError

SHORT = (
    *(
        "training.steps=3",
        "training.log_every=1",
        "training.batch_size=8",
        "training.tensorboard=false",
        "training.accelerator=cpu",
    ),
    *("method.horizon=4", "method.action_horizon=2"),
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    store = EpisodeStore.create(
        tmp_path / "point.zarr",
        Contract({"position": Field((2,))}, Action((2,)), rate=10.0, task="toy/point"),
    )
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for _ in range(3):
            position = rng.normal(size=(12, 2)).astype(np.float32)
            writer.append({"position": position, "action": -position}, {"success": True})
    return tmp_path / "point.zarr"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sweep(dataset: Path, out: Path, *more: str) -> list[dict[str, str]]:
    arguments = ["sweep", f"dataset={dataset}", "method=bc_mlp", *SHORT, f"sweep.out={out}", *more]
    assert main(arguments) == 0
    return table(out)


def test_grid_is_the_product() -> None:
    points = grid(["task=a/b", "method=x,y", "seed=range(3)", "method.list=[1,2]", "+z=1"])
    assert [values for values, _ in points] == [
        {"method": m, "seed": str(s)} for m in ("x", "y") for s in range(3)
    ]
    assert points[4][1] == ["task=a/b", "method=y", "seed=1", "method.list=[1,2]", "+z=1"]
    with pytest.raises(ConfigError, match="nothing is swept"):
        grid(["task=a/b", "seed=1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0,1", "method.horizn=3,4"], "Did you mean 'horizon'?"),
        (["method=bc_mlp,bc_mpl"], "Did you mean 'bc_mlp'?"),
        (["seed=0,1", "out=here"], "give sweep.out=FOLDER"),
        (["seed=0,1", "sweep.launcher=rai"], "Did you mean 'ray'?"),
        (["seed=0,1", "sweep.cpu=2"], "Did you mean 'cpus'?"),
        (["seed=0,1", "sweep.jobs=0"], "must be at least 1"),
        (["seed=0,1", "sweep.launcher=slurm", "sweep.gpus=0.5"], "Slurm gives whole GPUs"),
    ],
)
def test_refused_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "task=toy/point", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_sweep(tmp_path: Path) -> None:
    points = grid(["task=a/b", "seed=0,1"])
    trials = plan(points, SweepConfig(), tmp_path / "s")
    assert plan(points, SweepConfig(), tmp_path / "s") == trials
    with pytest.raises(ConfigError, match="holds another sweep"):
        plan(grid(["task=a/b", "seed=0,1,2"]), SweepConfig(), tmp_path / "s")


@pytest.mark.slow
def test_a_trial_trains_and_a_failed_one_says_why(dataset: Path, tmp_path: Path) -> None:
    trials = plan(
        grid(
            [
                f"dataset={dataset}",
                "method=bc_mlp",
                *SHORT[:5],
                "method.width=8",
                "method.action_horizon=2",
                "method.horizon=4,40",
            ]
        ),
        SweepConfig(),
        tmp_path / "sweep",
    )
    good, bad = (run_trial(trial) for trial in trials)
    assert (
        good["status"] == DONE and good["steps"] == 3 and good["method.horizon"] == "4" and good["loss"] > 0
    )
    assert bad["status"] == "failed" and "longer than every episode" in bad["problem"]


@pytest.mark.parametrize(("launcher", "extra"), [("ray", "ray"), ("slurm", "slurm")])
def test_a_missing_launcher_is_named(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    launcher: str,
    extra: str,
) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    arguments = [
        "sweep",
        f"dataset={dataset}",
        "method=bc_mlp",
        *SHORT,
        "seed=0,1",
        f"sweep.out={tmp_path / 's'}",
    ]
    assert main([*arguments, f"sweep.launcher={launcher}"]) == 2
    assert f"pip install 'diffbot[{extra}]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package", "more"),
    [
        ("local", "yaml", ("sweep.jobs=2",)),
        ("ray", "ray", ("sweep.jobs=2",)),
        ("slurm", "submitit", ("sweep.cluster=local",)),
    ],
)
def test_launchers_give_the_same_table(
    dataset: Path, tmp_path: Path, launcher: str, package: str, more: tuple[str, ...]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    out = tmp_path / launcher
    rows = sweep(dataset, out, "seed=0,1", "method.width=8,16", f"sweep.launcher={launcher}", *more)
    assert [(row["seed"], row["method.width"]) for row in rows] == [
        ("0", "8"),
        ("0", "16"),
        ("1", "8"),
        ("1", "16"),
    ]
    assert {row["status"] for row in rows} == {DONE}
    assert len({row["loss"] for row in rows}) == 4 and rows[0]["parameters"] < rows[1]["parameters"]
    # The same command again finds everything done.
    stamps = [path.stat().st_mtime_ns for path in sorted(out.glob("trial_*/checkpoints/step_*"))]
    again = sweep(dataset, out, "seed=0,1", "method.width=8,16", f"sweep.launcher={launcher}", *more)
    assert again == rows
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("trial_*/checkpoints/step_*"))] == stamps
