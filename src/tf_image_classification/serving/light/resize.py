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

_BLOCK_VALUES = 400_000  # of the source for a block of the result: they stay in the cache
_MIN_BLOCK_ROWS = 8
_FEW_IMAGES = 100  # are resized in less time than the import of SciPy would save
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
    make = _sparse_or_taps() if next(_num_images) >= _FEW_IMAGES else _Taps
    pixels = _summed(image.reshape(rows, columns * channels), height, make)
    # Channels apart: NumPy moves single values of a matrix faster than triples.
    pixels = np.ascontiguousarray(pixels.T).reshape(columns, channels * height)
    pixels = _summed(pixels, width, make).reshape(width, channels, height)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


_Make = Callable[[Integers, Floats, int], Any]
"""Makes the matrix of some rows of a result from their spans of a number of source rows."""


@dataclasses.dataclass(frozen=True)
class _Block:
    """Some rows of a result: a matrix [n, end - start] times the source rows from start to end."""

    start: int
    end: int
    matrix: Any


def _summed(rows: npt.NDArray[Any], new_size: int, make: _Make) -> Floats:
    """Weighted sums of spans of rows, [new_size, ...]."""
    size, length = rows.shape
    values = length * max(size / new_size, 1)  # of the source for one row of the result
    block_rows = min(max(int(_BLOCK_VALUES / values), _MIN_BLOCK_ROWS), new_size)
    parts = [
        block.matrix @ rows[block.start : block.end].astype(np.float32, copy=False)
        for block in _blocks(size, new_size, block_rows, make)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@functools.lru_cache(64)
def _blocks(size: int, new_size: int, block_rows: int, make: _Make) -> list[_Block]:
    starts, weights = spans(size, new_size)
    blocks = []
    for first in range(0, new_size, block_rows):
        some, of_some = starts[first : first + block_rows], weights[first : first + block_rows]
        start, end = int(some[0]), min(int(some[-1]) + weights.shape[1], size)
        blocks.append(_Block(start, end, make(some - start, of_some, end - start)))
    return blocks


class _Taps:
    """A matrix of spans [n, size], multiplied tap by tap; takes 1.7 times as long as SciPy's."""

    def __init__(self, starts: Integers, weights: Floats, size: int) -> None:
        self._taps = [
            (np.minimum(starts + tap, size - 1), weights[:, tap, None])
            for tap in range(weights.shape[1])
            if tap == 0 or weights[:, tap].any()
        ]

    def __matmul__(self, rows: Floats) -> Floats:
        (at, weights), *others = self._taps
        result: Floats = rows.take(at, axis=0)
        result *= weights
        part = np.empty_like(result)
        for at, weights in others:
            rows.take(at, axis=0, out=part, mode="clip")
            part *= weights
            result += part
        return result


@functools.cache
def _sparse_or_taps() -> _Make:
    """Makes matrices that are multiplied in compiled code, where SciPy is installed."""
    try:
        from scipy.sparse import csr_matrix  # late: takes 0.1 s
    except ImportError:
        return _Taps

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
