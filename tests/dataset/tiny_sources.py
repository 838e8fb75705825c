"""Thirteen tiny pictures and a way to write them down; for the tests of the data path."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.pipeline.example_readers import IndexedReader, StreamingReader
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.dataset.pipeline.stream import Stream

COUNT = 13


def png(number, side=2):
    """A picture whose colour says its number."""
    return tf.io.encode_png(np.full([side, side, 3], number, np.uint8)).numpy()


PICTURES = [png(i) for i in range(COUNT)]


def pipeline(source, *, batch_size=4, cache=None, seed=0, shuffle=True, **preprocessing):
    """A pipeline over a table or a stream; the other arguments are those of the preprocessor."""
    if isinstance(source, Stream):
        reader = StreamingReader(source, seed=seed, shuffle=shuffle)
    else:
        reader = IndexedReader(source, seed=seed, shuffle=shuffle, cache=cache)
    preprocessor = ImagePreprocessor(seed=seed, **preprocessing)
    return Pipeline(reader=reader, preprocessor=preprocessor, batch_size=batch_size)


def write(path, serialized, compression=""):
    """The path of a new TFRecord file."""
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for data in serialized:
            writer.write(data)
    return str(path)
