"""The files that a model is shipped as, and how each is run again by its own runtime.

    write(FORMATS["litert"], exported, plan, "model.tflite")
    runtime = FORMATS["litert"].load("model.tflite")
    outputs = runtime(images)           by output name, numpy

A SavedModel takes encoded images; LiteRT and ONNX take preprocessed ones, as ``Predictor.prepare``
makes them. All give, of each label with classes, ``NAME_probabilities`` and ``NAME_calibrated``, of
one with a real value ``NAME``. Class names and preprocessing are described in the file itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import calibrated_key, logits_key, probabilities_key
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics.calibration import LIMITS_OF_SEVERAL, Calibration
from tf_image_classification.serving.export import ExportedModel

Outputs = dict[str, npt.NDArray[Any]]
Run = Callable[[npt.NDArray[Any]], Outputs]
METADATA = "tf_image_classification"
"""Name under which a file keeps its description, as JSON."""

NONE, DYNAMIC, INT8, FLOAT16 = QUANTIZATIONS = ("none", "dynamic", "int8", "float16")
_OPSET = 17


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        schema: the labels.
        calibrations: by label name.
        description: plain values that the file keeps about itself.
        quantization: one of ``QUANTIZATIONS``.
        samples: preprocessed training images, [1, H, W, C] each; for ``int8`` only.
    """

    schema: LabelSchema
    calibrations: Mapping[str, Calibration]
    description: Mapping[str, Any]
    quantization: str = NONE
    samples: Callable[[], Iterable[npt.NDArray[np.float32]]] = tuple


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: for users.
        file_name: of what is written.
        takes_bytes: whether it takes encoded images, else preprocessed ones.
        quantizations: those that it can have.
        write: writes it to a path.
        load: reads it with its own runtime.
    """

    name: str
    file_name: str
    takes_bytes: bool
    quantizations: tuple[str, ...]
    write: Callable[[ExportedModel, Plan, str], None]
    load: Callable[[str], Run]


def _outputs(plan: Plan, logits: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    predictions = predictions_from(plan.schema, logits)
    return _with_calibrated(plan, predictions)


def _with_calibrated(plan: Plan, predictions: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    found = {}
    for label in plan.schema:
        if not label.has_classes:
            found[label.name] = predictions[label.name]
            continue
        key = probabilities_key(label.name)
        found[key] = predictions[key]
        calibration = plan.calibrations.get(label.name)
        if calibration is not None:
            found[calibrated_key(label.name)] = (
                _tempered_logits(predictions[logits_key(label.name)], calibration)
                if calibration.is_several
                else _tempered(predictions[key], calibration)
            )
    return found


def _tempered(probabilities: tf.Tensor, calibration: Calibration) -> tf.Tensor:
    """As ``calibration.tempered``, in float32."""
    exact = tf.clip_by_value(probabilities, 1e-12, 1.0)
    return tf.nn.softmax(tf.math.log(exact) / calibration.temperature)


def _tempered_logits(logits: tf.Tensor, calibration: Calibration) -> tf.Tensor:
    """The same of several classes; from logits, since runtimes round small probabilities."""
    low, high = (math.log(p) - math.log1p(-p) for p in LIMITS_OF_SEVERAL)
    return tf.sigmoid(tf.clip_by_value(logits, low, high) / calibration.temperature)


class _Shipped(tf.Module):
    """What becomes a SavedModel with signatures of its own."""

    def __init__(self, exported: ExportedModel, plan: Plan) -> None:
        super().__init__()
        self.model = exported.loaded
        self.description = tf.constant(json.dumps(plan.description))
        spec = exported.image_spec
        images = tf.TensorSpec([None, *spec.shape], spec.dtype, "images")
        self.classify = tf.function(
            lambda images: _outputs(plan, exported.forward(images, False)),
            input_signature=[images],
        )

        def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            predictions = dict(exported.loaded.serve(image_bytes))
            names = {name: value for name, value in predictions.items() if "class_name" in name}
            return _with_calibrated(plan, predictions) | names

        encoded = tf.TensorSpec([None], tf.string, "image_bytes")
        self.serve = tf.function(serve, input_signature=[encoded])
        self.describe = tf.function(lambda: self.description, input_signature=[])


def _write_saved_model(exported: ExportedModel, plan: Plan, path: str) -> None:
    module = _Shipped(exported, plan)
    signatures = {"serving_default": module.serve, "images": module.classify}
    tf.saved_model.save(module, path, signatures=signatures)


def _load_saved_model(path: str) -> Run:
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]

    def run(images: npt.NDArray[Any]) -> Outputs:
        assert loaded is not None  # its functions do not keep its variables
        found = serve(image_bytes=tf.constant(images.tolist(), tf.string))
        return {name: value.numpy() for name, value in found.items()}

    return run


def _write_litert(exported: ExportedModel, plan: Plan, path: str) -> None:
    _extra("ai_edge_litert.interpreter", "LiteRT")  # before the long part
    module = _Shipped(exported, plan)
    with tempfile.TemporaryDirectory() as folder:
        signatures = {"serving_default": module.classify}
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, ["serving_default"])
        if plan.quantization != NONE:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if plan.quantization == FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        if plan.quantization == INT8:
            converter.representative_dataset = lambda: ([image] for image in plan.samples())
        content = converter.convert()
    with open(path, "wb") as stream:
        stream.write(_described(content, plan))


def _described(content: bytes, plan: Plan) -> bytes:
    """The model with its description in the metadata of its own format."""
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
    """What a LiteRT file says of itself; {} for one that is not of ours."""
    from tensorflow.lite.tools import flatbuffer_utils

    with open(path, "rb") as stream:
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(stream.read()))
    for entry in model.metadata or ():
        if entry.name == METADATA.encode():
            found: dict[str, Any] = json.loads(bytes(model.buffers[entry.buffer].data))
            return found
    return {}


def _load_litert(path: str) -> Run:
    interpreter = _extra("ai_edge_litert.interpreter", "LiteRT")
    runner = interpreter.Interpreter(model_path=path).get_signature_runner("serving_default")
    kind = next(iter(runner.get_input_details().values()))["dtype"]
    return lambda images: dict(runner(images=images.astype(kind)))


def _write_onnx(exported: ExportedModel, plan: Plan, path: str) -> None:
    onnx = _extra("onnx", "ONNX")
    tf2onnx = _extra("tf2onnx", "ONNX")
    module = _Shipped(exported, plan)
    spec = exported.image_spec
    inputs = [tf.TensorSpec([None, *spec.shape], spec.dtype, "images")]
    model, _ = tf2onnx.convert.from_function(module.classify, input_signature=inputs, opset=_OPSET)
    onnx.checker.check_model(model)
    if plan.quantization == NONE:
        _save_onnx(model, plan, path)
        return
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, smaller = (os.path.join(folder, f"{n}.onnx") for n in "abc")
        onnx.save(model, plain)
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        if plan.quantization == DYNAMIC:
            quantization.quantize_dynamic(prepared, smaller)
        else:
            reader = _Samples(plan.samples())
            quantization.quantize_static(prepared, smaller, reader, per_channel=True)
        _save_onnx(onnx.load(smaller), plan, path)


class _Samples:
    """Training images in the form that ONNX Runtime calibrates with."""

    def __init__(self, images: Iterable[npt.NDArray[np.float32]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image}


def _save_onnx(model: Any, plan: Plan, path: str) -> None:
    onnx = _extra("onnx", "ONNX")
    onnx.helper.set_model_props(model, {METADATA: json.dumps(plan.description)})
    onnx.save(model, path)


def _load_onnx(path: str) -> Run:
    runtime = _extra("onnxruntime", "ONNX")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))


def _extra(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = name.lower()
        raise ConfigError(
            f"{name} needs {module.partition('.')[0]}. Install it with: "
            f"pip install 'tf_image_classification[{extra}]'."
        ) from error


FORMATS = {
    "saved_model": Format(
        "saved_model", "saved_model", True, (NONE,), _write_saved_model, _load_saved_model
    ),
    "litert": Format("litert", "model.tflite", False, QUANTIZATIONS, _write_litert, _load_litert),
    "onnx": Format("onnx", "model.onnx", False, (NONE, DYNAMIC, INT8), _write_onnx, _load_onnx),
}
"""The formats that are made from the exported model alone."""
