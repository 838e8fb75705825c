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
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import ExportError, TficError, brief
from tf_image_classification.export.conversion_errors import converting
from tf_image_classification.export.litert_format import load_litert, write_litert
from tf_image_classification.export.onnx_format import load_onnx, write_onnx
from tf_image_classification.export.output_module import (
    DYNAMIC,
    INT8,
    NONE,
    QUANTIZATIONS,
    OutputModule,
    Plan,
)
from tf_image_classification.export.saved_model import ExportedModel

Outputs = dict[str, npt.NDArray[Any]]
Run = Callable[[npt.NDArray[Any]], Outputs]


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: for users.
        file_name: of what is written.
        takes_bytes: whether it takes encoded images, else preprocessed ones.
        quantizations: those that it can have.
        write: writes it to a path, and returns the description that the file keeps.
        load: reads it with its own runtime.
    """

    name: str
    file_name: str
    takes_bytes: bool
    quantizations: tuple[str, ...]
    write: Callable[[ExportedModel, Plan, str], Mapping[str, Any]]
    load: Callable[[str], Run]


def _write_saved_model(exported: ExportedModel, plan: Plan, path: str) -> Mapping[str, Any]:
    module = OutputModule(exported, plan)
    signatures = {"serving_default": module.serve, "images": module.classify}
    tf.saved_model.save(module, path, signatures=signatures)
    return plan.description


def _load_saved_model(path: str) -> Run:
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]

    def run(images: npt.NDArray[Any]) -> Outputs:
        assert loaded is not None  # its functions do not keep its variables
        found = serve(image_bytes=tf.constant(images.tolist(), tf.string))
        return {name: value.numpy() for name, value in found.items()}

    return run


def write_file(kind: Format, exported: ExportedModel, plan: Plan, path: str) -> Mapping[str, Any]:
    """Write a file; returns the description that it keeps.

    Args:
        kind: its format.
        exported: the model.
        plan: what is to be written.
        path: where.

    Raises:
        ExportError: the format lacks an operation of the model, or its converter fails.
    """

    def graph() -> Any:
        return OutputModule(exported, plan).classify.get_concrete_function()

    with converting(kind.name, graph):
        return kind.write(exported, plan, path)


def load_file(kind: Format, path: str) -> Run:
    """Read a file with its own runtime.

    Raises:
        ExportError: the runtime cannot read it; or later, cannot run it.
    """

    def tried(action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except TficError:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise ExportError(
                f"The {kind.name} file was written, but its own runtime cannot run it: "
                f"{brief(error)}. Nothing was kept."
            ) from error

    run = tried(kind.load, path)
    return lambda images: tried(run, images)


FORMATS = {
    "saved_model": Format(
        "saved_model", "saved_model", True, (NONE,), _write_saved_model, _load_saved_model
    ),
    "litert": Format("litert", "model.tflite", False, QUANTIZATIONS, write_litert, load_litert),
    "onnx": Format("onnx", "model.onnx", False, (NONE, DYNAMIC, INT8), write_onnx, load_onnx),
}
"""The formats that are made from the exported model alone."""
