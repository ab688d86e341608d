"""The page of the live view: what a Track holds, drawn in a browser through a viser server. It has no buttons: it only looks."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffbot.control import Chunk
from diffbot.errors import require
from diffbot_ros.skeleton import Skeleton
from diffbot_ros.view_track import Track, strip

RIBBON, PATH, BONES, NOW = (255, 110, 0), (60, 120, 216), (90, 90, 90), (20, 160, 60)
WIDTH = 0.012  # m, of the ribbon
SIGNALS = 8  # entries of the action that get a chart
COLORS = {
    "run": "#2b8a3e",
    "limited": "#b08900",
    "stopping": "#c92a2a",
    "hold": "#c92a2a",
    "stopped": "#c92a2a",
}


class Page:
    """A page over one Track. host, port: where it is served; port 0 takes a free one."""

    def __init__(self, track: Track, host: str, port: int, title: str) -> None:
        viser = require("viser", "view", "the live view")
        self._uplot = require("viser.uplot", "view")
        self.track = track
        self.server: Any = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self.address = f"http://{host}:{self.server.get_port()}"
        self.server.initial_camera.position, self.server.initial_camera.look_at = (1.6, 1.6, 1.6), (0, 0, 0.5)
        gui, scene = self.server.gui, self.server.scene
        gui.configure_theme(control_layout="fixed")  # beside the scene, not over it
        scene.add_grid("/floor", width=4.0, height=4.0, cell_size=0.1, section_size=1.0)
        self._title = gui.add_html(f"<b>{html.escape(title)}</b>")
        self._facts = gui.add_html("")
        self._charts: list[Any] = []
        self._images: dict[str, Any] = {}
        self._drawn: dict[str, Any] = {}
        self._shown: Chunk | None = None
        self._signals(gui)

    def close(self) -> None:
        """Stop serving."""
        self.server.stop()

    @property
    def watched(self) -> bool:
        """Whether somebody has the page open."""
        return bool(self.server.get_clients())

    def facts(self, lines: Mapping[str, Mapping[str, object]], status: str) -> None:
        """Tables of names and values by heading; `status` is the executor's, shown in its colour."""
        colour = COLORS.get(status, "#555")
        parts = [f'<p style="margin:0"><b style="color:{colour}">{html.escape(status)}</b></p>']
        for heading, rows in lines.items():
            cells = "".join(
                f"<tr><td>{html.escape(str(name))}</td><td style='padding-left:1em'>"
                f"{html.escape(str(value))}</td></tr>"
                for name, value in rows.items()
            )
            parts.append(
                f"<b>{html.escape(heading)}</b><table style='font-size:0.85em;width:100%'>{cells}</table>"
            )
        text = "".join(parts)
        if text != self._facts.content:
            self._facts.content = text

    def motion(self) -> None:
        """Executed path, planned ribbon and the charts."""
        if self.track.chunk is not self._shown:
            self._shown = self.track.chunk
            ribbon = self.track.ribbon()
            if ribbon is not None and len(ribbon) > 1:
                self._mesh("/ribbon", *strip(ribbon, WIDTH), colour=RIBBON)
            else:
                self._remove("/ribbon")
        path = np.array(self.track.path)
        if len(path) > 1:
            self._lines("/path", np.stack([path[:-1], path[1:]], axis=1), PATH)
        else:
            self._remove("/path")
        if len(path):
            if "/now" not in self._drawn:
                self._look_at(path[-1])
                self._drawn["/now"] = self.server.scene.add_icosphere("/now", radius=WIDTH, color=NOW)
            self._drawn["/now"].position = tuple(path[-1])
        for entry, chart in enumerate(self._charts):
            chart.data = self.track.signal(entry)

    def _look_at(self, point: np.ndarray) -> None:
        """Turn every camera to where the robot is first seen."""
        for camera in (self.server.initial_camera, *(c.camera for c in self.server.get_clients().values())):
            camera.position = tuple(
                point + np.array([0.7, -0.7, 0.7])
            )  # moves what it looks at, so this first
            camera.look_at = tuple(point)

    def bones(self, skeleton: Skeleton, values: Mapping[str, float]) -> None:
        """The robot's links as lines."""
        self._lines("/robot", skeleton.segments(values), BONES, thickness=0.02)

    def image(self, key: str, pixels: np.ndarray) -> None:
        """A camera image uint8 [H, W, 3 or 1]."""
        pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        if key not in self._images:
            self._images[key] = self.server.gui.add_image(pixels, label=key)
        self._images[key].image = pixels

    def _signals(self, gui: Any) -> None:
        uplot, action = self._uplot, self.track.contract.action
        with gui.add_folder("commands: executed and planned"):
            for entry in range(min(action.size, SIGNALS)):
                self._charts.append(
                    gui.add_uplot(
                        (np.zeros(1), np.zeros(1), np.zeros(1)),
                        (
                            uplot.Series(label="s"),
                            uplot.Series(label="executed", stroke="#3c78d8", width=1.5),
                            uplot.Series(label="planned", stroke="#ff8c00", width=1.5),
                        ),
                        title=action.names[entry] if action.names else f"a{entry}",
                        aspect=2.6,
                        scales={"x": uplot.Scale(time=False)},
                    )
                )

    def _mesh(self, name: str, vertices: np.ndarray, faces: np.ndarray, colour: tuple[int, int, int]) -> None:
        handle = self._drawn.get(name)
        if handle is None or handle.faces.shape != faces.shape:
            self._drawn[name] = self.server.scene.add_mesh_simple(
                name, vertices=vertices, faces=faces, color=colour, side="double"
            )
        else:
            handle.vertices = vertices

    def _lines(
        self, name: str, points: np.ndarray, colour: tuple[int, int, int], thickness: float = 0.005
    ) -> None:
        handle = self._drawn.get(name)
        if handle is None:
            self._drawn[name] = self.server.scene.add_line_segments(
                name, points=points.astype(np.float32), colors=colour, thickness=thickness
            )
        else:
            handle.points = points.astype(np.float32)

    def _remove(self, name: str) -> None:
        handle = self._drawn.pop(name, None)
        if handle is not None:
            handle.remove()
