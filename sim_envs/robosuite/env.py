"""A robosuite scene as a task environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from sim_envs.env import Observation, TaskEnv, space_of
from sim_envs.errors import SimEnvError
from sim_envs.rendering import Renderer
from sim_envs.robosuite import actions, state
from sim_envs.robosuite.library import robosuite
from sim_envs.robosuite.observations import OBJECTS, Proprioception
from sim_envs.robosuite.osc import OperationalSpaceFollower
from sim_envs.robosuite.success import SUCCESS
from sim_envs.spec import TaskSpec

VISUAL_GEOMS = 1  # robosuite draws visual meshes in geom group 1 and collision shapes in group 0


class RobosuiteEnv(TaskEnv):
    """One of robosuite's tabletop tasks with one Panda, or two (TwoArmLift).

    Observation (float32): for each robot i `robot{i}_eef_pos` [3] m, `robot{i}_eef_quat` [4] (x, y, z, w),
    `robot{i}_gripper_qpos` [2] m, with joint control also `robot{i}_joint_pos` [7] rad; `object` [n], labelled in the
    contract; for each requested camera `{camera}_image` uint8 [height, width, 3].

    cameras: images to observe. controller: "OSC_POSE" or "JOINT_POSITION". action_mode: "delta" in [-1, 1] or
    "absolute" set-points. reward_shaping: robosuite's dense reward instead of 1 at success, else 0.
    terminate_on_success: end the episode at success.

    What a seed varies: the joints at the start (0.02 rad Gaussian) and the pose of every object. With hard_reset=True
    the model is rebuilt at each reset (about 0.3 s), which also varies the size of Lift's cube (20-22 mm half width);
    without, that size is one fixed draw. The same seed starts the same episode within one setting of hard_reset.
    """

    def __init__(
        self,
        task: TaskSpec,
        scene: str,
        *,
        cameras: Sequence[str] = (),
        image_size: Sequence[int] = (84, 84),
        controller: str = "OSC_POSE",
        action_mode: str = "delta",
        reward_shaping: bool = False,
        terminate_on_success: bool = True,
        hard_reset: bool = False,
        horizon: int | None = None,
        render_mode: str | None = None,
    ):
        super().__init__(task, render_mode)
        actions.check(controller, action_mode)
        package = robosuite()
        self.scene, self.controller, self.action_mode = scene, controller, action_mode
        self.reward_shaping, self.terminate_on_success = reward_shaping, terminate_on_success
        self.horizon = task.horizon if horizon is None else int(horizon)
        robots = ["Panda"] * (2 if scene.startswith("TwoArm") else 1)
        self.raw = package.make(
            scene,
            robots=robots,
            controller_configs=[actions.controller_config(package, controller, action_mode) for _ in robots],
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=task.rate,
            ignore_done=True,
            hard_reset=hard_reset,
            reward_shaping=reward_shaping,
            renderer="mujoco",
            seed=0,
        )
        self.substeps = round(self.raw.control_timestep / self.raw.model_timestep)
        names = self.raw.sim.model.camera_names
        self.available_cameras = tuple(sorted(names, key=lambda name: (name != "agentview", name)))
        self.cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        for camera in self.cameras:
            self.check_camera(camera)
        if len(image_size) != 2:
            raise SimEnvError(f"image_size is (height, width), got {tuple(image_size)}")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.proprioception = Proprioception(self.raw, joints=controller == "JOINT_POSITION")
        self.observation_space, self.action_space = space_of(self.contract())  # type: ignore[assignment]
        self._renderer: Renderer | None = None
        self._followers: list[OperationalSpaceFollower] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the episode of `seed`."""
        generator = self.begin_episode(seed)
        # The placement samplers hold the environment's generator object, so it is re-seeded in place.
        self.raw.rng.bit_generator.state = generator.bit_generator.state
        self.raw.reset()
        if self.raw.hard_reset:
            self._close_renderer()
        state.refresh(self.raw)
        if self.controller == "OSC_POSE":
            self._followers = [OperationalSpaceFollower(self.raw, robot) for robot in self.raw.robots]
        return self._observe(), {"success": self.success(), "seed": self.episode_seed}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step (1 / rate seconds)."""
        command = np.clip(self.check_action(action), self.action_space.low, self.action_space.high)  # type: ignore[attr-defined]
        model, data = self.raw.sim.model._model, self.raw.sim.data._data
        for i in range(self.substeps):
            mujoco.mj_step1(model, data)
            if i == 0 or not self._followers:
                self.raw._pre_action(command, i == 0)
            else:
                for follower in self._followers:
                    follower.apply()
            mujoco.mj_step2(model, data)
        state.refresh(self.raw)
        self.steps += 1
        success = self.success()
        reward = float(self.raw.reward(command)) if self.reward_shaping else float(success)
        terminated = success and self.terminate_on_success
        return self._observe(), reward, terminated, self.steps >= self.horizon, {"success": success}

    def contract(self) -> dict[str, Any]:
        """Plain contract of this environment as configured."""
        fields = self.proprioception.fields(self.raw)
        labels = OBJECTS[self.scene].names
        fields["object"] = {
            "shape": [len(labels)], "unit": "m, quaternion, rad", "frame": "world", "names": list(labels),
        }  # fmt: skip
        cameras = {}
        for camera in self.cameras:
            shape = [*self.image_size, 3]
            fields[f"{camera}_image"] = {
                "shape": shape,
                "dtype": "uint8",
                "low": [0],
                "high": [255],
                "kind": "image",
            }
            cameras[f"{camera}_image"] = {"name": camera, "height": shape[0], "width": shape[1]}
        return {
            "observations": fields,
            "action": actions.action_field(self.raw, self.controller, self.action_mode),
            "rate": float(self.task.rate),
            "task": self.task.id,
            "cameras": cameras,
        }

    def success(self) -> bool:
        """The task's success measure in the present state."""
        return SUCCESS[self.scene](self.raw)

    def get_state(self) -> np.ndarray:
        """float64 [n]: step count, physics, gripper commands, arm postures."""
        return state.capture(self.raw, self.steps)

    def set_state(self, state_vector: np.ndarray) -> Observation:
        """Continue exactly from a state of `get_state`, also of another process."""
        self.steps = state.restore(self.raw, state_vector)
        return self._observe()

    def physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """robosuite's present model and data; a hard reset replaces them."""
        return self.raw.sim.model._model, self.raw.sim.data._data

    def encode(self, *twists: actions.Twist) -> np.ndarray:
        """The action, float32 [dimension], that moves each arm along its twist with the controller in use."""
        return actions.encode(self.raw, self.controller, self.action_mode, twists)

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        """Image of the present state, uint8 [height, width, 3], upright."""
        self.check_camera(camera)
        if self._renderer is None:
            self._renderer = Renderer(self.raw.sim.model._model, geom_groups=(VISUAL_GEOMS,))
        return self._renderer.render(self.raw.sim.data._data, camera, height, width)

    def close(self) -> None:
        """Free the graphics context and the simulation."""
        self._close_renderer()
        self.raw.close()

    def _observe(self) -> Observation:
        out = self.proprioception.read(self.raw)
        out["object"] = OBJECTS[self.scene].read(self.raw).astype(np.float32)
        for camera in self.cameras:
            out[f"{camera}_image"] = self.render_image(camera, *self.image_size)
        return out

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
