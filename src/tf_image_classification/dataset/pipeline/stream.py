"""An iterable source: TFRecord files read in sequence, for sets too large for random access.

Each epoch permutes the files. Its examples are divided among **lanes**: each lane reads its own
part of the files, shuffles it within blocks, and fills the same rows of every batch. The number of
lanes follows from the data and the batch size, never from the number of workers: each worker reads
the lanes of its rows, so the global batch is the same for any number of them. All randomness
follows from the seed, the epoch and the block, so a run resumes exactly, by skipping to its blocks.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset import examples, tfrecord
from tf_image_classification.dataset.pipeline.sampler import EpochSampler, permuted
from tf_image_classification.dataset.pipeline.stream_labels import label_values
from tf_image_classification.dataset.readers import find_source
from tf_image_classification.dataset.readers.names import TRAIN, part_role
from tf_image_classification.dataset.readers.record_files import check_images, columns_of
from tf_image_classification.dataset.table import SourceOptions
from tf_image_classification.errors import DataError
from tf_image_classification.labels import LabelSchema, encode
from tf_image_classification.system.autograph import unconverted

_MIN_FILES_PER_LANE = 4
_MAX_LANES = 64


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Assigns the rows of every batch to lanes, consecutive rows to one lane.

    A lane that begins in the middle of a file skips to its part, so each lane has a few files.

    Attributes:
        num_examples: examples in an epoch.
        batch_size: examples in a global batch.
        num_files: files of the examples.
    """

    num_examples: int
    batch_size: int
    num_files: int

    @property
    def count(self) -> int:
        """Number of lanes, a divisor of the batch size."""
        limit = max(1, min(_MAX_LANES, self.num_files // _MIN_FILES_PER_LANE))
        return next(count for count in range(limit, 0, -1) if self.batch_size % count == 0)

    @property
    def width(self) -> int:
        """Rows of a batch that a lane fills."""
        return self.batch_size // self.count

    def before(self, index: Any) -> tf.Tensor:
        """Examples of each lane before a global example index: int64 [count]."""
        index = tf.convert_to_tensor(index, tf.int64)
        lanes = tf.range(self.count, dtype=tf.int64)
        of_this_batch = index % self.batch_size - lanes * self.width
        whole_batches = index // self.batch_size
        return whole_batches * self.width + tf.clip_by_value(of_this_batch, 0, self.width)

    def part(self, epoch: tf.Tensor, lane: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Begin and end of a lane's examples among all examples of an epoch, int64 scalars."""
        start = epoch * self.num_examples
        counts = self.before(start + self.num_examples) - self.before(start)
        ends = tf.cumsum(counts)
        return ends[lane] - counts[lane], ends[lane]


@dataclasses.dataclass(frozen=True)
class Stream:
    """The examples of TFRecord files, in sequence.

    Attributes:
        num_examples: exact number of examples.
        locate: number of an example to its name in messages, its file and record.
        fingerprint: hexadecimal digest of the content.
        block: examples that are held and shuffled together.
        paths: the files.
        compressions: "", "GZIP" or "ZLIB" of each file.
        counts: examples in each file.
        features: names of the features of image and labels.
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
        """Endless parts of global batches.

        Args:
            start: global example index, a multiple of the batch size.
            seed: decides the order; None keeps the order of the files within each lane.
            batch_size: examples in a global batch.
            rows: rows of each batch to read; only the files of their lanes are read.

        Returns:
            Dataset of (numbers, encoded images, labels, mask), as the fields of ``EncodedChunk``,
            each with the rows of one batch.
        """
        return self._serialized(start, seed, batch_size, rows).map(unconverted(self._parse))

    def first_images(self, count: int) -> tf.Tensor:
        """Encoded images of the first records, string, at most count; runs eagerly."""
        file = np.flatnonzero(self.counts)[0]
        records = tf.data.TFRecordDataset(self.paths[file], self.compressions[file])
        return self.features.parse(next(iter(records.batch(count))))[0]

    def check_labels(self, start: int, seed: int | None, batch_size: int) -> None:
        """Check the labels of one batch record by record; runs eagerly, after a failure.

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
        """Endless (numbers, serialized) of some rows of each batch."""
        lanes = Lanes(self.num_examples, batch_size, len(self.paths))
        width = lanes.width
        parts = []
        for lane in range(rows.start // width, (rows.stop - 1) // width + 1):
            first = max(rows.start - lane * width, 0)
            last = min(rows.stop - lane * width, width)
            whole = self._lane(lane, lanes, start, seed).batch(width)
            part = whole.map(unconverted(functools.partial(_rows, slice(first, last))))
            parts.append(part.prefetch(1))
        return tf.data.Dataset.zip(tuple(parts)).map(unconverted(_joined))

    def _lane(self, lane: int, lanes: Lanes, start: int, seed: int | None) -> tf.data.Dataset:
        """Endless (number, serialized) of a lane."""
        block = max(1, self.block // lanes.count)
        first_epoch = (start + lane * lanes.width) // self.num_examples
        offset = (lanes.before(start) - lanes.before(first_epoch * self.num_examples))[lane]
        first_block = offset // block

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            done = tf.where(epoch == first_epoch, first_block, 0)
            begin, end = lanes.part(epoch, lane)
            records = self._records(epoch, begin + done * block, end, seed)
            blocks = records.batch(block).enumerate(done)

            def shuffled_block(number: tf.Tensor, records: Any) -> Any:
                return _shuffled(records, epoch, number * lanes.count + lane, seed)

            return blocks.map(unconverted(shuffled_block)).unbatch()

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        return epochs.flat_map(unconverted(epoch_records)).skip(offset % block)

    def _records(
        self, epoch: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, seed: int | None
    ) -> tf.data.Dataset:
        """(number, serialized) of the records begin to end of an epoch, files permuted."""
        files = EpochSampler(len(self.paths), seed or 0, seed is not None)
        places = tf.range(len(self.paths), dtype=tf.int64)
        file_order = files.example_numbers(epoch * len(self.paths) + places)
        counts = tf.constant(self.counts, tf.int64)
        ends = tf.cumsum(tf.gather(counts, file_order))
        first_numbers = tf.constant([0, *itertools.accumulate(self.counts)][:-1], tf.int64)
        paths = tf.constant(self.paths)
        compressions = tf.constant(self.compressions)

        def file_records(place: tf.Tensor) -> tf.data.Dataset:
            file = file_order[place]
            before = ends[place] - counts[file]
            inside = tf.clip_by_value(begin - before, 0, counts[file])
            records = tf.data.TFRecordDataset(paths[file], compression_type=compressions[file])
            return records.skip(inside).enumerate(first_numbers[file] + inside)

        first_file = tf.searchsorted(ends, [begin], side="right", out_type=tf.int64)[0]
        remaining = tf.data.Dataset.range(first_file, len(self.paths))
        return remaining.flat_map(unconverted(file_records)).take(end - begin)

    def _parse(self, numbers: tf.Tensor, serialized: tf.Tensor) -> tuple[Any, ...]:
        images, raw = self.features.parse(serialized)
        labels, mask = {}, {}
        for label in self.schema:
            labels[label.name], mask[label.name] = label_values(label, raw[label.name])
        return numbers, images, labels, mask


def _rows(rows: slice, *columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tuple(column[rows] for column in columns)


def _joined(*parts: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    numbers, serialized = zip(*parts, strict=True)
    return tf.concat(numbers, 0), tf.concat(serialized, 0)


def _shuffled(
    block: tuple[tf.Tensor, tf.Tensor], epoch: tf.Tensor, number: tf.Tensor, seed: int | None
) -> tuple[tf.Tensor, tf.Tensor]:
    if seed is None:
        return block
    count = tf.size(block[0], out_type=tf.int64)
    # A second seed other than 0, which is that of an epoch's permutation.
    seeds = tf.stack([tf.constant(seed, tf.int64), number + 1, epoch])
    places = permuted(tf.range(count), count, tf.cast(seeds, tf.uint32))
    return tf.gather(block[0], places), tf.gather(block[1], places)


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
        options: how the source is read.
        block: examples that are held and shuffled together.
        vocabularies: class names by label, needed where records hold labels as texts.
        collected: labels whose class names were collected from the records.

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
                "beforehand. Give a file of them, one per line, with --labels."
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
    """The TFRecord files that match patterns; of a divided set those for training."""
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
