"""The ``input_fn`` of the base class ``EstimatorSpec``: batches of a source without a run."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.dataset.pipeline.example_readers import IndexedReader
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.pipeline import Pipeline, masked
from tf_image_classification.dataset.pipeline.protocols import Preproc
from tf_image_classification.dataset.readers import source_kind
from tf_image_classification.dataset.table import SourceOptions, Table, read_table
from tf_image_classification.errors import DataError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.system.autograph import unconverted


def default_input_fn(
    patterns: Sequence[str],
    schema: LabelSchema,
    *,
    batch_size: int,
    is_tfrecord: bool,
    epochs: int | None,
    image_size: int,
    preproc: Preproc,
) -> Callable[[], tf.data.Dataset]:
    """The function that ``EstimatorSpec.input_fn`` returns; class names are those of the source.

    Raises:
        DataError: the source contradicts ``is_tfrecord`` or is unusable, or labels are missing and
            no number is declared for missing ones.
    """
    kind = source_kind(patterns, "metadata")
    if is_tfrecord != (kind == "tfrecord"):
        raise DataError(f"is_tfrecord is {is_tfrecord}, but {', '.join(patterns)} is a {kind}.")
    cache_dir = tempfile.mkdtemp(prefix="tfic-")
    # Not with the function: batches may be read as long as the process lives.
    atexit.register(shutil.rmtree, cache_dir, ignore_errors=True)
    raw = read_table(patterns, schema, SourceOptions(option="metadata", cache_dir=cache_dir))
    vocabularies = {
        label.name: label.class_names or raw.vocabulary(label)
        for label in schema.labels_with_classes
    }
    table = raw.encode(schema.with_vocabularies(vocabularies))
    markers = {label.name: _marker(label, table, patterns) for label in schema}
    preprocessor = ImagePreprocessor(
        preproc=preproc, image_size=image_size, max_image_pixels=DEFAULT_MAX_PIXELS
    )
    pipeline = Pipeline(
        reader=IndexedReader(table), preprocessor=preprocessor, batch_size=batch_size
    )

    def marked(batch: Batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        labels = {
            name: masked(values, batch.mask[name], markers[name])
            for name, values in batch.labels.items()
        }
        return batch.images, labels

    def input_fn() -> tf.data.Dataset:
        batches = pipeline.training_batches(0)
        if epochs is None:
            return batches.map(unconverted(marked))
        total = raw.num_examples * epochs

        def without_rest(number: tf.Tensor, batch: Batch) -> Any:
            rows = tf.minimum(total - number * batch_size, batch_size)
            return tf.nest.map_structure(lambda part: part[:rows], marked(batch))

        return (
            batches.take(math.ceil(total / batch_size)).enumerate().map(unconverted(without_rest))
        )

    return input_fn


def _marker(label: Label, table: Table, patterns: Sequence[str]) -> float:
    """The number of a missing label in the batches of an ``input_fn``; 0 if none is missing."""
    if table.columns[label.name].mask.all():
        return 0.0
    marker = label.missing_number
    if marker is None or (label.has_classes and not marker.is_integer()):
        raise DataError(
            f"{', '.join(patterns)}: label {label.name!r} is missing in some examples. Batches of "
            f"an input_fn mark these with a number; declare it: Label({label.name!r}, ..., "
            "missing=-1)."
        )
    return marker
