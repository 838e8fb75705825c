"""A cache of decoded images in memory, for small sets of images of one size.

    images = DecodedCache(table, max_pixels=10**8).images()      uint8 [N, h, w, 3], or None

Decoding a small image costs as much as the rest of its input, and the pixels of 60,000 digits fit
in 141 MB. Whether images are kept depends on nothing but the examples, so that a run is the same
on every machine.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.table import Table
from tf_image_classification.system.autograph import unconverted

MAX_BYTES = 2**28
"""Sets with more bytes of pixels are not kept in memory."""

log = logging.getLogger("tf_image_classification")
_CHUNK = 128


class DecodedCache:
    """The decoded images of a table, made at the first call of ``images``.

    Attributes:
        table: the examples.
        max_pixels: as ``decode_image`` takes it.
        png16_range: as ``decode_image`` takes it.
    """

    def __init__(
        self, table: Table, *, max_pixels: int, png16_range: PixelRange = FULL_RANGE
    ) -> None:
        self.table = table
        self.max_pixels = max_pixels
        self.png16_range = png16_range
        self._lock = threading.Lock()
        self._images: tf.Tensor | None = None
        self._is_known = False

    def images(self) -> tf.Tensor | None:
        """Uint8 [N, h, w, 3]; None where sizes differ, an image is bad or they are too many."""
        with self._lock:
            if not self._is_known:
                self._images, self._is_known = self._decoded(), True
            return self._images

    def _decoded(self) -> tf.Tensor | None:
        decode = decoder(self.max_pixels, self.png16_range)
        count = self.table.num_examples
        try:
            first = decode(self.table.fetch(tf.constant([0], tf.int64))[0])
            if count * int(tf.size(first)) > MAX_BYTES:
                return None
            images = np.empty([count, *first.shape], np.uint8)
            chunks = tf.data.Dataset.range(count).batch(_CHUNK)
            done = 0
            for data in chunks.map(
                unconverted(self.table.fetch),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            ):
                part = _decoder_of_chunks(self.max_pixels, self.png16_range)(data)
                if part.shape[1:] != first.shape:
                    return None
                images[done : done + len(part)] = part
                done += len(part)
        except tf.errors.OpError:  # other sizes, or a bad image, which is named when its turn comes
            return None
        height, width, _ = first.shape
        log.info(
            "%d images of %d x %d px are kept decoded (%d MB).",
            *(count, width, height, images.nbytes // 10**6),
        )
        with tf.device("CPU:0"):
            return tf.constant(images)


@functools.cache
def _decoder_of_chunks(max_pixels: int, png16_range: PixelRange) -> Any:
    """Encoded images, string [n], of one size to uint8 [n, h, w, 3]; traced once a process."""
    decode = decoder(max_pixels, png16_range)
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.function(
        unconverted(lambda data: tf.map_fn(decode, data, fn_output_signature=spec)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
