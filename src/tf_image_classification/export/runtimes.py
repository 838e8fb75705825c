"""Inference with exported files in their own runtimes, which need no TensorFlow.

infer = load_litert(data)
outputs = infer(images)             float32 [B, H, W, C] to outputs by name

The packages of the runtimes are optional and imported late.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.export.optional_packages import import_extra

Outputs = dict[str, npt.NDArray[Any]]
InferenceFn = Callable[[npt.NDArray[Any]], Outputs]
"""Images to outputs by name."""

File = str | bytes
"""The path of a file, or its content."""


def load_litert(file: File) -> InferenceFn:
    """The inference function of a LiteRT file, run by the LiteRT interpreter, on all cores.

    Raises:
        ConfigError: the package is not installed; names the extra.
    """
    interpreter = import_extra("ai_edge_litert.interpreter", "LiteRT")
    given = {"model_content": file} if isinstance(file, bytes) else {"model_path": file}
    loaded = interpreter.Interpreter(**given, num_threads=os.cpu_count())
    loaded.allocate_tensors()  # writes its notices now, not at the first inference
    runner = loaded.get_signature_runner("serving_default")
    [details] = runner.get_input_details().values()
    takes_one = details["shape_signature"][0] == 1
    scales = {
        name: one["quantization"][0]
        for name, one in runner.get_output_details().items()
        if one["dtype"] == np.uint8
    }
    lock = threading.Lock()  # an interpreter has one set of tensors

    def infer(images: npt.NDArray[Any]) -> Outputs:
        images = images.astype(details["dtype"], copy=False)
        parts = [images[i : i + 1] for i in range(len(images))] if takes_one else [images]
        with lock:
            found = [dict(runner(images=part)) for part in parts]
        outputs = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        return outputs | {name: scale * outputs[name] for name, scale in scales.items()}

    return infer


def load_onnx(file: File) -> InferenceFn:
    """The inference function of an ONNX file, run by ONNX Runtime on the CPU.

    Its threads sleep between two operations: those that spin take the cores from the decoding of
    images.

    Raises:
        ConfigError: the package is not installed; names the extra.
    """
    runtime = import_extra("onnxruntime", "ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    [details] = session.get_inputs()

    def infer(images: npt.NDArray[Any]) -> Outputs:
        if details.type == "tensor(float)":  # after a preprocessing in half precision
            images = images.astype(np.float32, copy=False)
        return dict(zip(names, session.run(None, {details.name: images}), strict=True))

    return infer


def load_openvino(file: File) -> InferenceFn:
    """The inference function of an ONNX file, run by OpenVINO on the CPU in float32.

    Raises:
        ConfigError: the package is not installed; names the extra.
    """
    openvino = import_extra("openvino", "OpenVINO")
    core = openvino.Core()
    if isinstance(file, bytes):
        read = core.read_model(file, openvino.Tensor(np.zeros([0], np.uint8)))
    else:
        read = core.read_model(file)
    # Processors with bfloat16 would use it by themselves.
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]
    lock = threading.Lock()  # of the one request that a compiled model has for calls like this

    def infer(images: npt.NDArray[Any]) -> Outputs:
        with lock:
            found = compiled([images.astype(np.float32, copy=False)])
            values = [np.array(found[output]) for output in compiled.outputs]
        return dict(zip(names, values, strict=True))

    return infer
