"""Predictions as rows of a table, in CSV, JSON lines and Parquet.

rows = PredictionRows(model.schema, model.calibrations)
rows.columns                             # uri, error, label, label_probability, ...
rows.as_csv(row_of(prediction))
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tf_image_classification.export.names import IS_UNKNOWN, UNKNOWN_SCORE
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.serving.label_predictions import Prediction

Row = dict[str, Any]
"""One image: ``uri``, ``error``, and unless it is bad the columns of the labels."""

_MAX_CLASSES = 3  # of a label in a line for people
_TEXT, _NUMBER, _TRUTH, _CLASSES, _RANKED = "text", "number", "truth", "classes", "ranked"


_ADDED = {UNKNOWN_SCORE: _NUMBER, IS_UNKNOWN: _TRUTH}


def row_of(prediction: Prediction) -> Row:
    """The row of one image."""
    row: Row = {"uri": utf8(prediction.uri), "error": utf8(prediction.error)}
    for name, one in prediction.labels.items():
        if one.probability is None:
            row[name] = one.value
            continue
        row |= {
            name: one.name,
            f"{name}_probability": one.probability,
            f"{name}_rejected": one.is_rejected,
            f"{name}_top": [{"class": c, "probability": p} for c, p in one.top],
        }
        if one.conformal_set is not None:
            row[f"{name}_set"] = list(one.conformal_set)
        if one.above_threshold is not None:
            row[f"{name}_above_threshold"] = list(one.above_threshold)
    if prediction.unknown_score is not None:
        row[UNKNOWN_SCORE] = prediction.unknown_score
    if prediction.is_unknown is not None:
        row[IS_UNKNOWN] = prediction.is_unknown
    return row


def utf8(text: str) -> str:
    r"""The text with bytes that are not UTF-8, e.g. of a file name, as escapes.

    Example:
        >>> utf8("caf\udce9")
        'caf\\udce9'
    """
    return text.encode(errors="backslashreplace").decode()


class PredictionRows:
    """The columns of a model's rows, and the conversion of rows to each format.

    Attributes:
        columns: their names, in order.
    """

    def __init__(
        self, schema: LabelSchema, calibrated: Collection[str], added: Collection[str] = ()
    ) -> None:
        """Derive the columns.

        Args:
            schema: the model's labels.
            calibrated: names of the labels whose probabilities are calibrated.
            added: of UNKNOWN_SCORE and IS_UNKNOWN those that the model gives.
        """
        kinds = {"uri": _TEXT, "error": _TEXT}
        for label in schema:
            name = label.name
            kinds[name] = _TEXT if label.has_classes else _NUMBER
            if not label.has_classes:
                continue
            kinds |= {
                f"{name}_probability": _NUMBER,
                f"{name}_rejected": _TRUTH,
                f"{name}_top": _RANKED,
            }
            if name in calibrated:
                if label.kind != MULTILABEL:
                    kinds[f"{name}_set"] = _CLASSES
                kinds[f"{name}_above_threshold"] = _CLASSES
        kinds |= {name: kind for name, kind in _ADDED.items() if name in added}
        self._kinds = kinds
        self._labels = schema.names
        self.columns = list(kinds)

    def csv_header(self) -> str:
        """The first line of a CSV."""
        return _csv_line(self.columns)

    def as_csv(self, row: Row) -> str:
        """A row as a line of CSV."""
        return _csv_line([_cell(row.get(name, "")) for name in self.columns])

    def as_text(self, row: Row) -> str:
        r"""A row as a line for people, with the most probable classes of each label.

        Example:
            >>> from tf_image_classification.labels import Label
            >>> rows = PredictionRows(LabelSchema((Label("pet", depth=2),)), ())
            >>> top = [{"class": "cat", "probability": 0.9}, {"class": "dog", "probability": 0.1}]
            >>> rows.as_text({"uri": "a.jpg", "error": "", "pet": "cat", "pet_top": top})
            'a.jpg  cat 90 %, dog 10 %\n'
        """
        if row["error"]:
            return f"{row['uri']}  {row['error']}\n"
        texts = []
        for label in self._labels:
            top = row.get(f"{label}_top")
            if top is None:
                text = str(_cell(row[label]))
            else:
                best = top[:_MAX_CLASSES]
                text = ", ".join(f"{one['class']} {one['probability']:.0%}" for one in best)
                text = text.replace("%", " %")
            if row.get(f"{label}_rejected"):
                text += " (rejected)"
            texts.append(text if len(self._labels) == 1 else f"{label}: {text}")
        is_unknown = "unknown, nearest: " if row.get(IS_UNKNOWN) else ""
        return f"{row['uri']}  {is_unknown}{'; '.join(texts)}\n"

    def as_table(self, rows: Iterable[Row]) -> Any:
        """Rows as a pyarrow table; every table of a model has the same schema."""
        import pyarrow as pa  # late: it takes half a second

        types = {
            _TEXT: pa.string(),
            _NUMBER: pa.float64(),
            _TRUTH: pa.bool_(),
            _CLASSES: pa.list_(pa.string()),
            _RANKED: pa.list_(pa.struct({"class": pa.string(), "probability": pa.float64()})),
        }
        schema = pa.schema([(name, types[kind]) for name, kind in self._kinds.items()])
        return pa.Table.from_pylist(list(rows), schema=schema)


def as_json(row: Row) -> str:
    """A row as a line of JSON; a number that is not finite is null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(finite) + "\n"


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A value's text in CSV: classes joined by "|", with their probabilities after a colon."""
    if isinstance(value, list):
        return "|".join(
            f"{one['class']}:{one['probability']:.4f}" if isinstance(one, Mapping) else one
            for one in value
        )
    return f"{value:.6g}" if isinstance(value, float) else value
