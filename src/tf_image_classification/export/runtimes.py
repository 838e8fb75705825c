"""Inference with exported files in their own runtimes, which need no TensorFlow.

infer = load_litert(data)
outputs = infer(images)             float32 [B, H, W, C] to outputs by name

The packages of the runtimes are optional and imported late.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tf_image_classification.export.names import FEATURE_MAPS
from tf_image_classification.export.optional_packages import import_extra
from tf_image_classification.system import quiet

Outputs = dict[str, npt.NDArray[Any]]
InferenceFn = Callable[[npt.NDArray[Any]], Outputs]
"""Images to outputs by name."""

File = str | bytes
"""The path of a file, or its content."""


NUM_CALLS = 2
"""Calls at the same time; while the threads of one wait for one another, the other computes."""


_SERVING = "serving_default"
_RunnerOf = Callable[[str], Any]
"""The runner of a signature, of one interpreter."""


class Runtime(Protocol):
    """A file in its runtime; may be used from several threads."""

    def __call__(self, images: npt.NDArray[Any]) -> Outputs:
        """Images to outputs by name, without the feature maps."""

    def feature_maps(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Images to the output FEATURE_MAPS, float32 [B, h, w, C], of a file that has it."""


def load_litert(file: File) -> Runtime:
    """A LiteRT file in the LiteRT interpreter, on all cores.

    Raises:
        ConfigError: the package is not installed; names the extra.
    """
    interpreter = import_extra("ai_edge_litert.interpreter", "LiteRT")
    given = {"model_content": file} if isinstance(file, bytes) else {"model_path": file}
    loaded = _version(file)
    return _LiteRT(
        lambda: interpreter.Interpreter(**given, num_threads=os.cpu_count()),
        is_unchanged=lambda: _version(file) == loaded,
    )


def _version(file: File) -> tuple[int, ...]:
    """What changes when a file is replaced."""
    if isinstance(file, bytes):
        return ()
    try:
        stat = os.stat(file)
    except OSError:  # it was removed
        return (-1,)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class _LiteRT:
    """Interpreters of one file; an interpreter has one set of tensors, for one call at a time."""

    def __init__(self, make: Callable[[], Any], is_unchanged: Callable[[], bool]) -> None:
        self._make, self._is_unchanged = make, is_unchanged
        self._free: queue.LifoQueue[_RunnerOf] = queue.LifoQueue()
        self._may_make = threading.Semaphore(NUM_CALLS - 1)
        runner_of = self._made()
        runner = runner_of(_SERVING)
        [details] = runner.get_input_details().values()
        self._dtype = details["dtype"]
        self._takes_one = details["shape_signature"][0] == 1
        self._scales = {
            name: one["quantization"][0]
            for name, one in runner.get_output_details().items()
            if one["dtype"] == np.uint8
        }
        self._free.put(runner_of)

    def __call__(self, images: npt.NDArray[Any]) -> Outputs:
        images = images.astype(self._dtype, copy=False)
        parts = [images[i : i + 1] for i in range(len(images))] if self._takes_one else [images]
        found = self._run(_SERVING, parts)
        outputs = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        return outputs | {name: scale * outputs[name] for name, scale in self._scales.items()}

    def feature_maps(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        [found] = self._run(FEATURE_MAPS, [images])
        return found[FEATURE_MAPS]

    def _run(self, signature: str, parts: Sequence[npt.NDArray[Any]]) -> list[Outputs]:
        runner_of = self._taken()
        try:
            return [dict(runner_of(signature)(images=part)) for part in parts]
        finally:
            self._free.put(runner_of)

    def _taken(self) -> _RunnerOf:
        """A free interpreter, or a further one of the same file."""
        with contextlib.suppress(queue.Empty):
            return self._free.get_nowait()
        if self._is_unchanged() and self._may_make.acquire(blocking=False):
            return self._made()
        return self._free.get()

    def _made(self) -> _RunnerOf:
        with quiet.hidden():  # its notices
            interpreter = self._make()
            interpreter.allocate_tensors()  # writes them now, not at the first inference
        return functools.cache(interpreter.get_signature_runner)


def load_onnx(file: File) -> Runtime:
    """An ONNX file in ONNX Runtime, on the CPU.

    Its threads sleep between two operations: those that spin take the cores from the decoding of
    images.

    Raises:
        ConfigError: the package is not installed; names the extra.
    """
    runtime = import_extra("onnxruntime", "ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return _Onnx(runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))


class _Onnx:
    def __init__(self, session: Any) -> None:
        self._session = session
        names = [output.name for output in session.get_outputs()]
        self._names = [name for name in names if name != FEATURE_MAPS]
        [self._input] = session.get_inputs()

    def __call__(self, images: npt.NDArray[Any]) -> Outputs:
        return dict(zip(self._names, self._run(self._names, images), strict=True))

    def feature_maps(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        [found] = self._run([FEATURE_MAPS], images)
        return np.asarray(found)

    def _run(self, names: list[str], images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        if self._input.type == "tensor(float)":  # after a preprocessing in half precision
            images = images.astype(np.float32, copy=False)
        return list(self._session.run(names, {self._input.name: images}))


def load_openvino(file: File) -> Runtime:
    """An ONNX file in OpenVINO, on the CPU in float32.

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
    return _OpenVino(core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))


class _OpenVino:
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._outputs = {output.get_any_name(): output for output in compiled.outputs}
        self._lock = threading.Lock()  # of the one request of a compiled model for calls like this

    def __call__(self, images: npt.NDArray[Any]) -> Outputs:
        return self._run(images, [name for name in self._outputs if name != FEATURE_MAPS])

    def feature_maps(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self._run(images, [FEATURE_MAPS])[FEATURE_MAPS]

    def _run(self, images: npt.NDArray[Any], names: list[str]) -> Outputs:
        with self._lock:
            found = self._compiled([images.astype(np.float32, copy=False)])
            return {name: np.array(found[self._outputs[name]]) for name in names}
