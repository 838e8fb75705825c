"""The values that the 16-bit PNGs of a source hold.

values = png16_values(table, some_numbers(table, 32), max_pixels=10**8)
values.lowest, values.highest        12, 3987
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.decode import decode_png16, is_png16
from tf_image_classification.dataset.table import Table

_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Png16Values:
    """What some 16-bit PNGs hold.

    Attributes:
        count: images.
        lowest: their smallest value, 0-65535.
        highest: their largest.
    """

    count: int
    lowest: int
    highest: int


def numbers_of_png16(table: Table, num_looked_at: int) -> npt.NDArray[np.int64]:
    """Which of some examples, evenly over the table, are 16-bit PNGs by their headers."""
    ends = np.linspace(0, table.num_examples - 1, min(num_looked_at, table.num_examples))
    numbers = np.unique(ends.astype(np.int64))
    found = []
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        for number, data in zip(some, table.fetch(tf.constant(some)).numpy(), strict=True):
            if data[:4] == b"\x89PNG" and data[24:25] == b"\x10":
                found.append(number)
    return np.array(found, np.int64)


def png16_values(
    table: Table, numbers: Iterable[int] | npt.NDArray[np.int64], *, max_pixels: int
) -> Png16Values | None:
    """The values of those examples that are 16-bit PNGs, all decoded; None where none is.

    Images that cannot be decoded are left out: the run names them when their turn comes.
    """

    def ends(data: tf.Tensor) -> tf.Tensor:
        def of_image() -> tf.Tensor:
            values = decode_png16(data, max_pixels=max_pixels)
            values = tf.cast(tf.stack([tf.reduce_min(values), tf.reduce_max(values)]), tf.int32)
            return tf.concat([[1], values], axis=0)

        return tf.cond(is_png16(data), of_image, lambda: tf.zeros([3], tf.int32))

    parallel = tf.data.AUTOTUNE if table.fetches_in_parallel else None
    chunks = tf.data.Dataset.from_tensor_slices(np.asarray(numbers, np.int64)).batch(_AT_ONCE)
    each = chunks.map(table.fetch, num_parallel_calls=parallel).unbatch()
    found = each.map(ends, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    counted = [row for row in found.as_numpy_iterator() if row[0]]
    if not counted:
        return None
    rows = np.array(counted)
    return Png16Values(len(rows), int(rows[:, 1].min()), int(rows[:, 2].max()))
