"""Encoding of raw label values as numbers.

A class has one number everywhere: its index in the vocabulary, which is fixed at training.

>>> pet = Label("pet", depth=2, class_names=("cat", "dog"))
>>> encode(pet, ["dog", "", "cat"], "row {}".format)
Column(values=array([1, 0, 0]), mask=array([ True, False,  True]))
"""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import LabelError, did_you_mean
from tf_image_classification.labels.ordering import in_order, natural_order
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL, SEPARATOR, Label

_LARGEST_VALUE = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Column:
    """One label's numbers for a whole table.

    Attributes:
        values: int64 [N] class numbers, float32 [N] real values, or for multilabel float32 [N,
            depth] of 0 and 1; 0 where the label is missing.
        mask: bool [N], False where the label is missing.
    """

    values: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]


Value = str | int | float | tuple[float, ...]
"""A raw label value of one example: a text, a number or a row of numbers; "" where missing."""


def collect_vocabulary(label: Label, values: Iterable[Value]) -> tuple[str, ...]:
    """The class names of a training set's values, in the order of their class numbers.

    Numbers are class numbers already, and so are texts that are all whole numbers from 0 to depth -
    1. Other texts are sorted, numbers inside them by value; those of an ordinal label by the order
    inferred from the names. Multilabel texts are split first.

    Raises:
        LabelError: the number of different texts is not ``depth``, or the order of an ordinal
            label's names cannot be inferred.

    Example:
        >>> collect_vocabulary(Label("pet", depth=2), ["dog", "cat", "dog"])
        ('cat', 'dog')
    """
    different = set(values) - {""}
    found = {str(value) for value in different if not isinstance(value, tuple)}
    found -= label.missing_texts
    if label.kind == MULTILABEL:
        found = {name for text in found for name in split_classes(text)}
    are_numbers = not any(isinstance(value, str) for value in different)
    if are_numbers or all(_is_number_below(text, label.depth) for text in found):
        return tuple(str(i) for i in range(label.depth))
    names = natural_order(found)
    if len(names) != label.depth:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise LabelError(
            f"Label {label.name!r} has depth {label.depth}, but the training set names "
            f"{len(names)} classes: {shown}. Correct the depth in class_dict, or give a file of "
            "all class names, one per line, with --labels."
        )
    return ordinal_names(label.name, names) if label.kind == ORDINAL else names


def ordinal_names(label: str, names: Collection[str]) -> tuple[str, ...]:
    """The class names of an ordinal label from lowest to highest.

    Raises:
        LabelError: the order cannot be inferred from the names.

    Example:
        >>> ordinal_names("age", ["10-19", "<10", "60+"])
        ('<10', '10-19', '60+')
    """
    ordered = in_order(names)
    if ordered is None:
        raise LabelError(
            f"Label {label!r} is ordinal, but the order of its classes cannot be inferred from "
            f"their names: {', '.join(natural_order(names)[:20])}. Give a file of the class names "
            f"from lowest to highest, one per line: --labels {label}=FILE."
        )
    return ordered


def number_name(number: Any) -> str:
    """The class name of a number.

    Records hold float32 numbers, so that 1.1 is not the float64 number 1.1.

    Example:
        >>> number_name(4011.0), number_name(float(np.float32(1.1)))
        ('4011', '1.1')
    """
    if float(number).is_integer():
        return str(int(number))
    single = np.float32(number)
    return str(single) if float(single) == number else repr(float(number))


def _is_number_below(text: str, depth: int) -> bool:
    return text.isdecimal() and str(int(text)) == text and int(text) < depth


def split_classes(text: str) -> list[str]:
    """The class names in a multilabel text.

    Example:
        >>> split_classes("cat|dog"), split_classes("|")
        (['cat', 'dog'], [])
    """
    return [name for name in map(str.strip, text.split(SEPARATOR)) if name]


def encode(label: Label, values: Sequence[Value], locate: Callable[[int], str]) -> Column:
    """The numbers of a label's raw values; with a text among them, all count as texts.

    Args:
        label: the label, with its vocabulary if it has classes.
        values: one per example, "" where missing.
        locate: the name of example i in messages, e.g. "train.csv line 7".

    Raises:
        LabelError: as ``encode_texts`` and ``encode_numbers``; or an example has more than one
            value.
    """
    if any(isinstance(value, str) and value for value in values):
        texts = [value if isinstance(value, str) else str(value) for value in values]
        _check_utf_8(label, texts, locate)
        return encode_texts(label, texts, locate)
    given = np.array([value != "" for value in values], bool)
    width = label.depth if label.kind == MULTILABEL else 1
    numbers = np.zeros([len(values), width], np.float64)
    for i in np.flatnonzero(given).tolist():
        value = values[i]
        row = value if isinstance(value, tuple) else (value,)
        if len(row) != width:
            expected = "one" if width == 1 else f"{width}, one per class"
            raise LabelError(
                f"{locate(i)}: label {label.name!r} has {len(row)} values, expected {expected}."
            )
        numbers[i] = row
    return encode_numbers(
        label, numbers if label.kind == MULTILABEL else numbers[:, 0], given, locate
    )


def _check_utf_8(label: Label, texts: Sequence[str], locate: Callable[[int], str]) -> None:
    for text in set(texts):
        if text != text.encode("utf-8", "replace").decode():
            raise LabelError(
                f"{locate(texts.index(text))}: label {label.name!r} is not UTF-8 text ({text!r}). "
                "Write labels as UTF-8."
            )


def encode_texts(label: Label, texts: Sequence[str], locate: Callable[[int], str]) -> Column:
    """The numbers of a column of texts; an empty text or the declared marker is missing.

    Args:
        label: the label, with its vocabulary if it has classes.
        texts: one per example.
        locate: as ``encode``.

    Raises:
        LabelError: a class is not in the vocabulary, or a text is not a number; with its location.
    """
    missing = label.missing_texts
    mask = np.array([text not in missing for text in texts], dtype=bool)
    if not label.has_classes:
        values = np.zeros(len(texts), np.float32)
        for i in np.flatnonzero(mask).tolist():
            values[i] = _real_value(label, texts[i], locate, int(i))
        return _without_marker(label, Column(values, mask))
    numbers = {name: i for i, name in enumerate(label.named_classes())}

    def number_of(name: str, i: int) -> int:
        if name not in numbers:
            raise LabelError(
                f"{locate(i)}: label {label.name!r} is {name!r}, which is not one of its "
                f"{label.depth} classes. {did_you_mean(name, numbers)} Correct the label, or "
                "the file of class names (--labels)."
            )
        return numbers[name]

    if label.kind == MULTILABEL:
        rows = np.zeros([len(texts), label.depth], np.float32)
        for i in np.flatnonzero(mask).tolist():
            rows[i, [number_of(name, i) for name in split_classes(texts[i])]] = 1.0
        return Column(rows, mask)
    ids = np.zeros(len(texts), np.int64)
    for i in np.flatnonzero(mask).tolist():
        ids[i] = number_of(texts[i], i)
    return Column(ids, mask)


def _real_value(label: Label, text: str, locate: Callable[[int], str], i: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST_VALUE:
        raise LabelError(
            f"{locate(i)}: label {label.name!r} is {text!r}, expected a finite float32 number. "
            "Leave the cell empty when the value is missing."
        )
    return value


def encode_numbers(
    label: Label,
    numbers: npt.NDArray[Any],
    given: npt.NDArray[np.bool_],
    locate: Callable[[int], str],
) -> Column:
    """Class numbers or real values of a column of numbers.

    Args:
        label: the label.
        numbers: float or int [N]; for multilabel 0 and 1 [N, depth].
        given: bool [N], False where the source has no value.
        locate: as ``encode``.

    Raises:
        LabelError: a class number is not whole, or outside 0..depth-1; with its location.
    """
    if label.kind == MULTILABEL:
        return _multilabel_numbers(label, numbers, given, locate)
    column = _without_marker(label, Column(numbers, given))
    mask = column.mask
    if label.are_collected and label.is_class and mask.any():
        return _numbers_by_name(label, column, locate)
    if not label.is_class:
        wrong = mask & ~(np.abs(numbers) <= _LARGEST_VALUE)
        values = np.where(mask & ~wrong, numbers, 0).astype(np.float32)
        expected = "a finite float32 number"
    else:
        # NaN and numbers beyond int64 become -1, which is no class.
        holds = np.abs(numbers) < 2.0**62
        values = np.where(mask, np.where(holds, numbers, -1), 0).astype(np.int64)
        wrong = mask & ((values != numbers) | (values < 0) | (values >= label.depth))
        expected = f"a whole number from 0 to {label.depth - 1}"
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise LabelError(
            f"{locate(i)}: label {label.name!r} is {numbers[i]:g}, expected {expected} "
            f"({int(wrong.sum())} such labels). Correct the records or the depth in class_dict; if "
            f"{numbers[i]:g} marks a missing label, declare it: "
            f"Label({label.name!r}, ..., missing={numbers[i]:g})."
        )
    return Column(values, mask)


def _numbers_by_name(label: Label, column: Column, locate: Callable[[int], str]) -> Column:
    """Class numbers where the class names are the numbers in the training set."""
    names = {name: i for i, name in enumerate(label.class_names)}
    ids = np.zeros(len(column.values), np.int64)
    for i in np.flatnonzero(column.mask).tolist():
        number = float(column.values[i])
        name = number_name(number)
        if name not in names:
            shown = ", ".join(label.class_names[:5]) + (", ..." if label.depth > 5 else "")
            raise LabelError(
                f"{locate(i)}: label {label.name!r} is the number {number:g}, which is none of the "
                f"class names found in the training set ({shown}). Train with --labels FILE, a "
                "file of all class names in the order of their numbers, or correct the label."
            )
        ids[i] = names[name]
    return Column(ids, column.mask)


def _multilabel_numbers(
    label: Label,
    numbers: npt.NDArray[Any],
    given: npt.NDArray[np.bool_],
    locate: Callable[[int], str],
) -> Column:
    wrong = np.flatnonzero(given & ~np.isin(numbers, (0, 1)).all(axis=1))
    if len(wrong):
        raise LabelError(
            f"{locate(int(wrong[0]))}: label {label.name!r} is {numbers[wrong[0]].tolist()}, "
            f"expected {label.depth} numbers, 1 for each class that it has and 0 for the others."
        )
    return Column(numbers.astype(np.float32), given)


def _without_marker(label: Label, column: Column) -> Column:
    marker = label.missing_number
    if marker is None:
        return column
    # Records hold float32 labels, so that a marker like -0.1 is another number there.
    is_marker = (column.values == marker) | (column.values == float(np.float32(marker)))
    if math.isnan(marker):
        is_marker = np.isnan(column.values)
    mask = column.mask & ~is_marker
    return Column(np.where(mask, column.values, 0).astype(column.values.dtype), mask)


def read_class_names(text: str, path: str) -> tuple[str, ...]:
    r"""Class names from the text of a labels file: one per line, in the order of their numbers.

    Raises:
        LabelError: the file is empty, has an empty line in the middle, or names a class twice.

    Example:
        >>> read_class_names("cat\ndog\n", "labels.txt")
        ('cat', 'dog')
    """
    names = [unicodedata.normalize("NFC", line.strip()) for line in re.split(r"\r\n|\r|\n", text)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LabelError(f"{path} has no class names, expected one per line.")
    first_lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise LabelError(f"{path} line {number} is empty, expected a class name on every line.")
        if first_lines.setdefault(name, number) != number:
            raise LabelError(
                f"{path} line {number} names class {name!r} a second time "
                f"(first in line {first_lines[name]})."
            )
    return tuple(names)


def example_values(label: Label, count: int) -> npt.NDArray[Any]:
    """Synthetic labels of ``count`` examples, in the form of ``Column.values``."""
    numbers = np.arange(count)
    if label.kind == MULTILABEL:
        return np.asarray(numbers[:, None] % (np.arange(label.depth) + 2) == 0, np.float32)
    if label.is_class:
        return np.asarray(numbers % label.depth)
    return np.asarray(numbers, np.float32)
