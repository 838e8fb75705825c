"""TFRecord files read in sequence with bounded memory, for sets too large for random access.

Each epoch takes the files in an order of its own and shuffles the examples within blocks. Both
follow from the seed, the epoch and the block, so a run continues exactly, by skipping to its block.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset import examples, tfrecord
from tf_image_classification.dataset.order import Order, permuted
from tf_image_classification.dataset.sources import SourceOptions, source_kind
from tf_image_classification.errors import DataError
from tf_image_classification.labels import Label, LabelSchema

_PARSE_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Stream:
    """The examples of TFRecord files, in sequence.

    Attributes:
        num_examples: exact number of examples.
        locate: what to call an example in a message.
        fingerprint: hexadecimal digest of the content.
        block: examples that are held and shuffled together.
        paths: the files.
        compressions: how each file is compressed.
        counts: examples in each file.
        features: where the parts of an example lie.
        schema: the labels, class labels with their vocabularies.
    """

    num_examples: int
    locate: Callable[[int], str]
    fingerprint: str
    block: int
    paths: tuple[str, ...]
    compressions: tuple[str, ...]
    counts: tuple[int, ...]
    features: examples.Features
    schema: LabelSchema

    def examples(self, start: int, seed: int | None) -> tf.data.Dataset:
        """Endless examples from a position on.

        Args:
            start: examples seen before, over all epochs.
            seed: decides the order; None keeps the order of the files.

        Returns:
            Dataset of (number, encoded image, labels, present), as the fields of ``Encoded``.
        """
        stream = self._serialized(start, seed)
        return stream.batch(_PARSE_AT_ONCE).map(self._parse).unbatch()

    def check_labels(self, start: int, seed: int | None, count: int) -> None:
        """Check the labels of some examples one by one; runs eagerly, after a failure.

        Raises:
            DataError: a record is unreadable or a label is wrong; names file and record.
        """
        # Records are parsed together, so one behind the wanted ones can make them fail.
        wanted = self._serialized(start, seed).take(count + _PARSE_AT_ONCE)
        taken = list(wanted.as_numpy_iterator())
        numbers = [int(number) for number, _ in taken]

        def locate(i: int) -> str:
            return self.locate(numbers[i])

        raw = examples.read_labels((data for _, data in taken), self.features, locate)
        for label in self.schema:
            examples.encode(label, raw[label.name], locate)

    def _serialized(self, start: int, seed: int | None) -> tf.data.Dataset:
        """Endless (number, serialized) from a position on."""
        first_epoch, offset = divmod(start, self.num_examples)
        first_block = offset // self.block
        skipped = tf.constant(first_block * self.block, tf.int64)

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            is_first = epoch == first_epoch
            records = self._records(
                epoch, tf.where(is_first, skipped, tf.zeros_like(skipped)), seed
            )
            blocks = records.batch(self.block).enumerate(
                tf.where(is_first, tf.constant(first_block, tf.int64), 0)
            )
            return blocks.map(lambda number, block: _shuffled(block, epoch, number, seed)).unbatch()

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        return epochs.flat_map(epoch_records).skip(offset - first_block * self.block)

    def _records(self, epoch: tf.Tensor, skipped: tf.Tensor, seed: int | None) -> tf.data.Dataset:
        """(number, serialized) of one epoch's records after the skipped ones."""
        files = Order(len(self.paths), seed or 0, seed is not None)
        positions = tf.range(len(self.paths), dtype=tf.int64)
        order = files.numbers(epoch * len(self.paths) + positions)
        counts = tf.constant(self.counts, tf.int64)
        ends = tf.cumsum(tf.gather(counts, order))
        first_numbers = tf.constant([0, *itertools.accumulate(self.counts)][:-1], tf.int64)
        paths = tf.constant(self.paths)
        compressions = tf.constant(self.compressions)

        def file_records(position: tf.Tensor) -> tf.data.Dataset:
            file = order[position]
            before = ends[position] - counts[file]
            inside = tf.clip_by_value(skipped - before, 0, counts[file])
            records = tf.data.TFRecordDataset(paths[file], compression_type=compressions[file])
            return records.skip(inside).enumerate(first_numbers[file] + inside)

        first_file = tf.searchsorted(ends, [skipped], side="right", out_type=tf.int64)[0]
        remaining = tf.data.Dataset.range(first_file, len(self.paths))
        return remaining.flat_map(file_records)

    def _parse(self, numbers: tf.Tensor, serialized: tf.Tensor) -> tuple[Any, ...]:
        images, raw = self.features.parse(serialized)
        labels, present = {}, {}
        for label in self.schema:
            labels[label.name], present[label.name] = _encode(label, raw[label.name])
        return numbers, images, labels, present


def _shuffled(
    block: tuple[tf.Tensor, tf.Tensor], epoch: tf.Tensor, number: tf.Tensor, seed: int | None
) -> tuple[tf.Tensor, tf.Tensor]:
    if seed is None:
        return block
    count = tf.size(block[0], out_type=tf.int64)
    # The second seed tells a block's permutation from an epoch's, whose second seed is 0.
    seeds = tf.stack([tf.constant(seed, tf.int64), number + 1, epoch])
    order = permuted(tf.range(count), count, tf.cast(seeds, tf.uint32))
    return tf.gather(block[0], order), tf.gather(block[1], order)


def _encode(label: Label, raw: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """A label's numbers [n] and whether they are present [n], from its ragged raw values."""
    one_value = tf.debugging.assert_less(
        raw.row_lengths(),
        tf.constant(2, raw.row_splits.dtype),
        f"Label {label.name!r} has several values.",
    )
    with tf.control_dependencies([one_value]):
        lengths = raw.row_lengths()
    if raw.dtype == tf.string:
        texts = raw[:, :1].to_tensor(default_value="", shape=[None, 1])[:, 0]
        missing = tf.constant(sorted(label.missing_texts))
        present = (lengths > 0) & tf.reduce_all(texts[:, None] != missing, axis=1)
        if not label.is_class:
            values = tf.strings.to_number(tf.where(present, texts, "0"), tf.float32)
            return _finite(label, values, present)
        names = label.named_classes()
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(names), tf.range(len(names), dtype=tf.int64)
            ),
            default_value=-1,
        )
        values = tf.where(present, table.lookup(texts), 0)
    else:
        numbers = raw[:, :1].to_tensor(default_value=0, shape=[None, 1])[:, 0]
        present = (lengths > 0) & ~examples.is_marker(label, numbers)
        numbers = tf.where(present, numbers, tf.zeros_like(numbers))
        if not label.is_class:
            return _finite(label, tf.cast(numbers, tf.float32), present)
        values = tf.cast(numbers, tf.int64)
        tf.debugging.assert_equal(
            tf.cast(values, tf.float64),
            tf.cast(numbers, tf.float64),
            f"Label {label.name!r} is not a whole number.",
        )
    in_range = (values >= 0) & (values < label.depth)
    with tf.control_dependencies(
        [
            tf.debugging.Assert(
                tf.reduce_all(in_range),
                [f"Label {label.name!r} is not one of its {label.depth} classes.", values],
            )
        ]
    ):
        return tf.identity(values), present


def _finite(label: Label, values: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Real values, checked and without the marker."""
    present &= ~examples.is_marker(label, values)
    values = tf.where(present, values, tf.zeros_like(values))
    check = tf.debugging.Assert(
        tf.reduce_all(tf.math.is_finite(values)),
        [f"Label {label.name!r} is not a finite number.", values],
    )
    with tf.control_dependencies([check]):
        return tf.identity(values), present


def read_stream(
    patterns: Sequence[str],
    schema: LabelSchema,
    options: SourceOptions,
    *,
    block: int,
    vocabularies: Mapping[str, Sequence[str]],
) -> Stream:
    """A stream over TFRecord files; reads each file once to count its examples exactly.

    Args:
        patterns: paths or patterns of TFRecord files.
        schema: the labels to read.
        options: how to read.
        block: examples that are held and shuffled together.
        vocabularies: class names by label, needed where records hold them as text.

    Raises:
        DataError: the source is not TFRecord files, or a text label has no vocabulary.
    """
    kind, paths = source_kind(patterns, options.option)
    if kind != "tfrecord":
        raise DataError(
            f"input_mode streaming reads TFRecord files, but {options.option} names a {kind}. "
            "Use input_mode indexed, which holds only paths and labels in memory."
        )
    compressions = tuple(tfrecord.compression(path) for path in paths)
    counted = [tfrecord.count_records(path, options.cache_dir) for path in paths]
    counts = tuple(count for count, _ in counted)
    if not sum(counts):
        raise DataError(f"{options.option}: {', '.join(paths)} hold no records.")
    features = examples.find_features(
        _some_records(paths, compressions),
        schema,
        path=paths[0],
        image_feature=options.image_feature,
        label_features=options.label_features,
    )
    starts = np.cumsum([0, *counts])

    def locate(number: int) -> str:
        file = int(np.searchsorted(starts, number, side="right")) - 1
        return f"{paths[file]} record {number - starts[file]}"

    fixed = {}
    for label in schema.class_labels:
        if label.name in vocabularies:
            fixed[label.name] = vocabularies[label.name]
        elif features.dtypes[label.name] == tf.string:
            raise DataError(
                f"Label {label.name!r} is text in the records; streaming needs its class names "
                "beforehand. Give them, a line each, in a file with --labels."
            )
        else:
            fixed[label.name] = tuple(str(i) for i in range(label.depth))
    fingerprint = features.fingerprint(f for _, f in counted)
    return Stream(
        num_examples=sum(counts),
        locate=locate,
        fingerprint=fingerprint,
        block=block,
        paths=tuple(paths),
        compressions=compressions,
        counts=counts,
        features=features,
        schema=schema.with_vocabularies(fixed),
    )


def _some_records(paths: Sequence[str], compressions: Sequence[str]) -> Iterator[bytes]:
    for path, kind in zip(paths, compressions, strict=True):
        with tfrecord.open_plain(path, kind) as stream:
            for _, data, _ in tfrecord.scan_records(stream, path):
                yield data
