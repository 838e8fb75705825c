"""Training throughput of our loop beside Keras ``fit`` and PyTorch, same network, in one run.

    python benchmarks/train_throughput.py
    python benchmarks/train_throughput.py mobilenet_v2 resnet50 --torch peers/bin/python

Ours and ``fit`` train the same Keras model from the same TFRecords. ``fit`` gets the idiomatic
tf.data pipeline: parse, decode, shuffle a buffer, batch, prefetch. PyTorch trains eagerly, in
channels-last order, from batches in memory, in the environment of ``--torch`` (torch and timm). All
are measured in turn, several rounds each; what is printed is each one's images over its seconds in
all rounds, and our ratio to the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # for both; the package does it by itself

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification import EstimatorSpec, make_settings
from tf_image_classification.backbones import create
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


def with_head(network, scale, offset):
    """A network of ``keras.applications`` without weights, with our classes."""

    def build(image_shape):
        inputs = keras.Input(image_shape)
        x = keras.layers.Rescaling(scale, offset)(inputs)
        net = network(input_shape=image_shape, weights=None, include_top=False, pooling="avg")
        return keras.Model(inputs, keras.layers.Dense(NUM_CLASSES)(net(x)))

    return build


def backbone(name):
    """A backbone of this package."""
    return lambda image_shape: create(name, image_shape, outputs=NUM_CLASSES)


@dataclasses.dataclass(frozen=True)
class Work:
    """A network and how it is measured; ``torch_name`` is timm's."""

    build: Callable[..., keras.Model]
    torch_name: str
    size: int
    batch_size: int
    steps: int
    rounds: int
    num_images: int = 600


WORK = {
    "small_cnn": Work(small_cnn, "small_cnn", 28, 64, steps=300, rounds=9, num_images=6000),
    "mobilenet_v2": Work(
        with_head(keras.applications.MobileNetV2, 1 / 127.5, -1),
        "mobilenetv2_100",
        128,
        32,
        steps=8,
        rounds=3,
    ),
    "resnet50": Work(
        with_head(keras.applications.ResNet50, 1 / 127.5, -1), "resnet50", 96, 32, steps=5, rounds=3
    ),
    "efficientnet_b0": Work(
        with_head(keras.applications.EfficientNetB0, 1.0, 0.0),
        "efficientnet_b0",
        128,
        32,
        steps=6,
        rounds=3,
    ),
    "efficientnet_lite0": Work(
        backbone("efficientnet_lite0"), "tf_efficientnet_lite0", 128, 32, steps=8, rounds=3
    ),
    "vit_tiny": Work(
        backbone("vit_tiny_patch16_224"), "vit_tiny_patch16_224", 128, 32, steps=8, rounds=3
    ),
}


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
        self.run.stepper.time_steps(steps)


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


class Torch:
    """PyTorch in a process of another environment; see ``torch_training.py``."""

    def __init__(self, python, work):
        script = pathlib.Path(__file__).with_name("torch_training.py")
        self._process = subprocess.Popen(
            [python, str(script), work.torch_name, str(work.size), str(work.batch_size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._line()

    def _line(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("PyTorch's process has ended; its error is above.")
        return line.strip()

    def train(self, steps):
        print(steps, file=self._process.stdin, flush=True)
        self._line()

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def compare(name, work, torch_python):
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(folder, work.size, work.num_images)
        cache = os.path.join(folder, "cache")
        contestants = {
            "ours": Ours(work.build, paths, work.size, work.batch_size, cache),
            "fit": Fit(work.build, paths, work.size, work.batch_size),
        }
        if torch_python:
            contestants["torch"] = Torch(torch_python, work)
        secs = dict.fromkeys(contestants, 0.0)
        for contestant in contestants.values():
            contestant.train(work.steps)  # traces, fills buffers; not counted
        for _ in range(work.rounds):
            for who, contestant in contestants.items():
                began = time.perf_counter()
                contestant.train(work.steps)
                secs[who] += time.perf_counter() - began
        if torch_python:
            contestants["torch"].close()
    speeds = {who: work.rounds * work.steps * work.batch_size / secs[who] for who in secs}
    text = "".join(
        f"   {who} {speed:.0f} ({speeds['ours'] / speed:.2f} x)"
        for who, speed in speeds.items()
        if who != "ours"
    )
    print(
        f"{name}, {work.size} px, batch {work.batch_size}: ours {speeds['ours']:.0f} images/s{text}"
        f"   ({work.rounds} rounds of {work.steps} steps each)",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(WORK)}; all by default")
    parser.add_argument("--torch", default="", help="Python of an environment with torch and timm")
    given = parser.parse_args()
    for name in given.networks or WORK:
        compare(name, WORK[name], given.torch)


if __name__ == "__main__":
    main()
