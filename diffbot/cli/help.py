"""The text behind --help: a verb's settings with type, default and the comment that stands beside each."""

from __future__ import annotations

import dataclasses
import inspect
import re

from diffbot.cli.verb import Verb


def verb_help(path: str, verb: Verb) -> str:
    """Usage, summary, settings and examples of one verb."""
    lines = [f"usage: diffbot {path} [key=value ...]", "", verb.summary, "", "settings:"]
    lines += [
        f"  {name:<24} {default:<22} {comment}".rstrip() for name, default, comment in settings(verb.config)
    ]
    if verb.examples:
        lines += ["", "examples:"] + [f"  {example}" for example in verb.examples]
    return "\n".join(lines)


def settings(schema: type) -> list[tuple[str, str, str]]:
    """(name, default, comment) of each field; nested dataclasses are listed as outer.inner."""
    rows: list[tuple[str, str, str]] = []
    comments = _comments(schema)
    for f in dataclasses.fields(schema):
        default = _default(f)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            rows += [(f"{f.name}.{name}", value, comment) for name, value, comment in settings(type(default))]
            continue
        shown = "(needed)" if default in ("???", dataclasses.MISSING) else str(default)
        rows.append((f.name, shown, comments.get(f.name, "")))
    return rows


def _default(f: dataclasses.Field) -> object:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def _comments(schema: type) -> dict[str, str]:
    """The `# comment` at the end of each field's line, or on the lines just above it."""
    found: dict[str, str] = {}
    for cls in reversed(schema.__mro__[:-1]):
        try:
            source = inspect.getsource(cls)
        except (OSError, TypeError):
            continue
        above: list[str] = []
        for line in source.splitlines():
            text = line.strip()
            if text.startswith("#"):
                above.append(text.lstrip("# "))
                continue
            match = re.match(r"(\w+)\s*:[^#]*(?:#\s*(.*))?$", text)
            if match:
                comment = match.group(2) or " ".join(above)
                if comment:
                    found[match.group(1)] = comment
            above = []
    return found
