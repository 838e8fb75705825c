"""The stored predictions of an evaluation, from which everything else is computed.

A Parquet file with one row per example and the columns

    id                      index in the evaluation set
    uri                     file, or file and record
    LABEL                   the true class name or value; null where unknown
    LABEL_predicted         the predicted class name or value
    LABEL_probabilities     per class, in the order of the file's metadata; not for regression
    LABEL_correct           whether both are equal; not for regression
    slice:NAME              a column of the source beside the labels
    found_group             the video or burst of the example, where some were found; "" for none
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

from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.errors import ConfigError, DataError, did_you_mean
from tf_image_classification.evaluation.exchange import Exchange, exchange_rows
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.outputs import probabilities_key
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.definitions import LabelRows
from tf_image_classification.system import files

Array = npt.NDArray[Any]
_METADATA = b"tf_image_classification"
_SLICE = "slice:"
_FOUND_GROUP = "found_group"


@dataclasses.dataclass(frozen=True)
class LabelPredictions(LabelRows):
    """The stored truth and predictions of one label.

    ``truth`` is 0 where it is unknown; ``probabilities`` are float32.

    Attributes:
        mask: bool [n], True for labelled examples.
    """

    mask: npt.NDArray[np.bool_]

    def rows(self, which: Array) -> LabelPredictions:
        """Those of some examples, by mask or indices."""
        return LabelPredictions(*(getattr(self, f.name)[which] for f in dataclasses.fields(self)))

    def labelled(self) -> LabelPredictions:
        """Those of the labelled examples."""
        return self.rows(self.mask)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of an evaluation, in the order of the set.

    Attributes:
        schema: the labels with their class names.
        ids: int64 [n], the examples' indices in the evaluation set.
        uris: [n].
        labels: by label name.
        step: of the model.
        data: fingerprint of the evaluation set.
        slices: by column name [n] texts, "" where unknown.
        found_groups: [n], the video or burst of each example, "" for none; () if none was found.
        num_folds: number of models of a cross-validation that share the examples; 0: one model.
    """

    schema: LabelSchema
    ids: npt.NDArray[np.int64]
    uris: Sequence[str]
    labels: Mapping[str, LabelPredictions]
    step: int
    data: str
    slices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    found_groups: Sequence[str] = ()
    num_folds: int = 0

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.ids)

    def groups(self, column: str) -> Array | None:
        """The values [n] of a column beside the labels; for "" the groups found, None without any.

        An example in no group is a group of its own.

        Raises:
            ConfigError: there is no such column.
        """
        if not column:
            names = zip(self.found_groups, self.ids.tolist(), strict=False)
            found = [name or f"example {i}" for name, i in names]
            return np.asarray(found, object).astype(str) if found else None
        if column not in self.slices:
            raise ConfigError(
                f"group_column: {column!r} is a label of the model; expected a column beside the "
                "labels."
                if column in self.schema.names
                else f"The evaluation set has no column {column!r}. "
                f"{did_you_mean(column, self.slices)}"
            )
        return np.asarray(self.slices[column], object).astype(str)


class PredictionStore:
    """Stores the predictions of this process while an evaluation runs.

    Attributes:
        schema: the labels.
        num_stored: numbers that are stored.
    """

    def __init__(self, schema: LabelSchema) -> None:
        self.schema = schema
        self.num_stored = 0
        self._parts: list[dict[str, Array]] = []

    def add(self, batch: Batch, predictions: Mapping[str, tf.Tensor]) -> int:
        """Store the examples of one batch; returns their number.

        Args:
            batch: the batch; placeholder rows are left out.
            predictions: as ``estimator_specs.predictions_from``.
        """
        ids = batch.ids.numpy()
        is_example = ids != PADDING_ID
        part = {"ids": ids}
        for label in self.schema:
            name = label.name
            part[f"truth:{name}"] = batch.labels[name].numpy()
            part[f"mask:{name}"] = batch.mask[name].numpy()
            part[f"predicted:{name}"] = predictions[name].numpy()
            if label.has_classes:
                key = probabilities_key(name)
                part[f"probabilities:{name}"] = predictions[key].numpy()
        part = {name: value[is_example] for name, value in part.items()}
        self._parts.append(part)
        self.num_stored += sum(value.size for value in part.values())
        return len(part["ids"])

    def labelled(self, label: Label) -> LabelRows:
        """The labelled examples of this process."""
        return _of_label(label, self._columns()).labelled()

    def labelled_ids(self, name: str) -> npt.NDArray[np.int64]:
        """The indices in the evaluation set of the examples in ``labelled``."""
        columns = self._columns()
        return np.asarray(columns["ids"][columns[f"mask:{name}"]], np.int64)

    def predictions(
        self,
        *,
        step: int,
        data: str,
        locate: Callable[[int], str],
        exchange: Exchange | None = None,
    ) -> Predictions:
        """The stored predictions of all workers.

        Args:
            step: of the model.
            data: fingerprint of the evaluation set.
            locate: an example's index to its file or record.
            exchange: between workers; None for a single process.
        """
        columns = self._columns()
        if exchange is not None:
            columns = {n: np.concatenate(exchange_rows(v, exchange)) for n, v in columns.items()}
        order = np.argsort(columns["ids"], kind="stable")
        columns = {name: value[order] for name, value in columns.items()}
        labels = {label.name: _of_label(label, columns) for label in self.schema}
        ids = columns["ids"]
        return Predictions(self.schema, ids, [locate(i) for i in ids.tolist()], labels, step, data)

    def _columns(self) -> dict[str, Array]:
        """The stored arrays, joined to one part."""
        if len(self._parts) > 1:
            self._parts = [
                {name: np.concatenate([part[name] for part in self._parts]) for name in part}
                for part in self._parts[:1]
            ]
        return self._parts[0]


def _of_label(label: Label, columns: Mapping[str, Array]) -> LabelPredictions:
    kind = np.int64 if label.has_classes else np.float64
    truth, mask = columns[f"truth:{label.name}"].astype(kind), columns[f"mask:{label.name}"]
    probabilities = columns.get(f"probabilities:{label.name}", np.zeros([len(truth), 0]))
    return LabelPredictions(
        truth=truth,
        predicted=columns[f"predicted:{label.name}"].astype(kind),
        probabilities=probabilities.astype(np.float32),
        mask=mask.astype(bool),
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
            for value, known in zip(_names(label, of_label.truth), of_label.mask, strict=True)
        ]
        columns[f"{label.name}_predicted"] = _names(label, of_label.predicted)
        if label.has_classes:
            flat = pa.array(of_label.probabilities.ravel(), pa.float32())
            columns[f"{label.name}_probabilities"] = pa.FixedSizeListArray.from_arrays(
                flat, label.depth
            )
            columns[f"{label.name}_correct"] = [
                bool(right) if known else None
                for right, known in zip(of_label.is_right, of_label.mask, strict=True)
            ]
    columns |= {_SLICE + name: list(values) for name, values in predictions.slices.items()}
    if predictions.found_groups:
        columns[_FOUND_GROUP] = list(predictions.found_groups)
    metadata = {
        "labels": predictions.schema.to_json(),
        "step": predictions.step,
        "data": predictions.data,
        "num_folds": predictions.num_folds,
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(metadata)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue())


def read_predictions(path: str) -> Predictions:
    """The predictions in such a file.

    Raises:
        DataError: the file does not exist, is damaged, or is no file of predictions.
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
        probabilities = np.zeros([len(texts), label.depth if label.has_classes else 0], np.float32)
        if label.has_classes and len(texts):
            flat = table[f"{label.name}_probabilities"].combine_chunks().flatten().to_numpy()
            probabilities = flat.reshape(probabilities.shape)
        labels[label.name] = LabelPredictions(
            truth=_numbers(label, texts),
            predicted=_numbers(label, table[f"{label.name}_predicted"].to_pylist()),
            probabilities=probabilities,
            mask=np.array([text is not None for text in texts], bool),
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
        table[_FOUND_GROUP].to_pylist() if _FOUND_GROUP in table.column_names else (),
        metadata.get("num_folds", 0),  # files of earlier versions have none
    )


def is_of_evaluation(path: str) -> bool:
    """Whether a Parquet file holds stored predictions; True also for one that cannot be read."""
    import pyarrow as pa  # late, as above
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(io.BytesIO(files.read_bytes(path)))
    except (pa.ArrowException, OSError):
        return True
    return _METADATA in (schema.metadata or {})


def _names(label: Label, values: Array) -> list[Any]:
    """Class names, for multilabel joined ones, or real values."""
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
