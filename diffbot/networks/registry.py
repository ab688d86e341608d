"""Networks by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from diffbot.errors import ConfigError, unknown
from diffbot.networks.base import Network, Sizes
from diffbot.networks.seeding import seeded

N = TypeVar("N", bound=Network)

NETWORKS: dict[str, type[Network]] = {}


def register(name: str, config: type[Any]) -> Callable[[type[N]], type[N]]:
    """Class decorator: make a network known by `name` and by its frozen Config dataclass."""

    def add(cls: type[N]) -> type[N]:
        if name in NETWORKS:
            raise ConfigError(
                f"two networks are named '{name}': {NETWORKS[name].__qualname__}, {cls.__qualname__}"
            )
        cls.name, cls.Config = name, config
        NETWORKS[name] = cls
        return cls

    return add


def network_by_name(name: str) -> type[Network]:
    """The network class called `name`; raises ConfigError with the nearest match."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


def network_config(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The frozen Config of network `name` with `options` set; raises ConfigError for an unknown field."""
    cls = network_by_name(name).Config
    names = [field.name for field in dataclasses.fields(cls)]
    for option in options or {}:
        if option not in names:
            raise unknown(f"option of network '{name}':", option, names)
    values = {
        k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
        for k, v in (options or {}).items()
    }
    return cls(**values)


def build(
    config: Any,
    data_shape: Sequence[int],
    condition_dim: int = 0,
    *,
    local_dim: int = 0,
    token_dim: int = 0,
    generator: torch.Generator | int = 0,
) -> Network:
    """Build a network.

    config: a network's Config, a name ("unet", with default options), or a mapping {"name": "unet", option: value}.
    data_shape: (T, C), (C,) or (N, T, C); condition_dim, local_dim, token_dim: see `Sizes`.
    generator: a seed or generator that alone decides the initial weights.
    """
    if isinstance(config, str):
        config = network_config(config)
    elif isinstance(config, Mapping):
        options = dict(config)
        if "name" not in options:
            raise ConfigError(
                f"a network given as a mapping needs a 'name'; valid: {', '.join(sorted(NETWORKS))}"
            )
        config = network_config(str(options.pop("name")), options)
    owner = next((cls for cls in NETWORKS.values() if type(config) is cls.Config), None)
    if owner is None:
        raise ConfigError(
            f"{type(config).__qualname__} is not the Config of a network: {', '.join(sorted(NETWORKS))}"
        )
    sizes = Sizes(tuple(int(size) for size in data_shape), condition_dim, local_dim, token_dim)
    with seeded(generator):
        return owner(config, sizes)
