"""A self-contained HTML page: tables, figures (inline PNG) and videos beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
figure { margin: 1rem 0; } figcaption { color: #666; font-size: .9rem; }
img, video { max-width: 100%; } code { background: #f3f3f3; padding: .1rem .3rem; }
"""


class Report:
    """Collects parts in reading order and writes them as one page."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []

    def heading(self, text: str) -> None:
        """A section heading."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """A command line."""
        self.parts.append(f"<p><code>{html.escape(text)}</code></p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table with a head row."""
        line = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
        )
        self.parts.append(f"<table><tr>{line}</tr>{body}</table>")

    def figure(self, figure: Figure, caption: str) -> None:
        """A matplotlib figure as an inline PNG."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        self._image(buffer.getvalue(), caption)

    def image(self, path: Path, caption: str) -> None:
        """A PNG file, inlined."""
        self._image(path.read_bytes(), caption)

    def video(self, relative: str, caption: str) -> None:
        """A video that lies at this path relative to the page."""
        source = html.escape(relative, quote=True)
        self.parts.append(
            f'<figure><video controls muted loop src="{source}"></video>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def write(self, path: Path) -> None:
        """Write the page; the folder is made when missing."""
        title = html.escape(self.title)
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{STYLE}</style></head><body><h1>{title}</h1>{''.join(self.parts)}</body></html>"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page)

    def _image(self, png: bytes, caption: str) -> None:
        data = base64.b64encode(png).decode()
        text = html.escape(caption)
        self.parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
