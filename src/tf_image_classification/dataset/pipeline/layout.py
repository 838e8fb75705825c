"""How a global batch is divided: into slices, one a replica, and into chunks decoded together.

>>> layout = BatchLayout(batch_size=8, chunk_size=2, shard=Shard(num_slices=2, first=1))
>>> [layout.indices(16, chunk).numpy().tolist() for chunk in (0, 1, 2)]
[[20, 21], [22, 23], [28, 29]]
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Shard:
    """The slices of each global batch that one input pipeline makes.

    Attributes:
        num_slices: equal slices of a global batch, one a replica.
        first: first slice of this pipeline.
        count: slices of this pipeline, consecutive.
    """

    num_slices: int = 1
    first: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> int:
        """Examples in a slice.

        Raises:
            ValueError: the batch size is no multiple of the number of slices.
        """
        if batch_size % self.num_slices:
            raise ValueError(f"{batch_size} examples do not split into {self.num_slices} slices.")
        return batch_size // self.num_slices


WHOLE = Shard()


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """The rows of each global batch that one input pipeline reads, and how many together.

    Attributes:
        batch_size: examples in a global batch.
        chunk_size: examples that are read and decoded together; divides a slice.
        shard: the slices of each global batch to read.
    """

    batch_size: int
    chunk_size: int
    shard: Shard = WHOLE

    @property
    def chunks_per_slice(self) -> int:
        """Chunks in a slice."""
        return self.shard.rows(self.batch_size) // self.chunk_size

    @property
    def rows(self) -> range:
        """The rows of each global batch that are read."""
        rows = self.shard.rows(self.batch_size)
        return range(self.shard.first * rows, (self.shard.first + self.shard.count) * rows)

    def indices(self, start: int, chunk: tf.Tensor | int) -> tf.Tensor:
        """Global example indices of a chunk, int64 [chunk_size]; works in-graph.

        Args:
            start: global example index of the first batch.
            chunk: number of the chunk, counted from start over all batches.
        """
        chunk = tf.convert_to_tensor(chunk, tf.int64)
        per_batch = self.shard.count * self.chunks_per_slice
        batch, inner = chunk // per_batch, chunk % per_batch
        first = start + batch * self.batch_size + self.rows.start + inner * self.chunk_size
        return first + tf.range(self.chunk_size, dtype=tf.int64)
