"""Frozen graphs: weights as constants.

frozen = frozen_function(module.classify)   for LiteRT and ONNX: float32, common operations only
frozen.get_concrete_function()

logits = constant_weights(concrete)(images) for TensorFlow: the same operations
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.export.weight_size import MAX_CONSTANT_BYTES

_HALF = {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum}
_FLOAT = tf.float32.as_datatype_enum
_MAX_PATCH_VALUES = 4096  # height x width x channels; its square is the size of a constant


def frozen_function(function: Any) -> Any:
    """The same function of images [B, H, W, C] with its variables as constants.

    float16 and bfloat16 become float32, images included; patches (``tf.image.extract_patches``)
    become a convolution that gives the same bits.

    Args:
        function: a ``tf.function`` with an input signature and a dictionary of outputs.
    """
    concrete = function.get_concrete_function()
    names = sorted(concrete.structured_outputs)
    frozen = _frozen(concrete)
    outputs = [tensor.name for tensor in frozen.outputs]
    graph = frozen.graph.as_graph_def(add_shapes=True)
    _replace_half_precision(graph)
    _replace_patches(graph)
    [spec] = function.input_signature

    def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {frozen.inputs[0].name: images}
        found = tf.graph_util.import_graph_def(graph, inputs, outputs, name="")
        return dict(zip(names, found, strict=True))

    images_spec = tf.TensorSpec(spec.shape, frozen_dtype(spec.dtype), "images")
    return tf.function(run, input_signature=[images_spec])


def constant_weights(concrete: Any) -> Callable[[tf.Tensor], dict[str, tf.Tensor]] | None:
    """A function of images [B, H, W, C] whose weights are constants, which oneDNN reorders once.

    The values of the variables are those of now. None where the function changes variables, has
    other resources or more than ``MAX_CONSTANT_BYTES`` of weights; call it as it is then.

    Args:
        concrete: a concrete function of images with a dictionary of outputs.
    """
    weights = {id(variable): variable for variable in concrete.graph.variables}.values()
    num_bytes = sum(math.prod(one.shape) * one.dtype.size for one in weights)
    resources = [one for one, _ in concrete.graph.captures if one.dtype == tf.resource]
    if num_bytes > MAX_CONSTANT_BYTES or len(resources) != len(weights):
        return None
    nodes = _all_nodes(concrete.graph.as_graph_def())
    if any("Assign" in node.op for node in nodes):
        return None
    names = sorted(concrete.structured_outputs)
    frozen = _frozen(concrete)
    return lambda images: dict(zip(names, frozen(images), strict=True))


def _frozen(concrete: Any) -> Any:
    """A concrete function with its variables as constants; its outputs are a list."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(
        concrete, lower_control_flow=False, aggressive_inlining=True
    )


def frozen_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype of a frozen graph's images: half precision becomes float32."""
    return tf.float32 if dtype.as_datatype_enum in _HALF else dtype


def half_precision(exported: Any) -> str:
    """The half precision of a SavedModel's ``classify``, "bfloat16" or "float16"; else ""."""
    graph = exported.classify.concrete_functions[0].graph.as_graph_def()
    kinds = {value.type for node in _all_nodes(graph) for value in node.attr.values()}
    for dtype in (tf.bfloat16, tf.float16):
        if dtype.as_datatype_enum in kinds:
            return str(dtype.name)
    return ""


def _all_nodes(graph: Any) -> list[Any]:
    """The nodes of a graph and of the functions that it calls."""
    inner = (node for part in graph.library.function for node in part.node_def)
    return [*graph.node, *inner]


def _replace_half_precision(graph: Any) -> None:
    """Replace float16 and bfloat16 by float32 in all attributes and constants."""
    for node in _all_nodes(graph):
        for value in node.attr.values():
            if value.type in _HALF:
                value.type = _FLOAT
            for i, kind in enumerate(value.list.type):
                if kind in _HALF:
                    value.list.type[i] = _FLOAT
            if value.HasField("tensor") and value.tensor.dtype in _HALF:
                array = tf.make_ndarray(value.tensor).astype(np.float32)
                value.tensor.CopyFrom(tf.make_tensor_proto(array))
    for part in graph.library.function:
        for argument in (*part.signature.input_arg, *part.signature.output_arg):
            if argument.type in _HALF:
                argument.type = _FLOAT


def _replace_patches(graph: Any) -> None:
    """Replace each ExtractImagePatches by a convolution with a kernel of zeros and ones."""
    channels = {node.name: _channels(node) for node in graph.node}
    for node in [node for node in graph.node if node.op == "ExtractImagePatches"]:
        _, height, width, _ = node.attr["ksizes"].list.i
        depth = channels.get(node.input[0].partition(":")[0])
        kind = tf.as_dtype(node.attr["T"].type)
        if depth is None or not kind.is_floating or height * width * depth > _MAX_PATCH_VALUES:
            continue
        count = math.prod((height, width, depth))
        kernel = np.eye(count, dtype=np.float32).reshape([height, width, depth, count])
        constant = graph.node.add(name=f"{node.name}/kernel", op="Const")
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(kernel))
        constant.attr["dtype"].type = _FLOAT
        strides, rates = (list(node.attr[name].list.i) for name in ("strides", "rates"))
        for name in [name for name in node.attr if name not in ("T", "padding", "_output_shapes")]:
            del node.attr[name]
        node.op = "Conv2D"
        node.input.append(constant.name)
        node.attr["T"].type = _FLOAT
        node.attr["strides"].list.i.extend(strides)
        node.attr["dilations"].list.i.extend(rates)


def _channels(node: Any) -> int | None:
    """The last dimension of a node's first output; None if unknown."""
    shapes = node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else ()
    sizes = [dim.size for dim in shapes[0].dim] if shapes else []
    return sizes[-1] if sizes and sizes[-1] > 0 else None
