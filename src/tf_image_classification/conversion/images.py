"""The stored form of an image: unchanged, resized, or encoded anew."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import (
    DEFAULT_MAX_PIXELS,
    FEWEST_LEVELS,
    FULL_RANGE,
    num_levels,
    pixel_range_text,
    range_of_values,
    read_pixel_range,
)
from tf_image_classification.dataset.file_kinds import image_format
from tf_image_classification.dataset.image.diagnose import explain_failure
from tf_image_classification.dataset.image.headers import image_orientation
from tf_image_classification.errors import BadImageError, ConfigError

Pixels = npt.NDArray[np.uint8]
_QUALITY = 90
FORMATS = ("keep", "jpeg", "png", "ppm")


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How images are stored.

    Attributes:
        short_side: pixels that the shorter side of larger images is reduced to; 0: unchanged.
        quality: of JPEG, 1 to 95; None: 90.
        format: "keep" stores bytes that need no change as they are, and others as JPEG, or as PNG
            if they were PNG or raw pixels; "ppm" is raw pixels.
        apply_exif: whether images are stored upright, without their EXIF data.
        max_pixels: larger images are refused.
        png16_range: values of 16-bit PNGs that become 0 and 255 where they are encoded anew, as
            the training's setting; "": all of them, but an image that would be black is refused.
    """

    short_side: int = 0
    quality: int | None = None
    format: str = "keep"
    apply_exif: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS
    png16_range: str = ""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(
                f"--image_format is {self.format!r}, expected one of {', '.join(FORMATS)}."
            )
        if self.short_side < 0:
            raise ConfigError(f"--short_side is {self.short_side}, expected 0 or more pixels.")
        if self.max_pixels < 1:
            raise ConfigError(f"--max_image_pixels is {self.max_pixels}, expected 1 or more.")
        if self.png16_range and read_pixel_range(self.png16_range) is None:
            raise ConfigError(
                "--png16_range measured is known after the conversion only. Give the range, e.g. "
                "0-4095; tfic inspect names it."
            )
        if self.quality is None:
            return
        if not 1 <= self.quality <= 95:
            raise ConfigError(f"--quality is {self.quality}, expected 1 to 95.")
        may_change = self.format == "keep" and (self.short_side or self.apply_exif)
        if self.format != "jpeg" and not may_change:
            raise ConfigError(
                "--quality is that of images which are encoded anew as JPEG. Give --short_side, "
                "--exif apply or --image_format jpeg too, or leave it out."
            )


def stored(image: bytes | Pixels, options: ImageOptions) -> bytes:
    """The bytes of an image in a record.

    Images that are encoded anew have the pixels that a training would see of the original.

    Raises:
        BadImageError: it cannot be decoded, or is too large.
    """
    if not isinstance(image, bytes):
        return _encoded(image, options, fallback="png")
    pixels = _decoded(image, options)
    kind = image_format(image)
    is_larger = bool(options.short_side) and min(pixels.shape[:2]) > options.short_side
    is_other = options.format not in ("keep", kind)
    if not (is_larger or is_other or (options.apply_exif and image_orientation(image, kind) > 1)):
        return image
    if kind == "png" and image[24:25] == b"\x10" and not options.png16_range:
        _refuse_black(image, options.max_pixels)
    return _encoded(pixels, options, fallback="png" if kind == "png" else "jpeg")


def _refuse_black(image: bytes, max_pixels: int) -> None:
    """Refuse a 16-bit PNG whose values fill so little of 16 bits that 8 bits of them are black.

    Raises:
        BadImageError: it is one.
    """
    from tf_image_classification.dataset.image.decode import decode_png16

    highest = int(decode_png16(image, max_pixels=max_pixels).numpy().max())
    if highest and num_levels(0, highest) < FEWEST_LEVELS:
        suggested = pixel_range_text(range_of_values(0, highest))
        raise BadImageError(
            f"16-bit PNG with values up to {highest}, nearly black once it is encoded anew with 8 "
            f"bits: give --png16_range {suggested}, or full to store it so"
        )


def _decoded(image: bytes, options: ImageOptions) -> Pixels:
    import tensorflow as tf

    from tf_image_classification.dataset.image.decode import decoder

    png16_range = read_pixel_range(options.png16_range or "full") or FULL_RANGE
    try:
        pixels: Pixels = decoder(options.max_pixels, png16_range)(tf.constant(image)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise BadImageError(explain_failure(image, max_pixels=options.max_pixels)) from error
    return pixels


def _encoded(pixels: Pixels, options: ImageOptions, *, fallback: str) -> bytes:
    from PIL import Image  # late: half a second, in each process

    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])  # grey stays grey
    image = Image.fromarray(pixels)
    if options.short_side and min(image.size) > options.short_side:
        scale = options.short_side / min(image.size)
        size = [max(options.short_side, round(side * scale)) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    kind = fallback if options.format == "keep" else options.format
    data = io.BytesIO()
    image.save(
        data, kind.upper(), **({"quality": options.quality or _QUALITY} if kind == "jpeg" else {})
    )
    return data.getvalue()
