"""Which columns of a source hold its labels; records' features are columns too.

class_column(listing)                                      # "label"
column_of("pet", ["image/class/label", "image/height"], is_only=True)   # "image/class/label"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tf_image_classification.dataset.readers.kinds import CSV, EXPECTED, FOLDER
from tf_image_classification.dataset.readers.listing import LABEL, Listing
from tf_image_classification.errors import DataError, did_you_mean
from tf_image_classification.labels import LabelSchema

COMMON_LABELS = (
    LABEL,
    "image/class/label",
    "class",
    "class_name",
    "class_id",
    "category",
    "target",
)
"""Columns that are taken for the only label of a schema if no column has its name."""


GROUP = "group"
"""Column of the groups of dependent examples that ``tfic inspect --write_csv`` writes."""


def column_of(
    label: str, columns: Collection[str], *, is_only: bool, given: Mapping[str, str] | None = None
) -> str:
    """The column that holds a label, or "" if none of them does.

    Args:
        label: the label's name.
        columns: all columns.
        is_only: whether the schema has no other label, which may then have a common name.
        given: by label the column that the user has named.

    Example:
        >>> column_of("pet", ["category", "pet"], is_only=True)
        'pet'
        >>> column_of("pet", ["category", "age"], is_only=True)
        'category'
        >>> column_of("pet", ["category", "age"], is_only=True, given={"pet": "species"})
        ''
    """
    given = given or {}
    wanted = given.get(label, label)
    if wanted in columns:
        return wanted
    if label in given or not is_only:
        return ""
    return next((name for name in COMMON_LABELS if name in columns), "")


def check_label_features(given: Mapping[str, str], schema: LabelSchema) -> None:
    """Refuse names of labels in --label_features that the schema lacks.

    Raises:
        DataError: there is one; suggests the nearest label.
    """
    for name in given:
        if name not in schema.names:
            raise DataError(
                f"--label_features names label {name!r}. {did_you_mean(name, schema.names)}"
            )


def label_columns(listing: Listing) -> list[str]:
    """The columns that are labels, if the user names none.

    Raises:
        DataError: the source has no columns, or it is unclear which one is the label.
    """
    known = list(listing.columns)
    if not known:
        raise DataError(f"{listing.locate(0)}: no column for a label. {EXPECTED[listing.kind]}")
    if LABEL in known:  # as in the CSV of tfic inspect
        known = [name for name in known if name != GROUP]
    if listing.kind in (CSV, FOLDER) or len(known) == 1:
        return known
    found = class_column(listing)
    if found:
        return [found]
    raise DataError(
        f"{listing.locate(0)} has {len(known)} columns or features that may be its class "
        f"({', '.join(known)}). Name the labels with --label_columns, or write a class with "
        "class_dict."
    )


def class_column(listing: Listing) -> str:
    """The column of the classes if it is clear: a common name, or the only texts; else ""."""
    known = list(listing.columns)
    common = [column for column in COMMON_LABELS if column in known]
    texts = [name for name in known if any(isinstance(v, str) and v for v in listing.columns[name])]
    for candidates in (common[:1], texts):
        if len(candidates) == 1:
            return candidates[0]
    return ""
