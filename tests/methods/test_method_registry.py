"""Methods by name: discovery, nearest matches, settings, and what the decorator refuses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from diffbot.errors import ConfigError
from diffbot.methods.protocol import DemonstrationSynthesizer, Method, Synthesizer
from diffbot.methods.registry import build_config, method_by_name, methods, register


def test_rows_of_the_table_are_found() -> None:
    found = methods()
    expected = {
        "diffusion_policy": "P3",
        "bc_mlp": "Q17",
        "bc_gmm": "Q17",
        "lstm_gmm": "Q17",
        "bc_transformer": "Q17",
    }
    for name, system in expected.items():
        assert found[name].system == system
        assert found[name].paper and found[name].about
    assert list(found) == sorted(found)


def test_classes_offer_the_protocol() -> None:
    instance_only = {"config", "keys", "observation_horizon", "horizon", "action_horizon"}
    for entry in methods().values():
        kinds = (Synthesizer, DemonstrationSynthesizer) if entry.role == "synthesizer" else (Method,)
        protocol = kinds[-1] if hasattr(entry.cls, "propose") else kinds[0]
        names = [name for name in dir(protocol) if not name.startswith("_")]
        missing = [n for n in names if n not in instance_only and not hasattr(entry.cls, n)]
        assert not missing, f"{entry.name} lacks {missing}"


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'diffusion_policy'\?.*diffbot list methods"):
        method_by_name("difusion_polcy")


def test_settings_come_back_typed() -> None:
    config = build_config("diffusion_policy", {"horizon": 8, "action_horizon": 4, "optimizer": {"warmup": 7}})
    assert config.horizon == 8 and config.optimizer.warmup == 7 and config.optimizer.learning_rate == 1e-3
    assert dataclasses.is_dataclass(config.encoder.resnet)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"horizn": 8}, "Did you mean 'horizon'"),
        ({"horizon": "long"}, "horizon|long"),
        ({"horizon": 4, "action_horizon": 8}, "longer than horizon"),
        ({"ema": {"maximum": 1.5}}, r"ema.maximum must be in \[0, 1\)"),
        ({"optimizer": {"schedule": "cosin"}}, "cosine"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config("diffusion_policy", values)


def test_decorator_refuses_what_would_confuse() -> None:
    @dataclass
    class Thawed:
        size: int = 1

    @dataclass(frozen=True)
    class Frozen:
        size: int = 1

    class Other:
        """Not a method of the table."""

    with pytest.raises(ValueError, match="is taken by"):
        register(name="diffusion_policy", role="policy", system="P3", paper="", config=Frozen)(Other)
    with pytest.raises(ValueError, match="must be frozen"):
        register(name="other", role="policy", system="P3", paper="", config=Thawed)(Other)
    with pytest.raises(ValueError, match="role 'driver'"):
        register(name="other", role="driver", system="P3", paper="", config=Frozen)(Other)
    with pytest.raises(ValueError, match="needs a dataclass"):
        register(name="other", role="policy", system="P3", paper="")(Other)
    assert "other" not in methods()
