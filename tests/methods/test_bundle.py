"""Bundles: what is saved is loaded, what is damaged is named, and nothing in them is run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
import yaml
from small_policies import make

from diffbot.data.contract import Contract
from diffbot.errors import BundleError
from diffbot.methods.bundle import (
    HASHED,
    atomic_folder,
    check_files,
    fingerprint,
    load_bundle,
    remove_leftovers,
    save_bundle,
)


@pytest.fixture
def bundle(tmp_path: Path, contract: Contract) -> Path:
    policy, transforms = fitted(contract)
    return save_bundle(
        tmp_path / "policy",
        name="bc_mlp",
        method=policy,
        transforms=transforms,
        contract=contract,
        report={"steps": 3},
    )


def fitted(contract: Contract):  # type: ignore[no-untyped-def]
    policy = make("bc_mlp", contract, seed=4, width=16, horizon=3)
    transforms = type(policy).transforms(policy.config, contract)
    generator = torch.Generator().manual_seed(0)
    sizes = {"position": 2, "goal": 1, "action": 2}
    transforms.fit({key: 5 * torch.randn(50, size, generator=generator) for key, size in sizes.items()})
    return policy, transforms


def test_round_trip(bundle: Path, contract: Contract) -> None:
    policy, transforms = fitted(contract)
    loaded = load_bundle(bundle)
    assert loaded.name == "bc_mlp" and loaded.config == policy.config and loaded.report["steps"] == 3
    assert loaded.contract == contract and loaded.path == bundle
    raw = {"position": torch.randn(2, 1, 2), "goal": torch.randn(2, 1, 1)}
    ours, theirs = transforms.forward(raw), loaded.transforms.forward(raw)
    assert all(torch.equal(ours[key], theirs[key]) for key in raw)
    generator = torch.Generator()
    assert torch.equal(policy.act(ours, generator=generator), loaded.method.act(theirs, generator=generator))
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["policy"], "leftovers beside the bundle"


def test_the_run_folder_will_do(bundle: Path) -> None:
    assert load_bundle(bundle.parent).path == bundle


def test_keys_that_the_policy_does_not_read_are_left_out(tmp_path: Path, contract: Contract) -> None:
    policy = make("bc_mlp", contract, width=16, keys=("goal",))
    transforms = type(policy).transforms(policy.config, contract)
    transforms.fit({"goal": torch.randn(9, 1), "action": torch.randn(9, 2)})
    save_bundle(tmp_path / "p", name="bc_mlp", method=policy, transforms=transforms, contract=contract)
    assert tuple(load_bundle(tmp_path / "p").contract.observations) == ("goal",)


@pytest.mark.parametrize("file", [*HASHED, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_damage_is_named(bundle: Path, file: str, damage: str) -> None:
    path = bundle / file
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :])
    else:
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    # A changed digit of a hash in the manifest cannot be told from a change of the file that it belongs to.
    expected = (
        "manifest.json|corrupt|too long|truncated" if (file, damage) == ("manifest.json", "flip") else file
    )
    with pytest.raises(BundleError, match=expected):
        load_bundle(bundle)


def test_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="diffbot train"):
        load_bundle(tmp_path / "nowhere")


def tamper(bundle: Path, file: str, text: str) -> None:
    """Change a file and its hash, as someone would who wants it loaded."""
    (bundle / file).write_text(text)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][file] = fingerprint(bundle / file)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_yaml_tags_run_nothing(bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    tamper(bundle, "config.yaml", f"!!python/object/apply:os.mkdir ['{marker}']\n")
    with pytest.raises(BundleError, match=r"config\.yaml"):
        load_bundle(bundle)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "bc_mlpp"}, "Did you mean 'bc_mlp'"),
        ({"format": 9}, "format 9"),
        ({"config": {"widht": 4}}, "Did you mean 'width'"),
    ],
)
def test_unknown_contents_are_named(bundle: Path, change: dict[str, object], message: str) -> None:
    config = yaml.safe_load((bundle / "config.yaml").read_text())
    tamper(bundle, "config.yaml", yaml.safe_dump({**config, **change}))
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_weights_of_another_size_are_named(bundle: Path) -> None:
    config = yaml.safe_load((bundle / "config.yaml").read_text())
    config["config"]["width"] = 8
    tamper(bundle, "config.yaml", yaml.safe_dump(config))
    with pytest.raises(BundleError, match=r"policy\.safetensors.*needed"):
        load_bundle(bundle)


def test_manifest_cannot_point_outside(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 0, "sha256": ""}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="malformed entry"):
        check_files(bundle)


def test_a_failed_write_leaves_the_old_one(bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(RuntimeError), atomic_folder(bundle) as part:
        (part / "policy.safetensors").write_bytes(b"half")
        raise RuntimeError("disk full")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["policy"]


def test_leftovers_of_killed_writers_go(bundle: Path) -> None:
    (bundle.parent / ".policy.abc.part").mkdir()
    (bundle.parent / ".policy.abc.part" / "policy.safetensors").write_bytes(b"half")
    remove_leftovers(bundle.parent)
    assert [path.name for path in bundle.parent.iterdir()] == ["policy"]


def test_a_reader_always_finds_a_whole_folder(tmp_path: Path) -> None:
    """While one thread rewrites a folder, another never sees it missing."""
    target = tmp_path / "x"
    stop = threading.Event()
    with atomic_folder(target) as part:
        (part / "n").write_text("0")

    def rewrite() -> None:
        for n in range(150):
            with atomic_folder(target) as part:
                (part / "n").write_text(str(n))
        stop.set()

    thread = threading.Thread(target=rewrite)
    thread.start()
    missing = 0
    while not stop.is_set():
        missing += not target.is_dir()
    thread.join()
    assert missing == 0
    assert (target / "n").read_text() == "149"
