"""From a bundle folder to what runs: the one place where control meets files."""

from __future__ import annotations

from pathlib import Path

import yaml

from diffbot.control.runner import PolicyRunner
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, ContractError


def load_runner(path: str | Path, *, seed: int = 0, backend: str = "auto") -> PolicyRunner:
    """The policy of a bundle, ready to observe and infer. Raises BundleError for a missing or damaged bundle."""
    from diffbot.methods.bundle import load_bundle

    return PolicyRunner(load_bundle(path), seed=seed, backend=backend)


def load_contract(path: str | Path) -> Contract:
    """The contract of a bundle folder, a run folder or a contract.yaml, without loading any weights.

    Raises ConfigError when there is none, ContractError when it is not one.
    """
    given = Path(path)
    candidates = (given, given / "contract.yaml", given / "policy" / "contract.yaml")
    file = next((c for c in candidates if c.is_file()), None)
    if file is None:
        raise ConfigError(
            f"no contract at '{path}': give a policy bundle (runs/NAME/policy) or a contract.yaml"
        )
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"'{file}' cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ContractError(f"'{file}' does not hold a contract")
    return Contract.from_dict(data)


def require_fit(policy: Contract, environment: Contract, right: str = "environment") -> None:
    """Raise ContractError, with both sides and what can be done, unless `environment` offers what `policy` needs."""
    try:
        policy.require_match(environment, "policy", right)
    except ContractError as error:
        if policy.task in ("", environment.task):
            advice = f"Record demonstrations in it and train on them: diffbot collect task={environment.task}"
        else:
            advice = f"The policy was trained for task={policy.task}, this is {environment.task}"
        raise ContractError(f"{error}\n{advice}") from error
