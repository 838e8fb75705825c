"""The types of columns; all values of a column decide, so that every example has the same.

typed(["3", "", "4"], are_cells=True)        # [3, "", 4]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from tf_image_classification.dataset.readers.listing import Listing
from tf_image_classification.labels import Value

_INT64 = range(-(2**63), 2**63)
_REAL = re.compile(r"-?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?")


def typed_columns(listing: Listing, texts: Collection[str] = ()) -> dict[str, Sequence[Value]]:
    """The columns of a listing, each of one type.

    Args:
        listing: the examples.
        texts: columns whose cells stay texts, e.g. the classes.
    """
    return {
        name: typed(values, are_cells=name in listing.texts, stay_texts=name in texts)
        for name, values in listing.columns.items()
    }


def typed(values: Sequence[Value], *, are_cells: bool, stay_texts: bool = False) -> Sequence[Value]:
    """Values as whole numbers, real numbers or texts; tuples stay as they are.

    Cells are whole numbers if each is one as Python writes it, within int64, and real numbers if
    each is a number; empty cells do not count. Numbers beside texts become texts.

    Args:
        values: of a whole column, "" if unknown.
        are_cells: whether they come from a file of texts, where a text may mean a number.
        stay_texts: whether cells stay texts nevertheless.

    Example:
        >>> typed(["3", "", "2.5"], are_cells=True)
        [3.0, '', 2.5]
        >>> typed([3, "cat"], are_cells=False)
        ['3', 'cat']
    """
    different = {(type(value), value) for value in values if value != ""}  # 1 is not 1.0 here
    kind = _type_of([v for _, v in different if not isinstance(v, tuple)], are_cells, stay_texts)
    if not {of_type for of_type, _ in different} - {kind, tuple}:
        return values
    return [v if v == "" or isinstance(v, tuple) else kind(v) for v in values]


def whole_number(text: str) -> int | None:
    """The whole number in a text as Python writes it, if it is within int64; else None.

    Example:
        >>> whole_number("-12"), whole_number("012"), whole_number("1.0")
        (-12, None, None)
    """
    if not re.fullmatch("-?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if str(number) == text and number in _INT64 else None


def _type_of(given: Iterable[Value], are_cells: bool, stay_texts: bool) -> type:
    values = list(given)
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if not isinstance(value, str)]
    if texts and (not are_cells or stay_texts):
        return str
    if not values or any(isinstance(value, int) and value not in _INT64 for value in numbers):
        return str  # a record cannot hold it as a number
    are_whole = [whole_number(text) is not None for text in texts]
    if not all(w or _REAL.fullmatch(t) for w, t in zip(are_whole, texts, strict=True)):
        return str
    return int if all(are_whole) and all(isinstance(n, int) for n in numbers) else float
