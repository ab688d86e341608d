"""Nested training state <-> named tensors and a JSON skeleton, so that a checkpoint needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.errors import DataError


def pack(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split dicts, lists, tensors, arrays and JSON scalars into (tensors by path, JSON skeleton).

    Raises TypeError for anything else: a state that cannot be written must not be dropped silently.
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Tensor):
            tensors[path] = node
            return {"tensor": path}
        if isinstance(node, np.ndarray):
            tensors[path] = torch.from_numpy(node.copy())
            return {"array": path}
        if isinstance(node, Mapping):
            return {"dict": [[key, walk(value, f"{path}.{key}")] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            items = [walk(value, f"{path}.{i}") for i, value in enumerate(node)]
            return {"tuple" if isinstance(node, tuple) else "list": items}
        if isinstance(node, np.generic):
            return node.item()
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(
            f"training state at '{path}' is a {type(node).__name__}, which a checkpoint cannot hold"
        )

    return tensors, walk(tree, "state")


def unpack(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """Inverse of `pack`. Raises DataError for a skeleton that names a tensor that is not there."""
    if not isinstance(skeleton, dict):
        return skeleton
    if len(skeleton) != 1:
        raise DataError(f"malformed checkpoint entry with keys {sorted(skeleton)}")
    kind, value = next(iter(skeleton.items()))
    if kind in ("tensor", "array"):
        if value not in tensors:
            raise DataError(f"the checkpoint lacks the tensor '{value}'")
        return tensors[value] if kind == "tensor" else tensors[value].numpy()
    if kind == "dict":
        return {key: unpack(tensors, entry) for key, entry in value}
    if kind in ("list", "tuple"):
        items = [unpack(tensors, entry) for entry in value]
        return tuple(items) if kind == "tuple" else items
    raise DataError(f"malformed checkpoint entry '{kind}'")
