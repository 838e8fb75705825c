"""Where in an image a model sees its class: Grad-CAM (Selvaraju et al., arXiv 1610.02391)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.estimator_specs import split_logits
from tf_image_classification.labels import LabelSchema

Explain = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def heat_maps_of(model: keras.Model, schema: LabelSchema) -> Explain | None:
    """What shows where a model looks; None for one that has no feature maps to look at.

    Args:
        model: built of layers, such as ``keras.Model(inputs, outputs)``.
        schema: its labels.

    Returns:
        Images [B, H, W, C] to heat [B, h, w] by label, each image's largest value 1: where the
        last feature maps speak for the predicted class, or for a larger real value.
    """
    maps = _last_maps(model)
    if maps is None:
        return None
    both = keras.Model(model.inputs, [maps, model.outputs])
    structure = model.output

    def explain(images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(images, tf.float32)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            features, outputs = both(images, training=False)
            packed = tf.nest.pack_sequence_as(structure, tf.nest.flatten(outputs))
            logits = split_logits(schema, packed)
            scores = {
                name: tf.reduce_max(value, axis=-1) if value.shape.rank > 1 else value
                for name, value in logits.items()
            }
        found = {}
        for name, score in scores.items():
            slopes = tape.gradient(score, features, unconnected_gradients="zero")
            weights = tf.reduce_mean(slopes, axis=[1, 2], keepdims=True)
            heat = tf.nn.relu(tf.reduce_sum(tf.cast(weights * features, tf.float32), axis=-1))
            most = tf.reduce_max(heat, axis=[1, 2], keepdims=True)
            found[name] = tf.math.divide_no_nan(heat, most)
        return found

    return explain


def _last_maps(model: keras.Model) -> keras.KerasTensor | None:
    """The output of the last layer that still has places, [B, h, w, D]."""
    if len(getattr(model, "inputs", None) or ()) != 1:  # written as a class of its own
        return None
    for layer in reversed(model.layers):
        try:
            output = layer.output
        except (AttributeError, ValueError):  # used several times, or not at all
            continue
        shape: tuple[Any, ...] = tuple(getattr(output, "shape", ()))
        if len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1:
            return None if isinstance(layer, keras.layers.InputLayer) else output
    return None
