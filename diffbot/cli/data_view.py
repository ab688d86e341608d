"""`diffbot data view`: a browser page over a dataset: scene, cameras, all signals on one time line, filter, mark and delete."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from diffbot.cli.verb import Verb
from diffbot.data.edit import delete, relabel, replace
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, require

FILTERS = ("all", "success", "failure", "marked")
COLORS = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#e45756",
    "#72b7b2",
    "#b279a2",
    "#ff9da6",
    "#9d755d",
    "#eeca3b",
    "#bab0ac",
)


@dataclass(frozen=True)
class ViewConfig:
    """Which dataset, and where the page is served."""

    path: str = "???"  # episode store
    host: str = "127.0.0.1"  # only this machine unless you say otherwise
    port: int = 8080  # of the page
    scene: bool = True  # show the simulator's 3-D scene where the dataset has its states
    seconds: float = 0.0  # stop after this long; 0: until Ctrl-C


class Viewer:
    """The page. Episodes are read as they are shown; deleting rewrites the store, marks are its per-episode value "marked"."""

    def __init__(self, server: Any, store: EpisodeStore, env: Any | None) -> None:
        self.server, self.env = server, env
        self.scene: Any = None
        self.lock = threading.RLock()
        self.set_store(store)
        gui = server.gui
        gui.add_markdown(f"**{store.path.name}** · {store.contract.task} · {store.contract.rate:g} Hz")
        self.filter = gui.add_dropdown("show", FILTERS)
        self.episode = gui.add_dropdown("episode", self.choices())
        self.facts = gui.add_markdown("")
        self.step = gui.add_slider("step", min=0, max=1, step=1, initial_value=0)
        self.play = gui.add_checkbox("play", False)
        self.mark = gui.add_button("mark / unmark")
        self.remove = gui.add_button("delete episode", color="red")
        self.images = {
            key: gui.add_image(np.zeros(store.contract.observations[key].shape, np.uint8), label=key)
            for key in store.contract.image_keys
        }
        self.plots = gui.add_folder("signals")
        self.charts: dict[str, Any] = {}
        self.filter.on_update(lambda _: self.refilter())
        self.episode.on_update(lambda _: self.show_episode())
        self.step.on_update(lambda _: self.show_step())
        self.mark.on_click(lambda _: self.toggle_mark())
        self.remove.on_click(lambda _: self.delete_episode())
        self.show_episode()

    def set_store(self, store: EpisodeStore) -> None:
        """Look at this snapshot of the dataset."""
        self.store = store
        names = store.meta_names
        self.marked = set(np.flatnonzero(store.meta("marked")).tolist()) if "marked" in names else set()
        self.success = store.meta("success").astype(bool) if "success" in names else None
        self.returns = store.meta("return") if "return" in names else None

    def choices(self) -> tuple[str, ...]:
        """Labels of the episodes that pass the filter."""
        kept = [i for i in range(len(self.store)) if self._passes(i)]
        return tuple(self._label(i) for i in kept) or ("(none)",)

    @property
    def index(self) -> int | None:
        """The episode on show."""
        head = str(self.episode.value).split(" ", 1)[0]
        return int(head) if head.isdigit() else None

    def refilter(self) -> None:
        """Apply the filter to the list of episodes and show the first of them."""
        with self.lock:
            options = self.choices()
            keep = self.episode.value if self.episode.value in options else options[0]
            self.episode.options = options
            self.episode.value = keep
            self.show_episode()

    def show_episode(self) -> None:
        """Load the chosen episode: facts, signals, scene, first frame."""
        with self.lock:
            if self.index is None:
                self.facts.content = "no episode passes the filter"
                return
            self.arrays = self.store.episode(self.index)
            meta = self.store.episode_meta(self.index)
            self.facts.content = " · ".join(f"{name} {_short(value)}" for name, value in meta.items())
            self.step.max = max(1, len(self.arrays["action"]) - 1)
            self.step.value = 0
            if self.env is not None:
                self._prepare_scene(meta)
            self._draw_signals()
            self.show_step()

    def show_step(self) -> None:
        """Show one step in the scene and in the cameras."""
        with self.lock:
            if self.index is None:
                return
            t = min(int(self.step.value), len(self.arrays["action"]) - 1)
            for key, handle in self.images.items():
                handle.image = self.arrays[key][t]
            if self.scene is not None and self.env is not None:
                self.env.unwrapped.set_state(self.arrays["sim_state"][t])
                self.scene.update(self.env.unwrapped.physics()[1])

    def toggle_mark(self) -> None:
        """Mark the episode on show for a second look, or take the mark away."""
        with self.lock:
            if self.index is None:
                return
            marks = np.isin(np.arange(len(self.store)), list(self.marked ^ {self.index}))
            relabel(EpisodeStore.open(self.store.path, "a"), "marked", marks, "marked by hand in the viewer")
            self.set_store(EpisodeStore.open(self.store.path))
            self._relabel()

    def delete_episode(self) -> None:
        """Delete the episode on show from the dataset."""
        with self.lock:
            if self.index is None or len(self.store) == 1:
                self.facts.content = "the last episode of a dataset cannot be deleted"
                return
            gone = [self.index]
            store = EpisodeStore.open(self.store.path, "a")
            replace(store, lambda target: delete(store, target, gone))
            self.set_store(EpisodeStore.open(self.store.path))
            self.refilter()

    def tick(self) -> None:
        """Advance by one step while playing."""
        if self.play.value and self.index is not None:
            self.step.value = (int(self.step.value) + 1) % len(self.arrays["action"])

    def _passes(self, i: int) -> bool:
        choice = self.filter.value if hasattr(self, "filter") else "all"
        if choice == "marked":
            return i in self.marked
        if choice in ("success", "failure") and self.success is not None:
            return bool(self.success[i]) == (choice == "success")
        return True

    def _label(self, i: int) -> str:
        parts = [str(i), f"{int(self.store.episode_lengths[i])} steps"]
        if self.success is not None:
            parts.append("success" if self.success[i] else "failure")
        if self.returns is not None:
            parts.append(f"return {float(self.returns[i]):.3g}")
        return " ".join([parts[0], "· " + " · ".join(parts[1:]), "★" if i in self.marked else ""]).strip()

    def _relabel(self) -> None:
        index = self.index
        self.episode.options = self.choices()
        if index is not None and self._label(index) in self.episode.options:
            self.episode.value = self._label(index)

    def _prepare_scene(self, meta: dict[str, Any]) -> None:
        from sim_envs.scene import MujocoScene

        assert self.env is not None
        if self.scene is None:
            self.env.reset(seed=int(meta["seed"]) if "seed" in meta else None)
            self.scene = MujocoScene(self.server, self.env.unwrapped.physics()[0])

    def _draw_signals(self) -> None:
        for chart in self.charts.values():
            chart.remove()
        uplot = require("viser.uplot", "view")
        length = len(self.arrays["action"])
        stamps = np.arange(length) / self.store.contract.rate
        with self.plots:
            for key, value in self.arrays.items():
                if key in self.images or key == "sim_state" or value.dtype.kind not in "fbiu":
                    continue
                columns = value.reshape(length, -1).astype(np.float64).T[: len(COLORS)]
                names = self._names(key, len(columns))
                series = [uplot.Series(label="s")]
                series += [
                    uplot.Series(label=n, stroke=c, width=1) for n, c in zip(names, COLORS, strict=False)
                ]
                self.charts[key] = self.server.gui.add_uplot(
                    (stamps, *columns),
                    tuple(series),
                    title=key,
                    aspect=2.2,
                    legend=uplot.Legend(show=True),
                    scales={"x": uplot.Scale(time=False)},
                )

    def _names(self, key: str, count: int) -> list[str]:
        contract = self.store.contract
        spec = contract.action if key == "action" else contract.observations.get(key)
        names = list(spec.names) if spec is not None else []
        return names[:count] if len(names) >= count else [str(i) for i in range(count)]


def run(config: ViewConfig) -> int:
    """Serve the page until Ctrl-C."""
    import sim_envs

    viser = require("viser", "view", "the browser page")
    store = EpisodeStore.open(config.path)
    if len(store) == 0:
        raise DataError(f"{config.path} has no episodes to look at")
    env: Any = None
    if config.scene and "sim_state" in store.keys and store.contract.task in sim_envs.tasks():
        env = sim_envs.make(store.contract.task)
        if env.unwrapped.physics() is None:
            env = None

    server = viser.ViserServer(host=config.host, port=config.port, verbose=False)
    server.initial_camera.position, server.initial_camera.look_at = (1.6, 1.6, 1.9), (0.0, 0.0, 0.8)
    viewer = Viewer(server, store, env)
    Console().print(f"open http://{config.host}:{server.get_port()} (Ctrl-C ends)")
    started = time.monotonic()
    try:
        while not config.seconds or time.monotonic() - started < config.seconds:
            time.sleep(1.0 / store.contract.rate)
            viewer.tick()
    finally:
        server.stop()
        if env is not None:
            env.close()
    return 0


def _short(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim:
        return f"[{array.size}]"
    return f"{float(array):.3g}" if array.dtype.kind == "f" else str(array)


VIEW = Verb(
    "look at a dataset in the browser: scene, cameras, signals; mark and delete episodes",
    ViewConfig,
    run,
    ("diffbot data view path=datasets/lift.zarr",),
)
