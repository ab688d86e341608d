"""The policy bundle: the folder that training writes and that evaluation, control and ROS load.

    policy.safetensors       the weights that act
    statistics.safetensors   what the transforms were fitted to
    config.yaml              the method's name, its settings and the transforms
    contract.yaml            observations, action and rate of the data it was trained on
    report.json              how it was trained (may be extended later; not covered by the hashes)
    manifest.json            size and SHA-256 of each file above but the report

Nothing is pickled and loading runs no code from the bundle.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffbot.data.contract import Contract
from diffbot.data.durable import sync_tree
from diffbot.data.transforms import TransformGroup
from diffbot.errors import BundleError, DiffbotError
from diffbot.methods.protocol import Method
from diffbot.methods.registry import build_config, method_by_name

FORMAT = 1
HASHED = ("policy.safetensors", "statistics.safetensors", "config.yaml", "contract.yaml")


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy that is ready to act.

    method: built, with its weights. transforms: fitted. contract: of the raw observations and actions.
    config: the method's settings dataclass. name: what `method=` took. report: how it was trained.
    """

    method: Any  # a Method, or a Synthesizer
    transforms: TransformGroup
    contract: Contract
    config: Any
    path: Path | None = None
    name: str = ""
    report: dict[str, Any] = dataclasses.field(default_factory=dict)


def save_bundle(
    path: str | Path,
    *,
    name: str,
    method: Method,
    transforms: TransformGroup,
    contract: Contract,
    report: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle as one whole: another process sees the old one or the new one, never a part. Returns the path.

    contract: of the dataset; the bundle keeps the observation keys that the transforms (and so the method) use.
    """
    target = Path(path)
    contract = contract.select(tuple(key for key in transforms.transforms if key != "action"))
    transforms.check(contract)
    with atomic_folder(target) as folder:
        save_tensors(folder / "policy.safetensors", method.policy_state())
        save_tensors(folder / "statistics.safetensors", transforms.statistics())
        config = {
            "format": FORMAT,
            "method": name,
            "config": plain(method.config),
            "transforms": plain(transforms.spec()),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "contract.yaml").write_text(yaml.safe_dump(contract.to_dict(), sort_keys=False))
        (folder / "report.json").write_text(json.dumps(plain(report or {}), indent=2) + "\n")
        manifest = {"format": FORMAT, "files": {file: fingerprint(folder / file) for file in HASHED}}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return target


def load_bundle(path: str | Path, *, device: torch.device | str = "cpu") -> LoadedPolicy:
    """Read a bundle. Raises BundleError naming the file that is missing, truncated, altered or inconsistent."""
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(
            f"no policy bundle at '{folder}'. `diffbot train` writes one to runs/NAME/policy; give that folder."
        )
    if not (folder / "manifest.json").is_file() and (folder / "policy" / "manifest.json").is_file():
        folder = folder / "policy"  # the run folder was given
    check_files(folder)
    config, contract_dict = (_yaml(folder / file) for file in ("config.yaml", "contract.yaml"))
    if config.get("format") != FORMAT:
        raise BundleError(
            f"'{folder / 'config.yaml'}' has format {config.get('format')!r}; this diffbot reads {FORMAT}"
        )
    try:
        contract = Contract.from_dict(contract_dict)
        transforms = TransformGroup.from_spec(
            config["transforms"], load_tensors(folder / "statistics.safetensors")
        )
        settings = build_config(config["method"], config["config"])
        method: Method = method_by_name(config["method"]).cls(
            settings, transforms.transformed_contract(contract)
        )
    except KeyError as error:
        raise BundleError(f"'{folder / 'config.yaml'}' lacks the entry {error}") from error
    except BundleError:
        raise
    except DiffbotError as error:
        raise BundleError(f"the bundle '{folder}' does not fit this diffbot: {error}") from error
    try:
        method.load_policy_state(load_tensors(folder / "policy.safetensors"))
    except ValueError as error:
        raise BundleError(f"'{folder / 'policy.safetensors'}': {error}") from error
    report_file = folder / "report.json"
    report = _json(report_file) if report_file.is_file() else {}
    return LoadedPolicy(
        method.to(device), transforms, contract, settings, folder, str(config["method"]), report
    )


def check_files(folder: Path) -> None:
    """Compare every file with the manifest. Raises BundleError naming the first that differs and how."""
    manifest = _json(folder / "manifest.json")
    files = manifest.get("files")
    if not isinstance(files, dict) or not set(files) >= set(HASHED):
        raise BundleError(f"'{folder / 'manifest.json'}' does not list {', '.join(HASHED)}")
    for file, expected in files.items():
        path = folder / file
        if Path(file).name != file or not isinstance(expected, dict):
            raise BundleError(f"'{folder / 'manifest.json'}' has a malformed entry '{file}'")
        if not path.is_file():
            raise BundleError(f"'{path}' is missing. {_FIX}")
        size = path.stat().st_size
        if size != expected.get("bytes"):
            what = "truncated" if size < int(expected.get("bytes", 0)) else "too long"
            raise BundleError(
                f"'{path}' is {what}: {size} bytes, written were {expected.get('bytes')}. {_FIX}"
            )
        if fingerprint(path) != expected:
            raise BundleError(f"'{path}' is corrupt: its SHA-256 differs from the manifest. {_FIX}")


_FIX = "Copy the bundle again, or write it anew with `diffbot train resume=RUN`."


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends without an error.

    Where the file system can exchange two names (Linux), there is no instant without `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        sync_tree(folder)
        if target.exists():
            _exchange(folder, target)
        else:
            os.rename(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`. Nobody may be writing there."""
    for path in folder.glob(".*.part"):
        if path.is_dir():
            shutil.rmtree(path)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders: in one step where renameat2 exists, else in three."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0:
        return
    aside = new.with_name(f".{new.name}.aside.part")
    os.rename(old, aside)
    os.rename(new, old)
    os.rename(aside, new)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; tensors that share memory are written apart."""
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors. Raises BundleError for a file that is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"'{path}' cannot be read as safetensors: {error}") from error


def plain(value: Any) -> Any:
    """Dataclasses, tuples, paths and scalars as JSON- and YAML-able values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor) or hasattr(value, "tolist"):
        return value.tolist()
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BundleError(f"'{path}' is missing. {_FIX}") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"'{path}' cannot be read as JSON: {error}. {_FIX}") from error
    if not isinstance(value, dict):
        raise BundleError(f"'{path}' does not hold a JSON object. {_FIX}")
    return value


def _yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BundleError(f"'{path}' cannot be read as YAML: {error}. {_FIX}") from error
    if not isinstance(value, dict):
        raise BundleError(f"'{path}' does not hold a mapping. {_FIX}")
    return value
