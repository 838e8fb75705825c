"""What a model said of every example of an evaluation, kept so that no image is needed twice.

One row an example, in a Parquet file with the columns

    id                      number in the evaluation set
    uri                     file, or file and record
    LABEL                   the true class or value, as a name; null where unknown
    LABEL_predicted         the model's
    LABEL_probabilities     by class, in the order of the file's metadata; not for real values
    LABEL_correct           whether both are the same; not for real values
    slice:NAME              what the source says beside the labels
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch, probabilities_key
from tf_image_classification.errors import DataError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation.exchange import Exchange, exchange_rows
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.definitions import LabelRows
from tf_image_classification.system import files

Array = npt.NDArray[Any]
_METADATA = b"tf_image_classification"
_SLICE = "slice:"


@dataclasses.dataclass(frozen=True)
class OfLabel:
    """One label's columns.

    Attributes:
        truth: int64 [n] class numbers, float64 [n] values, or 0 and 1 [n, D]; 0 where unknown.
        known: bool [n].
        predicted: like ``truth``.
        probabilities: float32 [n, D]; [n, 0] of a real value.
    """

    truth: Array
    known: npt.NDArray[np.bool_]
    predicted: Array
    probabilities: Array

    @property
    def seen(self) -> LabelRows:
        """What metrics see, of all examples, also where the truth is not known."""
        return LabelRows(self.truth, self.predicted, self.probabilities)

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Where truth and prediction are the same; of several classes all of them."""
        return self.seen.is_right

    def rows(self, which: Array) -> OfLabel:
        """The same of some examples."""
        return OfLabel(*(getattr(self, f.name)[which] for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Predictions:
    """All rows, in the order of the set.

    Attributes:
        schema: the labels with their class names.
        ids: int64 [n].
        uris: [n].
        labels: by label name.
        step: of the model.
        data: fingerprint of the evaluation set.
        slices: by column name [n] texts, "" where unknown.
    """

    schema: LabelSchema
    ids: npt.NDArray[np.int64]
    uris: Sequence[str]
    labels: Mapping[str, OfLabel]
    step: int
    data: str
    slices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.ids)


class Keeper:
    """Gathers predictions while an evaluation runs.

    Attributes:
        schema: the labels.
    """

    def __init__(self, schema: LabelSchema) -> None:
        self.schema = schema
        self._parts: list[dict[str, Array]] = []

    def __call__(self, batch: Batch, logits: Mapping[str, tf.Tensor]) -> None:
        """Keep the examples of one batch."""
        is_example = batch.ids.numpy() != PADDING_ID
        found = predictions_from(self.schema, logits)
        part = {"ids": batch.ids.numpy()}
        for label in self.schema:
            part[f"truth:{label.name}"] = batch.labels[label.name].numpy()
            part[f"known:{label.name}"] = batch.present[label.name].numpy()
            part[f"predicted:{label.name}"] = found[label.name].numpy()
            if label.has_classes:
                probabilities = found[probabilities_key(label.name)].numpy()
                part[f"probabilities:{label.name}"] = probabilities
        self._parts.append({name: value[is_example] for name, value in part.items()})

    def predictions(
        self,
        *,
        step: int,
        data: str,
        locate: Callable[[int], str],
        exchange: Exchange | None = None,
    ) -> Predictions:
        """All that was kept, of all workers.

        Args:
            step: of the model.
            data: fingerprint of the evaluation set.
            locate: an example's number to its file or record.
            exchange: between workers; None for a process by itself.
        """
        names = self._parts[0] if self._parts else {}
        columns = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        if exchange is not None:
            columns = {n: np.concatenate(exchange_rows(v, exchange)) for n, v in columns.items()}
        order = np.argsort(columns["ids"], kind="stable")
        columns = {name: value[order] for name, value in columns.items()}
        labels = {label.name: _of_label(label, columns) for label in self.schema}
        ids = columns["ids"]
        return Predictions(self.schema, ids, [locate(i) for i in ids.tolist()], labels, step, data)


def _of_label(label: Label, columns: Mapping[str, Array]) -> OfLabel:
    kind = np.float64 if not label.has_classes else np.int64
    known = columns[f"known:{label.name}"].astype(bool)
    nothing = np.zeros([len(known), 0], np.float32)
    return OfLabel(
        columns[f"truth:{label.name}"].astype(kind),
        known,
        columns[f"predicted:{label.name}"].astype(kind),
        columns.get(f"probabilities:{label.name}", nothing).astype(np.float32),
    )


def write_predictions(path: str, predictions: Predictions) -> None:
    """Write the Parquet file."""
    import pyarrow as pa  # late: it takes half a second
    from pyarrow import parquet

    columns: dict[str, Any] = {"id": predictions.ids, "uri": list(predictions.uris)}
    for label in predictions.schema:
        of_label = predictions.labels[label.name]
        columns[label.name] = [
            value if known else None
            for value, known in zip(_names(label, of_label.truth), of_label.known, strict=True)
        ]
        columns[f"{label.name}_predicted"] = _names(label, of_label.predicted)
        if label.has_classes:
            flat = pa.array(of_label.probabilities.ravel(), pa.float32())
            columns[f"{label.name}_probabilities"] = pa.FixedSizeListArray.from_arrays(
                flat, label.depth
            )
            columns[f"{label.name}_correct"] = [
                bool(right) if known else None
                for right, known in zip(of_label.is_right, of_label.known, strict=True)
            ]
    columns |= {_SLICE + name: list(values) for name, values in predictions.slices.items()}
    metadata = {
        "labels": predictions.schema.to_json(),
        "step": predictions.step,
        "data": predictions.data,
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(metadata)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue())


def read_predictions(path: str) -> Predictions:
    """Read such a file.

    Raises:
        DataError: there is none, or it is damaged or another file.
    """
    import pyarrow as pa  # late, as above
    from pyarrow import parquet

    if not files.exists(path):
        raise DataError(f"There is no file {path!r} of predictions. Evaluate the model first.")
    content = files.read_bytes(path)
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).rstrip(".")
        raise DataError(
            f"{path} cannot be read: {reason}. Remove it and evaluate the model again."
        ) from error
    try:
        metadata = json.loads((table.schema.metadata or {})[_METADATA])
    except KeyError as error:
        raise DataError(f"{path} was not written by an evaluation.") from error
    schema = LabelSchema.from_json(metadata["labels"])
    labels = {}
    for label in schema:
        texts = table[label.name].to_pylist()
        known = np.array([text is not None for text in texts], bool)
        nothing = np.zeros([len(texts), 0], np.float32)
        probabilities = (
            table[f"{label.name}_probabilities"].combine_chunks().flatten().to_numpy()
            if label.has_classes
            else nothing
        )
        labels[label.name] = OfLabel(
            _numbers(label, texts),
            known,
            _numbers(label, table[f"{label.name}_predicted"].to_pylist()),
            probabilities.reshape([len(texts), -1]) if len(texts) else nothing,
        )
    slices = {
        name.removeprefix(_SLICE): table[name].to_pylist()
        for name in table.column_names
        if name.startswith(_SLICE)
    }
    return Predictions(
        schema,
        table["id"].to_numpy(),
        table["uri"].to_pylist(),
        labels,
        metadata["step"],
        metadata["data"],
        slices,
    )


def _names(label: Label, values: Array) -> list[Any]:
    """Class names, joined names of several classes, or real values."""
    names = label.named_classes()
    if label.kind == MULTILABEL:
        return [SEPARATOR.join(names[k] for k in np.flatnonzero(row)) for row in values]
    if label.has_classes:
        return [names[k] for k in values.tolist()]
    return [float(value) for value in values]


def _numbers(label: Label, values: Sequence[Any]) -> Array:
    places = {name: k for k, name in enumerate(label.named_classes())}
    if label.kind == MULTILABEL:
        rows = np.zeros([len(values), label.depth], np.int64)
        for row, text in zip(rows, values, strict=True):
            row[[places[name] for name in (text or "").split(SEPARATOR) if name]] = 1
        return rows
    if label.has_classes:
        return np.array([places.get(value, 0) for value in values], np.int64)
    return np.array([0.0 if value is None else value for value in values], np.float64)
