"""EXIF orientation of images: reading it and turning upright (CIPA DC-008, TIFF 6.0 section 8).

    image = turned_upright(image, jpeg_exif(data))

Broken EXIF data and an orientation other than 1 to 8 mean "as stored".
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.image.byte_ops import call_apart, integers, part_of
from tf_image_classification.dataset.image.limits import (
    EXIF_SEARCHED_BYTES,
    MAX_CHUNKS,
    MAX_MARKERS,
)

_EXIF_OFFSETS = np.arange(EXIF_SEARCHED_BYTES - 4, dtype=np.int32).reshape(-1, 1, 4).T
"""Offsets in the searched bytes, int32 [4, 1, n / 4]: row i has i, i + 4, i + 8, ..."""

_MAX_EXIF_ENTRIES = 64

_TURNS = np.array(
    [[0, 0, 0]] * 2 + [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]],
    bool,
)
"""By orientation: transpose, then reverse rows, then reverse columns."""

_EXIF_NAME = b"Exif\0\0"


def turned_upright(image: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """The upright image [h, w, C], turned and mirrored by its EXIF data, a scalar string."""
    orientation = exif_orientation(exif)

    def turned() -> tf.Tensor:
        is_transposed, turns_rows, turns_columns = tf.unstack(tf.gather(_TURNS, orientation))
        axes = tf.where(is_transposed, [1, 0, 2], [0, 1, 2])
        flips = tf.stack([turns_rows, turns_columns, False])
        return tf.raw_ops.Reverse(tensor=tf.transpose(image, axes), dims=flips)

    return tf.cond(orientation > 1, turned, lambda: image)


def exif_orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in EXIF data, int32, 1 to 8; 1 where it is missing or broken."""
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


def _first_orientation(tiff: tf.Tensor, *, little: bool) -> tf.Tensor:
    """The value of tag 274 (orientation) in the first directory; 0 without it."""
    size = tf.strings.length(tiff)
    at = tf.clip_by_value(integers(tiff, 4, 1, tf.int32, little=little)[0], 0, size - 2)
    num_entries = integers(tiff, at, 1, tf.uint16, little=little)[0]
    num_entries = tf.minimum(num_entries, (size - at - 2) // 12)
    entries = tf.strings.substr(tiff, at + 2, 12 * num_entries)
    entries = tf.cast(tf.io.decode_raw(entries, tf.uint16, little_endian=little), tf.int32)
    entries = tf.reshape(entries, [num_entries, 6])  # tag, type, two words of count, two of value
    tag, kind = entries[:, 0], entries[:, 1]
    value = tf.where(kind == 3, entries[:, 4], entries[:, 4 if little else 5])  # short, long
    is_orientation = (tag == 274) & ((kind == 3) | (kind == 4))
    return tf.reduce_max(tf.concat([[0], tf.where(is_orientation, value, 0)], axis=0))


def find_chunk(data: tf.Tensor, first: int, name: str, *, last: str, is_png: bool) -> tf.Tensor:
    """Content of the first chunk of a name before the chunk ``last``; empty without it."""
    name_at, length_at, around = (4, 0, 12) if is_png else (0, 4, 8)

    def content_bytes(at: tf.Tensor) -> tf.Tensor:
        length = integers(data, at + length_at, 1, tf.int32, little=not is_png)[0]
        return tf.cast(tf.maximum(length, 0), tf.int64)

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(part_of(data, at + name_at, 4) != [name, last, ""])

    def step(at: tf.Tensor) -> tuple[tf.Tensor]:
        length = content_bytes(at)
        return (at + around + length + (0 if is_png else length % 2),)  # RIFF pads to even lengths

    start = tf.constant(first, tf.int64)  # a length may be near 2**31
    at = tf.while_loop(is_other, step, (start,), maximum_iterations=MAX_CHUNKS)[0]
    is_found = part_of(data, at + name_at, 4) == name
    return part_of(data, at + 8, tf.where(is_found, content_bytes(at), 0))


def are_upright(data: tf.Tensor) -> tf.Tensor:
    """Whether encoded images, string [n], are certainly stored upright: bool [n].

    True where the first 4096 bytes hold no EXIF data, or a complete directory with orientation 1.
    """
    start = _first_bytes(data)
    is_exif = _is_exif(start)
    return tf.cond(
        tf.reduce_any(is_exif),
        lambda: call_apart(_have_no_other_orientation, start, is_exif),
        lambda: tf.ones(tf.shape(start)[:1], tf.bool),
    )


def _first_bytes(data: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_raw(data, tf.uint8, fixed_length=EXIF_SEARCHED_BYTES)


def _is_exif(start: tf.Tensor) -> tf.Tensor:
    """Whether "Exif" begins at each offset of first bytes, uint8 [n, 4096]: bool [4, n, offsets].

    Compares four bytes at once: a regular expression takes 0.8 ms per image, other orders of the
    words 0.1 ms.
    """
    rows = tf.stack([start[:, i : i - 4] for i in range(4)])
    words = tf.bitcast(tf.reshape(rows, [4, -1, _EXIF_OFFSETS.shape[2], 4]), tf.uint32)
    return tf.equal(words, int.from_bytes(b"Exif", "little"))


def _have_no_other_orientation(start: tf.Tensor, is_exif: tf.Tensor) -> tf.Tensor:
    """As ``exif_orientation``, for directories of up to 64 entries within these bytes: bool [n]."""
    first = tf.reduce_min(tf.where(is_exif, _EXIF_OFFSETS, EXIF_SEARCHED_BYTES), axis=[0, 2])
    tiff = first + 6
    numbers = tf.cast(start, tf.int32)

    def words_at(places: tf.Tensor, is_little: tf.Tensor) -> tf.Tensor:
        places = tf.clip_by_value(places, 0, EXIF_SEARCHED_BYTES - 2)
        first, second = (tf.gather(numbers, places + i, batch_dims=1) for i in (0, 1))
        return tf.where(is_little, first + 256 * second, 256 * first + second)

    mark = tf.gather(numbers, tf.minimum(tiff, EXIF_SEARCHED_BYTES - 1), batch_dims=1)
    is_little = (mark == ord("I"))[:, None]
    offset = words_at(tf.stack([tiff + 4, tiff + 6], axis=1), is_little)
    low, high = (tf.where(is_little[:, 0], offset[:, i], offset[:, 1 - i]) for i in (0, 1))
    directory = tiff + low
    count = words_at(directory[:, None], is_little)[:, 0]
    entries = directory[:, None] + 2 + 12 * tf.range(_MAX_EXIF_ENTRIES)
    is_entry = tf.range(_MAX_EXIF_ENTRIES) < count[:, None]
    is_orientation = is_entry & (words_at(entries, is_little) == 274)
    value = tf.where(is_orientation, words_at(entries + 8, is_little), 1)
    kind = tf.where(is_orientation, words_at(entries + 2, is_little), 3)
    is_usual = (high == 0) & (directory + 2 + 12 * count <= EXIF_SEARCHED_BYTES)
    is_usual &= (count <= _MAX_EXIF_ENTRIES) & tf.reduce_all((value == 1) & (kind == 3), axis=1)
    return is_usual | (first == EXIF_SEARCHED_BYTES)


def may_have_exif(data: tf.Tensor) -> tf.Tensor:
    """Whether "Exif" is among the first bytes of one image, scalar bool."""
    return tf.reduce_any(_is_exif(_first_bytes(data[tf.newaxis])))


def jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """Content of the first EXIF segment before the scan, scalar string; empty without one."""
    size = tf.strings.length(data)

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return (at < size) & (part_of(data, at + 4, 6) != _EXIF_NAME)

    def step(at: tf.Tensor) -> tuple[tf.Tensor]:
        marker, length = tf.unstack(integers(data, at, 2, tf.uint16, little=False))
        is_last = (marker == 0xFFDA) | (marker == 0xFFD9)  # start of scan, end of image
        is_junk = (marker < 0xFFC0) | (marker == 0xFFFF)
        return (tf.where(is_last, size, at + tf.where(is_junk, 1, 2 + length)),)

    at = tf.while_loop(is_other, step, (tf.constant(2),), maximum_iterations=MAX_MARKERS)[0]
    length = integers(data, at + 2, 1, tf.uint16, little=False)[0]
    return part_of(data, at + 4, tf.maximum(length - 2, 0))
