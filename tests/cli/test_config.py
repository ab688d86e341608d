"""Hydra overrides become one dataclass instance; a wrong one is answered with the nearest match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

from diffbot.cli.config import Choice, group, parse
from diffbot.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Apple:
    horizon: int = 16
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Training:
    steps: int = 10
    minutes: float | None = None


@dataclass(frozen=True)
class Schema:
    task: str = "???"
    cameras: list[str] = field(default_factory=list)
    training: Training = field(default_factory=Training)
    fruit: Any = group("fruit", "apple")


@pytest.fixture(autouse=True)
def fruit_group() -> None:
    ConfigStore.instance().store(group="fruit", name="apple", node=Apple)


def test_overrides_fill_nested_frozen_dataclasses() -> None:
    config = parse(
        Schema,
        [
            "task=robosuite/lift",
            "fruit.horizon=3",
            "fruit.inner.width=9",
            "training.steps=7",
            "cameras=[a,b]",
        ],
    )
    assert config == Schema("robosuite/lift", ["a", "b"], Training(7), Choice("apple", Apple(3, Inner(9))))


def test_defaults_stay_between_calls() -> None:
    parse(Schema, ["task=a", "fruit.horizon=3"])
    assert parse(Schema, ["task=a"]).fruit == Choice("apple", Apple())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fruit=appel", "Did you mean 'apple'"),
        ("tsk=a", "Did you mean 'task'"),
        ("fruit.horzon=3", "Did you mean 'horizon'"),
        ("training.stps=1", "Did you mean 'steps'"),
        ("training.steps=many", "training.steps"),
        ("task", "key=value"),
    ],
)
def test_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Schema, ["task=x", override])


def test_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"missing: task="):
        parse(Schema, [])
