"""Antialiased bilinear resizing, as ``tf.image.resize`` computes it, bit for bit.

    >>> resize(np.full((2, 2, 3), 7, np.uint8), 1, 1).tolist()
    [[[7.0, 7.0, 7.0]]]

Each pixel of the result is a weighted sum over a span of rows, then over a span of columns, with
float32 weights and sums in the same order as in TensorFlow's ScaleAndTranslate.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> Floats:
    """An image at another size.

    Args:
        image: [h, w, C].
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        float32 [height, width, C].
    """
    rows, columns, channels = image.shape
    pixels = image.astype(np.float32).reshape(rows, columns * channels)
    pixels = _summed(pixels, *spans(rows, height))
    pixels = pixels.reshape(height, columns, channels).transpose(1, 0, 2)
    pixels = _summed(pixels.reshape(columns, height * channels), *spans(columns, width))
    return np.ascontiguousarray(pixels.reshape(width, height, channels).transpose(1, 0, 2))


def _summed(rows: Floats, starts: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Weighted sums of spans of rows."""
    last = len(rows) - 1
    result = np.zeros((len(starts), rows.shape[1]), np.float32)
    for tap in range(weights.shape[1]):
        result += weights[:, tap, None] * rows[np.minimum(starts + tap, last)]
    return result


@functools.lru_cache(64)
def spans(size: int, new_size: int) -> tuple[npt.NDArray[np.int64], Floats]:
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
