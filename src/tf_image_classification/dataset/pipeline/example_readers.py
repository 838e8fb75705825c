"""Encoded examples in the order of a training: by number, or from files read in sequence.

    reader = IndexedReader(table, seed=0)
    chunk = next(iter(reader.chunks(0, BatchLayout(batch_size=64, chunk_size=16))))
    chunk.data                                        string [16]

The only state is the global example index at which reading begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.dataset.pipeline.decoded_cache import DecodedCache
from tf_image_classification.dataset.pipeline.layout import BatchLayout
from tf_image_classification.dataset.pipeline.sampler import (
    BalancedSampler,
    EpochSampler,
    Sampler,
)
from tf_image_classification.dataset.pipeline.stream import Stream
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import DataError
from tf_image_classification.system.autograph import unconverted

PARALLEL: dict[str, Any] = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
_AT_ONCE = 8  # sampled images that are fetched together


class EncodedChunk(NamedTuple):
    """Some examples before decoding.

    Attributes:
        indices: int64 [c], global example indices.
        numbers: int64 [c], the examples' numbers in their source.
        data: string [c], encoded images; or uint8 [c, h, w, 3] from the cache of decoded ones.
        labels: as in ``Batch``.
        mask: by label name, bool [c]; False where the label is missing.
    """

    indices: tf.Tensor
    numbers: tf.Tensor
    data: tf.Tensor
    labels: Mapping[str, tf.Tensor]
    mask: Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class IndexedReader:
    """Reads the examples of a table in the order of a sampler.

    Attributes:
        table: the examples.
        seed: decides the order, 0 to 2**31 - 1.
        shuffle: False keeps the order of the files in every epoch.
        balanced_by: class label whose classes are sampled equally often, or "".
        cache: the decoded images of the table, or None.
    """

    table: Table
    seed: int = 0
    shuffle: bool = True
    balanced_by: str = ""
    cache: DecodedCache | None = None

    @property
    def source(self) -> Table:
        """The table."""
        return self.table

    @property
    def in_file_order(self) -> IndexedReader:
        """The same without shuffling and balancing."""
        return dataclasses.replace(self, shuffle=False, balanced_by="")

    @property
    def sampler(self) -> Sampler:
        """Maps global example indices to example numbers."""
        if not self.balanced_by:
            return EpochSampler(self.table.num_examples, self.seed, self.shuffle)
        column = self.table.columns[self.balanced_by]
        groups = np.where(column.mask, column.values, -1)
        return BalancedSampler(groups, self.seed, self.shuffle)

    def cached_images(self) -> tf.Tensor | None:
        """All images decoded, uint8 [N, h, w, 3], where they are kept in memory; else None."""
        return self.cache.images() if self.cache else None

    def chunks(self, start: int, layout: BatchLayout) -> tf.data.Dataset:
        """Endless dataset of ``EncodedChunk``; as ``ExampleReader.chunks``."""
        table, sampler, cached = self.table, self.sampler, self.cached_images()
        with tf.device("CPU:0"):  # as tensors here; a graph with millions of constants is slow
            columns = {
                name: (tf.constant(column.values), tf.constant(column.mask))
                for name, column in table.columns.items()
            }

        def chunk(number: tf.Tensor) -> EncodedChunk:
            indices = layout.indices(start, number)
            numbers = sampler.example_numbers(indices)
            labels = {name: tf.gather(values, numbers) for name, (values, _) in columns.items()}
            mask = {name: tf.gather(known, numbers) for name, (_, known) in columns.items()}
            data = table.fetch(numbers) if cached is None else tf.gather(cached, numbers)
            return EncodedChunk(indices, numbers, data, labels, mask)

        parallel = PARALLEL if table.fetches_in_parallel or cached is not None else {}
        return tf.data.Dataset.range(np.iinfo(np.int64).max).map(unconverted(chunk), **parallel)

    def encoded_batch(self, start: int, batch_size: int) -> list[tuple[int, bytes]]:
        """Number and encoded image of each example of a global batch; runs eagerly.

        Raises:
            DataError: the bytes of an example cannot be read; names it.
        """
        indices = start + tf.range(batch_size, dtype=tf.int64)
        batch = []
        for number in self.sampler.example_numbers(indices).numpy().tolist():
            try:
                data = self.table.fetch(tf.constant([number], tf.int64))
            except tf.errors.OpError as error:
                raise _unreadable(self.table.locate(number), error) from error
            batch.append((number, data.numpy()[0]))
        return batch

    def sample_images(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Number and encoded image of some examples, evenly over the table; runs eagerly."""
        numbers = evenly_spaced(self.table.num_examples, count)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            data = self.table.fetch(tf.constant(some)).numpy().tolist()
            yield from zip(some.tolist(), data, strict=True)


@dataclasses.dataclass(frozen=True)
class StreamingReader:
    """Reads the examples of TFRecord files in sequence, shuffled within blocks.

    Attributes:
        stream: the examples.
        seed: decides the order, 0 to 2**31 - 1.
        shuffle: False keeps the order of the files in every epoch.
    """

    stream: Stream
    seed: int = 0
    shuffle: bool = True

    @property
    def source(self) -> Stream:
        """The stream."""
        return self.stream

    table = sampler = None  # examples cannot be read by number

    @property
    def in_file_order(self) -> StreamingReader:
        """The same without shuffling."""
        return dataclasses.replace(self, shuffle=False)

    def cached_images(self) -> None:
        """None: images of a stream are not kept."""

    def chunks(self, start: int, layout: BatchLayout) -> tf.data.Dataset:
        """Endless dataset of ``EncodedChunk``; as ``ExampleReader.chunks``."""
        size = layout.chunk_size
        start += -start % layout.batch_size  # where another batch size has left off

        def with_indices(chunk: tf.Tensor, parts: tuple[Any, ...]) -> EncodedChunk:
            return EncodedChunk(layout.indices(start, chunk), *parts)

        rows = layout.shard.rows(layout.batch_size)
        batches = self.stream.batches(start, self._order_seed, layout.batch_size, rows)
        chunks = batches.map(
            unconverted(
                lambda *parts: tf.nest.map_structure(
                    lambda t: tf.reshape(t, [-1, size, *t.shape[1:]]), parts
                )
            )
        ).unbatch()
        return chunks.enumerate().map(unconverted(with_indices))

    def encoded_batch(self, start: int, batch_size: int) -> list[tuple[int, bytes]]:
        """Number and encoded image of each example of a global batch; runs eagerly.

        Raises:
            DataError: a record cannot be read, or its label is wrong; names the record.
        """
        start += -start % batch_size
        self.stream.check_labels(start, self._order_seed, batch_size)
        batches = self.stream.batches(start, self._order_seed, batch_size, range(batch_size))
        try:
            numbers, images, _, _ = next(iter(batches))
        except tf.errors.OpError as error:
            raise _unreadable(f"The batch at example {start}", error) from error
        return list(zip(numbers.numpy().tolist(), images.numpy().tolist(), strict=True))

    def sample_images(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Number and encoded image of the first examples; runs eagerly."""
        yield from enumerate(self.stream.first_images(count).numpy().tolist())

    @property
    def _order_seed(self) -> int | None:
        return self.seed if self.shuffle else None


def _unreadable(where: str, error: tf.errors.OpError) -> DataError:
    return DataError(
        f"{where}: its bytes can no longer be read: {error.message.splitlines()[0]}. The "
        "file was there when the run started; bring it back and start the run again."
    )
