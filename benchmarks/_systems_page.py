"""docs/systems.md: every row that exists with its claim, verdict, figures and command, from the committed results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks._rows import Row, load_row, row_ids

HEAD = """# The table of systems

Each row trains and evaluates a system and the baselines that its claim names on the same data, seeds and budget, in one
run. Means over training seeds with 95 % Student-t intervals; `train_s` are CPU seconds of training on one thread. A
claim that fails stays here as failed. This page is written by `diffbot bench systems`; do not edit it.

| id | system | paper | claim | verdict | budget |
|---|---|---|---|---|---|
"""


def write_page(root: Path) -> None:
    """Write docs/systems.md of a checkout."""
    (root / "docs" / "systems.md").write_text(page(root / "benchmarks" / "results" / "systems"))


def page(results: Path) -> str:
    """The page as text. results: folder of the rows' JSON files."""
    rows = [load_row(name) for name in row_ids()]
    records = {row.id: _record(results / f"{row.id.lower()}.json") for row in rows}
    lines = [HEAD.rstrip("\n")]
    for row in rows:
        record = records[row.id]
        budget = record["figures"]["budget"] if record else ""
        lines.append(
            f"| {row.id} | {_linked(row, record)} | {row.paper} | {row.claim} | {_verdict(record)} | {budget} |"
        )
    for row in rows:
        lines += _section(row, records[row.id])
    return "\n".join(lines) + "\n"


def _record(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _linked(row: Row, record: dict[str, Any] | None) -> str:
    return f"[{row.system}](#{row.id.lower()})" if record else row.system


def _verdict(record: dict[str, Any] | None) -> str:
    if record is None:
        return "not run"
    return "holds" if record["figures"]["holds"] else "**does not hold**"


def _section(row: Row, record: dict[str, Any] | None) -> list[str]:
    if record is None:
        return []
    machine = record["machine"]
    lines = ["", f'<a id="{row.id.lower()}"></a>', f"## {row.id} {row.system}", "", f"Claim: {row.claim}."]
    lines += ["", f"{_verdict(record).strip('*').capitalize()}. {record['notes']}", ""]
    study = None
    for line in record["rows"]:
        if line["study"] != study:
            study = line["study"]
            lines += ["", f"**{study}** ({line['metric']}). {line['about']}".rstrip(), ""]
            lines += [
                "| arm | mean | 95 % interval | per seed | train_s | weights |",
                "|---|---|---|---|---|---|",
            ]
        lines.append(
            f"| {line['arm']} | {line['mean']:.3f} | {line['interval']} | {line['values']} | "
            f"{line['train_s']:.0f} | {_count(line['parameters'])} |"
        )
    lines += ["", f"`{record['command']}`, commit {record['commit']}, seeds {record['seeds']}, "]
    lines[-1] += f"{machine['cores']} cores, {machine['gpu'] or 'no GPU'}, load {machine['load']}."
    return lines


def _count(number: float) -> str:
    if number < 1e3 or math.isnan(number):
        return f"{number:.0f}"
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number / 1e3:.1f} k"
