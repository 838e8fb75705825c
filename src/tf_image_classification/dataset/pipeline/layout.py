"""How a global batch is divided: into slices, one a replica, and into chunks decoded together.

>>> layout = BatchLayout(batch_size=8, chunk_size=2, shard=Shard(num_slices=2, first=1))
>>> [layout.indices(16, chunk).numpy().tolist() for chunk in (0, 1, 2)]
[[20, 21], [22, 23], [28, 29]]
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

_CHUNK_PIXELS = 16 * 224**2
_MIN_CHUNK, _MAX_CHUNK = 16, 128


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

    def slice_size(self, batch_size: int) -> int:
        """Examples in a slice.

        Raises:
            ValueError: the batch size is no multiple of the number of slices.
        """
        if batch_size % self.num_slices:
            raise ValueError(f"{batch_size} examples do not split into {self.num_slices} slices.")
        return batch_size // self.num_slices

    def rows(self, batch_size: int) -> range:
        """The rows of a global batch that are made."""
        size = self.slice_size(batch_size)
        return range(self.first * size, (self.first + self.count) * size)


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
        return self.shard.slice_size(self.batch_size) // self.chunk_size

    def indices(self, start: int, chunk: tf.Tensor | int) -> tf.Tensor:
        """Global example indices of a chunk, int64 [chunk_size]; works in-graph.

        Args:
            start: global example index of the first batch.
            chunk: number of the chunk, counted from start over all batches.
        """
        chunk = tf.convert_to_tensor(chunk, tf.int64)
        per_batch = self.shard.count * self.chunks_per_slice
        batch, inner = chunk // per_batch, chunk % per_batch
        first = (
            start
            + batch * self.batch_size
            + self.shard.rows(self.batch_size).start
            + inner * self.chunk_size
        )
        return first + tf.range(self.chunk_size, dtype=tf.int64)


def layout_for(batch_size: int, shard: Shard, *, image_size: int) -> BatchLayout:
    """The layout whose chunks suit images of a size: as large as possible, within limits.

    A call costs as much as a hundred tiny images; many large ones together would wait for each
    other and fill the memory.

    Args:
        batch_size: examples in a global batch.
        shard: the slices of each global batch to make.
        image_size: width and height of a preprocessed image, in pixels.

    Raises:
        ValueError: the batch size is no multiple of the number of slices.
    """
    slice_size = shard.slice_size(batch_size)
    largest = min(max(_MIN_CHUNK, _CHUNK_PIXELS // image_size**2), _MAX_CHUNK)
    chunk_size = next(size for size in range(largest, 0, -1) if slice_size % size == 0)
    return BatchLayout(batch_size=batch_size, chunk_size=chunk_size, shard=shard)
