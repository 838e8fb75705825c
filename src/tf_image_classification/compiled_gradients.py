"""Activations whose gradient XLA compiles into one loop over the feature maps.

TensorFlow computes the gradient of Swish or GELU in five to ten operations, each of which reads and
writes the whole maps; on processors that takes longer than many convolutions.

    with compiled_gradients(model):
        logits = model(images, training=True)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.layer_calls import Replacement, replaced_while_used
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.system.xla import compiles_for_processors

Activation = Callable[[tf.Tensor], tf.Tensor]

_ACTIVATIONS = (
    keras.activations.silu,
    keras.activations.gelu,
    keras.activations.hard_silu,
    keras.activations.mish,
)


@contextlib.contextmanager
def compiled_gradients(model: Any) -> Iterator[None]:
    """Compiled gradients of the activations of a model's layers inside the block.

    Their outputs are those of Keras bit for bit, their gradients up to rounding. Where XLA does not
    compile for processors, and with GPUs, the layers stay as they are. Not for several threads.

    Args:
        model: a built Keras model; anything else is left alone.
    """
    if not isinstance(model, keras.Model) or not compiles_for_processors():
        yield
        return
    with replaced_while_used(model, "gradients", lambda: _replacements(model)):
        yield


def _replacements(model: keras.Model) -> list[Replacement]:
    return [
        (layer, "activation", _with_compiled_gradient(layer.activation))
        for layer in model._flatten_layers(include_self=False)
        if getattr(layer, "activation", None) in _ACTIVATIONS
    ]


@functools.cache
def _with_compiled_gradient(activation: Activation) -> Activation:
    @functools.partial(tf.function, jit_compile=True)
    @unconverted
    def gradient(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = activation(inputs)
        return tape.gradient(outputs, inputs, upstream)

    @unconverted
    def with_gradient(inputs: tf.Tensor) -> tuple[tf.Tensor, Activation]:
        return activation(inputs), functools.partial(gradient, inputs)

    compiled: Activation = functools.update_wrapper(tf.custom_gradient(with_gradient), activation)
    return compiled
