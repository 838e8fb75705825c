"""Thirteen tiny pictures and a way to write them down; for the tests of the data path."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

COUNT = 13


def png(number, side=2):
    """A picture whose colour says its number."""
    return tf.io.encode_png(np.full([side, side, 3], number, np.uint8)).numpy()


PICTURES = [png(i) for i in range(COUNT)]


def write(path, serialized, compression=""):
    """The path of a new TFRecord file."""
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for data in serialized:
            writer.write(data)
    return str(path)
