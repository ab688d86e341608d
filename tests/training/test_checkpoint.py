"""Checkpoints: any state comes back, damaged ones are passed over, old ones go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffbot.errors import DataError
from diffbot.training.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from diffbot.training.pack import pack, unpack

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
tensors = st.integers(0, 4).map(lambda n: torch.arange(n, dtype=torch.float32))
trees = st.recursive(
    scalars | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))  # type: ignore[arg-type]
    return type(a) is type(b) and a == b


@given(trees)
def test_pack_round_trip(tree: object) -> None:
    import json

    flat, skeleton = pack(tree)
    assert equal(unpack(flat, json.loads(json.dumps(skeleton))), tree)


def test_pack_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"state\.a\.0"):
        pack({"a": [object()]})


def test_arrays_keep_their_type() -> None:
    flat, skeleton = pack({"priorities": np.arange(3.0)})
    back = unpack(flat, skeleton)["priorities"]
    assert isinstance(back, np.ndarray) and back.tolist() == [0.0, 1.0, 2.0]


def test_keeps_the_newest(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save_checkpoint(tmp_path, step, {"x": torch.tensor([float(step)])}, keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [30, 40]
    step, state = newest_checkpoint(tmp_path)
    assert step == 40 and state["x"].tolist() == [40.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000030", "step_00000040"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "json"])
def test_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"x": torch.full((100,), float(step))}, keep=3)
    broken = tmp_path / "step_00000002" / "state.safetensors"
    content = broken.read_bytes()
    if damage == "truncate":
        broken.write_bytes(content[:-7])
    elif damage == "flip":
        broken.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "remove":
        broken.unlink()
    else:
        (broken.parent / "state.json").write_text("{")
    with pytest.raises(DataError, match="step_00000002"):
        load_checkpoint(broken.parent)
    assert newest_checkpoint(tmp_path)[0] == 1


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable checkpoint"):
        newest_checkpoint(tmp_path)
