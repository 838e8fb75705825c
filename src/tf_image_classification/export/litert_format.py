"""LiteRT files: writing, and reading their description."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_image_classification.export.frozen_graph import frozen_function
from tf_image_classification.export.inference_module import (
    FLOAT16,
    INT8,
    NONE,
    SCOPE,
    ExportPlan,
    InferenceModule,
)
from tf_image_classification.export.optional_packages import import_extra
from tf_image_classification.export.saved_model import ExportedModel

METADATA = "tf_image_classification"
"""Name of the metadata entry with the description, as JSON."""


def write_litert(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    """Write a file with the signature ``serving_default``; returns its description.

    Its batch size is free, or 1 for models with recurrent layers, a limit of the format.
    """
    import_extra("ai_edge_litert.interpreter", "LiteRT")  # before the long part
    module = InferenceModule(exported, plan)
    content = _converted(frozen_function(module.classify_one or module.classify), plan)
    if module.classify_one is not None:
        takes = dict(plan.description.get("input", {}))
        takes["shape"] = [1, *takes.get("shape", ())[1:]]
        plan = dataclasses.replace(plan, description={**plan.description, "input": takes})
    with open(path, "wb") as stream:
        stream.write(_with_description(content, plan))
    return plan.description


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


def _with_description(content: bytes, plan: ExportPlan) -> bytes:
    """The model with the description in its metadata."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer = schema.BufferT()
    buffer.data = list(json.dumps(plan.description).encode())
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA.encode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


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
