"""The classes of a conversion: their column, their names, and their stored form.

label = label_column(listing, "")
names, are_numbers = class_names(listing.columns[label])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from tf_image_classification.dataset import label_discovery
from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.readers import LeftOut, Listing, Row
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.labels import Value, split_classes


def label_column(listing: Listing, wanted: str) -> str:
    """The column of the classes: the given one, or the inferred one, or "".

    Raises:
        ConfigError: the given column does not exist.
    """
    if wanted and wanted not in listing.columns:
        raise ConfigError(f"--label {wanted}: no such column, only {', '.join(listing.columns)}.")
    return wanted or class_column(listing)


def renamed(rows: Sequence[Row], label: str, feature: str) -> list[Row]:
    """The rows with the label's column renamed.

    Raises:
        ConfigError: there is no column of classes, or another one has the new name.
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
    """Refuse texts, which the legacy schema cannot store.

    Raises:
        ConfigError: there are texts, and no column of classes that numbers them.
    """
    texts = {n for row in rows for n, v in row.columns.items() if isinstance(v, str) and v}
    if texts:
        raise ConfigError(
            "--schema legacy stores numbers, and it is unclear which column has the classes. Give "
            f"--label, one of {', '.join(sorted(texts))}."
        )


def of_classes(
    rows: Sequence[Row], label: str, names: Collection[str], left_out: list[LeftOut]
) -> list[Row]:
    """The rows of these classes; the others are skipped.

    Raises:
        ConfigError: there is no column of classes.
        DataError: no row is left.
    """
    if not label:
        raise ConfigError("--labels: the source has no column of classes; see --label.")
    known, kept = {*names}, []
    for row in rows:
        value = str(row.columns.get(label, ""))
        if known.issuperset(split_classes(value)):
            kept.append(row)
        else:
            left_out.append(LeftOut(row.where, f"its class {value!r} is not in --labels"))
    if not kept:
        found = sorted({str(row.columns.get(label, "")) for row in rows})
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        listed = list(names)
        raise DataError(
            f"--labels: none of the source's classes ({shown}) is in it, only "
            f"{', '.join(listed[:5])}{', ...' if len(listed) > 5 else ''}. Name the file of its "
            "classes."
        )
    return with_classes(kept, label, str)


def class_names(values: Iterable[Value]) -> tuple[list[str], bool]:
    """The classes in the order of their numbers, and whether they are stored as numbers.

    Whole numbers from 0 on without a gap are: each is a line number of ``labels.txt``. Others are
    stored as texts, so that they keep their names.

    Example:
        >>> class_names([1, 0]), class_names(["bee", "ant|bee"])
        ((['0', '1'], True), (['ant', 'bee'], False))
    """
    names = list(label_discovery.class_names(values))
    are_numbers = bool(names) and names == [str(i) for i in range(len(names))]
    return names, are_numbers


def with_classes(rows: Sequence[Row], label: str, kind: type) -> list[Row]:
    """The rows with their classes as whole numbers or as texts; real values are no classes."""
    return [
        dataclasses.replace(row, columns={**row.columns, label: kind(row.columns[label])})
        if _is_class(row.columns.get(label, ""))
        else row
        for row in rows
    ]


def _is_class(value: Value) -> bool:
    if isinstance(value, str):
        return value != "" and len(split_classes(value)) == 1
    return isinstance(value, int)
