"""The digits as TFRecords: training, held-out and test examples."""

from __future__ import annotations

import gzip
import os

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import DataError

HELD_OUT_OF_MNIST = 5000
NAMES = ("train", "holdout", "test")


def patterns(mnist_dir, records_dir):
    """The records' patterns by part."""
    folder = _folder(mnist_dir, records_dir)
    return {name: [os.path.join(folder, f"{name}-*.tfrecord.gz")] for name in NAMES}


def _folder(mnist_dir, records_dir):
    return os.path.join(records_dir, "mnist" if mnist_dir else "digits")


def write(mnist_dir, records_dir):
    """Write the records unless they are there."""
    folder = _folder(mnist_dir, records_dir)
    done = os.path.join(folder, "complete")
    if not os.path.exists(done):
        parts = read_mnist(mnist_dir) if mnist_dir else read_digits()
        for name, (images, labels) in parts.items():
            write_shards(folder, name, examples(name, images, labels))
        with open(done, "w", encoding="utf-8"):
            pass


def examples(name, images, labels):
    """Encoded image, origin and label of each example."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = tf.io.encode_png(image[:, :, None]).numpy()
        yield png, f"{name}/{number}", {"class_id": float(label)}


def read_mnist(folder):
    """MNIST's own split, the last 5,000 training examples held out."""
    train = idx(folder, "train-images-idx3-ubyte.gz"), idx(folder, "train-labels-idx1-ubyte.gz")
    test = idx(folder, "t10k-images-idx3-ubyte.gz"), idx(folder, "t10k-labels-idx1-ubyte.gz")
    return {
        "train": [part[:-HELD_OUT_OF_MNIST] for part in train],
        "holdout": [part[-HELD_OUT_OF_MNIST:] for part in train],
        "test": test,
    }


def idx(folder, name):
    """One idx file as an array (yann.lecun.com/exdb/mnist describes the format)."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise DataError(f"There is no {path}. --mnist_dir needs MNIST's four idx.gz files.")
    with gzip.open(path) as stream:
        data = stream.read()
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def read_digits():
    """scikit-learn's 1,797 scanned digits of 8 x 8 pixels: 70, 15 and 15 percent."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    part = np.arange(len(images)) % 20
    held_out, test = part >= 17, (part >= 14) & (part < 17)
    rows = {"train": ~held_out & ~test, "holdout": held_out, "test": test}
    return {name: (images[rows[name]], digits.target[rows[name]]) for name in NAMES}
