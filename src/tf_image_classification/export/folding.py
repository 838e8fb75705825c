"""Batch normalisation folded into convolutions once, for the models that are exported.

    folded = fold_batch_norm(model, image_spec)
    with folded.applied():
        logits = model(images, training=False)

``fused_batch_norm`` folds in the graph, at each call; here the folded kernels are variables.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.batches import outputs_of
from tf_image_classification.fused_batch_norm import (
    FOLDED,
    OFFSET,
    SCALE,
    convolved,
    folded_weights,
    has_moving_statistics,
    is_plain_convolution,
    passed_on,
    replacing,
)
from tf_image_classification.layer_calls import Call, replaced_calls


@dataclasses.dataclass(frozen=True)
class FoldedModel:
    """A model with the folded weights of some of its layers.

    Attributes:
        model: the model, which stays as it is.
        calls: layers, and the functions that replace their ``call``.
        weights: the model's weights, with folded kernels in place of the plain ones.
    """

    model: keras.Model
    calls: Sequence[tuple[keras.layers.Layer, Call]]
    weights: Sequence[tf.Variable]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model's outputs are those of the folded layers.

        For inference, eagerly and while traced. Only the outputs agree: that of a folded
        convolution is already normalised. Not for several threads at once.
        """
        with replaced_calls(self.calls):
            yield


def fold_batch_norm(model: keras.Model, image_spec: tf.TensorSpec) -> FoldedModel:
    """Fold each batch normalisation of a model that directly follows a convolution.

    Works for functional models, ``Sequential`` and subclasses: the model is traced. Layers that
    are called twice, in another precision than float32 or with an output that is used elsewhere
    stay as they are.

    Args:
        model: a built model.
        image_spec: shape and dtype of one preprocessed image.
    """
    weights = {id(variable): variable.value for variable in model.variables}
    calls: list[tuple[keras.layers.Layer, Call]] = []
    for convolution, norm in _pairs(model, image_spec):
        kernel, scale, offset = folded_weights(convolution, norm)
        named = {FOLDED: kernel, SCALE: scale, OFFSET: offset}
        path = convolution.kernel.path
        kept = [
            tf.Variable(value, trainable=False, name=path + end) for end, value in named.items()
        ]
        weights.pop(id(convolution.kernel), None)
        weights |= {id(variable): variable for variable in kept}
        calls += [
            (convolution, replacing(convolution, convolved, kernel=kept[0], offset=kept[2])),
            (norm, replacing(norm, passed_on)),
        ]
    return FoldedModel(model, calls, list(weights.values()))


@dataclasses.dataclass
class _Traced:
    """The calls of one layer: their number, and the tensors of the last one.

    Attributes:
        num_before: operations that took ``inputs`` before the call.
        num_after: the same after it.
    """

    layer: keras.layers.Layer
    num_calls: int = 0
    inputs: Any = None
    output: Any = None
    may_train: bool = False
    num_before: int = 0
    num_after: int = 0


def _pairs(
    model: keras.Model, image_spec: tf.TensorSpec
) -> Iterator[tuple[keras.layers.Layer, keras.layers.BatchNormalization]]:
    """Convolutions and the normalisations that can be folded into them."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.built]
    convolutions = [_Traced(layer) for layer in layers if is_plain_convolution(layer)]
    norms = [_Traced(one) for one in layers if type(one) is keras.layers.BatchNormalization]
    if not convolutions or not norms:
        return
    outputs: list[Any] = []

    def trace(images: tf.Tensor) -> None:
        images = tf.cast(images, tf.float32) if images.dtype.is_integer else images
        outputs.extend(tf.nest.flatten(outputs_of(model, images, training=False)))

    traced = [*convolutions, *norms]
    with replaced_calls([(one.layer, _recorded(one)) for one in traced]):
        spec = tf.TensorSpec([None, *image_spec.shape], image_spec.dtype)
        tf.function(trace, autograph=False).get_concrete_function(spec)
    results = {id(tensor) for tensor in outputs}
    by_output = {id(one.output): one for one in convolutions if one.num_calls == 1}
    for norm in norms:
        convolution = by_output.get(id(norm.inputs))
        if (
            convolution is not None
            and norm.num_calls == 1
            and has_moving_statistics(norm.layer, norm.may_train)
            and id(norm.inputs) not in results
            and norm.num_before == 0
            and len(norm.inputs.consumers()) == norm.num_after
        ):
            yield convolution.layer, norm.layer


def _recorded(traced: _Traced) -> Call:
    """A layer's ``call`` that is recorded."""
    call = traced.layer.call

    def calling(_: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
        traced.num_calls += 1
        traced.inputs, traced.num_before = inputs, _num_consumers(inputs)
        traced.output = call(inputs, **options)
        traced.num_after = _num_consumers(inputs)
        is_masked = options.get("mask") is not None
        traced.may_train = bool(options.get("training")) or is_masked
        return traced.output

    return replacing(traced.layer, calling)


def _num_consumers(tensor: Any) -> int:
    return len(tensor.consumers()) if tf.is_symbolic_tensor(tensor) else 0
