"""`diffbot train`: the command line, its default places and its refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffbot.cli.main import main
from diffbot.methods.bundle import load_bundle

SHORT = (
    "training.steps=4",
    "training.tensorboard=false",
    "training.batch_size=16",
    "method.network_options.width=16",
)


@pytest.fixture
def here(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with datasets/point.zarr."""
    folder = dataset.parent
    (folder / "datasets").mkdir()
    dataset.rename(folder / "datasets" / "point.zarr")
    monkeypatch.chdir(folder)
    return folder


def test_default_places_and_free_names(here: Path) -> None:
    assert main(["train", "task=toy/point", *SHORT]) == 0
    assert main(["train", "task=toy/point", "training.precision=bf16-mixed", *SHORT]) == 0
    first, second = here / "runs" / "point_diffusion_policy", here / "runs" / "point_diffusion_policy_2"
    assert load_bundle(first).config.network_options == {"width": 16}
    assert load_bundle(second).report["steps"] == 4
    assert main(["train", f"resume={first}", "training.steps=6"]) == 0
    assert load_bundle(first).report["steps"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=toy/point", "method=difusion_policy"], "Did you mean 'diffusion_policy'?"),
        (["task=toy/point", "method.horizn=8"], "Did you mean 'horizon'?"),
        (["task=toy/point", "method.network=unett"], "Did you mean 'unet'?"),
        (["task=toy/point", "method.network_options={widht:8}"], "Did you mean 'width'?"),
        (["task=toy/point", "method.solver=dim"], "Did you mean 'ddim'?"),
        (["task=toy/point", "method.schedule=cosin"], "Did you mean 'vp_cosine'?"),
        (["task=toy/point", "method.normalization=minmax"], "Did you mean 'min_max'?"),
        (["task=toy/other", "dataset=datasets/point.zarr"], "holds episodes of task 'toy/point'"),
        (["dataset=datasets/pint.zarr"], "no dataset at"),
        (["resume=runs/none"], "not a training run"),
        (["resume=runs/none", "method=bc_mlp"], "a resumed run keeps its method"),
        ([], "give a task or a dataset"),
    ],
)
def test_refusals_are_one_clear_message(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and "Traceback" not in error
    assert not (here / "runs").exists()
