"""Antialiased bilinear resizing, as ``tf.image.resize`` computes it, bit for bit.

    >>> resize(np.full((2, 2, 3), 7, np.uint8), 1, 1).tolist()
    [[[7.0, 7.0, 7.0]]]

Each pixel of the result is a weighted sum over a span of rows, then over a span of columns, with
float32 weights and sums in the same order as in TensorFlow's ScaleAndTranslate.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_BLOCK_ROWS = 16  # of the result at once: what they need stays in the cache
_num_images = itertools.count()


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> Floats:
    """An image at another size; may be called from several threads.

    Args:
        image: [h, w, C].
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        float32 [height, width, C].
    """
    rows, columns, channels = image.shape
    # Importing SciPy takes longer than resizing one image.
    make = _taps if next(_num_images) == 0 else _sparse_or_taps()
    pixels = _summed(image.reshape(rows, columns * channels), _blocks(rows, height, make))
    pixels = pixels.reshape(height, columns, channels).transpose(1, 0, 2)
    pixels = pixels.reshape(columns, height * channels)
    pixels = _summed(pixels, _blocks(columns, width, make))
    return np.ascontiguousarray(pixels.reshape(width, height, channels).transpose(1, 0, 2))


@dataclasses.dataclass(frozen=True)
class _Block:
    """Some rows of a result: a matrix [n, end - start] times the source rows from start to end."""

    start: int
    end: int
    matrix: Any


def _summed(rows: npt.NDArray[Any], blocks: list[_Block]) -> Floats:
    """Weighted sums of spans of rows."""
    parts = [b.matrix @ rows[b.start : b.end].astype(np.float32, copy=False) for b in blocks]
    return np.concatenate(parts)


@functools.lru_cache(64)
def _blocks(size: int, new_size: int, make: Callable[[Integers, Floats, int], Any]) -> list[_Block]:
    starts, weights = spans(size, new_size)
    blocks = []
    for first in range(0, new_size, _BLOCK_ROWS):
        some, of_some = starts[first : first + _BLOCK_ROWS], weights[first : first + _BLOCK_ROWS]
        start, end = int(some[0]), min(int(some[-1]) + weights.shape[1], size)
        blocks.append(_Block(start, end, make(some - start, of_some, end - start)))
    return blocks


@dataclasses.dataclass(frozen=True)
class _Taps:
    """A matrix of spans [n, size], multiplied tap by tap; half as fast as a sparse one."""

    starts: Integers
    weights: Floats

    def __matmul__(self, rows: Floats) -> Floats:
        result = np.zeros((len(self.starts), rows.shape[1]), np.float32)
        part = np.empty_like(result)
        for tap in range(self.weights.shape[1]):  # beyond the last row the weights are 0
            np.take(rows, self.starts + tap, axis=0, out=part, mode="clip")
            part *= self.weights[:, tap, None]
            result += part
        return result


def _taps(starts: Integers, weights: Floats, size: int) -> Any:
    return _Taps(starts, weights)


@functools.cache
def _sparse_or_taps() -> Callable[[Integers, Floats, int], Any]:
    """Makes matrices that are multiplied in compiled code, where SciPy is installed."""
    try:
        from scipy.sparse import csr_matrix  # late: takes 0.2 s
    except ImportError:
        return _taps

    def make(starts: Integers, weights: Floats, size: int) -> Any:
        columns = starts[:, None] + np.arange(weights.shape[1])
        is_inside = columns < size
        ends = np.cumsum(is_inside.sum(axis=1))
        content = (weights[is_inside], columns[is_inside], np.concatenate([[0], ends]))
        return csr_matrix(content, shape=(len(starts), size))

    return make


@functools.lru_cache(64)
def spans(size: int, new_size: int) -> tuple[Integers, Floats]:
    """The spans of source pixels along one axis, by pixel of the result.

    Args:
        size: of the image, in pixels.
        new_size: of the result, in pixels.

    Returns:
        starts: int64 [new_size].
        weights: float32 [new_size, n], 0 beyond the end of a shorter span.
    """
    one, half = np.float32(1), np.float32(0.5)
    inverse_scale = one / (np.float32(new_size) / np.float32(size))
    radius = max(inverse_scale, one)
    length = min(2 * int(np.ceil(radius)) + 1, size)
    centers = (np.arange(new_size, dtype=np.float32) + half) * inverse_scale
    starts = np.ceil(centers - radius - half).astype(np.int64).clip(0, size - 1)
    ends = np.floor(centers + radius - half).astype(np.int64).clip(0, size - 1) + 1
    sources = starts[:, None] + np.arange(length)
    distances = np.abs((sources.astype(np.float32) + half - centers[:, None]) * (one / radius))
    weights = np.where(sources < ends[:, None], np.maximum(one - distances, 0), 0)
    weights = weights.astype(np.float32)
    totals = np.zeros(new_size, np.float32)
    for tap in range(length):  # one after another: the order decides the last bit
        totals += weights[:, tap]
    weights *= (one / totals)[:, None]
    weights[centers > size] = 0
    return starts, weights
