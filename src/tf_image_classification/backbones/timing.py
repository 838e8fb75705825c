"""The time that a backbone takes for an image on this machine."""

from __future__ import annotations

import statistics
import time

import keras
import tensorflow as tf

from tf_image_classification.backbones.building import create
from tf_image_classification.backbones.catalog import find
from tf_image_classification.fused_batch_norm import fused_batch_norm

_MIN_REPEATS, _MIN_SECS = 3, 0.5


def ms_per_image(name: str, batch_size: int) -> float:
    """The median time for one image in milliseconds, without classifier.

    Measures inference of a batch of the backbone's image size in a graph, at least three times.
    """
    keras.utils.clear_session()
    size = find(name).image_size
    model = create(name, (size, size, 3))

    def forward(images: tf.Tensor) -> tf.Tensor:
        with fused_batch_norm(model, training=False):  # as in evaluations
            return model(images, training=False)

    features = tf.function(forward)
    images = tf.random.stateless_uniform([batch_size, size, size, 3], (0, 0), 0, 255)
    features(images).numpy()  # traces
    times: list[float] = []
    while len(times) < _MIN_REPEATS or sum(times) < _MIN_SECS:
        start = time.perf_counter()
        features(images).numpy()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / batch_size
