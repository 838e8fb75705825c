"""Which column has the classes, what they are, and how they are stored.

label = label_column(rows, "")
names, are_numbers = class_names(rows, label)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tf_image_classification.conversion.columns import whole_number
from tf_image_classification.conversion.rows import LABEL, Refused, Row
from tf_image_classification.errors import ConfigError, DataError

_MOST_NUMBERED = 100_000  # classes that are called by numbers, from 0 on


def label_column(rows: Sequence[Row], wanted: str) -> str:
    """The column of the classes: the one that is wanted, or ``label``, or the only one of texts.

    Raises:
        ConfigError: there is no such column.
    """
    columns = {name: value for row in reversed(rows) for name, value in row.columns.items()}
    if wanted:
        if wanted not in columns:
            raise ConfigError(f"--label {wanted}: no such column, only {', '.join(columns)}.")
        return wanted
    if LABEL in columns:
        return LABEL
    texts = [name for name, value in columns.items() if isinstance(value, str)]
    return texts[0] if len(texts) == 1 else ""


def renamed(rows: Sequence[Row], label: str, feature: str) -> list[Row]:
    """The rows with the label's column called otherwise.

    Raises:
        ConfigError: there is no such column, or another one of the new name.
    """
    if not label or any(feature in row.columns and feature != label for row in rows):
        raise ConfigError(
            f"--feature {feature}: the source has "
            + ("another column of this name." if label else "no column of classes; see --label.")
        )
    return [
        dataclasses.replace(
            row, columns={feature if n == label else n: value for n, value in row.columns.items()}
        )
        for row in rows
    ]


def check_numbers(rows: Sequence[Row]) -> None:
    """Refuse texts that the legacy schema would leave out.

    Raises:
        ConfigError: there are such texts, and no column of classes that numbers them.
    """
    texts = {n for row in rows for n, v in row.columns.items() if isinstance(v, str) and v}
    if texts:
        raise ConfigError(
            "--schema legacy stores numbers, and nothing says which column has the classes. Give "
            f"--label, one of {', '.join(sorted(texts))}."
        )


def of_classes(
    rows: Sequence[Row], label: str, names: Sequence[str], refused: list[Refused]
) -> list[Row]:
    """The rows of these classes; the others are refused.

    Raises:
        ConfigError: there is no column of classes.
        DataError: no row is left.
    """
    if not label:
        raise ConfigError("--labels: the source has no column of classes; see --label.")
    known, kept = {*names, ""}, []
    for row in rows:
        value = str(row.columns.get(label, ""))
        if value in known:
            kept.append(row)
        else:
            refused.append(Refused(row.where or row.key, f"its class {value!r} is not in --labels"))
    if not kept:
        found = sorted({str(row.columns.get(label, "")) for row in rows})
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"--labels: none of the source's classes ({shown}) is in it, only "
            f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}. Name the file of its "
            "classes."
        )
    return with_classes(kept, label, str)


def class_names(rows: Sequence[Row], label: str) -> tuple[list[str], bool]:
    """The classes in the order that numbers them, and whether they are called by these numbers.

    They are if the source itself has whole numbers, or texts that are all numbers from 0 on without
    a gap: a training then takes a number for a line of ``labels.txt``.
    """
    values = {row.columns[label] for row in rows if row.columns.get(label, "") != ""}
    numbers = {
        number for v in values if (number := whole_number(str(v))) is not None and number >= 0
    }
    if not values or len(numbers) < len(values):
        return sorted(map(str, values)), False
    have_no_gap = max(numbers) < len(numbers)
    are_given = all(isinstance(value, int) for value in values)
    if (have_no_gap or are_given) and max(numbers) < _MOST_NUMBERED:
        return [str(i) for i in range(max(numbers) + 1)], True
    return [str(number) for number in sorted(numbers)], False


def with_classes(rows: Sequence[Row], label: str, kind: type) -> list[Row]:
    """The rows with their classes as whole numbers or as texts; real values are no classes."""
    return [
        dataclasses.replace(row, columns={**row.columns, label: kind(row.columns[label])})
        if row.columns.get(label, "") != "" and isinstance(row.columns[label], (str, int))
        else row
        for row in rows
    ]
