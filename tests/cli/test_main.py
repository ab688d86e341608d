"""The command answers wrong names with the nearest match and status 2, and help without importing anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffbot.cli.main import VERBS, main
from diffbot.errors import MissingExtraError, require, unknown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["colect"], "Did you mean 'collect'"),
        (["data", "chek"], "Did you mean 'check'"),
        (["train", "--fast"], "key=value"),
        (["train", "task=robosuite/lift", "method=difusion_policy"], "Did you mean 'diffusion_policy'"),
        (["train", "task=robosuite/lift", "method.horizn=3"], "Did you mean 'horizon'"),
        (["train", "experiment=lift_unte"], "Did you mean 'lift_unet'"),
        (["collect", "task=robosuite/lft", "episodes=1"], "Did you mean 'robosuite/lift'"),
        (["evaluate", "policy=nowhere"], "no policy bundle at 'nowhere'"),
        (["bench", "solver"], "Did you mean 'solvers'"),
        (["data", "info", "path=nowhere.zarr"], "no dataset at"),
    ],
)
def test_wrong_input_is_answered(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "bench"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: diffbot {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["tasks", "methods", "solvers", "networks", "robots", "benchmarks"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_list_of_one_task_shows_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    assert main(["list", "tasks", "match=pusht/state"]) == 0
    out = capsys.readouterr().out
    assert (
        "block_keypoints" in out
        and "(16,)" in out
        and "0 .. 0.512" in out
        and "expert, good, okay, poor" in out
    )


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from diffbot.cli.main import main; main(['--help']); print('torch' in sys.modules, 'hydra' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("False False")


def test_long_lists_are_cut_to_the_nearest() -> None:
    message = str(unknown("task", "task07x", [f"task{i:02d}" for i in range(60)], "diffbot list tasks"))
    assert "'task07'" in message and "among 60" in message and len(message) < 300


def test_missing_extra_says_the_command() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'diffbot\[view\]'"):
        require("no_such_package_anywhere", "view")


def test_experiments_compose() -> None:
    """Every committed experiment names settings that exist."""
    from diffbot.cli.config import experiments, parse
    from diffbot.cli.train import TrainConfig

    assert experiments()
    for name in experiments():
        assert parse(TrainConfig, [f"experiment={name}"]).method.config.network == "unet"
