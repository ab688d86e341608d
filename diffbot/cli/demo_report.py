"""The page that `diffbot demo` ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffbot.evaluation.figures import loss_curves, success_bars, timing_histogram
from diffbot.evaluation.report import Report


def write_page(out: Path, report: dict[str, Any], dataset: Path) -> None:
    """Write report.html into `out` from what the four steps left there."""
    page = Report("diffbot demo")
    page.text(f"Dataset {dataset}, policy {out / 'train' / 'policy'}. All figures are those of report.json.")
    rows = [(key, _text(value)) for key, value in report.items() if key not in ("commands", "seconds")]
    rows += [(f"seconds.{name}", value) for name, value in report["seconds"].items()]
    page.table(("figure", "value"), rows)

    page.heading("Commands")
    for command in report["commands"].values():
        page.code(command)

    page.heading("Training")
    page.figure(loss_curves(read_losses(out / "train" / "metrics.jsonl")), "Training and validation loss")

    page.heading("Success")
    bars = {"in process": (report["evaluate.success"], *report["evaluate.interval"])}
    if "ros.success" in report:
        bars["over ROS 2"] = (report["ros.success"], *report["ros.interval"])
    page.figure(success_bars(bars), "Success rate and Wilson 95 % interval on the same seeds")

    page.heading("Rollouts")
    evaluation = out / "evaluation"
    if (evaluation / "frames.png").exists():
        page.image(evaluation / "frames.png", "Rollouts, one row each, from reset to success")
    if (evaluation / "rollouts.mp4").exists():
        page.video("evaluation/rollouts.mp4", "The same rollouts as video")
    if (evaluation / "signals.png").exists():
        page.image(evaluation / "signals.png", "Commands of the first episode; red: a new chunk takes over")

    page.heading("Chunk timing")
    record = json.loads((evaluation / "report.json").read_text())
    timing = {"inference in process": record["inference_ms"]}
    if (out / "ros" / "ros.json").exists():
        timing["observation to chunk over ROS 2"] = json.loads((out / "ros" / "ros.json").read_text())[
            "chunk_latency_ms"
        ]
    page.figure(timing_histogram(timing, "milliseconds"), "Time from an observation to its action chunk")
    page.write(out / "report.html")


def read_losses(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """The losses of a metrics.jsonl as (steps, values), by their kind: train, validation."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if "loss" in record:
            steps, values = curves.setdefault(record["kind"], ([], []))
            steps.append(record["step"])
            values.append(record["loss"])
    return curves


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"{v:.3g}" for v in value) + "]"
    return str(value)
