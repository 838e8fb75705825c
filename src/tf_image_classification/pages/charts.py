"""Charts as geometry, which the template draws as SVG in the colours of the page.

>>> chart = line_chart([("", [(0, 1.0), (10, 0.5)])], x="step", y="loss")
>>> chart.lines[0].path
'M56.0 12.0L408.0 168.7'
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
_MAX_MARKED = 30  # points of a line that are marked by a dot
_NUM_BINS = 32


@dataclasses.dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: for the key, or "".
        number: of its colour, 0-3.
        path: as the ``d`` of an SVG path.
        dots: the places of the points, where there are few.
    """

    name: str
    number: int
    path: str
    dots: Points


@dataclasses.dataclass(frozen=True)
class LineChart:
    """Lines over two axes, in the coordinates of a WIDTH x HEIGHT picture.

    Attributes:
        x: title of the horizontal axis.
        y: title of the vertical axis.
        x_ticks: place and text of each.
        y_ticks: the same.
        lines: at most four can be told apart.
        diagonal: path of the line x = y, or "".
    """

    x: str
    y: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    diagonal: str


def line_chart(
    lines: Sequence[tuple[str, Points]],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    has_diagonal: bool = False,
) -> LineChart:
    """A chart of lines.

    Args:
        lines: name and points of each, in the order of the colours; at least one point in all.
            A line without points is left out, and its colour with it.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        x_range: ends of the horizontal axis; None: those of the points.
        y_range: the same of the vertical axis.
        has_diagonal: whether the line x = y is drawn too.
    """
    points = [point for _, of_line in lines for point in of_line]
    x_low, x_high = x_range or _ends([p[0] for p in points])
    y_low, y_high = y_range or _round_ends([p[1] for p in points])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        right = (point[0] - x_low) / (x_high - x_low)
        down = (y_high - point[1]) / (y_high - y_low)
        return LEFT + right * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)

    def path(points: Points) -> str:
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in map(place, points))

    low, high = max(x_low, y_low), min(x_high, y_high)
    return LineChart(
        x=x,
        y=y,
        x_ticks=[(place((value, y_low))[0], f"{value:.4g}") for value in _ticks(x_low, x_high)],
        y_ticks=[(place((x_low, value))[1], f"{value:.4g}") for value in _ticks(y_low, y_high)],
        lines=[
            Line(
                name,
                number,
                path(points),
                list(map(place, points)) if len(points) <= _MAX_MARKED else [],
            )
            for number, (name, points) in enumerate(lines)
            if points
        ],
        diagonal=path([(low, low), (high, high)]) if has_diagonal else "",
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about five."""
    step = _step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]


def _step(low: float, high: float) -> float:
    smallest = (high - low) / 4 * (1 - 1e-9)
    magnitude = 10.0 ** math.floor(math.log10(smallest))
    return next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= smallest)


def _round_ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = _ends(values)
    step = _step(low, high)
    return step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def histogram(values: Sequence[float]) -> list[float]:
    """Heights of a histogram's bars, 0-1; a bin with few values stays visible."""
    counts, _ = np.histogram(values, bins=_NUM_BINS)
    heights: list[float] = np.where(counts, np.maximum(counts / counts.max(), 0.03), 0).tolist()
    return heights
