"""Infers the labels of a source, for users who write no ``class_dict``.

find_labels(find_examples(["pets/train"], option="train_metadata"))   # [Label("label", depth=2)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tf_image_classification.dataset.label_columns import label_columns
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.dataset.readers.kinds import FOLDER
from tf_image_classification.dataset.readers.listing import LABEL, Listing
from tf_image_classification.errors import ConfigError, DataError, LabelError, did_you_mean
from tf_image_classification.labels import (
    Label,
    Value,
    natural_order,
    number_name,
    ordinal_names,
    split_classes,
)
from tf_image_classification.labels.schema import (
    MULTILABEL,
    ORDINAL,
    REGRESSION,
    SEPARATOR,
    SINGLE_LABEL,
)

_MOST_DIFFERENT = 0.9  # of the texts of a column of classes may differ
_FEWEST_TO_COMPARE = 20


def find_labels(
    listing: Listing,
    *,
    depths: Mapping[str, int] | None = None,
    columns: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
) -> list[Label]:
    """The labels of a source, with the classes that occur in it.

    Class folders give one single-label. Each column of a CSV is a label: regression if its cells
    are numbers that are not all whole, multilabel if a cell joins classes with ``|``, else
    single-label. Other sources give one label: ``label`` or ``image/class/label``, or else their
    only column.

    Args:
        listing: the examples of the source.
        depths: by label, its number of classes if a file of class names gives it, "" standing for
            the only label; else the classes that occur are its classes.
        columns: the columns that are labels; empty: those above.
        kinds: kinds of labels by name, where they differ from the inferred ones.

    Raises:
        DataError: no column can be a label, or a label is the same for all examples.
        ConfigError: a column or a kind is given for a label that does not exist.
    """
    kinds, depths = kinds or {}, depths or {}
    _check_known("label_columns", columns, listing.columns)
    chosen = list(columns) or label_columns(listing)
    # The label of TF-Slim's feature image/class/label is called label: schemas find it by any name.
    named = {LABEL if len(chosen) == 1 and "/" in column else column: column for column in chosen}
    _check_known("label_kinds", kinds, named)
    only = depths.get("", 0) if len(named) == 1 else 0
    return [
        _label(name, listing, column, depths.get(name, only), kinds.get(name, ""))
        for name, column in named.items()
    ]


def class_names(values: Iterable[Value]) -> tuple[str, ...]:
    """The names of the classes that occur, in the order of their numbers.

    Numbers are sorted by value, texts by letters and the values of numbers inside them. A text of
    joined classes names each of them.

    Example:
        >>> class_names([94011, 4011, 4065, ""])
        ('4011', '4065', '94011')
    """
    names = set()
    for value in set(values) - {""}:
        texts = split_classes(value) if isinstance(value, str) else [number_name(value)]
        names |= set(texts)
    return natural_order(names)


def _check_known(option: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: there is no label {name!r}. {did_you_mean(name, known)}")


def _label(name: str, listing: Listing, column: str, depth: int, kind: str) -> Label:
    values = typed(listing.columns[column], are_cells=column in listing.texts)
    unknown = {""} if column in listing.texts else {"", SEPARATOR}  # a record with an empty text
    different = set(values) - unknown
    kind = kind or kind_of(different)
    if kind == REGRESSION:
        return Label(name, kind=REGRESSION)
    widths = {len(value) for value in different if isinstance(value, tuple)}
    if widths:  # one number a class, 0 or 1
        return Label(name, depth=max(depth, *widths), kind=kind)
    # The cells themselves name the classes; numbers are only sorted as such.
    names: tuple[str, ...] = class_names(listing.columns[column])
    declared = listing.declared.get(column, ())
    names = natural_order({*names, *declared}) if declared else names
    if kind == ORDINAL and not depth:
        names = ordinal_names(name, names)
    _check_classes(name, names, listing, column, kind, depth)
    if depth:
        return Label(name, depth=depth, kind=kind)
    return Label(name, depth=len(names), kind=kind, class_names=names, are_collected=True)


def kind_of(values: Iterable[Value]) -> str:
    """The kind of a label, inferred from its values: regression, multilabel or single-label.

    Example:
        >>> kind_of([1, 2.5]), kind_of(["cat|dog", "cat"]), kind_of(["cat", 3])
        ('regression', 'multilabel', 'single-label')
    """
    different = set(values) - {""}
    if any(isinstance(value, tuple) or SEPARATOR in str(value) for value in different):
        return MULTILABEL
    return REGRESSION if _are_real(different) else SINGLE_LABEL


def _are_real(values: Iterable[Value]) -> bool:
    """Whether all are numbers and some are not whole."""
    try:
        return any(not float(value).is_integer() for value in values)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return False


def _check_classes(
    name: str, names: Sequence[str], listing: Listing, column: str, kind: str, depth: int
) -> None:
    """Refuse values that are unlikely to be classes.

    Raises:
        DataError: all examples have one class, nearly each has its own, or -1 occurs beside 0.
    """
    if max(len(names), depth) < (1 if kind == MULTILABEL else 2):
        raise DataError(
            f"{listing.locate(0)}: label {name!r} is the same for all examples "
            f"({', '.join(names) or 'empty'}). Expected at least two classes."
        )
    values = listing.columns[column]
    only = set(values)
    if listing.kind == FOLDER and not depth and len(only) == 1 < len(names):
        folder = listing.places[0].path.removesuffix(listing.names[0]).rstrip("/")
        empty = [each for each in names if each not in only]
        raise DataError(
            f"{folder}: all images lie in the folder {only.pop()!r}, none in "
            f"{', '.join(empty[:3])}. Expected images in the folders of at least two classes. Name "
            "the folder that holds the class folders."
        )
    given = [value for value in values if value != ""]
    are_numbers = all(re.fullmatch(r"-?\d+", text) for text in names)
    if kind == SINGLE_LABEL and are_numbers and "-1" in names and "0" in names:
        i = next(i for i, value in enumerate(values) if str(value) == "-1")
        raise LabelError(
            f"{listing.locate(i)}: label {name!r} is -1, expected a class number. If -1 stands for "
            "an unknown class, leave it empty, or write a class with class_dict and missing=-1."
        )
    if (
        kind == SINGLE_LABEL
        and not depth
        and len(given) >= _FEWEST_TO_COMPARE
        and len(names) > _MOST_DIFFERENT * len(given)
    ):
        raise DataError(
            f"{listing.locate(0)}: column {column!r} has {len(names):,} different values in "
            f"{len(given):,} examples, too many for classes. Name the columns that are labels with "
            "--label_columns."
        )
