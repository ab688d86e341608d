"""The command `diffbot`: finds the verb, reads its settings, runs it, and turns errors into one clear message."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from diffbot import __version__
from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, DiffbotError, unknown

# Summaries stand here so that `diffbot --help` imports nothing heavy.
VERBS = {
    "collect": "record demonstrations of a scripted expert or an operator",
    "train": "train a method on a dataset and write a policy bundle",
    "sweep": "train every combination of some settings, here, on Ray or on Slurm",
    "evaluate": "roll a policy out in simulation on fixed seeds",
    "plot": "pictures of what a policy plans",
    "synthesize": "multiply a dataset with a synthesizer",
    "report": "pages with pictures: how good a synthesized dataset is",
    "ros": "run policies, simulators and robots as ROS 2 nodes",
    "data": "look at, check, convert and repair datasets",
    "demo": "the whole way: collect, train, evaluate and run over ROS 2, with a report",
    "bench": "measure, with a table and a JSON file",
    "list": "tasks, methods, solvers, networks, robots, benchmarks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 done, 1 the answer is no (a failed check), 2 the request cannot be met."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return dispatch(arguments)
    except DiffbotError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # sim_envs and diffusion know nothing of diffbot.errors and raise their own user errors.
        if not _is_named(error):
            raise
        print(f"error: {error}", file=sys.stderr)
    return 2


def dispatch(arguments: list[str]) -> int:
    """Run the verb that `arguments` name."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(f"diffbot {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in VERBS:
        raise unknown("verb", name, VERBS, "diffbot --help")
    module = importlib.import_module(f"diffbot.cli.{name}")
    if hasattr(module, "main"):
        return int(module.main(rest))
    if hasattr(module, "VERBS"):
        table: dict[str, Verb] = module.VERBS
        if not rest or rest[0] in ("-h", "--help"):
            print(f"usage: diffbot {name} WHAT [key=value ...]\n\n{VERBS[name]}\n")
            print("\n".join(f"  {sub:<12} {verb.summary}" for sub, verb in table.items()))
            return 0
        if rest[0] not in table:
            raise unknown(f"'{name}' verb", rest[0], table, f"diffbot {name} --help")
        return run_verb(f"{name} {rest[0]}", table[rest[0]], rest[1:])
    return run_verb(name, module.VERB, rest)


def run_verb(path: str, verb: Verb, arguments: list[str]) -> int:
    """Parse the settings of one verb and run it."""
    if any(argument in ("-h", "--help") for argument in arguments):
        from diffbot.cli.help import verb_help

        print(verb_help(path, verb))
        return 0
    for argument in arguments:
        if argument.startswith("-"):
            raise ConfigError(
                f"'{argument}' is not a flag of 'diffbot {path}'. Settings are key=value: diffbot {path} --help"
            )
    from diffbot.cli.config import parse

    return verb.run(parse(verb.config, arguments))


def overview() -> str:
    """The text of `diffbot --help`."""
    lines = ["usage: diffbot VERB [key=value ...]", "", "From demonstrations to robots that move.", ""]
    lines += [f"  {name:<10} {summary}" for name, summary in VERBS.items()]
    lines += ["", "Each verb has --help. Settings are Hydra overrides: key=value, nested.key=value."]
    return "\n".join(lines)


def _is_named(error: Exception) -> bool:
    return any(cls.__name__ in ("SimEnvError", "DiffusionError") for cls in type(error).__mro__)


if __name__ == "__main__":
    sys.exit(main())
