"""Tiny pictures and ways to write them down; for tests of what reads them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.pipeline.example_readers import IndexedReader, StreamingReader
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.dataset.pipeline.stream import Stream

COUNT = 13


def png(value, size=(2, 2)):
    """An encoded picture of one grey."""
    return tf.io.encode_png(np.full([*size, 3], value, np.uint8)).numpy()


PICTURES = [png(i) for i in range(COUNT)]


def example(number, **features):
    """A serialized example of single values."""
    lists = {
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=[v])),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])),
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])),
    }
    built = {name: lists[type(value)](value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=built)).SerializeToString()


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
