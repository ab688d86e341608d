"""Off-screen images of MuJoCo simulations: EGL where it works, else OSMesa, in software on machines without a GPU.

Shadows, reflections and multisampling are off: on a processor they cost three quarters of the frame time.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from sim_envs.errors import SimEnvError, unknown

BACKENDS = ("egl", "osmesa")
_LARGEST = 2048


def open_context() -> Any:
    """An OpenGL context made current: the first of EGL and OSMesa that works, beginning with the one MUJOCO_GL names.

    Raises SimEnvError with both failures and the system packages that help.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    platform = os.environ.get("PYOPENGL_PLATFORM", "").lower()
    order = sorted(BACKENDS, key=lambda backend: backend != wanted)
    if platform in BACKENDS:
        order = [platform]  # PyOpenGL binds to one platform for the life of the process
    failures = []
    for backend in order:
        previous = os.environ.get("PYOPENGL_PLATFORM")
        try:
            if backend == "egl":
                from mujoco.egl import GLContext
            else:
                from mujoco.osmesa import GLContext
            context = GLContext(_LARGEST, _LARGEST)
            context.make_current()
            # Last in, first out: this must run before MuJoCo's own exit handler ends the display.
            atexit.unregister(_close_all)
            atexit.register(_close_all)
            return context
        except (ImportError, RuntimeError, AttributeError, OSError) as error:
            failures.append(f"{backend}: {type(error).__name__}: {error}")
            if previous is None:
                os.environ.pop("PYOPENGL_PLATFORM", None)
    raise SimEnvError(
        "images need an off-screen OpenGL, and none works here ("
        + "; ".join(failures)
        + "). Install one: apt install libegl1 libgl1-mesa-dri, or apt install libosmesa6 and set MUJOCO_GL=osmesa"
    )


_open: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _close_all() -> None:
    """Free what was left open while OpenGL can still be called; at interpreter shutdown it no longer can."""
    for renderer in list(_open):
        renderer.close()


class Renderer:
    """Renders one model from its named cameras. Keep one for each model; a rebuilt model needs a new one."""

    def __init__(self, model: mujoco.MjModel, geom_groups: Sequence[int] | None = None, sites: bool = False):
        """geom_groups: the groups to draw, or None for MuJoCo's default. sites: draw sites too (goals of some tasks)."""
        self.model = model
        self._gl = open_context()
        multisampling, buffer = (
            model.vis.quality.offsamples,
            (model.vis.global_.offwidth, model.vis.global_.offheight),
        )
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = 64
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        model.vis.quality.offsamples = multisampling
        model.vis.global_.offwidth, model.vis.global_.offheight = buffer
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._size = (64, 64)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0
        self._option = mujoco.MjvOption()
        if geom_groups is not None:
            self._option.geomgroup[:] = 0
            self._option.geomgroup[list(geom_groups)] = 1
        if not sites:
            self._option.sitegroup[:] = 0
        _open.add(self)

    def render(
        self, data: mujoco.MjData, camera: str | mujoco.MjvCamera, height: int, width: int
    ) -> np.ndarray:
        """Image of `data`, uint8 [height, width, 3], first row at the top.

        Raises SimEnvError for an unknown camera or a size above 2048.
        """
        if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
            raise SimEnvError(f"image size must be 1 to {_LARGEST} pixels, got {height} x {width}")
        view = self._view(camera)
        self._gl.make_current()
        if height > self._size[0] or width > self._size[1]:
            self._size = (max(height, self._size[0]), max(width, self._size[1]))
            mujoco.mjr_resizeOffscreen(self._size[1], self._size[0], self._context)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, data, self._option, None, view, everything, self._scene)
        area = mujoco.MjrRect(0, 0, width, height)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_render(area, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, area, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the graphics memory and the context; a second call does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def _view(self, camera: str | mujoco.MjvCamera) -> mujoco.MjvCamera:
        if isinstance(camera, mujoco.MjvCamera):
            return camera
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if index < 0:
            names = [self.model.camera(i).name for i in range(self.model.ncam)]
            raise unknown("camera", camera, names)
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, index
        return view
