"""The columns of a source that hold classes.

chosen, skipped = label_columns(listing, wanted="", group="person")
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tf_image_classification.dataset.label_columns import GROUP, class_column
from tf_image_classification.dataset.label_discovery import kind_of
from tf_image_classification.dataset.readers import LABEL, Listing
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.labels import Value
from tf_image_classification.labels.schema import REGRESSION

_MAX_DIFFERENT = 0.5  # fraction of distinct values in a column of classes
_MIN_TO_COMPARE = 20
_OF_TABLES = ("csv", "folder")


def label_columns(listing: Listing, wanted: str, group: str) -> tuple[list[str], dict[str, str]]:
    """The columns whose classes are checked, and the reason for each of the others.

    By default these are the columns that a training would use as labels, without those whose values
    are unlikely to be classes. In sources other than folders and tables a column of numbers counts
    only if its name is that of a label.

    Args:
        listing: the examples.
        wanted: columns to check, separated by commas, or "".
        group: column whose values must not occur in both sets; not a label.

    Raises:
        ConfigError: a wanted column does not exist.
    """
    if wanted:
        chosen = [name.strip() for name in wanted.split(",") if name.strip()]
        for name in chosen:
            if name not in listing.columns:
                raise ConfigError(
                    f"--label {name}: no such column. {did_you_mean(name, listing.columns)}"
                )
        others = [name for name in listing.columns if name not in chosen]
        return chosen, dict.fromkeys(others, "not in --label")
    if not group and GROUP in listing.columns and LABEL in listing.columns:
        group = GROUP  # of an earlier inspection
    certain = class_column(listing)
    candidates = {name: listing.columns[name] for name in listing.columns if name != group}
    is_only = len(candidates) == 1
    chosen, skipped = [], dict.fromkeys([group] if group else [], "group column")
    for name, values in candidates.items():
        reason = "" if name == certain or is_only else _why_no_classes(listing, name, values)
        if reason:
            skipped[name] = reason
        else:
            chosen.append(name)
    return chosen, skipped


def _why_no_classes(listing: Listing, name: str, values: Sequence[Value]) -> str:
    """The reason why a column does not hold classes, or ""."""
    kinds = typed(values, are_cells=name in listing.texts)
    given = [value for value in kinds if value != ""]
    different = set(given)
    if any(isinstance(value, tuple) for value in different):
        return "several numbers per example"
    if len(different) < 2:
        return "the same for all examples"
    if kind_of(different) == REGRESSION:
        return "real values"
    if listing.kind not in _OF_TABLES and not any(isinstance(v, str) for v in different):
        return "numbers"
    if _are_nearly_all_different(given, different):
        return "nearly every example has its own value"
    return ""


def _are_nearly_all_different(given: Collection[Value], different: Collection[Value]) -> bool:
    return len(given) >= _MIN_TO_COMPARE and len(different) > _MAX_DIFFERENT * len(given)
