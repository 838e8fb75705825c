"""Preprocessed images and heat maps as PNG and JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

_RED = (230, 40, 20)
_MAX_ALPHA = 150  # of 255: the image below stays visible


def heat_png(heat: npt.NDArray[np.float32]) -> bytes:
    """Heat [h, w], 0..1, as the opacity of a red PNG."""
    from PIL import Image  # late: few uses of a model need it

    alpha = (np.clip(heat, 0, 1) * _MAX_ALPHA).astype(np.uint8)
    red = np.broadcast_to(np.array(_RED, np.uint8), [*heat.shape, 3])
    return _encoded(Image.fromarray(np.concatenate([red, alpha[..., None]], axis=-1)), "PNG")


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
