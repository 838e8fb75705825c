"""Guards against small files that would crash the decoder or keep it busy for minutes.

    data = with_alpha_flag(data)                 an animated WebP
    data = within_scan_limit(data, size)         a JPEG
    data = within_text_limit(data)               a PNG

TensorFlow's decoders check the declared size of an image; these files need time or memory for
other reasons. All functions work in-graph, and cost next to nothing for ordinary files.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.image.byte_ops import asserted, bytes_at, part_of
from tf_image_classification.dataset.image.limits import (
    MAX_MARKERS,
    MAX_SCAN_PIXELS,
    MAX_TEXT_CHUNKS,
    MIN_SCAN_BYTES,
    SHORT_PNG_BYTES,
)

_SCAN = b"\xff\xda\x00"  # start of scan, and the first byte of the length of its header
_SCAN_HEADERS = (b"\x08\x01", b"\x0a\x02", b"\x0c\x03", b"\x0e\x04")  # length, number of components
_BYTES = np.array([bytes([number]) for number in range(256)], object)  # dtype "S" would lose b"\0"


def with_alpha_flag(data: tf.Tensor) -> tf.Tensor:
    """The animated WebP with the alpha flag set in its header, scalar string.

    Without the flag TensorFlow allocates three bytes per pixel and writes four, beyond the end of
    the buffer.
    """
    flags = tf.bitwise.bitwise_or(tf.io.decode_raw(part_of(data, 20, 1), tf.uint8), 0x10)
    flag = tf.gather(_BYTES, tf.cast(flags[0], tf.int32))
    rest = part_of(data, 21, tf.strings.length(data))
    return tf.strings.join([part_of(data, 0, 20), flag, rest])


def within_scan_limit(data: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The JPEG, after a check that pixels times scans is within ``MAX_SCAN_PIXELS``.

    Args:
        data: scalar string.
        size: its height and width, int64 [2].

    Raises:
        tf.errors.InvalidArgumentError: it is not.
    """
    pixels = tf.reduce_prod(size)

    def checked() -> tf.Tensor:
        return tf.cond(_is_of_one_scan(data), lambda: data, counted)

    def counted() -> tf.Tensor:
        with asserted(pixels * num_scans(data) <= MAX_SCAN_PIXELS, "JPEG of too many scans"):
            return tf.identity(data)

    most_scans = tf.strings.length(data) // MIN_SCAN_BYTES + 1
    may_be_too_many = pixels * tf.cast(most_scans, tf.int64) > MAX_SCAN_PIXELS
    return tf.cond(may_be_too_many, checked, lambda: data)


def _is_of_one_scan(data: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG is sequential with all components in its first scan, and so its only one.

    Reads only the markers before that scan, so that large photographs are not searched for more.
    Markers are skipped as libjpeg skips them.
    """

    def goes_on(at: tf.Tensor, frame: tf.Tensor, marker: tf.Tensor) -> tf.Tensor:
        return (marker != 0xDA) & (at < tf.strings.length(data))

    def step(at: tf.Tensor, frame: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        head = bytes_at(data, at, 10)
        marker = tf.where(head[0] == 0xFF, head[1], 0)
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(marker != [0xC4, 0xC8, 0xCC])
        frame = tf.where(is_frame, tf.stack([marker, head[9]]), frame)
        is_marker = (marker > 0x01) & (marker != 0xFF)
        has_content = is_marker & ((marker < 0xD0) | (marker > 0xD8))
        size = tf.where(has_content, 2 + 256 * head[2] + head[3], 1 + tf.cast(is_marker, tf.int32))
        return at + tf.where(marker == 0xDA, 0, size), frame, marker

    start = (tf.constant(2), tf.constant([0, 0]), tf.constant(0))
    at, frame, marker = tf.while_loop(goes_on, step, start, maximum_iterations=MAX_MARKERS)
    num_components = bytes_at(data, at + 4, 1)[0]
    is_sequential = (frame[0] == 0xC0) | (frame[0] == 0xC1)
    return (marker == 0xDA) & is_sequential & (num_components == frame[1])


def num_scans(data: tf.Tensor) -> tf.Tensor:
    """Number of scan headers in a JPEG, int64, including those of an embedded thumbnail."""
    after = tf.raw_ops.StringSplitV2(input=data[tf.newaxis], sep=_SCAN).values[1:]
    is_header = tf.strings.substr(after + b"\0\0", 0, 2)[:, tf.newaxis] == _SCAN_HEADERS
    return tf.math.count_nonzero(is_header)


def within_text_limit(data: tf.Tensor) -> tf.Tensor:
    """The PNG, after a check that it has at most ``MAX_TEXT_CHUNKS`` compressed texts.

    Raises:
        tf.errors.InvalidArgumentError: it has more.
    """

    def checked() -> tf.Tensor:
        with asserted(num_text_chunks(data) <= MAX_TEXT_CHUNKS, "PNG of too many texts"):
            return tf.identity(data)

    return tf.cond(tf.strings.length(data) > SHORT_PNG_BYTES, checked, lambda: data)


def num_text_chunks(data: tf.Tensor) -> tf.Tensor:
    """Number of chunks of a PNG that may be compressed texts, int32.

    Counts the end of their names, zTXt and iTXt, which occurs in pixels by chance once in 16 MB.
    """
    parts = tf.raw_ops.StringSplitV2(input=data[tf.newaxis], sep=b"TXt").values
    return tf.maximum(tf.size(parts) - 1 - tf.strings.length(data) // 2**22, 0)
