"""The range of the values of a source's 16-bit PNGs.

values = values_of_table(table, max_pixels=10**8)
values.lowest, values.highest        12, 3987
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import tensorflow as tf

from tf_image_classification.dataset.image.decode import decode_png16, is_png16
from tf_image_classification.dataset.pipeline.protocols import ExampleReader
from tf_image_classification.dataset.table import Table
from tf_image_classification.system.autograph import unconverted

_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Png16Values:
    """The range of the values of some 16-bit PNGs.

    Attributes:
        first: example number of the first one.
        lowest: the min of their values, 0-65535.
        highest: the max.
    """

    first: int
    lowest: int
    highest: int


def values_of_table(table: Table, *, max_pixels: int) -> Png16Values | None:
    """The values of all 16-bit PNGs of a table, on all cores; None without one.

    Images that cannot be decoded are left out: the run reports them when it reads them.
    """
    parallel = tf.data.AUTOTUNE if table.fetches_in_parallel else None
    numbers = tf.data.Dataset.range(table.num_examples).batch(_AT_ONCE)
    images = numbers.map(lambda some: (some, table.fetch(some)), num_parallel_calls=parallel)
    ends = images.unbatch().map(
        unconverted(lambda number, data: (number, _ends(data, max_pixels))),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    rows = ends.ignore_errors().as_numpy_iterator()
    return _merged((int(number), *row.tolist()) for number, row in rows)


def values_of_some(reader: ExampleReader, count: int, *, max_pixels: int) -> Png16Values | None:
    """The values of the 16-bit PNGs among some images of a source; None without one."""
    decode = tf.function(unconverted(lambda data: _ends(data, max_pixels)))

    def rows() -> Iterator[tuple[int, ...]]:
        for number, data in reader.sample_images(count):
            if data[:4] == b"\x89PNG" and data[24:25] == b"\x10":  # nothing is traced for others
                try:
                    yield (number, *decode(tf.constant(data)).numpy().tolist())
                except tf.errors.InvalidArgumentError:
                    continue

    return _merged(rows())


def _ends(data: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Min and max value of a 16-bit PNG, int32 [2]; -1 for any other image."""

    def of_image() -> tf.Tensor:
        values = decode_png16(data, max_pixels=max_pixels)
        return tf.cast(tf.stack([tf.reduce_min(values), tf.reduce_max(values)]), tf.int32)

    return tf.cond(is_png16(data), of_image, lambda: tf.constant([-1, -1]))


def _merged(rows: Iterable[tuple[int, ...]]) -> Png16Values | None:
    found = [row for row in rows if row[1] >= 0]
    if not found:
        return None
    return Png16Values(found[0][0], min(row[1] for row in found), max(row[2] for row in found))
