"""Batch normalisation in TensorFlow's fused operation, or folded into the convolution before it.

Keras computes the moments of a batch and the normalisation in separate operations, each of which
reads and writes the whole feature maps; on processors that takes more time than many convolutions.

    with fused_batch_norm(model, training=True):
        logits = model(images, training=True)

Models stay as they are: layers, variables and files are Keras's own.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_image_classification.layer_calls import Call, Replacement, replaced_while_used
from tf_image_classification.system.autograph import unconverted

FOLDED, SCALE, OFFSET = "/folded", "/scale", "/offset"
"""Ends of the names of ``folded_weights`` in an exported model, after that of the plain kernel."""

_FUSED_DTYPES = ("float32", "bfloat16", "float16")


@contextlib.contextmanager
def fused_batch_norm(model: Any, *, training: bool) -> Iterator[None]:
    """Faster batch normalisation of a model's outputs inside the block, eagerly and while traced.

    A layer of ``keras.layers.BatchNormalization`` takes ``FusedBatchNormV3``. With its moving
    statistics, in inference or frozen, it is folded into the convolution that it follows in a
    functional model: ``(w * s) x + b`` for ``s (w x) + b``. Outputs agree with Keras's up to
    rounding. Other layers, e.g. synchronised ones or those along another axis, stay as they are.

    Only the outputs are right inside the block: the output of a folded convolution is already
    normalised. Not for several threads at once.

    Args:
        model: a built Keras model; anything else is left alone.
        training: as the model will be called.
    """
    if not isinstance(model, keras.Model):
        yield
        return
    with replaced_while_used(model, "batch norm", lambda: _replacements(model, training)):
        yield


def _replacements(model: keras.Model, training: bool) -> list[Replacement]:
    """Layers of a model, and what replaces their ``call``."""
    pairs = list(_pairs(model, training))
    folded = {id(norm) for _, norm in pairs}
    found: list[Replacement] = []
    for convolution, norm in pairs:
        found.append((convolution, "call", replacing(convolution, _folded, norm)))
        found.append((norm, "call", replacing(norm, passed_on)))
    for layer in model._flatten_layers(include_self=False):
        if type(layer) is keras.layers.BatchNormalization and id(layer) not in folded:
            found.append((layer, "call", replacing(layer, _fused, layer.call)))
    return found


def replacing(layer: keras.layers.Layer, function: Call, *arguments: Any, **options: Any) -> Call:
    """A function of the layer, arguments and inputs in the form of the layer's ``call``."""
    call = functools.partial(unconverted(function), layer, *arguments, **options)
    return functools.update_wrapper(call, layer.call)


def _fused(
    layer: keras.layers.BatchNormalization,
    call: Call,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """The layer's outputs and its new moving statistics, as ``BatchNormalization.call``."""
    uses_batch = bool(training and layer.trainable)
    is_fused = (
        (inputs.shape.rank == 4 and layer.axis in (-1, 3))
        and inputs.dtype.name in _FUSED_DTYPES
        and (not uses_batch or (mask is None and not layer.synchronized))
        and not getattr(layer, "renorm", False)
    )
    if not is_fused:
        return call(inputs, training=training, mask=mask)
    channels = inputs.shape[-1]
    none = tf.zeros([0])
    result = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.cast(layer.gamma, tf.float32) if layer.scale else tf.ones([channels]),
        offset=tf.cast(layer.beta, tf.float32) if layer.center else tf.zeros([channels]),
        mean=none if uses_batch else tf.cast(layer.moving_mean, tf.float32),
        variance=none if uses_batch else tf.cast(layer.moving_variance, tf.float32),
        epsilon=layer.epsilon,
        is_training=uses_batch,
    )
    if uses_batch:
        # The operation divides by n - 1 in the variance that it returns, Keras by n.
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance = result.batch_variance * ((count - 1.0) / count)
        for moving, value in (
            (layer.moving_mean, result.batch_mean),
            (layer.moving_variance, variance),
        ):
            old = tf.cast(moving, tf.float32)
            moving.assign(old * layer.momentum + value * (1.0 - layer.momentum))
    return tf.cast(result.y, layer.compute_dtype)


def passed_on(_: keras.layers.Layer, inputs: tf.Tensor, **__: Any) -> tf.Tensor:
    """The ``call`` of a normalisation that is folded into the layer before it."""
    return inputs


def _folded(
    layer: keras.layers.Layer, norm: keras.layers.BatchNormalization, inputs: tf.Tensor
) -> tf.Tensor:
    """A convolution's normalised output."""
    kernel, _, offset = folded_weights(layer, norm)
    return convolved(layer, inputs, kernel=kernel, offset=offset)


def folded_weights(
    layer: keras.layers.Layer, norm: keras.layers.BatchNormalization
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The kernel of a convolution and the normalisation after it, its scale and its offset.

    The kernel is the convolution's times the scale, whose shape is broadcast to it.
    """
    scale = tf.math.rsqrt(ops.convert_to_tensor(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale *= ops.convert_to_tensor(norm.gamma)
    offset = -ops.convert_to_tensor(norm.moving_mean)
    if layer.use_bias:
        offset += ops.convert_to_tensor(layer.bias)
    offset *= scale
    if norm.center:
        offset += ops.convert_to_tensor(norm.beta)
    kernel = ops.convert_to_tensor(layer.kernel)
    if _is_depthwise(layer):  # its kernel is [h, w, input channels, outputs per channel]
        scale = tf.reshape(scale, kernel.shape[2:])
    return kernel * scale, scale, offset


def convolved(
    layer: keras.layers.Layer, inputs: tf.Tensor, *, kernel: tf.Tensor, offset: tf.Tensor
) -> tf.Tensor:
    """A convolution's output with another kernel and offset than its own."""
    convolve = ops.depthwise_conv if _is_depthwise(layer) else ops.conv
    output = convolve(
        inputs,
        kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )
    return tf.nn.bias_add(output, offset)


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    return type(layer) is keras.layers.DepthwiseConv2D


def _pairs(
    model: keras.Model, may_train: bool
) -> Iterator[tuple[keras.layers.Layer, keras.layers.BatchNormalization]]:
    """Convolutions and the normalisations that can be folded into them."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if not isinstance(graph, keras.src.models.Functional):
        return
    outputs = {id(tensor) for tensor in tf.nest.flatten(graph.outputs)}
    for layer in graph.operations:
        nodes: Sequence[Any] = getattr(layer, "_inbound_nodes", ())
        if len(nodes) != 1:  # called at several places
            continue
        # Either the model's argument or that of the layer counts, by the version of Keras.
        may_train_here = may_train or bool(nodes[0].arguments.kwargs.get("training"))
        if isinstance(layer, keras.Model):
            yield from _pairs(layer, may_train_here)
        elif type(layer) is keras.layers.BatchNormalization and has_moving_statistics(
            layer, may_train_here
        ):
            before = nodes[0].arguments.keras_tensors[0]
            convolution = before._keras_history.operation
            is_alone = _is_called_once(convolution) and id(before) not in outputs
            if is_alone and is_plain_convolution(convolution):
                yield convolution, layer


def has_moving_statistics(layer: keras.layers.BatchNormalization, may_train: bool) -> bool:
    """Whether a layer certainly normalises the last axis with its moving statistics in float32."""
    is_inference = not (may_train and layer.trainable)
    return is_inference and layer.axis in (-1, 3) and layer.compute_dtype == "float32"


def _is_called_once(layer: Any) -> bool:
    """Whether a layer of a functional model has one call, whose output one layer takes."""
    return len(layer._inbound_nodes) == len(layer._outbound_nodes) == 1


def is_plain_convolution(layer: Any) -> bool:
    """Whether a layer is a convolution in float32 without activation."""
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and layer.activity_regularizer is None
        and layer.data_format == "channels_last"
        and layer.compute_dtype == "float32"
        and not getattr(layer, "quantization_mode", None)
        and not getattr(layer, "lora_enabled", False)
    )
