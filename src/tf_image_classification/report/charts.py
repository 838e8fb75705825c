"""Small charts as SVG that take their colours from the page, light or dark."""

from __future__ import annotations

import html
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 240, 56, 40, 12


def line_chart(
    lines: Sequence[tuple[str, Points]],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    is_diagonal_shown: bool = False,
) -> str:
    """Lines with their names, over two axes.

    Args:
        lines: name and points of each; at most four can be told apart.
        x: what the horizontal axis shows.
        y: what the vertical one shows.
        x_range: its ends; None: those of the points.
        y_range: the same.
        is_diagonal_shown: whether equality is drawn too.
    """
    points = [point for _, of_line in lines for point in of_line]
    if not points:
        return ""
    x_low, x_high = x_range or _ends([p[0] for p in points])
    y_low, y_high = y_range or _ends([p[1] for p in points])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x_low) / (x_high - x_low)
        up = (point[1] - y_low) / (y_high - y_low)
        inner = _HEIGHT - _BOTTOM - _TOP
        return _LEFT + across * (_WIDTH - _LEFT - 12), _TOP + (1 - up) * inner

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = y_low + share * (y_high - y_low)
        left, top = place((x_low, value))
        parts.append(f'<path class="grid" d="M{left:.1f} {top:.1f}H{_WIDTH - 12}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{top + 4:.1f}" class="end">{value:.3g}</text>')
        value = x_low + share * (x_high - x_low)
        left, _ = place((value, y_low))
        parts.append(
            f'<text x="{left:.1f}" y="{_HEIGHT - _BOTTOM + 16}" class="middle">{value:.3g}</text>'
        )
    if is_diagonal_shown:
        low, high = max(x_low, y_low), min(x_high, y_high)
        (a, b), (c, d) = place((low, low)), place((high, high))
        parts.append(f'<path class="equal" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>')
    for number, (_, of_line) in enumerate(lines):
        placed = [place(point) for point in of_line]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
        parts.append(f'<path class="line{number}" d="M{path}"/>')
        if len(placed) <= 30:
            parts += [
                f'<circle class="line{number}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>'
                for a, b in placed
            ]
    middle = (_WIDTH + _LEFT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" class="middle">{html.escape(x)}</text>')
    names = "".join(
        f'<span class="key line{number}">{html.escape(name)}</span>'
        for number, (name, _) in enumerate(lines)
        if name
    )
    title = html.escape(f"{y} by {x}")
    return (
        f'<figure class="chart"><figcaption>{html.escape(y)} {names}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
