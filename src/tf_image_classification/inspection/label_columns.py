"""Which columns of a source hold classes, so that all of them are judged and no others.

chosen, not_judged = label_columns(listing, wanted="", group="person")
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.label_discovery import kind_of
from tf_image_classification.dataset.readers import Listing
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.labels import Value
from tf_image_classification.labels.schema import REGRESSION

_MOST_DIFFERENT = 0.5  # of the values of a column of classes, where several columns may be labels
_FEWEST_TO_COMPARE = 20
_OF_TABLES = ("csv", "folder")


def label_columns(listing: Listing, wanted: str, group: str) -> tuple[list[str], dict[str, str]]:
    """The columns whose classes are judged, and why the others are not.

    Without a choice these are the columns that a training would take for labels, but for those
    whose values are hardly classes. Sources other than folders and tables hold measures of their
    images beside the label: of their numbers only the one called like a label is taken.

    Args:
        listing: the examples.
        wanted: columns that were asked for, separated by commas, or "".
        group: column whose values must not be in both sets; no label.

    Raises:
        ConfigError: there is no such column.
    """
    if wanted:
        chosen = [name.strip() for name in wanted.split(",") if name.strip()]
        for name in chosen:
            if name not in listing.columns:
                raise ConfigError(
                    f"--label {name}: no such column. {did_you_mean(name, listing.columns)}"
                )
        others = [name for name in listing.columns if name not in chosen]
        return chosen, dict.fromkeys(others, "not asked for")
    certain = class_column(listing)
    candidates = {name: listing.columns[name] for name in listing.columns if name != group}
    is_only = len(candidates) == 1
    chosen, not_judged = [], dict.fromkeys([group] if group else [], "groups examples")
    for name, values in candidates.items():
        reason = "" if name == certain or is_only else _why_no_classes(listing, name, values)
        if reason:
            not_judged[name] = reason
        else:
            chosen.append(name)
    return chosen, not_judged


def _why_no_classes(listing: Listing, name: str, values: Sequence[Value]) -> str:
    """Why a column is no label with classes, or ""."""
    kinds = typed(values, are_cells=name in listing.texts)
    given = [value for value in kinds if value != ""]
    different = set(given)
    if any(isinstance(value, tuple) for value in different):
        return "several numbers an example"
    if len(different) < 2:
        return "the same for all examples"
    if kind_of(different) == REGRESSION:
        return "real values"
    if listing.kind not in _OF_TABLES and not any(isinstance(v, str) for v in different):
        return "numbers"
    if _are_nearly_all_different(given, different):
        return "nearly each example has its own value"
    return ""


def _are_nearly_all_different(given: Collection[Value], different: Collection[Value]) -> bool:
    return len(given) >= _FEWEST_TO_COMPARE and len(different) > _MOST_DIFFERENT * len(given)
