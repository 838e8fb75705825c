"""Training throughput of our loop against Keras ``fit``, same model, same files, in one run.

    python benchmarks/train_throughput.py [--small_only]

Both read the same TFRecords. ``fit`` gets the idiomatic tf.data pipeline: parse, decode, shuffle a
buffer, batch, prefetch. The two are measured in turn, several rounds each; what is printed is each
one's images over its seconds in all rounds, and the ratio of the two.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # for both; the package does it by itself

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification import EstimatorSpec, make_settings
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.build import assemble
from tf_image_classification.workflows.setup.context import make_context

NUM_CLASSES = 10


def small_cnn(image_shape):
    inputs = keras.Input(image_shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(32, 3, activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(64, 3, activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(NUM_CLASSES)(x))


def mobilenet_v2(image_shape):
    inputs = keras.Input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    net = keras.applications.MobileNetV2(
        input_shape=image_shape, weights=None, include_top=False, pooling="avg"
    )
    return keras.Model(inputs, keras.layers.Dense(NUM_CLASSES)(net(x)))


class Spec(EstimatorSpec):
    """The model under test with nothing but resizing."""

    class_dict = ({"name": "class_id", "depth": NUM_CLASSES},)

    def __init__(self, build):
        self.build = build

    def get_preproc_fn(self, is_training):
        return preproc

    def get_model_fn(self, checkpoint_path):
        return lambda image_shape, params: self.build(image_shape)

    def metric_ops(self, labels, predictions):
        return None


def preproc(image, width, height):
    return tf.image.resize(image, [height, width])


def write_images(folder, size, count, num_shards=1):
    random = np.random.default_rng(0)
    encode = tf.io.encode_png if size <= 64 else tf.io.encode_jpeg

    def examples():
        for i in range(count):
            coarse = random.integers(0, 256, (7, 7, 3)).astype(np.float32)
            image = tf.cast(tf.image.resize(coarse, [size, size]), tf.uint8)
            yield encode(image).numpy(), f"{i}", {"class_id": float(i % NUM_CLASSES)}

    return write_shards(folder, "train", examples(), num_shards=num_shards)


class Ours:
    """Our loop, without hooks, on an assembled run."""

    def __init__(self, build, paths, size, batch_size, cache_dir, workers=None):
        settings = make_settings(
            {
                "train_metadata": paths,
                "image_size": size,
                "batch_size": batch_size,
                "train_steps": 10**6,
                "optimizer": "adam",
                "learning_rate_decay_type": "fixed",
                "deterministic": False,
                "cache_dir": cache_dir,
            }
        )
        spec = Spec(build)
        context = make_context(spec, settings, workers or Workers(make_strategy("one_device")))
        data = run_data.read_data(context)
        self.run = assemble(context, data, []).run

    def train(self, steps):
        self.run.time_steps(steps)


class Fit:
    """Keras ``fit`` on the pipeline that its documentation shows."""

    def __init__(self, build, paths, size, batch_size):
        features = {
            "image_bytes": tf.io.FixedLenFeature([], tf.string),
            "class_id": tf.io.FixedLenFeature([], tf.float32),
        }

        def load(record):
            example = tf.io.parse_single_example(record, features)
            image = tf.io.decode_image(example["image_bytes"], channels=3, expand_animations=False)
            image.set_shape([None, None, 3])
            return preproc(image, size, size), tf.cast(example["class_id"], tf.int64)

        self.data = (
            tf.data.TFRecordDataset(paths, compression_type="GZIP")
            .shuffle(5000)
            .repeat()
            .map(load, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size)
            .prefetch(tf.data.AUTOTUNE)
        )
        self.model = build((size, size, 3))
        self.model.compile(
            "adam",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )

    def train(self, steps):
        self.model.fit(self.data, steps_per_epoch=steps, epochs=1, verbose=0)


def compare(name, build, *, size, batch_size, count, steps, rounds):
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(folder, size, count)
        contestants = {
            "ours": Ours(build, paths, size, batch_size, os.path.join(folder, "cache")),
            "fit": Fit(build, paths, size, batch_size),
        }
        secs = dict.fromkeys(contestants, 0.0)
        for contestant in contestants.values():
            contestant.train(steps)  # traces, fills buffers; not counted
        for _ in range(rounds):
            for who, contestant in contestants.items():
                began = time.perf_counter()
                contestant.train(steps)
                secs[who] += time.perf_counter() - began
    ours, fit = (rounds * steps * batch_size / secs[who] for who in ("ours", "fit"))
    print(
        f"{name:<28} ours {ours:8.0f} images/s   fit {fit:8.0f} images/s   "
        f"ratio {ours / fit:.2f}   ({rounds} rounds of {steps} steps each)",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small_only", action="store_true", help="leave MobileNetV2 out")
    arguments = parser.parse_args()
    compare(
        "small CNN, 28 px, batch 64",
        small_cnn,
        size=28,
        batch_size=64,
        count=6000,
        steps=300,
        rounds=9,
    )
    if not arguments.small_only:
        compare(
            "MobileNetV2, 128 px, batch 32",
            mobilenet_v2,
            size=128,
            batch_size=32,
            count=600,
            steps=8,
            rounds=5,
        )


if __name__ == "__main__":
    main()
