"""Encoded image in, upright RGB out, with TensorFlow operations only.

Works eagerly, inside ``tf.data``, ``tf.map_fn`` and an exported SavedModel. TensorFlow's own
decoders do the heavy work; what they leave out is here: size checked before memory is spent, EXIF
orientation, WebP with alpha, first frames, BMP palettes.

    image = decode_image(tf.io.read_file("cat.jpg"), max_pixels=100_000_000)
    reason = explain_bad_image(data, max_pixels=100_000_000)
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf

_NAMES = {"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WebP"}
_FORMAT_OF_FIRST_BYTE = np.zeros(256, np.int32)  # 0: unknown; then JPEG, PNG, GIF, BMP, WebP
_FORMAT_OF_FIRST_BYTE[np.frombuffer(b"\xff\x89GBR", np.uint8)] = range(1, 6)

_TENSORFLOW_MAX_PIXELS = 2**27
"""TensorFlow refuses JPEG images of 2**29 bytes and more, counting four bytes a pixel for CMYK."""

_EXIF_SEARCHED_BYTES = 4096
_EXIF_PLACES = np.arange(_EXIF_SEARCHED_BYTES - 4, dtype=np.int32).reshape(-1, 1, 4).T
"""Places in the searched bytes: [4, 1, places / 4], those four apart beside each other."""

_MOST_EXIF_ENTRIES = 64
_MAX_JPEG_STEPS = 1024
_MAX_CHUNKS = 1024
_MAX_GIF_STEPS = 20_000  # along the blocks of one image; 0.4 s


def decode_image(data: tf.Tensor, *, max_pixels: int) -> tf.Tensor:
    """Decode one encoded image, upright.

    Works eagerly and traced; the format is told from the bytes. Alpha is dropped; the first frame
    of an animation is taken; a GIF frame smaller than its canvas, and what is transparent in a
    GIF, is on black. 16-bit channels are scaled to 8 bits. Colour profiles are not applied.

    The EXIF orientation is applied when the EXIF data begin in the first 4096 bytes of a JPEG,
    before the image data of a PNG, or anywhere in a WebP. Broken EXIF data and an orientation
    other than 1 to 8 mean "as stored"; so does an orientation given in XMP only.

    Args:
        data: scalar string tensor, the file's bytes: JPEG, PNG, GIF, BMP (uncompressed; 1, 4, 8,
            24 or 32 bits a pixel) or WebP.
        max_pixels: greatest width times height, read from the header before anything is decoded;
            above 134,217,728 TensorFlow's own limit counts.

    Returns:
        uint8 [H, W, 3], RGB, 0-255; the static shape is [None, None, 3].

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not such an image, are damaged, or declare no
            pixels or more than max_pixels; ``explain_bad_image`` says which.

    Example:
        >>> png = tf.io.encode_png(tf.zeros([2, 3, 1], tf.uint8))
        >>> decode_image(png, max_pixels=6).shape
        TensorShape([2, 3, 3])
    """
    limit = min(max_pixels, _TENSORFLOW_MAX_PIXELS)

    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.switch_case(
            tf.gather(_FORMAT_OF_FIRST_BYTE, _bytes_at(data, 0, 1)[0]),
            [
                lambda: _refuse(data),
                lambda: _decode_jpeg(data, limit),
                lambda: _decode_png(data, limit),
                lambda: _call_apart(_decode_gif, data, limit=limit),
                lambda: _call_apart(_decode_bmp, data, limit=limit),
                lambda: _call_apart(_decode_webp, data, limit=limit),
            ],
        )

    with tf.device("CPU:0"):  # many small steps on strings, wherever a model's graph runs
        image = tf.autograph.experimental.do_not_convert(decode)(tf.convert_to_tensor(data))
    image.set_shape([None, None, 3])
    return image


@functools.cache
def decoder(max_pixels: int) -> Any:
    """``decode_image``, traced once a process: that takes seconds, and each dataset needs it.

    It is one node of the graph that calls it, which costs nothing where it is not taken.
    """
    return tf.function(
        lambda data: decode_image(data, max_pixels=max_pixels),
        input_signature=[tf.TensorSpec([], tf.string)],
        experimental_attributes={"_noinline": True},
    )


def are_whole_upright_jpegs(data: tf.Tensor) -> tf.Tensor:
    """Which of some images are JPEGs that are not to be turned and that end where they should.

    All at once, since asking one after the other takes as long as decoding them. A JPEG whose EXIF
    data are in an unusual place, or broken, is not among them.

    Args:
        data: string [n].

    Returns:
        bool [n].
    """
    lengths = tf.strings.length(data)
    at_end = tf.maximum(lengths - 2, 0)
    ends = tf.strings.substr(data, tf.zeros_like(at_end), tf.fill(tf.shape(at_end), 3))
    ends += tf.strings.substr(data, at_end, tf.fill(tf.shape(at_end), 2))
    start = tf.io.decode_raw(data, tf.uint8, fixed_length=_EXIF_SEARCHED_BYTES)
    return (ends == b"\xff\xd8\xff\xff\xd9") & _are_upright(start)


def _are_upright(start: tf.Tensor) -> tf.Tensor:
    """Whether no orientation but 1 is in the EXIF data among first bytes, uint8 [n, bytes]."""
    is_exif = _is_exif(start)
    return tf.cond(
        tf.reduce_any(is_exif),
        lambda: _call_apart(_have_no_other_orientation, start, is_exif),
        lambda: tf.ones(tf.shape(start)[:1], tf.bool),
    )


def _is_exif(start: tf.Tensor) -> tf.Tensor:
    """Where the letters Exif stand in first bytes, uint8 [n, bytes]; as ``_EXIF_PLACES``, by n.

    Compared four bytes at once: a regular expression takes 0.8 ms an image, other orders of the
    words 0.1 ms.
    """
    rows = tf.stack([start[:, i : i - 4] for i in range(4)])
    words = tf.bitcast(tf.reshape(rows, [4, -1, _EXIF_PLACES.shape[2], 4]), tf.uint32)
    return tf.equal(words, int.from_bytes(b"Exif", "little"))


def _have_no_other_orientation(start: tf.Tensor, is_exif: tf.Tensor) -> tf.Tensor:
    """Read as ``_orientation`` does, for directories that lie in these bytes, of 64 entries."""
    first = tf.reduce_min(tf.where(is_exif, _EXIF_PLACES, _EXIF_SEARCHED_BYTES), axis=[0, 2])
    tiff = first + 6
    numbers = tf.cast(start, tf.int32)

    def words_at(places: tf.Tensor, is_little: tf.Tensor) -> tf.Tensor:
        places = tf.clip_by_value(places, 0, _EXIF_SEARCHED_BYTES - 2)
        first, second = (tf.gather(numbers, places + i, batch_dims=1) for i in (0, 1))
        return tf.where(is_little, first + 256 * second, 256 * first + second)

    mark = tf.gather(numbers, tf.minimum(tiff, _EXIF_SEARCHED_BYTES - 1), batch_dims=1)
    is_little = (mark == ord("I"))[:, None]
    offset = words_at(tf.stack([tiff + 4, tiff + 6], axis=1), is_little)
    low, high = (tf.where(is_little[:, 0], offset[:, i], offset[:, 1 - i]) for i in (0, 1))
    directory = tiff + low
    count = words_at(directory[:, None], is_little)[:, 0]
    entries = directory[:, None] + 2 + 12 * tf.range(_MOST_EXIF_ENTRIES)
    is_entry = tf.range(_MOST_EXIF_ENTRIES) < count[:, None]
    is_orientation = is_entry & (words_at(entries, is_little) == 274)
    value = tf.where(is_orientation, words_at(entries + 8, is_little), 1)
    kind = tf.where(is_orientation, words_at(entries + 2, is_little), 3)
    is_usual = (high == 0) & (directory + 2 + 12 * count <= _EXIF_SEARCHED_BYTES)
    is_usual &= (count <= _MOST_EXIF_ENTRIES) & tf.reduce_all((value == 1) & (kind == 3), axis=1)
    return is_usual | (first == _EXIF_SEARCHED_BYTES)


def _may_have_exif(data: tf.Tensor) -> tf.Tensor:
    """Whether the letters Exif are among the first bytes of one image."""
    start = tf.io.decode_raw(data[None], tf.uint8, fixed_length=_EXIF_SEARCHED_BYTES)
    return tf.reduce_any(_is_exif(start))


def jpeg_size(data: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Height and width of a JPEG, int64 [2], from its header.

    Raises:
        tf.errors.InvalidArgumentError: there is no such header, or it declares too many pixels.
    """
    size = _jpeg_size(data)
    with tf.control_dependencies(
        [_within_limit(data, size, min(max_pixels, _TENSORFLOW_MAX_PIXELS))]
    ):
        return tf.identity(size)


def explain_bad_image(data: bytes, *, max_pixels: int) -> str | None:
    """What is wrong with an image, or None when ``decode_image`` accepts it.

    Args:
        data: the file's bytes.
        max_pixels: as given to ``decode_image``.

    Returns:
        A phrase that can follow a file's name and a colon.

    Example:
        >>> explain_bad_image(b"", max_pixels=100)
        '0 bytes'
    """
    try:
        decoder(max_pixels)(tf.constant(data))
    except tf.errors.InvalidArgumentError:
        return explain_failure(data, max_pixels=max_pixels)
    return None


def explain_failure(data: bytes, *, max_pixels: int) -> str:
    """What is wrong with an image that ``decode_image`` has refused; as ``explain_bad_image``."""
    if not data:
        return "0 bytes"
    first_bytes = f"first bytes {data[:16]!r}"
    kind = image_format(data)
    if kind == "unknown":
        guess = _guess_of_unknown(data)
        hint = f", looks like {guess}" if guess else ""
        return f"not an image of a known format ({first_bytes}{hint}): convert it to JPEG or PNG"
    name = _NAMES[kind]
    damaged = f"{name} data is cut short or damaged ({first_bytes}; {len(data):,} bytes in all)"
    if kind == "bmp":
        damaged += ", or compressed, or of a colour depth other than 1, 4, 8, 24 and 32 bits"
    if kind == "png" and data[12:16] != b"IHDR":
        return damaged
    try:
        size = _as_node(_SIZES[kind])(tf.constant(data))  # eagerly a GIF may take minutes
    except tf.errors.InvalidArgumentError:
        return damaged
    height, width = size.numpy().tolist()
    pixels = f"{width} x {height} = {width * height:,} pixels"
    if width <= 0 or height <= 0:
        return f"{name} data of {width} x {height} pixels ({first_bytes})"
    if width * height > max_pixels:
        return f"{pixels}, more than max_image_pixels {max_pixels:,}"
    if width * height > _TENSORFLOW_MAX_PIXELS:
        return f"{pixels}, more than the {_TENSORFLOW_MAX_PIXELS:,} that TensorFlow decodes"
    return damaged


def image_format(data: bytes) -> str:
    """The format the bytes announce: jpeg, png, gif, bmp, webp or unknown."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    signatures = {
        b"\xff\xd8\xff": "jpeg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF8": "gif",  # as TensorFlow tells it
        b"BM": "bmp",
    }
    return next((name for start, name in signatures.items() if data.startswith(start)), "unknown")


def _refuse(data: tf.Tensor) -> tf.Tensor:
    text = "not an image of a known format (JPEG, PNG, GIF, BMP, WebP)"
    with _asserted(tf.equal(tf.strings.length(data), -1), text):
        return tf.zeros([0, 0, 3], tf.uint8)


# JPEG (ITU-T T.81, annex B; EXIF: CIPA DC-008, 4.7.2) ----------------------------------------


def _decode_jpeg(data: tf.Tensor, limit: int) -> tf.Tensor:
    data = _within_limit(data, _jpeg_size(data), limit)
    # The accurate transform costs nothing measurable and gives the pixels that Pillow gives.
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.cond(
        _may_have_exif(data),  # one cheap look spares most images the walk along the segments
        lambda: _call_apart(_upright_jpeg, image, data),
        lambda: image,
    )


def _upright_jpeg(image: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    return _upright(image, _jpeg_exif(data))


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(data, output_type=tf.int64)[:2]


def _jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """Content of the first EXIF segment before the scan; empty when there is none."""
    size = tf.strings.length(data)

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return (at < size) & (_part(data, at + 4, 6) != _EXIF_NAME)

    def step(at: tf.Tensor) -> tuple[tf.Tensor]:
        marker, length = tf.unstack(_integers(data, at, 2, tf.uint16, little=False))
        is_last = (marker == 0xFFDA) | (marker == 0xFFD9)  # start of scan, end of image
        is_junk = (marker < 0xFFC0) | (marker == 0xFFFF)
        return (tf.where(is_last, size, at + tf.where(is_junk, 1, 2 + length)),)

    at = tf.while_loop(is_other, step, (tf.constant(2),), maximum_iterations=_MAX_JPEG_STEPS)[0]
    length = _integers(data, at + 2, 1, tf.uint16, little=False)[0]
    return _part(data, at + 4, tf.maximum(length - 2, 0))


# PNG (W3C PNG, third edition) ----------------------------------------------------------------


def _decode_png(data: tf.Tensor, limit: int) -> tf.Tensor:
    data = _within_limit(data, _png_size(data), limit)
    image = tf.io.decode_png(data, channels=3)
    second_chunk = tf.io.decode_raw(data, tf.uint8, fixed_length=41)[37:]
    return tf.cond(
        tf.reduce_all(second_chunk == list(b"IDAT")),  # the image data: no EXIF data before them
        lambda: image,
        lambda: _call_apart(_upright_png, image, data),
    )


def _png_size(data: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(data, tf.int32, little_endian=False, fixed_length=24)
    return tf.cast(head[:3:-1], tf.int64)  # ends with width, height


def _upright_png(image: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    return _upright(image, _find_chunk(data, 33, "eXIf", last="IDAT", is_png=True))


# WebP (RFC 9649) -----------------------------------------------------------------------------


def _decode_webp(data: tf.Tensor, limit: int) -> tf.Tensor:
    data = _within_limit(data, _webp_size(data), limit)
    # channels=3 is refused for an image with alpha; without expand_animations: the first frame
    image = tf.io.decode_image(data, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, None])[:, :, :3]
    head = _bytes_at(data, 0, 21)
    has_exif = (head[15] == ord("X")) & (tf.bitwise.bitwise_and(head[20], 8) > 0)

    def upright() -> tf.Tensor:
        return _upright(image, _find_chunk(data, 30, "EXIF", last="", is_png=False))

    return tf.cond(has_exif, upright, lambda: image)


def _webp_size(data: tf.Tensor) -> tf.Tensor:
    head = _bytes_at(data, 0, 30)
    lossy = [_little(head[28:30]) % 2**14, _little(head[26:28]) % 2**14]
    packed = _little(head[21:25])
    lossless = [packed // 2**14 % 2**14 + 1, packed % 2**14 + 1]
    extended = [_little(head[27:30]) + 1, _little(head[24:27]) + 1]
    sizes = tf.stack([lossy, lossless, extended])
    is_kind = tf.cast(head[15] == [ord(" "), ord("L"), ord("X")], tf.int64)
    return tf.reduce_sum(sizes * is_kind[:, None], axis=0)


# GIF (CompuServe GIF89a) ---------------------------------------------------------------------


def _decode_gif(data: tf.Tensor, limit: int) -> tf.Tensor:
    """The first frame on its canvas; TensorFlow is shown no other, and told an offset of 0."""
    at, descriptor, size, steps = _gif_layout(data)
    data = _within_limit(data, size, limit)
    end, _ = _after_sub_blocks(data, at + 11 + _color_table_bytes(descriptor[9]), steps)
    parts = [
        _part(data, 0, at + 1),
        tf.constant(b"\0\0\0\0"),
        _part(data, at + 5, tf.maximum(end - at - 5, 0)),
        tf.constant(b";"),
    ]
    image = tf.io.decode_image(tf.strings.join(parts), channels=3, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, 3])
    left, top = tf.unstack(tf.cast(_little(tf.reshape(descriptor[1:5], [2, 2])), tf.int32))
    below, right = tf.unstack(tf.cast(size, tf.int32) - tf.shape(image)[:2] - [top, left])
    return tf.pad(image, [[top, below], [left, right], [0, 0]])


def _gif_size(data: tf.Tensor) -> tf.Tensor:
    return _gif_layout(data)[2]


def _gif_layout(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Place and bytes of the first frame's descriptor, size of the canvas, steps left."""
    head = _bytes_at(data, 0, 13)
    at, steps = tf.while_loop(
        lambda at, steps: (_bytes_at(data, at, 1)[0] == ord("!")) & (steps > 0),
        lambda at, steps: _after_sub_blocks(data, at + 2, steps),
        (13 + _color_table_bytes(head[10]), tf.constant(_MAX_GIF_STEPS)),
    )
    descriptor = _bytes_at(data, at, 10)
    with _asserted(descriptor[0] == ord(","), "GIF without a frame"):
        frame = _little(tf.reshape(descriptor[1:9], [4, 2]))
    screen = _little(tf.reshape(head[6:10], [2, 2]))
    canvas = tf.where(frame[2:] > 0, tf.maximum(screen, frame[:2] + frame[2:]), 0)
    return at, descriptor, canvas[::-1], steps


def _color_table_bytes(flags: tf.Tensor) -> tf.Tensor:
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _after_sub_blocks(
    data: tf.Tensor, at: tf.Tensor, steps: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a chain of length-prefixed blocks ends, and how many of the steps are left.

    It ends with the data when it is cut short or takes too many steps.
    """
    size = tf.strings.length(data)

    def step(at: tf.Tensor, _: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Most blocks have the full 255 bytes: look at 16 at once, jump over those that have.
        lengths = _bytes_at(data, at, 16 * 256)[::256]
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
    """TensorFlow's decoder reads three bytes a pixel; it takes palette indices for grey values."""
    data = _within_limit(data, _bmp_size(data), limit)
    header = _integers(data, 10, 6, tf.int32)
    pixels_at, header_bytes, width, height, bits, compression = tf.unstack(header)
    bits //= 2**16  # below them stands the number of planes, always 1
    masks = _integers(data, 54, 3, tf.int32)
    is_known = (compression == 0) & tf.reduce_any(bits == [1, 4, 8, 24, 32])
    is_known |= (compression == 3) & (bits == 32) & tf.reduce_all(masks == [0xFF0000, 0xFF00, 0xFF])
    is_known &= (tf.strings.substr(data, 0, 2) == "BM") & (header_bytes >= 40) & (pixels_at >= 54)
    is_known &= width < 2**26  # a row's bits can be counted
    with _asserted(is_known, "BMP of an unknown kind"):
        num_rows = tf.abs(height)
        row_bytes = (width * bits + 31) // 32 * 4

    def read_rows() -> tf.Tensor:
        rows = tf.io.decode_raw(_part(data, pixels_at, row_bytes * num_rows), tf.uint8)
        return tf.reshape(rows, [num_rows, row_bytes])

    def indexed() -> tf.Tensor:
        at = 14 + header_bytes
        palette = _part(data, at, tf.maximum(pixels_at - at, 0))
        palette = tf.io.decode_raw(palette, tf.uint8, fixed_length=4 * 256)
        shifts = tf.range(8 - bits, -1, -bits)
        index = tf.bitwise.right_shift(tf.cast(read_rows(), tf.int32)[:, :, None], shifts)
        index %= tf.bitwise.left_shift(1, bits)
        index = tf.reshape(index, [num_rows, row_bytes * 8 // bits])[:, :width]
        return upright(tf.gather(tf.reshape(palette, [256, 4])[:, 2::-1], index))

    def with_fourth_byte() -> tf.Tensor:
        pixels = read_rows()[:, : width * 4]
        return upright(tf.reshape(pixels, [num_rows, width, 4])[:, :, 2::-1])

    def upright(image: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([height > 0, False, False]))

    return tf.cond(
        bits == 24,
        lambda: tf.image.decode_bmp(data, channels=3),
        lambda: tf.cond(bits <= 8, indexed, with_fourth_byte),
    )


def _bmp_size(data: tf.Tensor) -> tf.Tensor:
    width, height = tf.unstack(tf.cast(_integers(data, 18, 2, tf.int32), tf.int64))
    return tf.stack([tf.abs(height), width])  # rows from the top down have a negative height


_SIZES = {
    "jpeg": _jpeg_size,
    "png": _png_size,
    "gif": _gif_size,
    "bmp": _bmp_size,
    "webp": _webp_size,
}
"""For each format: the declared height and width, int64 [2], read without decoding."""


# Orientation (TIFF 6.0, section 8; EXIF as above) --------------------------------------------

_TURNS = np.array(
    [[0, 0, 0]] * 2 + [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]],
    bool,
)
"""By orientation: whether rows become columns, then whether rows and whether columns turn over."""


def _upright(image: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    orientation = _orientation(exif)

    def turned() -> tf.Tensor:
        is_transposed, turns_rows, turns_columns = tf.unstack(tf.gather(_TURNS, orientation))
        order = tf.where(is_transposed, [1, 0, 2], [0, 1, 2])
        flips = tf.stack([turns_rows, turns_columns, False])
        return tf.raw_ops.Reverse(tensor=tf.transpose(image, order), dims=flips)

    return tf.cond(orientation > 1, turned, lambda: image)


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation 1 to 8 in EXIF data, int32; 1 when there is none or it is broken."""
    has_name = tf.strings.substr(exif, 0, 6) == _EXIF_NAME  # always in JPEG, sometimes in WebP
    start = tf.where(has_name, 6, 0)
    tiff = tf.strings.substr(exif, start, tf.strings.length(exif) - start) + b"\0" * 8
    mark = tf.strings.substr(tiff, 0, 4)
    value = tf.cond(
        mark == b"II*\0",
        lambda: _first_orientation(tiff, little=True),
        lambda: _first_orientation(tiff, little=False),
    )
    is_sound = ((mark == b"II*\0") | (mark == b"MM\0*")) & (value >= 1) & (value <= 8)
    return tf.where(is_sound, value, 1)


_EXIF_NAME = b"Exif\0\0"


def _first_orientation(tiff: tf.Tensor, *, little: bool) -> tf.Tensor:
    """The value of tag 274 in the first directory; 0 when it is not there."""
    size = tf.strings.length(tiff)
    at = tf.clip_by_value(_integers(tiff, 4, 1, tf.int32, little=little)[0], 0, size - 2)
    num_entries = _integers(tiff, at, 1, tf.uint16, little=little)[0]
    num_entries = tf.minimum(num_entries, (size - at - 2) // 12)
    entries = tf.strings.substr(tiff, at + 2, 12 * num_entries)
    entries = tf.cast(tf.io.decode_raw(entries, tf.uint16, little_endian=little), tf.int32)
    entries = tf.reshape(entries, [num_entries, 6])  # tag, type, two words of count, two of value
    tag, kind = entries[:, 0], entries[:, 1]
    value = tf.where(kind == 3, entries[:, 4], entries[:, 4 if little else 5])  # short, long
    is_orientation = (tag == 274) & ((kind == 3) | (kind == 4))
    return tf.reduce_max(tf.concat([[0], tf.where(is_orientation, value, 0)], axis=0))


def _find_chunk(data: tf.Tensor, first: int, name: str, *, last: str, is_png: bool) -> tf.Tensor:
    """Content of the first chunk of a name; empty when the last, or the end, comes before it."""
    name_at, length_at, around = (4, 0, 12) if is_png else (0, 4, 8)

    def content_bytes(at: tf.Tensor) -> tf.Tensor:
        length = _integers(data, at + length_at, 1, tf.int32, little=not is_png)[0]
        return tf.cast(tf.maximum(length, 0), tf.int64)

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(_part(data, at + name_at, 4) != [name, last, ""])

    def step(at: tf.Tensor) -> tuple[tf.Tensor]:
        length = content_bytes(at)
        return (at + around + length + (0 if is_png else length % 2),)  # RIFF pads to even lengths

    start = tf.constant(first, tf.int64)  # a length may be near 2**31
    at = tf.while_loop(is_other, step, (start,), maximum_iterations=_MAX_CHUNKS)[0]
    is_found = _part(data, at + name_at, 4) == name
    return _part(data, at + 8, tf.where(is_found, content_bytes(at), 0))


# Bytes and numbers ---------------------------------------------------------------------------


def _part(data: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """So many bytes from a place; fewer, or none, at the end of the data.

    TensorFlow's own error would hold the data, and be a UnicodeDecodeError for it.
    """
    start = tf.convert_to_tensor(start)
    size = tf.cast(tf.strings.length(data), start.dtype)
    return tf.strings.substr(data, tf.clip_by_value(start, 0, size), length)


def _bytes_at(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """Bytes from a place, int32 [count]; zeros follow the last."""
    part = data if isinstance(start, int) and start == 0 else _part(data, start, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int32)


def _integers(
    data: tf.Tensor, start: tf.Tensor | int, count: int, dtype: tf.DType, *, little: bool = True
) -> tf.Tensor:
    """Numbers of a type from a place, int32 [count]; zeros follow the last."""
    length = count * dtype.size
    part = _part(data, start, length)
    return tf.cast(tf.io.decode_raw(part, dtype, little, length), tf.int32)


def _little(digits: tf.Tensor) -> tf.Tensor:
    """Little-endian bytes [..., n] as numbers, int64 [...]."""
    weights = 256 ** np.arange(digits.shape[-1], dtype=np.int64)
    return tf.reduce_sum(tf.cast(digits, tf.int64) * weights, axis=-1)


def _call_apart(
    function: Callable[..., tf.Tensor], *inputs: tf.Tensor, **constants: int
) -> tf.Tensor:
    """What the function returns, as one node of the graph.

    Without it each image would pay, node by node, for the branches that it does not take:
    0.2 ms, five times what a small PNG takes to decode.
    """
    if tf.executing_eagerly():
        return function(*inputs, **constants)
    return _as_node(function, **constants)(*inputs)


@functools.cache  # traced once, however many graphs it is part of
def _as_node(function: Callable[..., tf.Tensor], **constants: int) -> Any:
    bound = functools.partial(function, **constants)
    apart = {"_noinline": True}
    return tf.function(bound, autograph=False, experimental_attributes=apart)


def _within_limit(data: tf.Tensor, size: tf.Tensor, limit: int) -> tf.Tensor:
    """The data, once its declared height and width, int64 [2], are known to be within the limit."""
    pixels = tf.reduce_prod(size)
    text = f"image of no pixels or of more than {limit}; height and width:"
    with _asserted((pixels > 0) & (pixels <= limit), text, size):
        return tf.identity(data)


def _asserted(condition: tf.Tensor, text: str, *values: tf.Tensor) -> AbstractContextManager[None]:
    """What is computed inside is computed after the assertion holds, or not at all."""
    check = tf.raw_ops.Assert(condition=condition, data=[tf.constant(text), *values])
    return contextlib.nullcontext() if check is None else tf.control_dependencies([check])


# What else it may be -------------------------------------------------------------------------

_OTHER_SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "GZIP-compressed data",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<head": "HTML",
    b"{": "JSON",
    b"RIFF": "AVI or WAV",
}


def _guess_of_unknown(data: bytes) -> str:
    """What bytes of no known format look like; empty when there is no telling."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _OTHER_SIGNATURES.items():
        if data.startswith(signature) or start.lower().startswith(signature):
            return name
    if re.match(rb"P[1-7]\s", data):
        return "PPM"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIC" if brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc") else "MP4"
    if not data.strip(b"\0"):
        return "zeros only, as a failed copy leaves them"
    return ""
