"""Tables for pages and documents: texts to the left, numbers to the right.

>>> Table("classes", ["class", "images"], [["cat", count_cell(1200)]]).rows[0][1].text
'1,200'
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias


class Number(NamedTuple):
    """A cell with a number.

    Attributes:
        value: what the column is sorted by; None sorts last.
        text: the number as shown.
        note: shown beside it in small letters, e.g. an interval.
        low: lower end of the interval of a fraction, drawn as a bar; None without a bar.
        high: its upper end.
        kind: by which the template knows the cell.
    """

    value: float | None
    text: str
    note: str = ""
    low: float | None = None
    high: float | None = None
    kind: str = "number"

    def __str__(self) -> str:
        return f"{self.text} {self.note}".strip()


class Bars(NamedTuple):
    """A cell with bars below one another: the name of each one's colour, and its length, 0-1."""

    fractions: Sequence[tuple[str, float]]
    kind: str = "bars"


class Histogram(NamedTuple):
    """A cell with a small histogram, of heights 0-1."""

    heights: Sequence[float]
    kind: str = "histogram"


Cell: TypeAlias = str | Number | Bars | Histogram


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose rows begin with their name.

    Attributes:
        caption: above the table, or "".
        columns: their titles.
        rows: cells, one for each column.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def count_cell(count: int | None) -> Number:
    """A count with thousands separators; empty for None."""
    return Number(count, "" if count is None else f"{count:,}")


def percent_cell(fraction: float, decimals: int = 0) -> Number:
    """A fraction as a percentage."""
    return Number(fraction, f"{100 * fraction:.{decimals}f} %")


def interval_cell(value: float, low: float, high: float, note: str = "") -> Number:
    """A number with its interval, or with the reason why it has none; NaN is unknown.

    Example:
        >>> str(interval_cell(0.5, 0.4, 0.6)), str(interval_cell(0.5, math.nan, math.nan, "few"))
        ('0.500 [0.400, 0.600]', '0.500 (few)')
    """
    if math.isnan(value):
        return Number(None, "", note)
    if math.isnan(low):
        return Number(value, number_text(value), f"({note})" if note else "")
    note = f"[{number_text(low)}, {number_text(high)}]"
    is_fraction = 0 <= low <= value <= high <= 1
    ends = (low, high) if is_fraction else (None, None)
    return Number(value, number_text(value), note, *ends)


def number_text(value: float) -> str:
    """A number with three decimals; without decimals from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
