"""Of which type a column is: all its values decide, so that every record holds the same.

rows = with_types(rows, texts=("label",))
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Sequence

from tf_image_classification.conversion.rows import Row, Value

_INT64 = range(-(2**63), 2**63)
_REAL = re.compile(r"-?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?")


class Cell(str):
    """A text from a file that has nothing but texts, so that it may mean a number."""

    __slots__ = ()


def with_types(rows: Sequence[Row], texts: Collection[str] = ()) -> list[Row]:
    """The rows with one type a column: whole numbers, real numbers or texts.

    A column of cells is whole numbers if each is one as Python writes it, within int64, and real
    numbers if each is a number; an empty cell says nothing. Numbers beside texts become texts.

    Args:
        rows: of the whole source.
        texts: columns whose cells stay texts, such as the classes.
    """
    found: dict[str, set[tuple[type, Value]]] = {}  # apart by type: to Python 1 is True
    for row in rows:
        for name, value in row.columns.items():
            found.setdefault(name, set()).add((type(value), value))
    types = {}
    for name, of_types in found.items():
        kind = _type_of([value for _, value in of_types], name in texts)
        if {of_type for of_type, _ in of_types} - {kind, tuple}:
            types[name] = kind
    if not types:
        return list(rows)
    return [
        dataclasses.replace(
            row,
            columns={n: _as_type(v, types[n]) if n in types else v for n, v in row.columns.items()},
        )
        for row in rows
    ]


def whole_number(text: str) -> int | None:
    """The number that a text is, if it is one as Python writes it and within int64."""
    if not re.fullmatch("-?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if str(number) == text and number in _INT64 else None


def _type_of(values: Iterable[Value], stays_text: bool) -> type:
    given = [value for value in values if value != ""]
    cells = [value for value in given if isinstance(value, Cell)]
    others = [value for value in given if not isinstance(value, Cell)]
    if any(isinstance(value, str) for value in others) or (cells and stays_text):
        return str
    if any(isinstance(value, int) and value not in _INT64 for value in others):
        return str  # which a record cannot hold as a number
    wholes = [whole_number(cell) is not None for cell in cells]
    if not given or not all(
        is_whole or _REAL.fullmatch(cell) for cell, is_whole in zip(cells, wholes, strict=True)
    ):
        return str
    is_whole = all(wholes) and all(isinstance(value, int) for value in others)
    return int if is_whole else float


def _as_type(value: Value, kind: type) -> Value:
    if isinstance(value, tuple):
        return value
    if value == "":
        return ""
    result: Value = kind(value)
    return result
