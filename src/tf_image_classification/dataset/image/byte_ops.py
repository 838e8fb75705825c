r"""Bytes and integers of encoded data, read with TensorFlow operations.

>>> integers(tf.constant(b"\x01\x00\x02\x00"), 0, 3, tf.uint16).numpy().tolist()
[1, 2, 0]

Reading beyond the end of the data gives zeros, never an error that would quote the data.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf


def part_of(data: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Length bytes from an offset, scalar string; fewer, or none, at the end of the data.

    TensorFlow's own error would quote the data, which fails with a UnicodeDecodeError.
    """
    start = tf.convert_to_tensor(start)
    size = tf.cast(tf.strings.length(data), start.dtype)
    return tf.strings.substr(data, tf.clip_by_value(start, 0, size), length)


def bytes_at(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """Bytes from an offset, int32 [count]; zeros beyond the end."""
    part = data if isinstance(start, int) and start == 0 else part_of(data, start, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int32)


def integers(
    data: tf.Tensor, start: tf.Tensor | int, count: int, dtype: tf.DType, *, little: bool = True
) -> tf.Tensor:
    """Integers of a dtype from an offset, int32 [count]; zeros beyond the end."""
    length = count * dtype.size
    part = part_of(data, start, length)
    return tf.cast(tf.io.decode_raw(part, dtype, little, length), tf.int32)


def little(digits: tf.Tensor) -> tf.Tensor:
    """Little-endian bytes [..., n] as integers, int64 [...]."""
    weights = 256 ** np.arange(digits.shape[-1], dtype=np.int64)
    return tf.reduce_sum(tf.cast(digits, tf.int64) * weights, axis=-1)


def call_apart(
    function: Callable[..., tf.Tensor], *inputs: tf.Tensor, **constants: int
) -> tf.Tensor:
    """The function's result, computed in one node of the graph.

    Without it each image would pay, node by node, for the branches that it does not take:
    0.2 ms, five times the decoding of a small PNG.
    """
    if tf.executing_eagerly():
        return function(*inputs, **constants)
    return as_node(function, **constants)(*inputs)


@functools.cache  # traced once, however many graphs it is part of
def as_node(function: Callable[..., tf.Tensor], **constants: int) -> Any:
    """A function of tensors, traced, that stays one node of the graph that calls it."""
    bound = functools.partial(function, **constants)
    apart = {"_noinline": True}
    return tf.function(bound, autograph=False, experimental_attributes=apart)


def branch_apart(branch: Callable[[], tf.Tensor]) -> Callable[[], tf.Tensor]:
    """A rarely taken branch as one node of the graph; see ``call_apart``."""
    if tf.executing_eagerly():
        return branch
    apart = {"_noinline": True}
    traced: Callable[[], tf.Tensor] = tf.function(
        branch, autograph=False, experimental_attributes=apart
    )
    return traced


def within_limit(data: tf.Tensor, size: tf.Tensor, limit: int) -> tf.Tensor:
    """The data, after a check that height times width, int64 [2], is within 1 to limit."""
    pixels = tf.reduce_prod(size)
    text = f"image of no pixels or of more than {limit}; height and width:"
    with asserted((pixels > 0) & (pixels <= limit), text, size):
        return tf.identity(data)


def asserted(condition: tf.Tensor, text: str, *values: tf.Tensor) -> AbstractContextManager[None]:
    """A context whose operations run only after the assertion holds."""
    check = tf.raw_ops.Assert(condition=condition, data=[tf.constant(text), *values])
    return contextlib.nullcontext() if check is None else tf.control_dependencies([check])
