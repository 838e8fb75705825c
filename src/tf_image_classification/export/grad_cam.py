"""Grad-CAM heat maps of a model (Selvaraju et al., arXiv 1610.02391)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.errors import SpecError, brief
from tf_image_classification.estimator_specs import logits_of
from tf_image_classification.labels import LabelSchema
from tf_image_classification.layer_calls import watched_layers

Explain = Callable[[tf.Tensor], dict[str, tf.Tensor]]

_NO_MAPS = (
    "no layer of the model gives feature maps [batch, height, width, channels] on which its output "
    "depends"
)


def heat_maps_of(model: keras.Model, schema: LabelSchema) -> Explain:
    """The function that computes Grad-CAM heat maps of any Keras model.

    Args:
        model: the model.
        schema: its labels.

    Returns:
        Images [B, H, W, C] to heat [B, h, w] by label, each image's maximum 1, of the last feature
        maps for the predicted class, or for a larger regression value. Must be traced; tracing
        raises SpecError with the reason when the model has no feature maps.
    """

    def explain(images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(images, tf.float32)
        found: list[tf.Tensor] = []
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)

            def keep(layer: keras.layers.Layer, inputs: Any, output: Any) -> None:
                if _are_maps(output, images.shape, layer):
                    tape.watch(output)
                    found.append(output)

            with watched_layers(model, keep):
                logits = logits_of(schema, model, images, training=False)
            scores = {
                name: tf.reduce_max(value, axis=-1) if value.shape.rank > 1 else value
                for name, value in logits.items()
            }
        return {name: _heat(tape, score, found) for name, score in scores.items()}

    return explain


def reason_of(error: Exception) -> str:
    """One line why a model has no heat maps, from the error raised in tracing."""
    reason = brief(error)  # TensorFlow puts its frames before our own words too
    if isinstance(error, SpecError):
        return reason.removeprefix(f"{type(error).__name__}: ")
    return f"their gradient fails: {reason}"


def _are_maps(output: Any, image_shape: tf.TensorShape, layer: keras.layers.Layer) -> bool:
    """Whether a layer's output is feature maps [B, h, w, D] rather than the image itself."""
    shape = getattr(output, "shape", None)
    if not isinstance(shape, tf.TensorShape) or not tf.as_dtype(output.dtype).is_floating:
        return False
    if shape.rank != 4 or not shape[1:].is_fully_defined() or shape[1] * shape[2] == 1:
        return False
    return bool(shape[1:] != image_shape[1:] or layer.trainable_variables)


def _heat(tape: tf.GradientTape, score: tf.Tensor, found: Sequence[tf.Tensor]) -> tf.Tensor:
    """Heat [B, h, w] of the last feature maps on which the score depends.

    Raises:
        SpecError: it depends on none.
    """
    for maps in reversed(found):
        if maps.graph is not score.graph:  # inside a loop
            continue
        gradients = tape.gradient(score, maps)
        if gradients is None:
            continue
        weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=[1, 2], keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
        return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2], keepdims=True))
    raise SpecError(_NO_MAPS)
