"""The features of images: the values that a trained model's last layer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import ConfigError
from tf_image_classification.layer_calls import watched_layers
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.workflows.setup.head_init import features_of, output_layers


def features(
    model: keras.Model, names: tuple[str, ...], batches: Iterator[tf.Tensor]
) -> npt.NDArray[np.float32]:
    """The features [n, d] of prepared images; feature maps are averaged over their places.

    Args:
        model: the trained model.
        names: of its labels.
        batches: prepared images [b, h, w, c].

    Raises:
        ConfigError: its labels have different features, or no layer has a kernel.
    """
    first = next(batches, None)
    if first is None:
        return np.zeros([0, 0], np.float32)
    layers = _last_layers(model, names, first[:1])

    def forward(images: tf.Tensor) -> tf.Tensor:
        found = tf.cast(features_of(model, layers, tf.cast(images, tf.float32)), tf.float32)
        return tf.reduce_mean(found, [1, 2]) if found.shape.rank == 4 else found

    traced = tf.function(unconverted(forward), reduce_retracing=True)
    parts = [traced(first).numpy(), *(traced(batch).numpy() for batch in batches)]
    return np.concatenate(parts)


def _last_layers(
    model: keras.Model, names: tuple[str, ...], images: tf.Tensor
) -> dict[str, keras.layers.Layer]:
    """The layers that give the logits: by name, or the last one with a kernel."""
    try:
        return dict(output_layers(model, names))
    except ConfigError:
        if len(names) > 1:
            raise
    called: list[keras.layers.Layer] = []
    with watched_layers(model, lambda layer, _, __: called.append(layer)):
        outputs_of(model, tf.cast(images, tf.float32), training=False)
    with_kernel = [layer for layer in called if getattr(layer, "kernel", None) is not None]
    if not with_kernel:
        raise ConfigError("The model has no layer with a kernel, so that it has no features.")
    return {names[0]: with_kernel[-1]}


def batched(images: Sequence[Any], prepare: Callable[[Any], tf.Tensor]) -> Iterator[tf.Tensor]:
    """Prepared images in batches [b, h, w, c]."""
    for start in range(0, len(images), _BATCH_SIZE):
        yield tf.stack([prepare(image) for image in images[start : start + _BATCH_SIZE]])


_BATCH_SIZE = 32
