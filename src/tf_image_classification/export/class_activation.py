"""Class activation maps: the heat maps of models that end in average pooling and linear layers.

    head = linear_head(exported)
    function = with_feature_maps(frozen_function(module.classify))

For such a model Grad-CAM is the class activation map (Zhou et al., arXiv 1512.04150) up to a
positive factor: the mean gradient of a logit by a channel is the logit's weight for the channel,
over the number of places. So heat needs no gradients, only the last feature maps and the head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import SpecError
from tf_image_classification.export.frozen_graph import frozen_function
from tf_image_classification.export.names import FEATURE_MAPS
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.system.autograph import unconverted

_MOVING = frozenset(("Identity", "Reshape", "Squeeze", "ExpandDims", "StridedSlice"))
_LINEAR = frozenset(("MatMul", "Conv2D", "BiasAdd", "Add", "AddV2", "Sub", "Mul", "RealDiv"))


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """The linear layers after the pooling, as one.

    Attributes:
        kernels: float32 [C, D] by label name.
        offsets: float32 [D] by label name.
    """

    kernels: Mapping[str, npt.NDArray[np.float32]]
    offsets: Mapping[str, npt.NDArray[np.float32]]


def linear_head(exported: ExportedModel) -> LinearHead:
    """The head of a model of this form.

    Raises:
        SpecError: the model has another form; gives the reason.
    """
    spec = exported.image_spec
    logits = tf.function(
        unconverted(lambda images: exported.forward(images, False)),
        input_signature=[tf.TensorSpec([None, *spec.shape], spec.dtype, "images")],
    )
    concrete = frozen_function(logits).get_concrete_function()
    outputs = dict(concrete.structured_outputs)
    pooling = _pooling(concrete.graph, outputs.values(), is_linear=True)
    pooled, [images] = pooling.outputs[0], concrete.inputs
    graph = concrete.graph.as_graph_def()
    names = {name: tensor.name for name, tensor in outputs.items()}

    def after_pooling(features: tf.Tensor) -> list[tf.Tensor]:
        inputs = {pooled.name: features, images.name: tf.zeros([1, *spec.shape], images.dtype)}
        return list(tf.graph_util.import_graph_def(graph, inputs, list(names.values()), name=""))

    channels = int(pooled.shape[-1])
    units = np.eye(channels + 1, channels, k=-1, dtype=np.float32)  # zeros, then each channel
    head = tf.function(after_pooling, input_signature=[tf.TensorSpec(pooled.shape, tf.float32)])
    found = head(tf.constant(units.reshape([-1, *pooled.shape[1:]])))
    rows = {
        name: np.reshape(value, [channels + 1, -1])
        for name, value in zip(names, found, strict=True)
    }
    return LinearHead(
        {name: values[1:] - values[0] for name, values in rows.items()},
        {name: values[0] for name, values in rows.items()},
    )


def with_feature_maps(function: Any) -> Any:
    """A frozen function with the maps before the last pooling as one more output, FEATURE_MAPS.

    Args:
        function: as ``frozen_function`` gives it, of a model that has a ``linear_head``.
    """
    concrete = function.get_concrete_function()
    outputs = dict(concrete.structured_outputs)
    maps = _pooling(concrete.graph, outputs.values(), is_linear=False).inputs[0]
    names = {name: tensor.name for name, tensor in outputs.items()} | {FEATURE_MAPS: maps.name}
    graph, images_name = concrete.graph.as_graph_def(), concrete.inputs[0].name

    def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.graph_util.import_graph_def(
            graph, {images_name: images}, list(names.values()), name=""
        )
        return dict(zip(names, found, strict=True))

    return tf.function(run, input_signature=function.input_signature)


def _pooling(graph: tf.Graph, outputs: Iterable[tf.Tensor], *, is_linear: bool) -> tf.Operation:
    """The one pooling through which all outputs depend on the images.

    Args:
        graph: of the outputs.
        outputs: tensors of a frozen graph.
        is_linear: whether all operations after the pooling must be linear.

    Raises:
        SpecError: there is no such pooling.
    """
    moving = _depending_on_images(graph)
    found: set[tf.Operation] = set()
    seen: set[tf.Operation] = set()
    waiting = [output.op for output in outputs]
    while waiting:
        operation = waiting.pop()
        if operation in seen or operation not in moving:
            continue
        seen.add(operation)
        if _averages_maps(operation):
            found.add(operation)
            continue
        if not operation.inputs:
            raise SpecError("an output does not depend on feature maps alone")
        if is_linear and not _is_linear(operation, moving):
            raise SpecError(
                "between the average pooling and the logits is an operation that is not linear "
                f"({operation.type})"
            )
        waiting += [tensor.op for tensor in operation.inputs]
    if len(found) != 1:
        raise SpecError(f"{len(found)} average poolings lead to the logits, expected one")
    return found.pop()


def _depending_on_images(graph: tf.Graph) -> set[tf.Operation]:
    moving: set[tf.Operation] = set()
    waiting = [one for one in graph.get_operations() if one.type == "Placeholder"]
    while waiting:
        operation = waiting.pop()
        if operation not in moving:
            moving.add(operation)
            waiting += [user for tensor in operation.outputs for user in tensor.consumers()]
    return moving


def _averages_maps(operation: tf.Operation) -> bool:
    """Whether an operation averages maps [B, h, w, C] over their places."""
    if operation.type != "Mean":
        return False
    shape = operation.inputs[0].shape
    if shape.rank != 4 or not shape[1:].is_fully_defined() or shape[1] * shape[2] == 1:
        return False
    axes = tf.get_static_value(operation.inputs[1])
    return axes is not None and sorted(np.ravel(axes) % 4) == [1, 2]


def _is_linear(operation: tf.Operation, moving: set[tf.Operation]) -> bool:
    """Whether an operation is linear, but for an offset, in its argument made from the images."""
    arguments = [tensor.op in moving for tensor in operation.inputs]
    if sum(arguments) != 1:
        return False
    if operation.type in _MOVING or operation.type == "RealDiv":
        return arguments[0]
    if operation.type == "Cast":
        return bool(operation.outputs[0].dtype.is_floating)
    return operation.type in _LINEAR
