"""What happens to an image's bytes on the way into a record."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import BadImageError

FORMATS = ("keep", "jpeg", "png", "ppm")


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How images are stored.

    Attributes:
        short_side: the shorter side of larger images is reduced to so many pixels; 0: none is.
        quality: of JPEG, 1 to 95.
        format: "keep" stores bytes that need no change as they are, and others as JPEG, or as PNG
            where pixels came without a format; "ppm" is raw pixels.
        apply_exif: whether images are stored upright, without what their EXIF data said.
        max_pixels: larger images are refused.
    """

    short_side: int = 0
    quality: int = 90
    format: str = "keep"
    apply_exif: bool = False
    max_pixels: int = 100_000_000


def stored(image: bytes | npt.NDArray[np.uint8], options: ImageOptions) -> bytes:
    """The bytes that a record holds for an image.

    Raises:
        BadImageError: it cannot be decoded, or is too large.
    """
    from PIL import Image, ImageOps  # late: half a second, in each process

    if not isinstance(image, bytes):
        return _encoded(Image.fromarray(image), options, fallback="png")
    from tf_image_classification.dataset.bad_images import explain_bad_image  # late: TensorFlow

    reason = explain_bad_image(image, max_pixels=options.max_pixels)
    if reason is not None:
        raise BadImageError(reason)
    opened: Any = Image.open(io.BytesIO(image))
    is_turned = opened.getexif().get(274, 1) not in (0, 1)
    is_larger = bool(options.short_side) and min(opened.size) > options.short_side
    is_other = options.format not in ("keep", (opened.format or "").lower())
    if not (is_larger or is_other or (is_turned and options.apply_exif)):
        return image
    upright = ImageOps.exif_transpose(opened)  # what is encoded anew has no EXIF data any more
    if is_larger:
        scale = options.short_side / min(upright.size)
        size = [max(options.short_side, round(side * scale)) for side in upright.size]
        upright = _rgb(upright).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    kept = (opened.format or "").lower()
    return _encoded(upright, options, fallback=kept if kept == "png" else "jpeg")


def _encoded(image: Any, options: ImageOptions, *, fallback: str) -> bytes:
    kind = fallback if options.format == "keep" else options.format
    data = io.BytesIO()
    image = _rgb(image) if kind != "png" or image.mode not in ("L", "RGB") else image
    settings = {"quality": options.quality} if kind == "jpeg" else {}
    image.save(data, kind.upper(), **settings)
    return data.getvalue()


def _rgb(image: Any) -> Any:
    """As our decoder sees it: alpha dropped; grey stays grey."""
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
