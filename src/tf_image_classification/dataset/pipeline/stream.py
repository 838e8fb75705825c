"""TFRecord files read in sequence with bounded memory, for sets too large for random access.

An epoch takes the files in an order of its own. Its examples are divided among **lanes**, which
read their own part of the files, shuffle it within blocks and give the same rows of every batch.
How many lanes there are follows from the data and the batch size, never from the workers: these
share out the lanes, so each reads its own part of the bytes and all see the same batches.
Everything follows from the seed, the epoch and the block, so a run continues exactly, by skipping
to its blocks.
"""

from __future__ import annotations

import dataclasses
import itertools
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset import examples, tfrecord
from tf_image_classification.dataset.pipeline.sampler import EpochSampler, permuted
from tf_image_classification.dataset.readers import find_source
from tf_image_classification.dataset.readers.names import TRAIN, part_role
from tf_image_classification.dataset.readers.record_files import check_images, columns_of
from tf_image_classification.dataset.table import SourceOptions
from tf_image_classification.errors import DataError
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema, encode

_FILES_A_LANE = 4
_MOST_LANES = 64


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Which positions belong to which lane: consecutive rows of every batch.

    A lane starts in the middle of a file and has to skip to its part of it, so there are some files
    for each.

    Attributes:
        num_examples: examples in an epoch.
        batch_size: examples in a global batch.
        num_files: files that the examples lie in.
    """

    num_examples: int
    batch_size: int
    num_files: int

    @property
    def count(self) -> int:
        """Number of lanes, a divisor of the batch size."""
        most = max(1, min(_MOST_LANES, self.num_files // _FILES_A_LANE))
        return next(count for count in range(most, 0, -1) if self.batch_size % count == 0)

    @property
    def width(self) -> int:
        """Rows of a batch that a lane gives."""
        return self.batch_size // self.count

    def before(self, position: Any) -> tf.Tensor:
        """Examples that each lane has given before a position: int64 [count]."""
        position = tf.convert_to_tensor(position, tf.int64)
        lanes = tf.range(self.count, dtype=tf.int64)
        of_this_batch = position % self.batch_size - lanes * self.width
        whole_batches = position // self.batch_size
        return whole_batches * self.width + tf.clip_by_value(of_this_batch, 0, self.width)

    def part(self, epoch: tf.Tensor, lane: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Where a lane's examples of an epoch begin and end among all examples of the epoch."""
        start = epoch * self.num_examples
        counts = self.before(start + self.num_examples) - self.before(start)
        ends = tf.cumsum(counts)
        return ends[lane] - counts[lane], ends[lane]


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

    def batches(
        self, start: int, seed: int | None, batch_size: int, rows: range
    ) -> tf.data.Dataset:
        """Endless parts of global batches from a position on.

        Args:
            start: examples seen before, over all epochs; a multiple of the batch size.
            seed: decides the order; None keeps the order of the files within each lane.
            batch_size: examples in a global batch.
            rows: the rows of each batch that are wanted; other lanes' files are not read.

        Returns:
            Dataset of (numbers, encoded images, labels, present), as the fields of ``Encoded``,
            each with a part's rows.
        """
        return self._serialized(start, seed, batch_size, rows).map(self._parse)

    def first_images(self, count: int) -> tf.Tensor:
        """Encoded images of the first records, string, at most so many; runs eagerly."""
        file = np.flatnonzero(self.counts)[0]
        records = tf.data.TFRecordDataset(self.paths[file], self.compressions[file])
        return self.features.parse(next(iter(records.batch(count))))[0]

    def check_labels(self, start: int, seed: int | None, batch_size: int) -> None:
        """Check the labels of the batch at a position one by one; runs eagerly, after a failure.

        Raises:
            DataError: a record is unreadable or a label is wrong; names file and record.
        """
        whole = self._serialized(start, seed, batch_size, range(batch_size))
        numbers, serialized = next(whole.as_numpy_iterator())

        def locate(i: int) -> str:
            return self.locate(int(numbers[i]))

        features = [examples.features_of(data, locate(i)) for i, data in enumerate(serialized)]
        check_images(features, self.features.image, locate)
        columns = [columns_of(of_record, self.features.image) for of_record in features]
        for label in self.schema:
            feature = self.features.labels[label.name]
            encode(label, [of_record.get(feature, "") for of_record in columns], locate)

    def _serialized(
        self, start: int, seed: int | None, batch_size: int, rows: range
    ) -> tf.data.Dataset:
        """Endless (numbers, serialized) of some rows of each batch from a position on."""
        lanes = Lanes(self.num_examples, batch_size, len(self.paths))
        width = lanes.width
        parts = []
        for lane in range(rows.start // width, (rows.stop - 1) // width + 1):
            first = max(rows.start - lane * width, 0)
            last = min(rows.stop - lane * width, width)
            whole = self._lane(lane, lanes, start, seed).batch(width)
            part = whole.map(lambda n, s, first=first, last=last: (n[first:last], s[first:last]))
            parts.append(part.prefetch(1))
        return tf.data.Dataset.zip(tuple(parts)).map(_joined)

    def _lane(self, lane: int, lanes: Lanes, start: int, seed: int | None) -> tf.data.Dataset:
        """Endless (number, serialized) of a lane from a position on."""
        block = max(1, self.block // lanes.count)
        first_epoch = (start + lane * lanes.width) // self.num_examples
        offset = (lanes.before(start) - lanes.before(first_epoch * self.num_examples))[lane]
        first_block = offset // block

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            done = tf.where(epoch == first_epoch, first_block, 0)
            begin, end = lanes.part(epoch, lane)
            records = self._records(epoch, begin + done * block, end, seed)
            blocks = records.batch(block).enumerate(done)
            return blocks.map(
                lambda number, records: _shuffled(records, epoch, number * lanes.count + lane, seed)
            ).unbatch()

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        return epochs.flat_map(epoch_records).skip(offset % block)

    def _records(
        self, epoch: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, seed: int | None
    ) -> tf.data.Dataset:
        """(number, serialized) of some of an epoch's records, in the epoch's order of files."""
        files = EpochSampler(len(self.paths), seed or 0, seed is not None)
        positions = tf.range(len(self.paths), dtype=tf.int64)
        order = files.example_numbers(epoch * len(self.paths) + positions)
        counts = tf.constant(self.counts, tf.int64)
        ends = tf.cumsum(tf.gather(counts, order))
        first_numbers = tf.constant([0, *itertools.accumulate(self.counts)][:-1], tf.int64)
        paths = tf.constant(self.paths)
        compressions = tf.constant(self.compressions)

        def file_records(position: tf.Tensor) -> tf.data.Dataset:
            file = order[position]
            before = ends[position] - counts[file]
            inside = tf.clip_by_value(begin - before, 0, counts[file])
            records = tf.data.TFRecordDataset(paths[file], compression_type=compressions[file])
            return records.skip(inside).enumerate(first_numbers[file] + inside)

        first_file = tf.searchsorted(ends, [begin], side="right", out_type=tf.int64)[0]
        remaining = tf.data.Dataset.range(first_file, len(self.paths))
        return remaining.flat_map(file_records).take(end - begin)

    def _parse(self, numbers: tf.Tensor, serialized: tf.Tensor) -> tuple[Any, ...]:
        images, raw = self.features.parse(serialized)
        labels, present = {}, {}
        for label in self.schema:
            labels[label.name], present[label.name] = _encode(label, raw[label.name])
        return numbers, images, labels, present


def _joined(*parts: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    numbers, serialized = zip(*parts, strict=True)
    return tf.concat(numbers, 0), tf.concat(serialized, 0)


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
    """A label's values [n, ...] and whether they are present [n], from its ragged raw values."""
    if label.value_shape:
        return _encode_several(label, raw)
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
        if not label.has_classes:
            values = tf.strings.to_number(tf.where(present, texts, "0"), tf.float32)
            return _finite(label, values, present)
        values = tf.where(present, _class_numbers(label).lookup(tf.strings.strip(texts)), 0)
    else:
        numbers = raw[:, :1].to_tensor(default_value=0, shape=[None, 1])[:, 0]
        present = (lengths > 0) & ~examples.is_marker(label, numbers)
        numbers = tf.where(present, numbers, tf.zeros_like(numbers))
        if not label.has_classes:
            return _finite(label, tf.cast(numbers, tf.float32), present)
        values = tf.cast(numbers, tf.int64)
        tf.debugging.assert_equal(
            tf.cast(values, tf.float64),
            tf.cast(numbers, tf.float64),
            f"Label {label.name!r} is not a whole number.",
        )
        if label.are_collected:  # the classes are called by their numbers
            found = _class_numbers(label).lookup(tf.strings.as_string(values))
            values = tf.where(present, found, 0)
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


def _class_numbers(label: Label) -> tf.lookup.StaticHashTable:
    """Class names to int64 numbers; -1 for what is none."""
    numbers = {name: i for i, name in enumerate(label.named_classes())}
    # A graph cannot compose letters, so both ways to write them are known.
    numbers |= {unicodedata.normalize("NFD", name): i for name, i in numbers.items()}
    table = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(numbers)), tf.constant(list(numbers.values()), tf.int64)
    )
    return tf.lookup.StaticHashTable(table, default_value=-1)


def _encode_several(label: Label, raw: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Values [n, depth] of 0 and 1."""
    lengths = raw.row_lengths()
    present = lengths > 0
    if raw.dtype == tf.string:
        texts = raw[:, :1].to_tensor(default_value="", shape=[None, 1])[:, 0]
        missing = tf.constant(sorted(label.missing_texts))
        present &= tf.reduce_all(texts[:, None] != missing, axis=1)
        names = tf.strings.split(tf.where(present, texts, ""), SEPARATOR)
        names = tf.ragged.map_flat_values(tf.strings.strip, names)
        numbers = tf.ragged.boolean_mask(names, names != "")
        numbers = tf.ragged.map_flat_values(_class_numbers(label).lookup, numbers)
        is_valid = tf.reduce_all(numbers.flat_values >= 0)
        dense = numbers.to_tensor(default_value=-1)
        values = tf.reduce_sum(tf.one_hot(dense, label.depth), axis=1)
        values = tf.minimum(values, 1.0)  # a class named twice
    else:
        dense = raw.to_tensor(default_value=0, shape=[None, label.depth])
        values = tf.cast(dense, tf.float32)
        is_valid = tf.reduce_all((values == 0.0) | (values == 1.0))
        is_valid &= tf.reduce_all(~present | (lengths == label.depth))
    check = tf.debugging.Assert(
        is_valid,
        [f"Label {label.name!r} does not name some of its {label.depth} classes.", raw.flat_values],
    )
    with tf.control_dependencies([check]):
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
    collected: Collection[str] = (),
) -> Stream:
    """A stream over TFRecord files; reads each file once to count its examples exactly.

    Args:
        patterns: paths or patterns of TFRecord files.
        schema: the labels to read.
        options: how to read.
        block: examples that are held and shuffled together.
        vocabularies: class names by label, needed where records hold them as text.
        collected: labels whose class names are those that occur in the records.

    Raises:
        DataError: the source is not TFRecord files, or a text label has no vocabulary.
    """
    paths = _record_files(patterns, options.option)
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
    for label in schema.labels_with_classes:
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
        schema=schema.with_vocabularies(fixed, collected=collected),
    )


def _record_files(patterns: Sequence[str], option: str) -> list[str]:
    """The TFRecord files that patterns name; of a divided set those for training."""
    source = find_source(patterns, option)
    if source.kind != "tfrecord":
        raise DataError(
            f"input_mode streaming reads TFRecord files, but {option} names a {source.kind}. "
            "Use input_mode indexed, which holds only paths and labels in memory."
        )
    if not source.parts:
        return list(source.paths)
    named = zip(source.paths, source.parts, strict=True)
    return [path for path, part in named if part_role(part) == TRAIN]


def _some_records(paths: Sequence[str], compressions: Sequence[str]) -> Iterator[bytes]:
    for path, kind in zip(paths, compressions, strict=True):
        with tfrecord.open_plain(path, kind) as stream:
            for _, data, _ in tfrecord.scan_records(stream, path):
                yield data
