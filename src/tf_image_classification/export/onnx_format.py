"""ONNX files: writing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.export.class_activation import with_feature_maps
from tf_image_classification.export.frozen_graph import frozen_function
from tf_image_classification.export.inference_module import (
    SCOPE,
    ExportPlan,
    InferenceModule,
    output_place,
)
from tf_image_classification.export.litert_format import METADATA
from tf_image_classification.export.names import DYNAMIC, NONE, PIXELS
from tf_image_classification.export.onnx_pixels import with_preprocessing
from tf_image_classification.export.optional_packages import import_extra
from tf_image_classification.export.saved_model import ExportedModel

_OPSET = 17


def write_onnx(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    """Write a file with the input ``images`` or ``pixels``; returns its description."""
    onnx = import_extra("onnx", "ONNX")
    tf2onnx = import_extra("tf2onnx", "ONNX")
    function = frozen_function(InferenceModule(exported, plan).classify)
    if plan.has_feature_maps:
        function = with_feature_maps(function)
    model, _ = tf2onnx.convert.from_function(
        function,
        input_signature=function.input_signature,
        opset=_OPSET,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    if plan.input_type == PIXELS:
        model = with_preprocessing(model, plan.description["preprocessing"])
    _name_dimensions(model.graph)
    onnx.checker.check_model(model)
    if plan.quantization == NONE:
        _save(model, plan, path)
        return plan.description
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, smaller = (os.path.join(folder, f"{n}.onnx") for n in "abc")
        onnx.save(model, plain)
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        if plan.quantization == DYNAMIC:
            quantization.quantize_dynamic(prepared, smaller)
        else:
            quantization.quantize_static(
                prepared,
                smaller,
                _CalibrationReader(plan.representative_images(), model.graph.input[0].name),
                per_channel=True,
                nodes_to_exclude=_after_logits(onnx.load(prepared).graph),
            )
        _save(onnx.load(smaller), plan, path)
    return plan.description


def _name_dimensions(graph: Any) -> None:
    """Name the first dimension of inputs and outputs; in the order of ``output_place``."""
    outputs = sorted(graph.output, key=lambda output: output_place(output.name))
    copies = [type(one).FromString(one.SerializeToString()) for one in outputs]
    del graph.output[:]
    graph.output.extend(copies)
    for one in (*graph.input, *graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = "batch"


def _erfc(context: Any, node: Any, name: str, _: Any) -> None:
    """Write Erfc, an operation of the exact GELU that ONNX lacks, as 1 - Erf."""
    tf2onnx = import_extra("tf2onnx", "ONNX")
    argument, shapes, dtypes = node.input[0], node.output_shapes, node.output_dtypes
    kind = tf2onnx.utils.map_onnx_to_numpy_type(context.get_dtype(argument))
    one = context.make_const(f"{name}_one", np.array(1, kind)).output[0]
    erf = context.make_node("Erf", [argument]).output[0]
    context.remove_node(name)
    context.make_node(
        "Sub", [one, erf], name=name, outputs=node.output, shapes=shapes, dtypes=dtypes
    )


def _after_logits(graph: Any) -> list[str]:
    """The names of the nodes after the logits and of those that compute an output."""
    outputs = {output.name for output in graph.output}
    after: set[str] = set()
    names = []
    for node in graph.node:  # in topological order
        is_after = f"{SCOPE}/" in node.name or not after.isdisjoint(node.input)
        if is_after or not outputs.isdisjoint(node.output):
            after |= set(node.output)
            names.append(node.name)
    return names


class _CalibrationReader:
    """Training images as ONNX Runtime's static quantization reads them."""

    def __init__(self, images: Iterable[npt.NDArray[np.float32]], name: str) -> None:
        self._images, self._name = iter(images), name

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}


def _save(model: Any, plan: ExportPlan, path: str) -> None:
    onnx = import_extra("onnx", "ONNX")
    onnx.helper.set_model_props(model, {METADATA: json.dumps(plan.description)})
    onnx.save(model, path)
