"""The scaling of pixels that a preprocessing contains, measured on images of one colour.

pixel_scaling(exported)         PixelScaling(mean=(127.5, 127.5, 127.5), std=(127.5, ...))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.export.saved_model import ExportedModel

_SIZE = 64  # pixels
_COLOURS = ((0, 0, 0), (255, 255, 255), (51, 102, 204), (230, 10, 90))
_TOLERANCE = 1e-3  # of the range


@dataclasses.dataclass(frozen=True)
class PixelScaling:
    """A model's input ``(pixel - mean) / std``, for pixels 0-255 in RGB.

    Attributes:
        mean: by channel.
        std: by channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value of the input."""
        ends = [(p - m) / s for m, s in zip(self.mean, self.std, strict=True) for p in (0, 255)]
        return min(ends), max(ends)

    def pixels(self, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Preprocessed images as pixels, rounded."""
        values = images.astype(np.float32) * np.array(self.std) + np.array(self.mean)
        pixels: npt.NDArray[np.uint8] = np.rint(values).clip(0, 255).astype(np.uint8)
        return pixels


IDENTITY = PixelScaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Of an input of pixels."""


def pixel_scaling(exported: ExportedModel) -> PixelScaling | None:
    """The scaling in a model's preprocessing; None if it is not of this form."""
    return scaling_of(lambda image: exported.preproc(image, 0, 0))


def scaling_of(preprocess: Callable[[tf.Tensor], tf.Tensor]) -> PixelScaling | None:
    """The scaling in a preprocessing of decoded images; None if it is not of this form."""
    values = []
    for colour in _COLOURS:
        image = tf.broadcast_to(tf.constant(colour, tf.uint8), [_SIZE, _SIZE, 3])
        values.append(tf.cast(preprocess(image), tf.float32).numpy())
    found = np.stack(values)  # [colours, H, W, C]
    if found.shape[-1] != 3:
        return None
    colours = found[:, 0, 0].astype(np.float64)
    zero, full = colours[0], colours[1]
    if not np.all(np.isfinite(colours)) or np.any(full <= zero):
        return None
    slope = (full - zero) / 255
    expected = zero + np.array(_COLOURS) * slope
    if np.abs(found - expected[:, None, None]).max() > _TOLERANCE * (full - zero).max():
        return None
    mean, std = np.round([-zero / slope, 1 / slope], 5) + 0.0  # without -0
    return PixelScaling(tuple(mean.tolist()), tuple(std.tolist()))
