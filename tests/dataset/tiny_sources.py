"""Thirteen tiny pictures and the ways to write them down; for the tests of the data path."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.dataset import pipeline as pipeline_module
from tf_image_classification.dataset.pipeline import Pipeline
from tf_image_classification.dataset.sources import SourceOptions, read_source
from tf_image_classification.dataset.stream import read_stream
from tf_image_classification.labels import Label, LabelSchema

COUNT = 13
SCHEMA = LabelSchema((Label("kind", depth=3),))
NUMBERED = SCHEMA.with_vocabularies({"kind": ("0", "1", "2")})


def png(number, side=2):
    """A picture whose colour says its number."""
    return tf.io.encode_png(np.full([side, side, 3], number, np.uint8)).numpy()


PICTURES = [png(i) for i in range(COUNT)]


def feature(value):
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def record(**features):
    """A serialized example; float, int, bytes, or a list of them."""
    built = {name: feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=built)).SerializeToString()


def records(count=COUNT, start=0):
    return [
        record(image_bytes=png(i), kind=float(i % 3)) for i in range(start, start + count)
    ]  # fmt: skip


def write(path, serialized, compression=""):
    """The path of a new TFRecord file."""
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for data in serialized:
            writer.write(data)
    return str(path)


def options(folder, **changes):
    return SourceOptions(option="train_metadata", cache_dir=str(folder / "cache"), **changes)


def read_table(paths, folder, schema=NUMBERED):
    return read_source(paths, schema, options(folder)).encode(schema)


def stream_of(paths, folder, *, block=5, schema=NUMBERED, vocabularies=None):
    return read_stream(
        paths, schema, options(folder), block=block, vocabularies=vocabularies or {}
    )  # fmt: skip


def plain(image, width, height):
    return tf.image.resize(image, [height, width])


def seeded(image, width, height, seed):
    return tf.image.resize(image, [height, width]) + tf.random.stateless_uniform([], seed)


def make_pipeline(source, **changes):
    defaults = {"preproc": plain, "batch_size": 4, "image_size": 2, "max_image_pixels": 100}
    return Pipeline(source=source, **{**defaults, **changes})


def taken(dataset, count=-1):
    """Batches as arrays."""
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in dataset.take(count)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def ids_of(batches):
    return [int(i) for batch in batches for i in np.asarray(batch.ids)]


@pytest.fixture
def quick_decoder(monkeypatch):
    """Decode PNG only: tracing the whole decoder for each dataset would take most of the time."""
    decoder = tf.function(lambda data: tf.io.decode_png(data, channels=3))
    monkeypatch.setattr(pipeline_module, "_decoder", lambda max_pixels: decoder)
