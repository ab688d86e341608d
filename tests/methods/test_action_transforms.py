"""What absolute Cartesian actions are to the networks: continuous rotations, positions relative to the gripper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError
from diffbot.methods.imitation import action_transforms
from diffbot.methods.registry import build_config

ARM = ("x", "y", "z", "rx", "ry", "rz", "gripper")


def poses(arms: int, meaning: str = "absolute") -> Contract:
    names = tuple(f"robot{i}_{name}" for i in range(arms) for name in ARM)
    fields = {f"robot{i}_eef_pos": Field((3,)) for i in range(arms)}
    return Contract(fields, Action((7 * arms,), meaning=meaning, space="cartesian", names=names), rate=20.0)


@pytest.mark.parametrize("arms", [1, 2])
def test_relative_poses_in_closed_form_and_back(arms: int) -> None:
    rng = np.random.default_rng(0)
    angles = rng.normal(size=(4, 5, arms, 3))
    angles *= rng.uniform(0.1, 3.0, (4, 5, arms, 1)) / np.linalg.norm(angles, axis=-1, keepdims=True)
    positions, grips = rng.normal(size=(4, 5, arms, 3)), rng.uniform(-1, 1, (4, 5, arms, 1))
    raw = torch.tensor(np.concatenate([positions, angles, grips], -1).reshape(4, 5, -1), dtype=torch.float32)
    observed = {f"robot{i}_eef_pos": torch.tensor(rng.normal(size=(4, 2, 3)), dtype=torch.float32) for i in range(arms)}  # fmt: skip
    config = build_config("diffusion_policy", {"actions": "relative"})
    y = raw
    chain = action_transforms(config, poses(arms))
    for transform in chain:
        y = transform.forward(y, observed)
    assert y.shape == (4, 5, 10 * arms)
    for i in range(arms):
        part = y[..., 10 * i : 10 * i + 10].numpy()
        newest = observed[f"robot{i}_eef_pos"][:, -1:].numpy()
        np.testing.assert_allclose(part[..., :3], positions[..., i, :] - newest, atol=1e-5)
        columns = Rotation.from_rotvec(angles[..., i, :].reshape(-1, 3)).as_matrix()[:, :, :2]
        rows = Rotation.from_rotvec(angles[..., i, :].reshape(-1, 3)).as_matrix()[:, :2, :]
        six = part[..., 3:9].reshape(-1, 6)
        by_columns = np.allclose(six, columns.transpose(0, 2, 1).reshape(-1, 6), atol=1e-5)
        assert by_columns or np.allclose(six, rows.reshape(-1, 6), atol=1e-5)
        np.testing.assert_allclose(part[..., 9], grips[..., i, 0], atol=1e-6)
    for transform in reversed(chain):
        y = transform.inverse(y, observed)
    torch.testing.assert_close(y, raw, rtol=0, atol=2e-5)


def test_delta_actions_are_refused_with_the_fix() -> None:
    config = build_config("diffusion_policy", {"actions": "rotation_6d"})
    with pytest.raises(ConfigError, match=r"absolute Cartesian poses.*\+env\.action_mode=absolute"):
        action_transforms(config, poses(1, "delta"))
    with pytest.raises(ConfigError, match="relative"):
        build_config("diffusion_policy", {"actions": "relativ"})
