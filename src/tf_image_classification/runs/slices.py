"""What a source says of its examples beside their labels: columns of a CSV, features of records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tf_image_classification.config import Settings
from tf_image_classification.conversion.readers import LABEL, find_rows
from tf_image_classification.conversion.rows import Value
from tf_image_classification.dataset.sources import LABEL_COLUMN, Table, source_kind
from tf_image_classification.errors import ConfigError, DataError, did_you_mean
from tf_image_classification.evaluation.runner import Slices
from tf_image_classification.runs.reading import Data

_LONGEST = 200  # characters; longer texts are no values to compare by


def columns_beside(
    patterns: Sequence[str], uris: Sequence[str], labels: Collection[str]
) -> dict[str, list[str]]:
    """By column name a text for each example, "" where there is none.

    Args:
        patterns: the source, as ``eval_metadata`` names it.
        uris: what its table calls the examples.
        labels: names that are no slices.
    """
    kind, paths = source_kind(patterns, "eval_metadata")
    if kind == "folder":
        return {}
    rows: dict[str, Mapping[str, Value]] = {}
    for path in paths:
        try:
            found, _ = find_rows(path)
        except DataError:  # records without such a name, which only a table knows how to read
            return {}
        rows |= {_place(row.where): row.columns for row in found}
    of_examples = [rows.get(_place(uri), {}) for uri in uris]
    names = {name for columns in of_examples for name in columns}
    kept = sorted(names - {*labels, LABEL, LABEL_COLUMN})
    texts = {
        name: ["" if isinstance(c.get(name), tuple) else str(c.get(name, "")) for c in of_examples]
        for name in kept
    }
    return {
        name: column
        for name, column in texts.items()
        if any(column) and max(map(len, column)) <= _LONGEST
    }


def watched_slices(settings: Settings, data: Data) -> Slices | None:
    """The parts of the evaluation set that ``slice_column`` tells apart, or None without it.

    Raises:
        ConfigError: there is no such column, or no class label.
    """
    column = settings.evaluation.slice_column
    if not column:
        return None
    labels = data.schema.class_labels
    source = getattr(data.evaluation, "source", None)
    if not labels or not isinstance(source, Table):
        raise ConfigError("slice_column needs a class label, and examples that are read by number.")
    names = [source.locate(i) for i in range(source.num_examples)]
    columns = columns_beside(settings.data.eval_metadata, names, data.schema.names)
    if column not in columns:
        raise ConfigError(
            f"slice_column: the evaluation set has no column {column!r}. "
            f"{did_you_mean(column, columns)}"
        )
    texts = np.array(columns[column], object).astype(str)
    values, places = np.unique(texts, return_inverse=True)
    places = np.where(texts == "", -1, places)
    return Slices(places.astype(np.int64), len(values), labels[0].name)


def _place(where: str) -> str:
    """The file with its line or record, without the image's own name."""
    return where.partition(" (")[0]
