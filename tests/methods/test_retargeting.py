"""Re-targeting in closed form: identity, equivariance, ends that keep their pose, symmetric objects, waypoints."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import DataError
from diffbot.methods.demonstrations import Demonstration, Scene, sources
from diffbot.methods.retargeting import (
    Path,
    Pose,
    from_points,
    perturbed,
    progress,
    retarget,
    to_points,
    turned_alike,
)

NAMES = [f"cup_pos_{a}" for a in "xyz"] + [f"cup_quat_{a}" for a in "xyzw"]
CONTRACT = Contract(
    {
        "robot0_eef_pos": Field((3,)),
        "robot0_eef_quat": Field((4,)),
        "object": Field((7,), names=tuple(NAMES)),
    },
    Action((7,)),
    rate=20.0,
    task="none",
)


def random_pose(rng: np.random.Generator) -> Pose:
    return Pose(rng.normal(size=3), Rotation.from_rotvec(rng.normal(size=3)))


def random_path(rng: np.random.Generator, steps: int = 40) -> Path:
    """A path of 2 cm steps that turns slowly."""
    positions = np.cumsum(rng.normal((0.01, 0.0, -0.01), 0.01, (steps, 3)), axis=0)
    rotations = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.03, (steps, 3)), axis=0))
    return Path(Pose(np.zeros(3), Rotation.identity()), positions, rotations, -1.0)


def assert_same(a: Path, b: Path, tolerance: float = 1e-9) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.positions, b.positions, atol=tolerance)
    assert float((a.rotations * b.rotations.inv()).magnitude().max()) < max(tolerance, 1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_back_to_where_it_came_from_is_the_source(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path, frame = random_path(rng), random_pose(rng)
    assert_same(retarget(path.seen_from(frame), frame, path.start), path)


@pytest.mark.parametrize("seed", range(5))
def test_moving_object_and_gripper_moves_the_path(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path, frame, start, motion = random_path(rng), random_pose(rng), random_pose(rng), random_pose(rng)
    moved = retarget(path, motion @ frame, motion @ start)
    assert_same(moved, retarget(path, frame, start).moved(motion))


def test_the_end_belongs_to_the_object_and_the_beginning_to_the_gripper() -> None:
    rng = np.random.default_rng(0)
    path = random_path(rng)
    # Within 5 cm of way from its end the path is the source's rigidly moved, also when it got more steps.
    frame = Pose(np.array([0.3, -0.2, 0.1]), Rotation.from_euler("z", 0.7))
    start = Pose(np.array([0.01, 0.02, 0.0]), Rotation.from_euler("z", 0.1))
    found, wanted = retarget(path, frame, start), path.moved(frame)
    assert len(found) > len(path)  # the way is longer, the speed the same
    assert found.steps()[1:].max() < 2.1 * path.steps().max()
    np.testing.assert_allclose(found.end.position, wanted.end.position, atol=1e-12)
    assert (found.end.rotation * wanted.end.rotation.inv()).magnitude() < 1e-7
    carried = path.moved(start @ path.start.inverse())
    np.testing.assert_allclose(found.positions[0], carried.positions[0], atol=1e-12)


def test_progress_is_at_rest_at_both_ends() -> None:
    steps = np.linspace(0.01, 0.4, 40)
    path = Path(
        Pose(np.zeros(3), Rotation.identity()),
        np.stack([steps, 0 * steps, 0 * steps], 1),
        Rotation.identity(40),
        1.0,
    )
    share = progress(path, 0.05)
    assert (share[steps < 0.0501] < 1e-3).all() and (share[steps > 0.3499] > 1 - 1e-3).all()
    assert (np.diff(share) >= 0).all()
    still = Path(path.start, np.zeros((5, 3)), Rotation.identity(5), 1.0)
    np.testing.assert_allclose(progress(still, 0.05), np.linspace(0, 1, 5))


def test_a_bend_leaves_the_ends() -> None:
    rng = np.random.default_rng(1)
    path = random_path(rng)
    bent = perturbed(path, rng, 0.05, 0.2)
    np.testing.assert_allclose(bent.positions[-1], path.positions[-1], atol=1e-12)
    np.testing.assert_allclose(bent.positions[0], path.positions[0], atol=1e-12)
    assert np.abs(bent.positions - path.positions).max() > 0.01
    assert_same(perturbed(path, rng, 0.0, 0.0), path)


def test_symmetric_objects_turn_the_gripper_least() -> None:
    cube = Pose(np.ones(3), Rotation.from_euler("z", np.deg2rad(100)))
    gripper, end = Rotation.identity(), Rotation.identity()
    angle = lambda fold: turned_alike(cube, fold, end, gripper).rotation.magnitude()  # noqa: E731
    assert angle(1) == pytest.approx(np.deg2rad(100))
    assert angle(2) == pytest.approx(np.deg2rad(80))
    assert angle(4) == pytest.approx(np.deg2rad(10))
    assert angle(0) == 0.0


def test_waypoints_and_back() -> None:
    rng = np.random.default_rng(2)
    path = random_path(rng)
    assert_same(from_points(to_points(path, len(path) + 1), -1.0), path, 1e-9)
    coarse = from_points(to_points(path, 16), -1.0)
    assert len(coarse) == len(path)
    assert np.abs(coarse.positions - path.positions).max() < 0.03
    bad = to_points(path, 16)
    bad[3, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        from_points(bad, 1.0)


def demonstration(index: int, cup: np.ndarray, pattern: tuple[float, ...] = (-1.0, 1.0)) -> Demonstration:
    """To the cup, then to one place of the world."""
    still = Rotation.identity
    start = Pose(np.array([0.0, 0.0, 0.3]), still())
    ends = [cup, np.array([0.5, 0.5, 0.1])]
    paths, seen = [], []
    for grip, end in zip(pattern, [*ends, *ends], strict=False):
        line = np.linspace(start.position, end, 11)[1:]
        paths.append(Path(start, line, still(10), grip))
        seen.append(
            {
                "robot0_eef_pos": start.position,
                "robot0_eef_quat": np.array([0, 0, 0, 1.0]),
                "object": np.array([*cup, 0, 0, 0, 1.0]),
            }
        )
        start = Pose(end, still())
    return Demonstration(index, seen[0], tuple(paths), tuple(seen))


def test_a_segment_belongs_to_what_its_ends_have_in_common() -> None:
    scene = Scene.of(CONTRACT, {"cup": 0})
    rng = np.random.default_rng(0)
    given = [demonstration(i, rng.uniform(-0.2, 0.2, 3)) for i in range(4)]
    given.append(demonstration(4, np.zeros(3), (-1.0, 1.0, -1.0)))
    found = sources(given, scene)
    assert found.frames == ("cup", "")
    assert found.episodes == (0, 1, 2, 3) and found.left_out == (4,)
    for path in found.paths[0]:
        np.testing.assert_allclose(path.end.position, np.zeros(3), atol=1e-12)
    with pytest.raises(DataError, match="1 of 1 demonstrations"):
        sources(given[:1], scene)


def test_a_scene_needs_poses() -> None:
    with pytest.raises(DataError, match="no 'robot0_eef_quat'"):
        Scene.of(CONTRACT.select(("robot0_eef_pos", "object")), {})
    bare = Contract({**CONTRACT.observations, "object": Field((2,))}, CONTRACT.action, 20.0, "none")
    with pytest.raises(DataError, match="no object of task"):
        Scene.of(bare, {})
