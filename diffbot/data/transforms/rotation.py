"""Rotation representations; 6-D is the continuous one that networks learn best (Zhou et al. 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffbot.data.transforms.base import Transform, transform
from diffbot.errors import ConfigError, DataError, unknown

SIZES = {"quaternion": 4, "axis_angle": 3, "rotation_6d": 6}


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Quaternion [..., 4] as x, y, z, w (of any length but 0) to rotation matrix [..., 3, 3]."""
    x, y, z, w = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(m: Tensor) -> Tensor:
    """Rotation matrix [..., 3, 3] to unit quaternion [..., 4] as x, y, z, w with w >= 0."""
    d = m.diagonal(dim1=-2, dim2=-1)
    xx, yy, zz = d.unbind(-1)
    trace = d.sum(-1)
    a, b, c = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    e, f, g = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    # Four times the outer product of the quaternion with itself; its longest row is the best conditioned.
    rows = torch.stack((
        torch.stack((1 + 2 * xx - trace, c + g, f + b, a - e), -1),
        torch.stack((c + g, 1 + 2 * yy - trace, a + e, b - f), -1),
        torch.stack((f + b, a + e, 1 + 2 * zz - trace, c - g), -1),
        torch.stack((a - e, b - f, c - g, 1 + trace), -1),
    ), -2)  # fmt: skip
    best = rows.norm(dim=-1).argmax(-1)
    q = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., 3:] < 0, -q, q)


def axis_angle_to_quaternion(v: Tensor) -> Tensor:
    """Rotation vector [..., 3] (axis times angle in rad) to quaternion [..., 4] as x, y, z, w."""
    half = v.norm(dim=-1, keepdim=True) / 2
    return torch.cat((v / 2 * torch.sinc(half / torch.pi), torch.cos(half)), -1)


def quaternion_to_axis_angle(q: Tensor) -> Tensor:
    """Unit quaternion [..., 4] as x, y, z, w to rotation vector [..., 3] with angle in [0, pi]."""
    q = torch.where(q[..., 3:] < 0, -q, q)
    sine = q[..., :3].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., 3:])
    small = sine < 1e-6
    return q[..., :3] * torch.where(small, 2.0, angle / torch.where(small, 1.0, sine))


def matrix_to_rotation_6d(m: Tensor) -> Tensor:
    """The first two columns of [..., 3, 3], one after the other, [..., 6]."""
    return torch.cat((m[..., :, 0], m[..., :, 1]), -1)


def rotation_6d_to_matrix(r: Tensor) -> Tensor:
    """Any two independent vectors [..., 6] to the rotation matrix [..., 3, 3] by Gram-Schmidt."""
    first = torch.nn.functional.normalize(r[..., :3], dim=-1)
    second = r[..., 3:] - (first * r[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def to_matrix(x: Tensor, representation: str) -> Tensor:
    """Any representation of SIZES to [..., 3, 3]."""
    if representation == "quaternion":
        return quaternion_to_matrix(x)
    if representation == "axis_angle":
        return quaternion_to_matrix(axis_angle_to_quaternion(x))
    return rotation_6d_to_matrix(x)


def from_matrix(m: Tensor, representation: str) -> Tensor:
    """[..., 3, 3] to any representation of SIZES."""
    if representation == "quaternion":
        return matrix_to_quaternion(m)
    if representation == "axis_angle":
        return quaternion_to_axis_angle(matrix_to_quaternion(m))
    return matrix_to_rotation_6d(m)


@transform
@dataclass(eq=False)
class Rotation(Transform):
    """Changes the rotation at entries start.. of a vector from one representation to another.

    The inverse gives the same rotation; quaternions (x, y, z, w) come back with w >= 0 and angles in [0, pi].
    """

    name: ClassVar[str] = "rotation"
    start: int
    source: str = "quaternion"
    target: str = "rotation_6d"

    def __post_init__(self) -> None:
        for value in (self.source, self.target):
            if value not in SIZES:
                raise unknown("rotation representation", value, SIZES)
        if self.start < 0:
            raise ConfigError(f"start must be 0 or more, got {self.start}")

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._change(x, self.source, self.target)

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        return self._change(y, self.target, self.source)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 1 or shape[0] < self.start + SIZES[self.source]:
            raise DataError(f"no {self.source} at entries {self.start}.. of a value of shape {shape}")
        return (shape[0] + SIZES[self.target] - SIZES[self.source],)

    def _change(self, x: Tensor, source: str, target: str) -> Tensor:
        stop = self.start + SIZES[source]
        if x.shape[-1] < stop:
            raise DataError(f"no {source} at entries {self.start}..{stop - 1} of values {tuple(x.shape)}")
        part = from_matrix(to_matrix(x[..., self.start : stop].to(torch.float64), source), target)
        return torch.cat((x[..., : self.start], part.to(x.dtype), x[..., stop:]), -1)
