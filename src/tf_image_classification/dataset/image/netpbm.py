"""Netpbm images: raw pixels after a short header, of which any part can be read.

    headers = netpbm.headers(data)                              of several files at once
    part = netpbm.part(data[0], headers[0], offset, crop)       uint8 [h, w, 3]
    if netpbm.are_alike(data, headers, max_pixels):
        images = netpbm.pixels(data, headers[0])                uint8 [n, H, W, 3]

Supported are binary grey (P5) and RGB (P6) with a maximum value of 255: pgm(5) and ppm(5).
"""

from __future__ import annotations

import tensorflow as tf

from tf_image_classification.dataset.image.byte_ops import asserted

_COMMENT = r"#\C*?\n"  # any bytes; [^\n] would match UTF-8 only
_SPACE = rf"(?:\s|{_COMMENT})+"
_HEADER = rf"^(P[56]{_SPACE}\d{{1,8}}{_SPACE}\d{{1,8}}{_SPACE}255\s)\C*$"
_NUMBERS = r"^P([56])\s+(\d{1,8})\s+(\d{1,8})\s+255\s$"
_MAX_HEADER_BYTES = 256
_NO_HEADER = b"P5 0 0 255 "
_MAX_PIXELS_AT_ONCE = 128**2  # of larger images, reading only a part is faster


def headers(data: tf.Tensor) -> tf.Tensor:
    """The parsed headers of some files.

    Args:
        data: string [n].

    Returns:
        int32 [n, 4]: number of channels (1 or 3), height, width, offset of the pixels in bytes; all
        0 for other files.
    """
    heads = tf.strings.substr(data, 0, _MAX_HEADER_BYTES)
    header = tf.strings.regex_replace(heads, _HEADER, r"\1")
    # A comment ends with its line; the pattern may have matched beyond it, which leaves no header.
    plain = tf.strings.regex_replace(header, _COMMENT, " ")
    is_header = tf.strings.regex_full_match(plain, _NUMBERS)
    plain = tf.where(is_header, plain, _NO_HEADER)
    numbers = tf.io.decode_csv(
        tf.strings.regex_replace(plain, _NUMBERS, r"\1,\3,\2"), record_defaults=[[0]] * 3
    )
    pixels_at = tf.strings.length(header)
    found = tf.stack([2 * numbers[0] - 9, *numbers[1:], pixels_at], axis=1)
    return tf.where(is_header[:, tf.newaxis], found, 0)


def part(data: tf.Tensor, header: tf.Tensor, offset: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
    """The pixels of a part of an image.

    Args:
        data: scalar string.
        header: int32 [4], its row of ``headers``, not 0.
        offset: top left corner of the part, int32 [2].
        crop: its size, int32 [2].

    Returns:
        uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: the data end before the last pixel.
    """
    channels, height, width, pixels_at = tf.unstack(header)
    row_bytes = width * channels
    is_whole = tf.strings.length(data) - pixels_at >= height * row_bytes
    with asserted(is_whole, "Netpbm data end before the last pixel"):
        rows = tf.strings.substr(data, pixels_at + offset[0] * row_bytes, crop[0] * row_bytes)
    rows = tf.reshape(tf.io.decode_raw(rows, tf.uint8), [crop[0], row_bytes])
    columns = tf.slice(rows, [0, offset[1] * channels], [crop[0], crop[1] * channels])
    return _coloured(tf.reshape(columns, [crop[0], crop[1], channels]), channels)


def are_alike(data: tf.Tensor, headers: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Whether ``pixels`` can decode them: complete files, string [n], of one small size."""
    first = tf.cast(headers[0], tf.int64)
    num_pixels = first[1] * first[2]
    is_small = (num_pixels > 0) & (num_pixels <= min(max_pixels, _MAX_PIXELS_AT_ONCE))
    num_bytes = tf.cast(tf.strings.length(data), tf.int64)
    is_whole = tf.reduce_all(num_bytes >= first[3] + first[0] * num_pixels)
    return is_small & is_whole & tf.reduce_all(headers == headers[0])


def pixels(data: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """The pixels of images that ``are_alike``, uint8 [n, H, W, 3], decoded at once."""
    end = header[3] + tf.reduce_prod(header[:3])
    values = tf.io.decode_raw(data, tf.uint8, fixed_length=end)[:, header[3] :]
    images = tf.reshape(values, [-1, header[1], header[2], header[0]])
    return tf.ensure_shape(_coloured(images, header[0]), [data.shape[0], None, None, 3])


def _coloured(images: tf.Tensor, channels: tf.Tensor) -> tf.Tensor:
    """[..., 1] or [..., 3] to [..., 3]."""
    once = [1] * (images.shape.rank - 1)
    colours = tf.cond(channels == 1, lambda: tf.tile(images, [*once, 3]), lambda: images)
    return tf.ensure_shape(colours, [*[None] * len(once), 3])
