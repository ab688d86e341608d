"""The demo's page is made from what its steps leave behind."""

from __future__ import annotations

import json
from pathlib import Path

from diffbot.cli.demo_report import read_losses, write_page


def test_page_from_the_files_of_a_run(tmp_path: Path) -> None:
    train, evaluation, ros = (tmp_path / name for name in ("train", "evaluation", "ros"))
    for folder in (train, evaluation, ros):
        folder.mkdir()
    lines = [
        {"step": 1, "kind": "train", "loss": 1.0},
        {"step": 1, "kind": "validation", "loss": 2.0},
        {"step": 2, "kind": "train", "loss": 0.5, "learning_rate": 0.1},
    ]
    (train / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (evaluation / "report.json").write_text(json.dumps({"inference_ms": [1.0, 2.0]}))
    (ros / "ros.json").write_text(json.dumps({"chunk_latency_ms": [3.0, 4.0]}))
    assert read_losses(train / "metrics.jsonl") == {"train": ([1, 2], [1.0, 0.5]), "validation": ([1], [2.0])}
    report = {
        "evaluate.success": 1.0,
        "evaluate.interval": [0.9, 1.0],
        "ros.success": 1.0,
        "ros.interval": [0.9, 1.0],
        "wall_s": 1.0,
        "seconds": {"collect": 1.0},
        "commands": {"collect": "diffbot collect <task>"},
    }
    write_page(tmp_path, report, Path("datasets/x.zarr"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "diffbot collect &lt;task&gt;" in page
