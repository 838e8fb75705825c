"""Batches of a spec's own ``input_fn``, checked and padded."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.dataset.examples import is_marker
from tf_image_classification.dataset.pipeline.bad_images import BadImage
from tf_image_classification.dataset.pipeline.layout import WHOLE, Shard
from tf_image_classification.dataset.pipeline.pipeline import masked
from tf_image_classification.errors import DataError, SpecError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.system.autograph import unconverted


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserInput:
    """The batches of a spec's own ``input_fn``; a ``BatchSource``.

    Resuming skips the batches that were seen, which is exact when the function gives the same
    batches each time.

    Attributes:
        make: returns a dataset of (images, labels), labels a tensor or a dictionary by name.
        schema: the labels.
        batch_size: rows of a batch; smaller ones are padded.
        source_names: the user's names of the examples, for the run manifest.
    """

    make: Callable[[], tf.data.Dataset]
    schema: LabelSchema
    batch_size: int
    source_names: tuple[str, ...]

    num_examples = table = as_pipeline = on_device = None  # as of ``BatchSource``

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of ``source_names``: the examples themselves are unknown."""
        return hashlib.sha256("\0".join(self.source_names).encode()).hexdigest()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images.

        Raises:
            SpecError: the batches are not images and labels of known shape.
        """
        spec = self.make().element_spec
        if not isinstance(spec, tuple) or len(spec) != 2:
            raise SpecError(f"input_fn yields {spec}, expected (images, labels).")
        if not isinstance(spec[0], tf.TensorSpec):
            raise SpecError(f"input_fn yields {spec[0]} as images, expected one tensor.")
        shape = spec[0].shape
        if shape.rank != 4 or not shape[1:].is_fully_defined():
            raise SpecError(f"input_fn yields images of shape {shape}, expected [batch, H, W, C].")
        return int(shape[1]), int(shape[2]), int(shape[3])

    def locate(self, number: int) -> str:
        """A name for an example in a message: its number."""
        return f"example {number}"

    def training_batches(
        self, start: int, *, excluded: Collection[int] = (), shard: Shard = WHOLE
    ) -> tf.data.Dataset:
        """Endless batches; as ``BatchSource.training_batches``."""
        return self._batches(self.make().repeat(), start // self.batch_size, shard)

    def num_evaluation_batches(self, max_batches: int = 0) -> None:
        """None: only the user's function knows."""

    def evaluation_batches(
        self,
        *,
        first_batch: int = 0,
        max_batches: int = 0,
        excluded: Collection[int] = (),
        shard: Shard = WHOLE,
    ) -> tf.data.Dataset:
        """One pass; as ``BatchSource.evaluation_batches``."""
        batches = self.make().take(max_batches) if max_batches else self.make()
        return self._batches(batches, first_batch, shard)

    def find_bad_images(self, start: int, *, training: bool) -> list[BadImage]:
        """An empty list: the user's function handles bad images.

        Raises:
            DataError: the function fails to give the batch; names the reason.
        """
        if training:
            batches = self.training_batches(start)
        else:
            batches = self.evaluation_batches(first_batch=start // self.batch_size)
        try:
            next(iter(batches), None)
        except tf.errors.OpError as error:
            reason = error.message.partition("\n")[0]
            raise DataError(f"{self.names_at(start)[0]}: {reason}") from error
        return []

    def names_at(self, start: int) -> list[str]:
        """A name for the batch that begins at a global example index."""
        return [f"batch {start // self.batch_size} of the spec's own input_fn"]

    def _batches(self, batches: tf.data.Dataset, skipped: int, shard: Shard) -> tf.data.Dataset:
        rows, size = shard.rows(self.batch_size), shard.slice_size(self.batch_size)
        padded = batches.skip(skipped).enumerate(skipped).map(unconverted(self._padded))

        def own_slices(batch: Batch) -> tf.data.Dataset:
            slices = tf.nest.map_structure(
                lambda t: tf.reshape(t[rows.start : rows.stop], [-1, size, *t.shape[1:]]), batch
            )
            return tf.data.Dataset.from_tensor_slices(slices)

        return padded.flat_map(unconverted(own_slices)).prefetch(tf.data.AUTOTUNE)

    def _padded(self, number: tf.Tensor, batch: tuple[Any, Any]) -> Batch:
        images, given = batch
        if not isinstance(given, Mapping):
            given = {self.schema.names[0]: given}
        num_rows = tf.shape(images)[0]
        fits = tf.debugging.assert_less_equal(
            num_rows, self.batch_size, "input_fn yields more rows than the batch_size it is given."
        )
        with tf.control_dependencies([fits]):
            is_row = tf.range(self.batch_size) < num_rows
        labels, mask = {}, {}
        for label in self.schema:
            if label.name not in given:
                raise SpecError(f"input_fn yields no label {label.name!r}, only {sorted(given)}.")
            values, known = _values(label, tf.convert_to_tensor(given[label.name]))
            labels[label.name] = self._pad(values, num_rows)
            mask[label.name] = self._pad(known, num_rows) & is_row
        first = tf.cast(number, tf.int64) * self.batch_size
        ids = first + tf.range(self.batch_size, dtype=tf.int64)
        ids = tf.where(is_row, ids, tf.constant(PADDING_ID, tf.int64))
        return Batch(self._pad(images, num_rows), labels, mask, ids)

    def _pad(self, value: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
        missing = [[0, self.batch_size - num_rows]] + [[0, 0]] * (value.shape.rank - 1)
        return tf.ensure_shape(tf.pad(value, missing), [self.batch_size, *value.shape[1:]])


def _values(label: Label, given: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A label's numbers as in ``Batch.labels``, and the mask [B] of rows that have it."""
    if label.one_hot_rows and given.shape.rank == 2 and given.shape[1] == label.depth:
        return _numbers_of_rows(label, given)
    return _checked(label, _column(label, given))


def _numbers_of_rows(label: Label, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Class numbers of one-hot rows [B, depth], and the mask, False for a row of zeros."""
    is_one = rows == tf.ones([], rows.dtype)
    is_valid = tf.reduce_all(is_one | (rows == tf.zeros([], rows.dtype)))
    count = tf.reduce_sum(tf.cast(is_one, tf.int32), axis=1)
    check = tf.debugging.Assert(
        is_valid & tf.reduce_all(count <= 1),
        [f"input_fn yields label {label.name!r}, of which one-hot rows are expected, as", rows],
        summarize=-1,
    )
    with tf.control_dependencies([check]):
        return tf.argmax(tf.cast(is_one, tf.int32), axis=1), count == 1


def _column(label: Label, values: tf.Tensor) -> tf.Tensor:
    """A label's numbers [B, ...], from a tensor of that shape or [B, 1].

    Raises:
        SpecError: the tensor has several numbers per example, e.g. one-hot rows, or holds texts.
    """
    if label.value_shape and values.shape.rank == 2 and values.shape[1] == label.depth:
        return values
    is_wide = bool(label.value_shape) or (
        values.shape.rank is not None and any(size != 1 for size in values.shape[1:])
    )
    if is_wide or not (values.dtype.is_integer or values.dtype.is_floating):
        wanted = "class numbers" if label.is_class else "numbers"
        wanted_shape = ", ".join(map(str, ("batch", *label.value_shape)))
        raise SpecError(
            f"input_fn yields label {label.name!r} as {values.dtype.name} {values.shape}, expected "
            f"{wanted} of shape [{wanted_shape}]."
        )
    return tf.reshape(values, [-1])


def _checked(label: Label, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A label's numbers in their dtype, checked, and the mask without the marker for missing."""
    mask = ~is_marker(label, values)
    if label.value_shape:  # missing where the whole row is the marker
        mask = tf.reduce_any(mask, axis=1)
    values = masked(values, mask, 0)
    if label.value_shape:
        numbers = tf.cast(values, tf.float32)
        is_valid = (numbers == 0.0) | (numbers == 1.0)
        expected = "0 and 1 for each class"
    elif label.is_class:
        numbers = tf.cast(values, tf.int64)
        is_valid = (numbers >= 0) & (numbers < label.depth)
        is_valid &= tf.cast(numbers, values.dtype) == values
        expected = f"whole numbers from 0 to {label.depth - 1}"
    else:
        numbers = tf.cast(values, tf.float32)
        is_valid = tf.math.is_finite(numbers)
        expected = "finite numbers"
    check = tf.debugging.Assert(
        tf.reduce_all(is_valid),
        [f"input_fn yields label {label.name!r}, of which {expected} are expected, as", values],
        summarize=-1,
    )
    with tf.control_dependencies([check]):
        return tf.identity(numbers), mask
