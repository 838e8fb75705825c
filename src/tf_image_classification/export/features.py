"""The features of a model: the values that its last layer takes, beside its logits.

forward = logits_and_features(model, schema, forward)
logits, features = forward(images)            while traced
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.errors import SpecError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.layer_calls import watched_layers

_OUTPUTS = "logits"
_Call = tuple[keras.layers.Layer, tf.Tensor]


def logits_and_features(
    model: keras.Model,
    schema: LabelSchema,
    forward: Callable[[tf.Tensor, bool], dict[str, tf.Tensor]],
) -> Callable[[tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """The function that gives logits by label and features, float32 [B, D], of one forward pass.

    The last layer is the one called ``logits``, or of several labels those called ``logits_NAME``;
    else the last one with a kernel. Feature maps are averaged over their places, and the features
    of several views (test-time augmentation) over the views.

    Args:
        model: the model.
        schema: its labels.
        forward: images and whether training, to logits; calls the model.

    Returns:
        A function to be traced; raises SpecError with the reason where there are no features.
    """

    def run(images: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        calls: list[_Call] = []
        with watched_layers(model, lambda layer, taken, _: calls.append((layer, taken))):
            logits = forward(images, False)
        taken = _taken(calls, schema)
        graph = next(iter(logits.values())).graph
        if any(one.graph is not graph for one in taken):
            raise SpecError("its last layer is called inside a loop")
        views = [_pooled(one) for one in taken]
        return logits, tf.add_n(views) / len(views)

    return run


def _taken(calls: list[_Call], schema: LabelSchema) -> list[tf.Tensor]:
    """What the last layer takes, once a view.

    Raises:
        SpecError: there is no such layer, or the labels have different features.
    """
    names = {_OUTPUTS, *(f"{_OUTPUTS}_{name}" for name in schema.names)}
    named = [call for call in calls if call[0].name in names and _has_kernel(call[0])]
    if not named:
        with_kernel = [call for call in calls if _has_kernel(call[0])]
        if len(schema.labels) > 1 or not with_kernel:
            raise SpecError(
                "the last layers of its labels have other names than logits_LABEL"
                if with_kernel
                else "no layer of the model has a kernel"
            )
        named = [call for call in with_kernel if call[0] is with_kernel[-1][0]]
    by_head: dict[int, list[tf.Tensor]] = {}
    for layer, taken in named:
        by_head.setdefault(id(layer), []).append(taken)
    sources = {tuple(_source(one) for one in of_head) for of_head in by_head.values()}
    if len(sources) > 1:
        raise SpecError("its labels have different features")
    return next(iter(by_head.values()))


def _has_kernel(layer: Any) -> bool:
    return getattr(layer, "kernel", None) is not None


def _source(taken: tf.Tensor) -> Any:
    """The tensor itself, where a layer took it in another precision."""
    return (taken.op.inputs[0] if taken.op.type == "Cast" else taken).ref()


def _pooled(taken: tf.Tensor) -> tf.Tensor:
    """Features [B, D] of what a layer takes.

    Raises:
        SpecError: that is no features.
    """
    shape = taken.shape
    if shape.rank not in (2, 3, 4) or shape[-1] is None or not tf.as_dtype(taken.dtype).is_floating:
        raise SpecError(f"its last layer takes values of shape {shape}, expected [batch, D]")
    exact = tf.cast(taken, tf.float32)
    return tf.reduce_mean(exact, list(range(1, shape.rank - 1))) if shape.rank > 2 else exact
