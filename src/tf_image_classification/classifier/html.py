"""Small pieces of HTML that a notebook shows; every value is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape


def text(content: str) -> str:
    """A text as it is, in the width of a terminal's letters."""
    return f"<pre>{escape(content)}</pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    Example:
        >>> table(["class"], [["<b>"]])
        '<table><tr><th>class</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>{body}</table>"


def image(png: bytes, described: str) -> str:
    """A PNG image."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(described)}" src="data:image/png;base64,{data}">'


def page(content: str, height: int) -> str:
    """A whole page in a frame of its own, so that its style and script stay inside."""
    return (
        f'<iframe srcdoc="{escape(content)}" style="width: 100%; height: {height}px; border: 0">'
        "</iframe>"
    )
