"""`diffbot data check`: the doctor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING
from rich.console import Console

from diffbot.cli.verb import Verb
from diffbot.data.doctor import Thresholds, check_path
from diffbot.errors import BundleError


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `diffbot data check`."""

    path: str = MISSING  # the dataset: a zarr folder or .zip
    bundle: str = ""  # a policy bundle whose statistics and contract the dataset should fit
    strict: bool = False  # exit with 1 for warnings too
    thresholds: Thresholds = field(default_factory=Thresholds)


def run(config: CheckConfig) -> int:
    """Print the findings. Exit status: 0 nothing wrong, 1 errors (with strict also warnings)."""
    statistics, contract = None, None
    if config.bundle:
        statistics, contract = _bundle(Path(config.bundle))
    findings = check_path(config.path, statistics=statistics, against=contract, thresholds=config.thresholds)
    console = Console()
    for finding in findings:
        color = "red" if finding.level == "error" else "yellow"
        console.print(f"[{color}]{finding.level:<8}[/]{finding.check:<12}", end="", highlight=False)
        console.print(finding.message, markup=False, highlight=False, soft_wrap=True)
    errors = sum(f.level == "error" for f in findings)
    console.print(
        f"{config.path}: {errors} errors, {len(findings) - errors} warnings", highlight=False, soft_wrap=True
    )
    return int(errors > 0 or (config.strict and len(findings) > 0))


def _bundle(path: Path):  # type: ignore[no-untyped-def]
    import yaml
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from diffbot.data.contract import Contract

    try:
        statistics = load_file(path / "statistics.safetensors")
        contract = Contract.from_dict(yaml.safe_load((path / "contract.yaml").read_text()))
    except (OSError, SafetensorError, yaml.YAMLError) as error:
        raise BundleError(f"cannot read the statistics and contract of {path}: {error}") from error
    return statistics, contract


CHECK = Verb(
    "the doctor: constants, outliers, pauses, gaps, rates, statistics, contract, lost data",
    CheckConfig,
    run,
    ("diffbot data check path=lift.zarr", "diffbot data check path=lift.zarr bundle=runs/lift strict=true"),
)
