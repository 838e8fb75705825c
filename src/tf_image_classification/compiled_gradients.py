"""Activations whose gradient XLA compiles into one loop over the feature maps.

TensorFlow computes the gradient of Swish or GELU in five to ten operations, each of which reads and
writes the whole maps; on processors that takes longer than many convolutions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tf_image_classification.layer_calls import Replacement
from tf_image_classification.system.autograph import unconverted

Activation = Callable[[tf.Tensor], tf.Tensor]

_ACTIVATIONS = (
    keras.activations.silu,
    keras.activations.gelu,
    keras.activations.hard_silu,
    keras.activations.mish,
)


def compiled_activations(model: keras.Model) -> Iterator[Replacement]:
    """Replacements for the activations of a model's layers, on processors that XLA compiles for.

    Their outputs are those of Keras bit for bit, their gradients up to rounding.
    """
    for layer in model._flatten_layers(include_self=False):
        activation = getattr(layer, "activation", None)
        if activation in _ACTIVATIONS and _is_possible():
            yield layer, "activation", _with_compiled_gradient(activation)


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


@functools.cache
def _is_possible() -> bool:
    """Whether steps run on the processor, and this build of TensorFlow compiles for it."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return False
    try:
        tf.function(lambda: tf.constant(1.0) + 1.0, jit_compile=True, autograph=False)()
    except tf.errors.OpError:
        return False
    return True
