r"""Images in memory as encoded images: arrays of any type of number, PIL images, encoded bytes.

    is_image(pixels), encoded(pixels)            # True, b"\x89PNG..."

Pixels are never rescaled by a guess: values that are neither 0 to 255 nor 0 to 1 are an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import BadImageError

Array = npt.NDArray[Any]

_ADVICE = (
    "Undo the normalization, or scale the values to 0..255: "
    "np.clip(255 * (x - low) / (high - low), 0, 255).astype('uint8')."
)


def is_image(value: Any) -> bool:
    """Whether a value is an image in memory: pixels, encoded bytes or a PIL image."""
    if isinstance(value, Mapping):  # of Hugging Face's datasets
        return isinstance(value.get("bytes"), bytes)
    return isinstance(value, bytes) or _is_pil(value) or (is_array(value) and np.ndim(value) >= 2)


def is_array(value: Any) -> bool:
    """Whether a value has a shape and a type of number, like NumPy's arrays and tensors."""
    return hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype")


def encoded(image: Any, *, is_unit: bool | None = None) -> bytes:
    """An image in memory as an encoded image; pixels become a PNG.

    Args:
        image: pixels [h, w] or [h, w, 1, 3 or 4]: uint8 or uint16 as they are; booleans; other
            numbers from 0 to 255, or from 0 to 1; a PIL image; or encoded bytes, which stay.
        is_unit: whether numbers that are not integers are from 0 to 1; None: if this image's are.

    Raises:
        BadImageError: the shape or the values are others.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, Mapping):
        return bytes(image["bytes"])
    if _is_pil(image):
        image = np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    import tensorflow as tf  # late: help is instant without it

    pixels = np.asarray(image)
    _check_shape(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if pixels.dtype != np.uint16:
        pixels = _as_uint8(pixels, is_unit)
    with tf.device("CPU:0"):
        png = tf.io.encode_png(pixels, compression=1)
    return bytes(png.numpy())


def is_unit_range(pixels: Array) -> bool:
    """Whether numbers are fractions from 0 to 1 and not levels from 0 to 255."""
    is_real = np.issubdtype(pixels.dtype, np.floating) or pixels.dtype == bool
    return bool(is_real and pixels.size and pixels.min() >= 0 and pixels.max() <= 1)


def _check_shape(pixels: Array) -> None:
    shape = pixels.shape
    if pixels.ndim == 2 or (pixels.ndim == 3 and shape[2] in (1, 3, 4)):
        if pixels.size:
            return
        raise BadImageError(f"pixels have the shape {list(shape)}, which holds none.")
    advice = ""
    if pixels.ndim == 3 and shape[0] in (1, 3, 4):
        advice = " Move the channels to the end: np.moveaxis(images, -3, -1)."
    elif pixels.ndim == 1:
        advice = " Give flat images their height and width: images.reshape(-1, height, width)."
    raise BadImageError(
        f"pixels have the shape {list(shape)}, expected [h, w] or [h, w, channels] with 1, 3 or 4 "
        f"channels.{advice}"
    )


def _as_uint8(pixels: Array, is_unit: bool | None) -> Array:
    """Pixels as uint8; those from 0 to 1 are multiplied by 255."""
    if pixels.dtype == np.uint8:
        return pixels
    kind = pixels.dtype.kind
    if kind not in "biuf":  # booleans, integers, floating point numbers
        raise BadImageError(f"pixels are of type {pixels.dtype}, expected numbers.")
    values = pixels.astype(np.float64) if kind in "bf" else pixels
    unit = is_unit_range(pixels) if is_unit is None or kind == "b" else is_unit and kind == "f"
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= (1 if unit else 255)):  # also if one is NaN
        expected = (
            "from 0 to 1, as the first images are" if unit else "from 0 to 255 or from 0 to 1"
        )
        raise BadImageError(
            f"pixels are {pixels.dtype} from {low:g} to {high:g}, expected {expected}. {_ADVICE}"
        )
    scaled: Array = np.rint(255.0 * values if unit else values).astype(np.uint8)
    return scaled


def _is_pil(value: Any) -> bool:
    return type(value).__module__.startswith("PIL.") and hasattr(value, "convert")
