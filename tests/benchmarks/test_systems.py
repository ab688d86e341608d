"""The protocol of the table of systems, on a row of the tests' own and on every row that exists."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import _rows, _systems_page, systems
from benchmarks._rows import Arm, Job, Outcome, Results, Row, Study, Verdict, load_row, row_ids
from diffbot.cli.bench import _as_overrides
from diffbot.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def results(**arms: tuple[float, ...]) -> Results:
    return Results(
        {("s", name): {i: Outcome(v) for i, v in enumerate(values)} for name, values in arms.items()}
    )


def test_mean_and_interval_are_over_seeds() -> None:
    found = results(ours=(1.0, 2.0, 3.0), single=(0.5,))
    mean, low, high = found.interval("s", "ours")
    assert mean == 2.0
    # Student t with 2 degrees of freedom, 97.5 %: 4.302653; standard error 1 / sqrt(3).
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert math.isnan(found.interval("s", "single")[1])


def test_arguments_in_the_style_of_options() -> None:
    given = ["--only", "P1,P2", "--budget=cpu", "workers=1"]
    assert _as_overrides(given, systems.Config) == ["only=[P1,P2]", "budget=cpu", "workers=1"]
    assert _as_overrides(["--only=P1"], systems.Config) == ["only=[P1]"]
    with pytest.raises(ConfigError, match="--budget needs a value"):
        _as_overrides(["--budget"], systems.Config)


def test_unknown_row_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="P3"):
        load_row("P33")


def put_data(shared: Path) -> None:
    (shared / "data").write_text("2")


def double(job: Job) -> Outcome:
    with (job.shared / "runs").open("a") as file:
        file.write(f"{job.seed} ")
    return Outcome(float((job.shared / "data").read_text()) * job.seed, 1.5, 7, {"loss_last": 0.1})


def fail_until_mended(job: Job) -> Outcome:
    if not (job.shared / "mended").exists():
        raise ValueError("on purpose")
    return Outcome(0.0)


def probe(settings: dict[str, int]) -> Row:
    arms = (Arm("ours", double, settings), Arm("other", fail_until_mended))
    return Row(
        "F1",
        "Probe",
        "none",
        "ours above other",
        lambda budget: (Study("s", "success", arms, (1, 2), put_data),),
        lambda r: Verdict(r.mean("s", "ours") > r.mean("s", "other"), "numbers"),
    )


def test_a_failed_job_is_named_and_only_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "load_row", lambda name: probe({"k": 1}))
    config = systems.Config(only=("F1",), folder=str(tmp_path), write=False)
    with pytest.raises(
        Exception, match=r"2 of the jobs of F1 failed: s/other/seed 1: ValueError: on purpose"
    ):
        systems.run(config)
    shared = tmp_path / "smoke/f1/s/shared"
    (shared / "mended").touch()
    result = systems.run(config)
    assert (shared / "runs").read_text() == "1 2 "  # not run twice
    assert result.figures["F1.s.ours.mean"] == 3.0
    assert result.figures["F1.s.ours.train_s"] == 1.5
    assert result.figures["F1.s.ours.loss_last"] == pytest.approx(0.1)
    assert result.figures["F1.holds"] is True
    monkeypatch.setattr(systems, "load_row", lambda name: probe({"k": 2}))
    systems.run(config)
    assert (shared / "runs").read_text() == "1 2 1 2 "  # other settings, another job


def test_page_shows_each_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study("maze", "success", (Arm("ours", lambda job: Outcome(0.0)),), about="Twenty episodes.")
    rows = {
        name: Row(
            name, f"System {name}", "A. Author", "above BC", lambda b: (study,), lambda r: Verdict(True, "")
        )
        for name in ("P1", "P2", "P3")
    }
    monkeypatch.setattr(_systems_page, "row_ids", lambda: list(rows))
    monkeypatch.setattr(_systems_page, "load_row", rows.__getitem__)
    for name, holds in (("P1", True), ("P2", False)):
        given = Results({("maze", "ours"): {0: Outcome(0.5), 1: Outcome(0.7)}})
        result = systems.describe(rows[name], (study,), given, "cpu")
        record = {
            "figures": result.figures | {"holds": holds},
            "rows": result.rows,
            "seeds": [0, 1],
            "notes": "Because.",
            "machine": {"cores": 2, "gpu": None, "load": 1.0},
            "commit": "abc",
            "command": "diffbot bench systems",
        }
        (tmp_path / f"{name.lower()}.json").write_text(json.dumps(record))
    text = _systems_page.page(tmp_path)
    assert "| P1 | [System P1](#p1) | A. Author | above BC | holds | cpu |" in text
    assert "| P2 | [System P2](#p2) | A. Author | above BC | **does not hold** | cpu |" in text
    assert "| P3 | System P3 | A. Author | above BC | not run |  |" in text
    assert "| ours | 0.600 |" in text


def test_committed_page_is_what_the_results_give() -> None:
    assert (ROOT / "docs/systems.md").read_text() == _systems_page.page(ROOT / "benchmarks/results/systems")


@pytest.mark.parametrize("name", row_ids())
def test_row_says_what_it_compares(name: str) -> None:
    row = load_row(name)
    for budget in _rows.BUDGETS:
        studies = row.studies(budget)
        assert studies, f"{name} has no study at budget {budget}"
        for study in studies:
            assert len({arm.name for arm in study.arms}) == len(study.arms) >= 2, study.name
            json.dumps([arm.settings for arm in study.arms])
            assert budget == "smoke" or len(study.seeds) >= 3


@pytest.mark.parametrize("name", row_ids())
def test_smoke(name: str, tmp_path: Path) -> None:
    """Every row from data to verdict in seconds: losses fall and are finite, interfaces hold."""
    config = systems.Config(only=(name,), budget="smoke", folder=str(tmp_path), write=False)
    result = systems.run(config)
    means = [value for key, value in result.figures.items() if key.endswith(".mean")]
    assert means and all(math.isfinite(float(value)) for value in means)
    for key, first in result.figures.items():
        if key.endswith(".loss_first"):
            last = result.figures[key.removesuffix("first") + "last"]
            assert math.isfinite(float(last)) and float(last) < float(first), key
