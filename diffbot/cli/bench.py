"""`diffbot bench NAME`: run a benchmark of the checkout's benchmarks/ folder and write its result."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import get_origin, get_type_hints

from rich.console import Console
from rich.table import Table

from diffbot.cli.help import verb_help
from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, MissingExtraError, unknown


def root() -> Path:
    """The checkout that holds benchmarks/: the present folder or the one that diffbot is installed from."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / "benchmarks").is_dir():
            return folder
    raise MissingExtraError(
        "benchmarks are part of the source checkout, not of the wheel. Clone the repository and run the command there."
    )


def names() -> list[str]:
    """Benchmarks of this checkout."""
    files = (root() / "benchmarks").glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def load(name: str) -> ModuleType:
    """Import benchmarks/<name>.py by its path."""
    if name not in names():
        raise unknown("benchmark", name, names(), "diffbot list benchmarks")
    folder = root()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(f"benchmarks.{name}")


def main(arguments: list[str]) -> int:
    """Run `diffbot bench NAME [--json FILE] [key=value ...]`; `--key value` means key=value."""
    from diffbot.cli.config import parse
    from diffbot.evaluation.bench import write_result

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: diffbot bench NAME [--json FILE] [key=value ...]\n\nbenchmarks: " + ", ".join(names()))
        return 0
    name, rest = arguments[0], list(arguments[1:])
    module = load(name)
    if any(argument in ("-h", "--help") for argument in rest):
        verb = Verb(module.SUMMARY, module.Config, lambda config: 0)
        print(verb_help(f"bench {name} [--json FILE]", verb))
        return 0
    target = _json_path(rest)
    rest = _as_overrides(rest, module.Config)
    result = module.run(parse(module.Config, rest))
    show(name, result)
    if target is not None:
        write_result(target, name, result, shlex.join(["diffbot", "bench", name, *rest]), root())
        print(f"written: {target}")
    return 0


def show(name: str, result: object) -> None:
    """Print rows and figures of a result as tables."""
    from diffbot.evaluation.bench import BenchResult, columns

    assert isinstance(result, BenchResult)
    console = Console()
    if result.rows:
        table = Table(title=name)
        head = columns(result.rows)
        for column in head:
            table.add_column(column)
        for row in result.rows:
            table.add_row(*(_text(row.get(column, "")) for column in head))
        console.print(table)
    table = Table("figure", "value", title=f"{name}: figures")
    for key, value in result.figures.items():
        table.add_row(key, _text(value))
    console.print(table)
    if result.notes:
        console.print(result.notes)


def _json_path(rest: list[str]) -> Path | None:
    """Take `--json FILE` (or --json=FILE) out of the arguments."""
    for i, argument in enumerate(rest):
        if argument.startswith("--json="):
            del rest[i]
            return Path(argument.split("=", 1)[1])
        if argument == "--json":
            if i + 1 >= len(rest) or "=" in rest[i + 1]:
                raise ConfigError("--json needs a file: diffbot bench NAME --json FILE")
            path = Path(rest[i + 1])
            del rest[i : i + 2]
            return path
    return None


def _as_overrides(rest: list[str], schema: type) -> list[str]:
    """`--budget cpu` and `--budget=cpu` become budget=cpu; what the schema wants as a list, `--only P1,P2`, only=[P1,P2]."""
    lists = {name for name, kind in get_type_hints(schema).items() if get_origin(kind) in (tuple, list)}
    overrides, words = [], iter(rest)
    for word in words:
        if not word.startswith("--"):
            overrides.append(word)
            continue
        key, given, value = word[2:].partition("=")
        if not given:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise ConfigError(f"--{key} needs a value: --{key} VALUE, or {key}=VALUE")
        overrides.append(f"{key}=[{value}]" if key in lists and value[:1] != "[" else f"{key}={value}")
    return overrides


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
