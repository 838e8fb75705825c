"""A tiny classifier with everything that makes resuming hard, and its data; for tests of runs.

Dropout, batch normalisation, seeded random augmentation, moving averages, a schedule and slots:
what a checkpoint forgets, or a step takes from history instead of its number, changes the bits.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification import EstimatorSpec, train_estimator
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import make_settings
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.evaluation import measures
from tf_image_classification.hooks import Hook
from tf_image_classification.labels import Label
from tf_image_classification.serving.light import files
from tf_image_classification.workflows import unknown

SIZE, DEPTH = 8, 3


class TinySpec(EstimatorSpec):
    """Three classes, and on request a real value beside them."""

    def __init__(
        self, *, noise=0.5, batch_norm=True, l2=0.0, width=8, weights=(1.0,), names=(), depth=DEPTH
    ):
        self.class_dict = [Label("kind", depth=depth, weight=weights[0], class_names=names)]
        if len(weights) > 1:
            self.class_dict.append(Label("size", one_hot=False, weight=weights[1]))
        self.noise, self.batch_norm, self.l2, self.width = noise, batch_norm, l2, width
        self.depth = depth

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height, seed):
            image = tf.image.resize(image, [height, width]) / 127.5 - 1.0
            if is_training and self.noise:
                image += tf.random.stateless_normal([height, width, 3], seed, stddev=0.1)
                image = tf.image.stateless_random_flip_left_right(image, seed)
            return image

        return preproc

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            l2 = keras.regularizers.L2(self.l2) if self.l2 else None
            inputs = keras.Input(image_shape)
            x = keras.layers.Flatten()(inputs)
            x = keras.layers.Dense(self.width, name="hidden", kernel_regularizer=l2)(x)
            if self.batch_norm:
                x = keras.layers.BatchNormalization(momentum=0.8, name="norm")(x)
            x = keras.layers.Activation("tanh")(x)
            if self.noise:
                x = keras.layers.Dropout(self.noise, name="drop")(x)
            outputs = keras.layers.Dense(self.depth, name="logits", dtype="float32")(x)
            if len(self.class_dict) > 1:
                size = keras.layers.Dense(1, name="size_logits", dtype="float32")(x)
                outputs = {"kind": outputs, "size": size}
            return keras.Model(inputs, outputs)

        return model_fn

    def metric_ops(self, labels, predictions):
        return None


def plain_spec(**changes):
    """The tiny classifier without anything random and without batch normalisation."""
    return TinySpec(noise=0.0, batch_norm=False, **changes)


def write_records(folder, name="train", *, count=40, labels=None, seed=0):
    """Noisy images with a stripe that says their class; returns the pattern of the files."""
    random = np.random.RandomState(seed)

    def examples():
        for number in range(count):
            kind = number % DEPTH
            image = random.randint(0, 100, [SIZE, SIZE, 3], np.uint8)
            image[:, 2 * kind : 2 * kind + 2] += 120
            values = {"kind": float(kind)} if labels is None else labels(number, kind)
            yield tf.io.encode_png(image).numpy(), f"{name}/{number}.png", values

    write_shards(str(folder), name, examples(), num_shards=2)
    return os.path.join(str(folder), f"{name}-*")


def tiny_settings(model_dir, train, evaluation=None, **changes):
    """Settings of a short run on the tiny classifier; whatever is given holds."""
    defaults = {
        "model_dir": str(model_dir),
        "train_metadata": (train,),
        "image_size": SIZE,
        "batch_size": 6,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "strategy": "one_device",
        "progress": False,
        "save_summary_steps": 0,
        "export_saved_model": False,
        "cache_dir": os.path.join(os.path.dirname(train), "cache"),
    }
    if evaluation:
        defaults["eval_metadata"] = (evaluation,)
    if not {"save_checkpoints_secs", "save_checkpoints_steps"} & set(changes):
        defaults["save_checkpoints_steps"] = 1000
    return make_settings(defaults | changes)


def run(spec, model_dir, train, evaluation=None, hooks=(), **changes):
    """Train through the front door; returns the tensors and notes of the last checkpoint."""
    settings = tiny_settings(model_dir, train, evaluation, **changes)
    train_estimator.train(spec, settings, hooks=hooks)
    return last_checkpoint(model_dir)


def last_checkpoint(model_dir):
    """The newest checkpoint of a model folder."""
    store = CheckpointStore(os.path.join(str(model_dir), "checkpoints"))
    return store.load(store.steps()[-1])


def evaluations(model_dir):
    """The lines of metrics.jsonl without their times."""
    path = os.path.join(str(model_dir), "metrics.jsonl")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as stream:
        lines = [json.loads(line) for line in stream]
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


def assert_same_bits(found, expected):
    """Two checkpoints hold the same tensors, bit for bit."""
    assert found.step == expected.step
    assert set(found.tensors) == set(expected.tensors)
    different = [
        name
        for name, value in expected.tensors.items()
        if value.dtype != found.tensors[name].dtype
        or value.tobytes() != found.tensors[name].tobytes()
    ]
    assert not different, f"these tensors differ: {different}"


def largest_difference(found, expected, *, beginning="model/"):
    """The largest difference of any number in the tensors whose names begin so."""
    assert set(found.tensors) == set(expected.tensors)
    return max(
        float(np.max(np.abs(found.tensors[name] - value), initial=0.0))
        for name, value in expected.tensors.items()
        if name.startswith(beginning)
    )


_HELD = contextlib.ExitStack()
atexit.register(_HELD.close)


def free_ports(count):
    """Ports of loopback for servers that want a number; nobody else is given them by chance.

    A socket that is bound and does not listen holds each until this process ends. A server may
    listen there all the same, where it asks for an address in reuse as servers do.
    """
    held = [_HELD.enter_context(socket.socket()) for _ in range(count)]
    for each in held:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    return [each.getsockname()[1] for each in held]


def leave_out_what_takes_long():
    """For programs that tests start: what ``conftest`` leaves out of the tests' own process.

    That is TensorFlow's optimization of graphs, most resamples of intervals, the light file and the
    limit for unknown pictures.
    """
    if not os.environ.get("TFIC_ALL_TESTS"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        measures._NUM_RESAMPLES = 20
        files.CONVERTERS = {}
        unknown.fit_detector = lambda *given, **named: ""


class StopAt(Hook):
    """Sends a signal to this process after a step."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def after_step(self, run):
        if run.step == self.step:
            os.kill(os.getpid(), self.number)
