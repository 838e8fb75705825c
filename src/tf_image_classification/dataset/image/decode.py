"""Decoding of any supported image to upright RGB, with TensorFlow operations only.

    image = decode_image(tf.io.read_file("cat.jpg"), max_pixels=100_000_000)

Works eagerly, inside ``tf.data``, ``tf.map_fn`` and an exported SavedModel. This module adds to
TensorFlow's decoders: the pixel limit, checked before memory is allocated, EXIF orientation, WebP
with alpha, first frames, BMP palettes and Netpbm.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.image.byte_ops import (
    asserted,
    bytes_at,
    call_apart,
    integers,
    little,
    part_of,
    within_limit,
)
from tf_image_classification.dataset.image.decode_guards import (
    with_alpha_flag,
    within_scan_limit,
    within_text_limit,
)
from tf_image_classification.dataset.image.exif import (
    find_chunk,
    jpeg_exif,
    may_have_exif,
    turned_upright,
)
from tf_image_classification.dataset.image.limits import MAX_GIF_STEPS, TENSORFLOW_MAX_PIXELS
from tf_image_classification.system.autograph import unconverted

_FORMAT_OF_FIRST_BYTE = np.zeros(256, np.int32)  # 0: unknown; else a branch of decode_image
_FORMAT_OF_FIRST_BYTE[np.frombuffer(b"\xff\x89GBRP", np.uint8)] = range(1, 7)


def decode_image(
    data: tf.Tensor, *, max_pixels: int, png16_range: PixelRange = FULL_RANGE
) -> tf.Tensor:
    """Decode one encoded image, upright.

    Works eagerly and traced; the format is inferred from the bytes. Alpha is dropped; of an
    animation the first frame is decoded; around a GIF frame smaller than its canvas, and where a
    GIF is transparent, pixels are black. Colour profiles are not applied.

    The EXIF orientation is applied when the EXIF data begin in the first 4096 bytes of a JPEG,
    before the image data of a PNG, or anywhere in a WebP. Broken EXIF data and an orientation
    other than 1 to 8 mean "as stored"; so does an orientation given in XMP only.

    Args:
        data: scalar string tensor, the file's bytes: JPEG, PNG, GIF, BMP (uncompressed; 1, 4, 8,
            24 or 32 bits a pixel), WebP or Netpbm (P5 and P6 with values up to 255).
        max_pixels: maximum of width times height, checked in the header before decoding; at most
            134,217,728, TensorFlow's own limit.
        png16_range: the values of a 16-bit PNG that become 0 and 255; others are clipped.

    Returns:
        uint8 [H, W, 3], RGB, 0-255; the static shape is [None, None, 3].

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not such an image, are damaged, or declare no
            pixels or more than max_pixels; ``explain_bad_image`` gives the reason.

    Example:
        >>> png = tf.io.encode_png(tf.zeros([2, 3, 1], tf.uint8))
        >>> decode_image(png, max_pixels=6).shape
        TensorShape([2, 3, 3])
    """
    limit = min(max_pixels, TENSORFLOW_MAX_PIXELS)

    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.switch_case(
            tf.gather(_FORMAT_OF_FIRST_BYTE, bytes_at(data, 0, 1)[0]),
            [
                lambda: _refuse(data),
                lambda: _decode_jpeg(data, limit),
                lambda: _decode_png(data, limit, png16_range),
                lambda: call_apart(_decode_gif, data, limit=limit),
                lambda: call_apart(_decode_bmp, data, limit=limit),
                lambda: call_apart(_decode_webp, data, limit=limit),
                lambda: call_apart(_decode_netpbm, data, limit=limit),
            ],
        )

    with tf.device("CPU:0"):  # many small steps on strings, wherever a model's graph runs
        image = unconverted(decode)(tf.convert_to_tensor(data))
    image.set_shape([None, None, 3])
    return image


@functools.cache
def decoder(max_pixels: int, png16_range: PixelRange = FULL_RANGE) -> Any:
    """``decode_image`` as a traced function, cached per process, since tracing takes seconds.

    It is one node of the graph that calls it.
    """
    return tf.function(
        unconverted(
            lambda data: decode_image(data, max_pixels=max_pixels, png16_range=png16_range)
        ),
        input_signature=[tf.TensorSpec([], tf.string)],
        experimental_attributes={"_noinline": True},
    )


def jpeg_size(data: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Height and width of a JPEG, int64 [2], from its header.

    Raises:
        tf.errors.InvalidArgumentError: the header is damaged, or declares too many pixels.
    """
    size = _jpeg_size(data)
    with tf.control_dependencies(
        [_checked_jpeg(data, size, min(max_pixels, TENSORFLOW_MAX_PIXELS))]
    ):
        return tf.identity(size)


def _refuse(data: tf.Tensor) -> tf.Tensor:
    text = "not an image of a known format (JPEG, PNG, GIF, BMP, WebP)"
    with asserted(tf.equal(tf.strings.length(data), -1), text):
        return tf.zeros([0, 0, 3], tf.uint8)


# JPEG (ITU-T T.81, annex B; EXIF: CIPA DC-008, 4.7.2) ----------------------------------------


def _decode_jpeg(data: tf.Tensor, limit: int) -> tf.Tensor:
    data = _checked_jpeg(data, _jpeg_size(data), limit)
    # The accurate transform costs nothing measurable and gives the pixels that Pillow gives.
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.cond(
        may_have_exif(data),  # a cheap test; walking along the segments is slow
        lambda: call_apart(_upright_jpeg, image, data),
        lambda: image,
    )


def _checked_jpeg(data: tf.Tensor, size: tf.Tensor, limit: int) -> tf.Tensor:
    return within_scan_limit(within_limit(data, size, limit), size)


def _upright_jpeg(image: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    return turned_upright(image, jpeg_exif(data))


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(data, output_type=tf.int64)[:2]


# PNG (W3C PNG, third edition) ----------------------------------------------------------------


def _decode_png(data: tf.Tensor, limit: int, png16_range: PixelRange) -> tf.Tensor:
    data = within_text_limit(within_limit(data, _png_size(data), limit))
    if png16_range == FULL_RANGE:
        image = tf.io.decode_png(data, channels=3)
    else:
        low, high = png16_range
        image = tf.cond(
            is_png16(data),
            lambda: call_apart(_scaled_png16, data, low=low, high=high),
            lambda: tf.io.decode_png(data, channels=3),
        )
    second_chunk = tf.io.decode_raw(data, tf.uint8, fixed_length=41)[37:]
    return tf.cond(
        tf.reduce_all(second_chunk == list(b"IDAT")),  # the image data: no EXIF data before them
        lambda: image,
        lambda: call_apart(_upright_png, image, data),
    )


def is_png16(data: tf.Tensor) -> tf.Tensor:
    """Whether an image is a PNG of 16 bits a channel; scalar bool, in-graph."""
    return (part_of(data, 24, 1) == b"\x10") & (part_of(data, 0, 4) == b"\x89PNG")


def decode_png16(data: tf.Tensor, *, max_pixels: int) -> tf.Tensor:
    """The unscaled values of a 16-bit PNG, uint16 [H, W, 3], as stored, not upright; in-graph.

    Raises:
        tf.errors.InvalidArgumentError: as ``decode_image``.
    """
    limit = min(max_pixels, TENSORFLOW_MAX_PIXELS)
    data = within_text_limit(within_limit(data, _png_size(data), limit))
    return tf.io.decode_png(data, channels=3, dtype=tf.uint16)


def _scaled_png16(data: tf.Tensor, low: int, high: int) -> tf.Tensor:
    values = tf.cast(tf.io.decode_png(data, channels=3, dtype=tf.uint16), tf.float32)
    scaled = tf.clip_by_value((values - low) * (255 / (high - low)), 0.0, 255.0)
    return tf.cast(scaled + 0.5, tf.uint8)


def _png_size(data: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(data, tf.int32, little_endian=False, fixed_length=24)
    return tf.cast(head[:3:-1], tf.int64)  # ends with width, height


def _upright_png(image: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    return turned_upright(image, _png_exif(data))


def _png_exif(data: tf.Tensor) -> tf.Tensor:
    return find_chunk(data, 33, "eXIf", last="IDAT", is_png=True)


# WebP (RFC 9649) -----------------------------------------------------------------------------


def _decode_webp(data: tf.Tensor, limit: int) -> tf.Tensor:
    data = within_limit(data, _webp_size(data), limit)
    data = tf.cond(_webp_is_animated(data), lambda: with_alpha_flag(data), lambda: data)
    # channels=3 is refused for an image with alpha; without expand_animations: the first frame
    image = tf.io.decode_image(data, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, None])[:, :, :3]
    return tf.cond(
        _webp_has_exif(data), lambda: turned_upright(image, _webp_exif(data)), lambda: image
    )


def _webp_has_flag(data: tf.Tensor, flag: int) -> tf.Tensor:
    """Whether the file has an extended header that sets a flag."""
    head = bytes_at(data, 0, 21)
    return (head[15] == ord("X")) & (tf.bitwise.bitwise_and(head[20], flag) > 0)


def _webp_has_exif(data: tf.Tensor) -> tf.Tensor:
    return _webp_has_flag(data, 8)


def _webp_is_animated(data: tf.Tensor) -> tf.Tensor:
    return _webp_has_flag(data, 2)


def _webp_exif(data: tf.Tensor) -> tf.Tensor:
    return find_chunk(data, 30, "EXIF", last="", is_png=False)


def _webp_size(data: tf.Tensor) -> tf.Tensor:
    head = bytes_at(data, 0, 30)
    lossy = [little(head[28:30]) % 2**14, little(head[26:28]) % 2**14]
    packed = little(head[21:25])
    lossless = [packed // 2**14 % 2**14 + 1, packed % 2**14 + 1]
    extended = [little(head[27:30]) + 1, little(head[24:27]) + 1]
    sizes = tf.stack([lossy, lossless, extended])
    is_kind = part_of(data, 8, 8) == [b"WEBPVP8 ", b"WEBPVP8L", b"WEBPVP8X"]
    return tf.reduce_sum(sizes * tf.cast(is_kind, tf.int64)[:, None], axis=0)


# GIF (CompuServe GIF89a) ---------------------------------------------------------------------


def _decode_gif(data: tf.Tensor, limit: int) -> tf.Tensor:
    """The first frame on its canvas; TensorFlow gets no other frame, and an offset of 0."""
    at, descriptor, size, steps = _gif_layout(data)
    data = within_limit(data, size, limit)
    end, _ = _after_sub_blocks(data, at + 11 + _color_table_bytes(descriptor[9]), steps)
    parts = [
        part_of(data, 0, at + 1),
        tf.constant(b"\0\0\0\0"),
        part_of(data, at + 5, tf.maximum(end - at - 5, 0)),
        tf.constant(b";"),
    ]
    image = tf.io.decode_image(tf.strings.join(parts), channels=3, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, 3])
    left, top = tf.unstack(tf.cast(little(tf.reshape(descriptor[1:5], [2, 2])), tf.int32))
    below, right = tf.unstack(tf.cast(size, tf.int32) - tf.shape(image)[:2] - [top, left])
    return tf.pad(image, [[top, below], [left, right], [0, 0]])


def _gif_layout(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Offset and bytes of the first frame's descriptor, size of the canvas, steps left."""
    head = bytes_at(data, 0, 13)
    at, steps = tf.while_loop(
        lambda at, steps: (bytes_at(data, at, 1)[0] == ord("!")) & (steps > 0),
        lambda at, steps: _after_sub_blocks(data, at + 2, steps),
        (13 + _color_table_bytes(head[10]), tf.constant(MAX_GIF_STEPS)),
    )
    descriptor = bytes_at(data, at, 10)
    with asserted(descriptor[0] == ord(","), "GIF without a frame"):
        frame = little(tf.reshape(descriptor[1:9], [4, 2]))
    screen = little(tf.reshape(head[6:10], [2, 2]))
    canvas = tf.where(frame[2:] > 0, tf.maximum(screen, frame[:2] + frame[2:]), 0)
    return at, descriptor, canvas[::-1], steps


def _color_table_bytes(flags: tf.Tensor) -> tf.Tensor:
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _after_sub_blocks(
    data: tf.Tensor, at: tf.Tensor, steps: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """End of a chain of length-prefixed blocks, and the number of steps left.

    The end of the data where the chain is cut short or takes too many steps.
    """
    size = tf.strings.length(data)

    def step(at: tf.Tensor, _: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Most blocks have the full 255 bytes: test 16 at once and skip those.
        lengths = bytes_at(data, at, 16 * 256)[::256]
        num_full = tf.reduce_sum(tf.math.cumprod(tf.cast(lengths == 255, tf.int32)))
        length = tf.where(num_full < 16, lengths[tf.minimum(num_full, 15)] + 1, 0)
        return tf.minimum(at + 256 * num_full + length, size), length == 1, steps - 1

    at, has_ended, steps = tf.while_loop(
        lambda at, has_ended, steps: ~has_ended & (at < size) & (steps > 0),
        step,
        (tf.minimum(at, size), tf.constant(False), steps),
    )
    return tf.where(has_ended, at, size), steps


# BMP (Microsoft, BITMAPINFOHEADER) -----------------------------------------------------------


def _decode_bmp(data: tf.Tensor, limit: int) -> tf.Tensor:
    """TensorFlow's decoder reads 24-bit images only, and takes palette indices for grey values."""
    data = within_limit(data, _bmp_size(data), limit)
    header = integers(data, 10, 6, tf.int32)
    pixels_at, header_bytes, width, height, bits, compression = tf.unstack(header)
    bits //= 2**16  # the low 16 bits are the number of planes, always 1
    masks = integers(data, 54, 3, tf.int32)
    is_known = (compression == 0) & tf.reduce_any(bits == [1, 4, 8, 24, 32])
    is_known |= (compression == 3) & (bits == 32) & tf.reduce_all(masks == [0xFF0000, 0xFF00, 0xFF])
    is_known &= (tf.strings.substr(data, 0, 2) == "BM") & (header_bytes >= 40) & (pixels_at >= 54)
    is_known &= width < 2**26  # a row's bits can be counted
    with asserted(is_known, "BMP of an unknown kind"):
        num_rows = tf.abs(height)
        row_bytes = (width * bits + 31) // 32 * 4

    def read_rows() -> tf.Tensor:
        rows = tf.io.decode_raw(part_of(data, pixels_at, row_bytes * num_rows), tf.uint8)
        rows = tf.reshape(rows, [num_rows, row_bytes])
        return rows[:, : (width * bits + 7) // 8]  # without the padding, which may be most of them

    def indexed() -> tf.Tensor:
        at = 14 + header_bytes
        palette = part_of(data, at, tf.maximum(pixels_at - at, 0))
        palette = tf.io.decode_raw(palette, tf.uint8, fixed_length=4 * 256)
        shifts = tf.range(8 - bits, -1, -bits)
        index = tf.bitwise.right_shift(tf.cast(read_rows(), tf.int32)[:, :, None], shifts)
        index %= tf.bitwise.left_shift(1, bits)
        index = tf.reshape(index, [num_rows, -1])[:, :width]
        return upright(tf.gather(tf.reshape(palette, [256, 4])[:, 2::-1], index))

    def with_fourth_byte() -> tf.Tensor:
        return upright(tf.reshape(read_rows(), [num_rows, width, 4])[:, :, 2::-1])

    def upright(image: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([height > 0, False, False]))

    return tf.cond(
        bits == 24,
        lambda: tf.image.decode_bmp(data, channels=3),
        lambda: tf.cond(bits <= 8, indexed, with_fourth_byte),
    )


def _bmp_size(data: tf.Tensor) -> tf.Tensor:
    width, height = tf.unstack(tf.cast(integers(data, 18, 2, tf.int32), tf.int64))
    return tf.stack([tf.abs(height), width])  # rows from the top down have a negative height


# Netpbm --------------------------------------------------------------------------------------


def _decode_netpbm(data: tf.Tensor, limit: int) -> tf.Tensor:
    header = netpbm.headers(data[tf.newaxis])[0]
    data = within_limit(data, tf.cast(header[1:3], tf.int64), limit)
    return netpbm.part(data, header, tf.constant([0, 0]), header[1:3])
