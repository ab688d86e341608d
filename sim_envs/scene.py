"""A MuJoCo model in a browser: its visible geoms as viser meshes that follow the simulation."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import mujoco
import numpy as np

from sim_envs.errors import SimEnvError

PLANE_HALF_SIZE = 2.0
COLLISION_GROUPS = (3, 4, 5)
_TYPES = mujoco.mjtGeom


class MujocoScene:
    """Geoms of `model` under the node `root` of a viser server; `update(data)` moves them.

    server: a `viser.ViserServer`. Bodies become frames and geoms fixed meshes in them, so that an update sends one pose a
    body. Collision shapes (groups 3 to 5, and robosuite's group 0) and fully transparent geoms are left out.
    """

    def __init__(self, server: Any, model: mujoco.MjModel, root: str = "/scene") -> None:
        self.model = model
        self.bodies: dict[int, Any] = {}
        shown = [g for g in range(model.ngeom) if self._visible(g)]
        for body in sorted({int(model.geom_bodyid[g]) for g in shown}):
            self.bodies[body] = server.scene.add_frame(f"{root}/body{body}", show_axes=False)
        for geom in shown:
            vertices, faces = geometry(model, geom)
            server.scene.add_mesh_simple(
                f"{root}/body{model.geom_bodyid[geom]}/geom{geom}",
                vertices=vertices,
                faces=faces,
                color=tuple(int(255 * c) for c in self._rgba(geom)[:3]),
                opacity=float(self._rgba(geom)[3]),
                position=tuple(model.geom_pos[geom]),
                wxyz=tuple(model.geom_quat[geom]),
            )

    def update(self, data: mujoco.MjData) -> None:
        """Show the body poses of `data`."""
        for body, frame in self.bodies.items():
            frame.position = tuple(data.xpos[body])
            frame.wxyz = tuple(data.xquat[body])

    def _rgba(self, geom: int) -> np.ndarray:
        material = int(self.model.geom_matid[geom])
        plain = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
        own = self.model.geom_rgba[geom]
        # MuJoCo's default colour means that the material decides.
        return self.model.mat_rgba[material] if material >= 0 and np.array_equal(own, plain) else own

    def _visible(self, geom: int) -> bool:
        group = int(self.model.geom_group[geom])
        if (
            self.model.geom_type[geom] in (_TYPES.mjGEOM_HFIELD, _TYPES.mjGEOM_SDF)
            or self._rgba(geom)[3] == 0
        ):
            return False
        return group < COLLISION_GROUPS[0] and (group != 0 or self._group_0_is_seen)

    @cached_property
    def _group_0_is_seen(self) -> bool:
        """robosuite keeps collision shapes in group 0 and meshes to look at in group 1; others show group 0."""
        seen = self.model.geom_group == 1
        return not bool((self.model.geom_type[seen] == _TYPES.mjGEOM_MESH).any())


def geometry(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [V, 3] in the geom's frame and faces uint32 [F, 3] of one geom.

    Raises SimEnvError for a type that has no surface.
    """
    import trimesh

    size, kind = model.geom_size[geom], model.geom_type[geom]
    if kind == _TYPES.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        face, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        return model.mesh_vert[first : first + count].copy(), model.mesh_face[face : face + faces].astype(
            np.uint32
        )
    if kind == _TYPES.mjGEOM_PLANE:
        half = [s if s > 0 else PLANE_HALF_SIZE for s in size[:2]]
        shape = trimesh.creation.box((2 * half[0], 2 * half[1], 1e-3))
    elif kind == _TYPES.mjGEOM_BOX:
        shape = trimesh.creation.box(2 * size)
    elif kind == _TYPES.mjGEOM_SPHERE:
        shape = trimesh.creation.uv_sphere(size[0], count=[16, 16])
    elif kind == _TYPES.mjGEOM_ELLIPSOID:
        shape = trimesh.creation.uv_sphere(1.0, count=[16, 16])
        shape.apply_scale(size)
    elif kind == _TYPES.mjGEOM_CYLINDER:
        shape = trimesh.creation.cylinder(size[0], 2 * size[1], sections=24)
    elif kind == _TYPES.mjGEOM_CAPSULE:
        shape = trimesh.creation.capsule(2 * size[1], size[0], count=[12, 12])
        shape.apply_translation([0, 0, -shape.bounds.mean(axis=0)[2]])
    else:
        raise SimEnvError(
            f"geom {geom} has the type {_TYPES(kind).name}, which cannot be drawn in the browser"
        )
    return np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.uint32)
