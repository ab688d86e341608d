"""Demonstrator of the Adroit pen: model predictive path integral control (MPPI) with the task's own physics."""

from __future__ import annotations

from typing import Any

import mujoco
import mujoco.rollout
import numpy as np
from scipy.interpolate import make_interp_spline

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.gymnasium_tasks.adroit import AdroitPen
from sim_envs.spec import TaskSpec

HORIZON = 32  # control steps that are looked ahead, 0.32 s
KNOTS = 6  # of the spline of each joint's set-point over the horizon
SAMPLES = {"expert": 48, "good": 32, "okay": 20, "poor": 10}
REPLAN = 2  # control steps between two plans
TEMPERATURE = 0.3  # of the weights, as a share of the standard deviation of the costs
SPREAD = 0.4  # standard deviation of the sampled set-points, in normalised units
REGRIP = 0.004  # cost of leaving the posture in which an episode begins
PEN = slice(24, 30)  # joints of the pen: three slides, three hinges


class PenExpert:
    """Turns the pen by simulated search over set-points of the 24 joints.

    Williams et al. 2017, "Model predictive path integral control: from theory to parallel computation", eq. 27, over
    spline knots; Lowrey et al. 2019, "Plan online, learn offline", move things in this hand in the same way. `mode`
    names what does most of it; the other joints are sampled less.
    """

    version = "1"

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.samples = SAMPLES[quality]
        self.mode = ""
        self.rollout = mujoco.rollout.Rollout(nthread=0)  # one thread, so that results repeat
        self.signature = mujoco.mjtState.mjSTATE_FULLPHYSICS

    def reset(self, env: Any) -> None:
        """Draw which fingers lead, and begin with the hand as it stands."""
        base: AdroitPen = env.unwrapped
        self.model, self.data = base.model, mujoco.MjData(base.model)
        self.state = np.zeros(mujoco.mj_stateSize(self.model, self.signature))
        inner = base.inner
        self.centre, self.half = inner.act_mean, inner.act_rng
        body = inner.obj_body_id
        self.origin = self.model.body_pos[body].copy()
        frame = np.zeros(9)
        mujoco.mju_quat2Mat(frame, self.model.body_quat[body])
        self.frame = frame.reshape(3, 3)
        self.place = base.data.site_xpos[inner.eps_ball_site_id].copy()
        self.plan = np.tile(self._posture(base), (HORIZON, 1))
        self.start = self.plan[0].copy()
        self.noise = Noise(self.rng, np.full(24, 0.01 * self.quality.noise))
        self.age = REPLAN
        self.mode = str(self.rng.choice(["all fingers", "thumb", "fingers"]))
        self.scale = SPREAD * self._shares()

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """The next normalised set-points, float32 [24]."""
        base: AdroitPen = env.unwrapped
        if self.age >= REPLAN:
            self.plan = np.concatenate([self.plan[self.age :], np.tile(self.plan[-1], (self.age, 1))])[
                :HORIZON
            ]
            self._improve(base)
            self.age = 0
        action = self.plan[self.age] + self.noise.step()
        self.age += 1
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def pen_at(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place [..., 3] in m and direction [..., 3] of the pen for its joints [..., 6], in the world frame."""
        turn, tilt = joints[..., 3], joints[..., 4]
        direction = np.stack([np.sin(tilt), -np.cos(tilt) * np.sin(turn), np.cos(tilt) * np.cos(turn)], -1)
        return self.origin + joints[..., :3] @ self.frame.T, direction @ self.frame.T

    def _posture(self, base: AdroitPen) -> np.ndarray:
        """The normalised set-points [24] that are the present joint angles."""
        return np.clip((base.data.qpos[:24] - self.centre) / self.half, -1.0, 1.0)

    def _shares(self) -> np.ndarray:
        """How much each joint [24] is sampled: wrist 0-1, fingers 2-18, thumb 19-23."""
        shares = np.ones(24)
        if self.mode == "thumb":
            shares[2:19] = 0.6
        elif self.mode == "fingers":
            shares[19:] = 0.6
        return shares

    def _improve(self, base: AdroitPen) -> None:
        mujoco.mj_getState(base.model, base.data, self.state, self.signature)
        times = np.linspace(0, HORIZON - 1, KNOTS)
        kicks = self.scale * self.rng.standard_normal((self.samples, KNOTS, 24))
        kicks[0] = 0.0  # the plan as it is
        spline = make_interp_spline(times, kicks, k=2, axis=1)
        plans = np.clip(self.plan + spline(np.arange(HORIZON)), -1.0, 1.0)
        control = np.repeat(self.centre + self.half * plans, base.substeps, axis=1)
        states, _ = self.rollout.rollout(
            self.model, [self.data], np.tile(self.state, (self.samples, 1)), control
        )
        costs = self._cost(
            states[:, base.substeps - 1 :: base.substeps, 1 : 1 + self.model.nq], plans, base.seen[36:39]
        )
        spread = float(costs.std()) + 1e-9
        weights = np.exp(-(costs - costs.min()) / (TEMPERATURE * spread))
        self.plan = np.einsum("n,nta->ta", weights / weights.sum(), plans)

    def _cost(self, joints: np.ndarray, plans: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Costs [N] of joint angles [N, HORIZON, nq]: angle to the wanted direction [3], distance from the place, drops."""
        place, direction = self.pen_at(joints[..., PEN])
        likeness = direction @ wanted
        distance = np.linalg.norm(place - self.place, axis=-1)
        lost = np.maximum(distance - 0.04, 0.0)
        moment = (1.0 - likeness) + 0.5 * distance + 15.0 * lost
        effort = ((plans - self.start) ** 2).mean(-1)
        importance = np.linspace(0.5, 1.5, HORIZON)
        return ((moment + REGRIP * effort) * importance).mean(-1)
