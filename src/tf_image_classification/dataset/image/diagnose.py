"""Explains why an image cannot be decoded."""

from __future__ import annotations

from tf_image_classification.dataset.file_kinds import FORMAT_NAMES, image_format, kind_of
from tf_image_classification.dataset.image.headers import (
    HeaderError,
    declared_size,
    has_too_many_scans,
    has_too_many_texts,
    jpeg_header,
    num_scans,
)
from tf_image_classification.dataset.image.limits import (
    MAX_SCAN_PIXELS,
    MAX_TEXT_CHUNKS,
    TENSORFLOW_MAX_PIXELS,
)

__all__ = ["explain_bad_image", "explain_failure", "image_format"]


def explain_bad_image(data: bytes, *, max_pixels: int) -> str | None:
    """The reason why ``decode_image`` refuses an image, or None where it accepts it.

    Args:
        data: the file's bytes.
        max_pixels: as given to ``decode_image``.

    Returns:
        A phrase that can follow a file's name and a colon.

    Example:
        >>> explain_bad_image(b"", max_pixels=100)
        '0 bytes'
    """
    import tensorflow as tf  # late: the reason itself needs no TensorFlow

    from tf_image_classification.dataset.image.decode import decoder

    try:
        decoder(max_pixels)(tf.constant(data))
    except tf.errors.InvalidArgumentError:
        return explain_failure(data, max_pixels=max_pixels)
    return None


def explain_failure(data: bytes, *, max_pixels: int) -> str:
    """The reason why ``decode_image`` refused an image; as ``explain_bad_image``."""
    if not data:
        return "0 bytes"
    first_bytes = f"first bytes {data[:16]!r}"
    kind = image_format(data)
    if kind == "unknown":
        guess = kind_of(data)
        hint = f", looks like {guess.name}" if guess.name else ""
        return f"not an image of a known format ({first_bytes}{hint}): {guess.advice}"
    name = FORMAT_NAMES[kind]
    damaged = f"{name} data is cut short or damaged ({first_bytes}; {len(data):,} bytes in all)"
    if kind == "bmp":
        damaged += ", or compressed, or of a colour depth other than 1, 4, 8, 24 and 32 bits"
    if kind == "ppm":
        damaged += ", or of values other than 0 to 255, or its header is longer than 256 bytes"
    if kind == "png" and data[12:16] != b"IHDR":
        return damaged
    try:
        height, width = declared_size(data, kind)
    except HeaderError:
        return damaged
    pixels = f"{width} x {height} = {width * height:,} pixels"
    if width <= 0 or height <= 0:
        return f"{name} data of {width} x {height} pixels ({first_bytes})"
    if width * height > max_pixels:
        return f"{pixels}, more than max_image_pixels {max_pixels:,}"
    if width * height > TENSORFLOW_MAX_PIXELS:
        return f"{pixels}, more than the {TENSORFLOW_MAX_PIXELS:,} that TensorFlow decodes"
    return _too_much_work(data, kind, width * height) or damaged


def _too_much_work(data: bytes, kind: str, num_pixels: int) -> str:
    """The limit of ``decode_guards`` that a file exceeds, in words, or ""."""
    if kind == "jpeg" and has_too_many_scans(data, jpeg_header(data)):
        return (
            f"JPEG data of {num_scans(data)} scans, more than the {MAX_SCAN_PIXELS // num_pixels} "
            f"that an image of {num_pixels:,} pixels may have: decoding them would take very "
            "long. Save the image again"
        )
    if kind == "png" and has_too_many_texts(data):
        return (
            f"PNG data with more than {MAX_TEXT_CHUNKS} compressed texts: unpacking them could "
            "fill the memory. Save the image again without its metadata"
        )
    return ""
