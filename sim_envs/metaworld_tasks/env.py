"""One MetaWorld task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.gymnasium_tasks.base import GymnasiumTask
from sim_envs.spec import TaskSpec

_XYZ = ("x", "y", "z")
_OBJECT = [f"{thing}_{part}" for thing in ("first", "second") for part in (*_XYZ, "qx", "qy", "qz", "qw")]


def _observations() -> dict[str, dict[str, Any]]:
    state = {
        "hand_position": fields.state(3, "m", low=-2.0, high=2.0, names=_XYZ),
        "gripper_opening": fields.state(1, "1", low=0.0, high=1.0),
        "objects": fields.state(14, "m, 1", names=_OBJECT),
    }
    previous = {f"previous_{key}": value for key, value in state.items()}
    return {**state, **previous, "goal": fields.state(3, "m", low=-2.0, high=2.0, names=_XYZ)}


class MetaWorld(GymnasiumTask):
    """A Sawyer arm under position control of its hand, at 80 Hz. Object and goal places are drawn at each reset.

    Observation: hand position [3] m, gripper opening [1], two objects [14] (position m, quaternion xyzw; zeros where there
    is none), the same one step earlier, goal [3] m (shown, as in MT1, MT10 and MT50). Action [4]: hand displacement in
    units of 1 cm, and gripper closing force. Reward: MetaWorld's v2 reward in [0, 10]. Success ends the episode, unless
    `terminate_on_success` is off, as it is by default in the published environments.
    """

    available_cameras = ("corner2", "corner", "corner3", "topview", "behindGripper", "gripperPOV")

    def __init__(
        self,
        task: TaskSpec,
        name: str,
        terminate_on_success: bool = True,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        inner = ALL_V3_ENVIRONMENTS[f"{name}-v3"]()
        inner.__dict__.pop("sawyer_observation_space", None)  # cached for a hidden goal
        inner._partially_observable = False
        inner._set_task_called, inner._freeze_rand_vec, inner.seeded_rand_vec = True, False, True
        inner.max_path_length = task.horizon + 1  # the time limit is counted here
        inner.seed(0)
        inner.reset()
        inner.step(np.zeros(4, np.float32))  # so that every attribute of `memory` exists
        self.terminate_on_success = terminate_on_success
        super().__init__(
            task,
            inner,
            seen=39,
            observations=_observations(),
            action=fields.action(
                4,
                unit="1 cm, 1",
                meaning="delta",
                space="cartesian",
                controller="mocap",
                names=(*_XYZ, "grip"),
            ),
            substeps=inner.frame_skip,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        self.inner.seed(self.episode_seed)
        observation, _ = self.inner.reset()
        mujoco.mj_forward(self.model, self.data)
        self.seen, self.achieved = self.flat(observation), False

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        reward, _ = super().advance(action.astype(np.float32))
        return reward, self.terminate_on_success and self.achieved

    def solved(self, info: Mapping[str, Any]) -> bool:
        return bool(info["success"] > 0.5)

    def observe_state(self) -> Observation:
        keys = list(self._contract["observations"])[:7]
        return dict(zip(keys, np.split(self.seen, [3, 4, 18, 21, 22, 36]), strict=True))

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        image = super().render_image(camera, height, width)
        if camera.startswith("corner"):  # these cameras hang upside down in the published scenes
            image = np.ascontiguousarray(image[::-1, ::-1])
        return image

    # The published class keeps what it drew at reset in attributes and in the model's body and site positions.

    def _attributes(self) -> list[str]:
        kept = []
        for name in sorted(vars(self.inner)):
            value = getattr(self.inner, name)
            number = isinstance(value, (bool, int, float, np.floating))
            array = isinstance(value, np.ndarray) and value.dtype.kind in "fi"
            if name != "_last_stable_obs" and (number or (array and not self._is_live(value))):
                kept.append(name)
        return kept

    def _is_live(self, value: np.ndarray) -> bool:
        """Whether an attribute is a view of the physics ("init_left_pad" of some tasks follows the finger)."""
        data = self.data
        return any(
            np.may_share_memory(value, own) for own in (data.xpos, data.site_xpos, data.geom_xpos, data.qpos)
        )

    def _model_arrays(self) -> tuple[np.ndarray, ...]:
        return self.model.body_pos, self.model.body_quat, self.model.site_pos

    def memory(self) -> np.ndarray:
        values = [np.ravel(getattr(self.inner, name)).astype(np.float64) for name in self._attributes()]
        return np.concatenate([*values, *(array.ravel() for array in self._model_arrays())])

    def set_memory(self, memory: np.ndarray) -> None:
        at = 0
        for name in self._attributes():
            old = getattr(self.inner, name)
            size = np.size(old)
            new = memory[at : at + size]
            if isinstance(old, np.ndarray):
                setattr(self.inner, name, new.reshape(old.shape).astype(old.dtype))
            else:
                setattr(self.inner, name, type(old)(new[0]))
            at += size
        for array in self._model_arrays():
            array[:] = memory[at : at + array.size].reshape(array.shape)
            at += array.size
