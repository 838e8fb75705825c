"""The features of a model: the values that its last layer takes, beside its logits.

forward = logits_and_features(model, forward)
logits, features = forward(images)            while traced
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.errors import SpecError
from tf_image_classification.layer_calls import watched_layers

_Calls = Mapping[tf.Operation, tuple[keras.layers.Layer, tf.Tensor]]
"""Layer and argument of each call of a layer with a kernel, by the operation of its output."""


def logits_and_features(
    model: keras.Model, forward: Callable[[tf.Tensor, bool], dict[str, tf.Tensor]]
) -> Callable[[tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """The function that gives logits by label and features, float32 [B, D], of one forward pass.

    The last layer is the last one with a kernel on the way to the logits, whatever its name; the
    last layers of several labels must take the same values. Feature maps are averaged over their
    places, and the features of several views (test-time augmentation) over the views.

    Args:
        model: the model.
        forward: images and whether training, to logits; calls the model.

    Returns:
        A function to be traced; raises SpecError with the reason where there are no features.
    """

    def run(images: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        calls: dict[tf.Operation, tuple[keras.layers.Layer, tf.Tensor]] = {}

        def keep(layer: Any, taken: Any, output: Any) -> None:
            if getattr(layer, "kernel", None) is not None and tf.is_symbolic_tensor(output):
                calls[output.op] = layer, taken

        with watched_layers(model, keep):
            logits = forward(images, False)
        of_labels = [[calls[op] for op in _last_calls(one.op, calls)] for one in logits.values()]
        if len({tuple(sorted(_source(taken).name for _, taken in one)) for one in of_labels}) > 1:
            raise SpecError("the last layers of its labels take different values")
        if len({id(layer) for layer, _ in of_labels[0]}) > 1:
            raise SpecError("its logits are made of several layers")
        views = [_pooled(taken) for _, taken in of_labels[0]]
        return logits, tf.add_n(views) / len(views)

    return run


def _last_calls(output: tf.Operation, calls: _Calls) -> list[tf.Operation]:
    """The calls of layers that an output depends on through no other such call.

    Raises:
        SpecError: there is none.
    """
    found: dict[tf.Operation, None] = {}
    seen: set[tf.Operation] = set()
    waiting = [output]
    while waiting:
        operation = waiting.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation in calls:
            found[operation] = None
        else:
            waiting += [tensor.op for tensor in operation.inputs]
    if not found:
        raise SpecError("no layer with a kernel gives the logits")
    return list(found)


def _source(taken: tf.Tensor) -> tf.Tensor:
    """The tensor itself, where a layer took it in another precision."""
    return taken.op.inputs[0] if taken.op.type == "Cast" else taken


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
