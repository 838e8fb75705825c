"""Slices of the evaluation set: the examples grouped by the values of a column."""

from __future__ import annotations

import numpy as np

from tf_image_classification.config import Settings
from tf_image_classification.dataset.table import Table, attribute_texts
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.evaluation.analysis import few_values
from tf_image_classification.evaluation.loop import Slices
from tf_image_classification.workflows.setup.run_data import Data

_LONGEST = 200  # characters; longer texts are no categories


def columns_beside(table: Table) -> dict[str, list[str]]:
    """The columns beside the labels: a text per example, "" if missing."""
    return {
        name: texts
        for name, texts in sorted(attribute_texts(table).items())
        if any(texts) and max(map(len, texts)) <= _LONGEST
    }


def watched_slices(settings: Settings, data: Data) -> Slices | None:
    """The slices of the evaluation set by ``slice_column``, or None without it.

    They are those of a report: numbers with many values are grouped by quartile.

    Raises:
        ConfigError: there is no such column, or no class label.
    """
    column = settings.evaluation.slice_column
    if not column:
        return None
    labels = data.schema.class_labels
    source = data.evaluation.table if data.evaluation is not None else None
    if not labels or source is None:
        raise ConfigError("slice_column needs a class label, and input_mode indexed.")
    columns = columns_beside(source)
    if column in data.schema.names:
        raise ConfigError(
            f"slice_column: {column!r} is a label of the model, but slices are columns other than "
            "labels. Name the labels: --label_columns."
        )
    if column not in columns:
        raise ConfigError(
            f"slice_column: the evaluation set has no column {column!r}. "
            f"{did_you_mean(column, columns)}"
        )
    texts = few_values(np.array(columns[column], object).astype(str))
    values, places = np.unique(texts, return_inverse=True)
    places = np.where(texts == "", -1, places)
    return Slices(places.astype(np.int64), len(values), labels[0].name)
