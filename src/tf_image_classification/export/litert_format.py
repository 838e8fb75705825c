"""LiteRT files: writing, and reading their description."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_image_classification.export.class_activation import with_feature_maps
from tf_image_classification.export.frozen_graph import frozen_function
from tf_image_classification.export.inference_module import (
    SCOPE,
    ExportPlan,
    InferenceModule,
    output_place,
)
from tf_image_classification.export.litert_metadata import NAME, metadata, with_files
from tf_image_classification.export.names import FEATURE_MAPS, FLOAT16, INT8, NONE, UINT8
from tf_image_classification.export.optional_packages import import_extra
from tf_image_classification.export.pixel_scaling import IDENTITY, PixelScaling
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import label_of_output, probabilities_key

METADATA = "tf_image_classification"
"""Name of the metadata entry with the description, as JSON."""


def write_litert(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    """Write a file with the signature ``serving_default``; returns its description.

    Its batch size is free, or 1 for models with recurrent layers, a limit of the format. With
    feature maps it has a second signature, FEATURE_MAPS, of the same graph.
    """
    import_extra("ai_edge_litert.interpreter", "LiteRT")  # before the long part
    module = InferenceModule(exported, plan)
    function = frozen_function(module.classify_one or module.classify)
    if plan.has_feature_maps:
        function = with_feature_maps(function)
    content = _converted(_of_bytes(function, plan) if plan.input_type == UINT8 else function, plan)
    if module.classify_one is not None:
        takes = dict(plan.description.get("input", {}))
        takes["shape"] = [1, *takes.get("shape", ())[1:]]
        plan = dataclasses.replace(plan, description={**plan.description, "input": takes})
    names = {label.name: label.named_classes() for label in plan.schema.labels_with_classes}
    labels = {
        label_file(plan.schema, name): "".join(f"{one}\n" for one in classes).encode()
        for name, classes in names.items()
    }
    with open(path, "wb") as stream:
        stream.write(with_files(_described(content, plan), labels))
    return plan.description


def label_file(schema: LabelSchema, name: str) -> str:
    """The name of the file with a label's class names."""
    return "labels.txt" if len(schema.labels) == 1 else f"{name}_labels.txt"


def _of_bytes(function: Any, plan: ExportPlan) -> Any:
    """The same of pixels, uint8; gives probabilities only, as uint8: 255 is 1."""
    [spec] = function.input_signature
    assert plan.scaling is not None
    mean, std = (tf.constant(values) for values in (plan.scaling.mean, plan.scaling.std))

    def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.cast(images, tf.float32)
        outputs = function(tf.cast((pixels - mean) / std, spec.dtype))
        with tf.name_scope(SCOPE):
            return {
                key: tf.cast(tf.round(outputs[key] * 255.0), tf.uint8)
                for key in (probabilities_key(label.name) for label in plan.schema)
            }

    return tf.function(run, input_signature=[tf.TensorSpec(spec.shape, tf.uint8, "images")])


def _converted(function: Any, plan: ExportPlan) -> bytes:
    module = tf.Module()
    module.classify = function
    with tempfile.TemporaryDirectory() as folder:
        signatures = {"serving_default": module.classify}
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, ["serving_default"])
        if plan.quantization != NONE:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if plan.quantization == FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        return _int8(converter, plan) if plan.quantization == INT8 else converter.convert()


def _int8(converter: Any, plan: ExportPlan) -> bytes:
    """A model that is int8 up to the logits; the operations after them stay float.

    Probabilities in 256 steps would tie, and small ones would round to 0.
    """
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.tools import flatbuffer_utils

    converter.representative_dataset = lambda: ([image] for image in plan.representative_images())
    converter._experimental_calibrate_only = True
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converter.convert()))
    names = _without_ranges(model.subgraphs[0])
    calibrated = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return bytes(mlir_quantize(calibrated, denylisted_nodes=names))


def _without_ranges(graph: Any) -> set[str]:
    """Remove the measured ranges of the tensors after the logits; returns their names.

    Both are needed: a tensor with a range is quantised where a neighbour needs the same scale.
    """
    outputs = set(graph.outputs)
    names = set()
    for number, tensor in enumerate(graph.tensors):
        name = tensor.name.decode()
        if f"{SCOPE}/" in name or number in outputs:
            names.add(name)
            tensor.quantization = None
    return names


def _described(content: bytes, plan: ExportPlan) -> bytes:
    """The model with its metadata, probabilities before the other outputs."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph, [signature] = model.subgraphs[0], model.signatureDefs
    found = {one.name.decode(): one.tensorIndex for one in signature.outputs}
    names = sorted(found.keys() - {FEATURE_MAPS}, key=output_place)
    graph.outputs = [found[name] for name in names]
    if plan.has_feature_maps:
        graph.outputs.append(found[FEATURE_MAPS])
        model.signatureDefs = _split(signature)
    if plan.input_type == UINT8:
        _set_scale(graph.tensors[graph.inputs[0]], 1.0)
        for number in graph.outputs:
            _set_scale(graph.tensors[number], 1 / 255)
    with_classes = {label.name for label in plan.schema.labels_with_classes}
    files = [
        label_file(plan.schema, label) if label in with_classes else ""
        for label in map(label_of_output, names)
    ]
    entries = {
        METADATA: json.dumps(plan.description).encode(),
        NAME: metadata("image classifier", _scaling(plan), list(zip(names, files, strict=True))),
    }
    for name, value in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = list(value)
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _split(signature: Any) -> list[Any]:
    """A signature without the feature maps, and one with them alone."""
    outputs = signature.outputs
    maps = copy.copy(signature)
    maps.signatureKey = FEATURE_MAPS.encode()
    maps.outputs = [one for one in outputs if one.name.decode() == FEATURE_MAPS]
    signature.outputs = [one for one in outputs if one.name.decode() != FEATURE_MAPS]
    return [signature, maps]


def _scaling(plan: ExportPlan) -> PixelScaling | None:
    return IDENTITY if plan.input_type == UINT8 else plan.scaling


def _set_scale(tensor: Any, scale: float) -> None:
    """Set what one step of a uint8 tensor stands for."""
    from tensorflow.lite.python import schema_py_generated as schema

    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]


def litert_description(path: str) -> dict[str, Any]:
    """The description in a LiteRT file; {} for one that this package has not written."""
    from tensorflow.lite.tools import flatbuffer_utils

    with open(path, "rb") as stream:
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(stream.read()))
    for entry in model.metadata or ():
        if entry.name == METADATA.encode():
            found: dict[str, Any] = json.loads(bytes(model.buffers[entry.buffer].data))
            return found
    return {}
