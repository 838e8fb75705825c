"""Which example is seen when: a pure function of the seed and the position, with no state.

Positions count all examples ever seen, over all epochs: position p belongs to epoch p // N. Each
epoch is a permutation of its own, so no example is dropped or repeated within one.

    Order(num_examples=60000, seed=0, shuffle=True).numbers(tf.range(64, dtype=tf.int64))
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of N things in each epoch.

    Attributes:
        num_examples: N, at least 1.
        seed: decides the permutations; 0 to 2**31 - 1.
        shuffle: False keeps the order 0..N-1 in every epoch.
    """

    num_examples: int
    seed: int
    shuffle: bool

    def numbers(self, positions: tf.Tensor) -> tf.Tensor:
        """The examples at some positions; works eagerly and in-graph.

        Args:
            positions: int64 [n], 0 or more.

        Returns:
            int64 [n], 0..N-1.
        """
        count = tf.constant(self.num_examples, tf.int64)
        return permuted(positions % count, count, self._seeds(positions // count), self.shuffle)

    def _seeds(self, epochs: tf.Tensor) -> tf.Tensor:
        epochs = tf.cast(epochs, tf.uint32)
        constant = tf.zeros_like(epochs)
        return tf.stack([constant + self.seed, constant, epochs], axis=-1)


def permuted(
    indices: tf.Tensor, count: tf.Tensor, seeds: tf.Tensor, shuffle: bool = True
) -> tf.Tensor:
    """Where indices go in a permutation of 0..count-1.

    Args:
        indices: int64 [n].
        count: int64 scalar, size of the permutation, at least 1.
        seeds: uint32 [n, 3] or [3], one permutation for each different seed.
        shuffle: False returns the indices.

    Returns:
        int64 [n].
    """
    if not shuffle:
        return indices
    # The public wrapper takes only a two-number seed and no vectors.
    return tf.raw_ops.RandomIndexShuffle(index=indices, seed=seeds, max_index=count - 1, rounds=4)
