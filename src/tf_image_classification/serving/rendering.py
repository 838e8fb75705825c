"""Preprocessed images and heat maps as PNG and JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_ALPHA = 220  # of 255: the darkest region of the image stays visible


def heat_png(heat: npt.NDArray[np.float32]) -> bytes:
    """Heat [h, w], 0..1, as a black PNG that is opaque where the heat is low.

    Laid over an image it darkens the regions that did not count; the others keep their colours.
    """
    from PIL import Image  # late: few uses of a model need it

    alpha = (_MAX_ALPHA * (1 - np.clip(heat, 0, 1))).astype(np.uint8)
    return _encoded(Image.fromarray(np.stack([np.zeros_like(alpha), alpha], axis=-1), "LA"), "PNG")


def seen_image(image: npt.NDArray[Any], *, side: int = 0) -> bytes:
    """A preprocessed image [H, W, C] of any value range as a JPEG or, without a side, a PNG.

    Args:
        image: a model's input; also [C, H, W].
        side: pixels of the longer side of a smaller JPEG; 0: a PNG as large as the image.
    """
    from PIL import Image  # late, as above

    values = image.astype(np.float64)
    if values.shape[0] in (1, 3) and values.shape[-1] not in (1, 3):
        values = values.transpose(1, 2, 0)
    low, high = values.min(), values.max()
    if low < 0 or high <= 1:  # not 0-255
        values = 255 * (values - low) / max(high - low, 1e-9)
    colours = values if values.shape[-1] == 3 else np.repeat(values[..., :1], 3, axis=-1)
    picture = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    if not side:
        return _encoded(picture, "PNG")
    picture.thumbnail((side, side))
    return _encoded(picture, "JPEG", quality=70)


def _encoded(picture: Any, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()
