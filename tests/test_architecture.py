"""The arrows of the design: who may import whom. Imports are read from the syntax tree, also those inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = ("diffbot", "sim_envs", "diffbot_ros", "diffbot_msgs", "benchmarks")
METHODS = ("diffbot.methods.protocol", "diffbot.methods.registry", "diffbot.methods.bundle")

# room -> prefixes of our own packages that it may import (besides itself)
ARROWS: dict[str, tuple[str, ...]] = {
    "diffbot/diffusion": (),
    "diffbot/networks": ("diffbot.diffusion", "diffbot.errors"),
    "diffbot/data": ("diffbot.errors",),
    "diffbot/methods": ("diffbot.diffusion", "diffbot.networks", "diffbot.data", "diffbot.errors"),
    "diffbot/control": (*METHODS, "diffbot.data", "diffbot.errors"),
    "diffbot/training": (*METHODS, "diffbot.data", "diffbot.control", "diffbot.errors"),
    "diffbot/evaluation": (*METHODS, "diffbot.data", "diffbot.control", "diffbot.errors"),
    "diffbot/cli": ("diffbot", "diffbot_ros", "diffbot_msgs", "sim_envs", "benchmarks"),
    "sim_envs": (),
    "ros2_ws/src/diffbot_ros/diffbot_ros": (
        "diffbot_msgs",
        "diffbot.control",
        "diffbot.data",
        "diffbot.errors",
    ),
}
EXTRA = {
    # The simulator node stands on the simulation side; the live view draws its scene.
    "ros2_ws/src/diffbot_ros/diffbot_ros/simulator.py": ("sim_envs",),
    "ros2_ws/src/diffbot_ros/diffbot_ros/view_scene.py": ("sim_envs",),
}


def imports(path: Path) -> set[str]:
    """Fully qualified modules that a file imports; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the project uses absolute ones"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def allowed(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


@pytest.mark.parametrize("room", ARROWS)
def test_arrows(room: str) -> None:
    package = room.rsplit("/", 1)[-1] if room.startswith("ros2_ws") else room.replace("/", ".")
    broken = []
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} has no Python files"
    for path in files:
        relative = path.relative_to(ROOT).as_posix()
        may = (package, *ARROWS[room], *EXTRA.get(relative, ()))
        for name in imports(path):
            if name.split(".")[0] in OWN and not allowed(name, may):
                broken.append(f"{relative} imports {name}")
    assert not broken, "\n".join(broken)


def test_diffusion_imports_only_torch() -> None:
    import sys

    for path in (ROOT / "diffbot/diffusion").rglob("*.py"):
        for name in imports(path):
            top = name.split(".")[0]
            assert top == "torch" or top in sys.stdlib_module_names or name.startswith("diffbot.diffusion"), (
                f"{path.name} imports {name}"
            )


def test_no_package_names_a_method() -> None:
    """Methods are found through the registry; nobody outside their room imports one."""
    for room in (
        "diffbot/control",
        "diffbot/training",
        "diffbot/evaluation",
        "diffbot/data",
        "diffbot/networks",
    ):
        for path in (ROOT / room).rglob("*.py"):
            for name in imports(path):
                assert not name.startswith("diffbot.methods.") or allowed(name, METHODS), f"{path}: {name}"


def test_nothing_unpickles_or_evaluates() -> None:
    """Loading a policy or a dataset never runs code from it."""
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for room in ("diffbot", "sim_envs", "ros2_ws/src/diffbot_ros/diffbot_ros"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            tops = {name.split(".")[0] for name in imports(path)}
            assert not tops & forbidden, f"{path} imports {tops & forbidden}"
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    assert name not in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load"), (
                        f"{path}: {name}"
                    )
                    for keyword in node.keywords:
                        if keyword.arg == "allow_pickle":
                            assert ast.unparse(keyword.value) == "False", f"{path}: allow_pickle"
