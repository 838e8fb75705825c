"""File formats of an exported model: how each is written, and run with its own runtime.

    write_file(FORMATS["litert"], exported, plan, "model.tflite")
    infer = load_file(FORMATS["litert"], "model.tflite")
    outputs = infer(images)             by output name (see ``signature``), numpy

A SavedModel takes encoded images; LiteRT and ONNX take preprocessed ones, as ``Predictor.prepare``
makes them. Class names and preprocessing are described in the file itself.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import ExportError, TficError, brief
from tf_image_classification.export.conversion_errors import conversion_errors
from tf_image_classification.export.inference_module import (
    ExportPlan,
    InferenceModule,
)
from tf_image_classification.export.litert_format import write_litert
from tf_image_classification.export.names import (
    DYNAMIC,
    FILE_NAMES,
    HUGGINGFACE,
    INT8,
    LITERT,
    MLFLOW,
    NONE,
    ONNX,
    QUANTIZATIONS,
    SAVED_MODEL,
    WEB,
)
from tf_image_classification.export.onnx_format import write_onnx
from tf_image_classification.export.packages import (
    MLFLOW_DATA,
    load_packaged,
    write_huggingface,
    write_mlflow,
)
from tf_image_classification.export.runtimes import (
    InferenceFn,
    Outputs,
    load_litert,
    load_onnx,
)
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.system import quiet


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: as ``--format`` takes it.
        file_name: name of the file or folder.
        takes_bytes: whether the input is encoded images rather than preprocessed ones.
        quantizations: the possible quantizations.
        write: writes the model to a path and returns the description stored in the file.
        load: reads a file with its own runtime.
        is_package: whether it is a copy of a model folder's files.
    """

    name: str
    file_name: str
    takes_bytes: bool
    quantizations: tuple[str, ...]
    write: Callable[[ExportedModel, ExportPlan, str], Mapping[str, Any]]
    load: Callable[[str], InferenceFn]
    is_package: bool = False


def _write_saved_model(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    module = InferenceModule(exported, plan)
    signatures = {"serving_default": module.serve, "images": module.classify}
    tf.saved_model.save(module, path, signatures=signatures)
    return plan.description


def _load_saved_model(path: str) -> InferenceFn:
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]

    def infer(images: npt.NDArray[Any]) -> Outputs:
        assert loaded is not None  # its functions do not keep its variables
        found = serve(image_bytes=tf.constant(images.tolist(), tf.string))
        return {name: value.numpy() for name, value in found.items()}

    return infer


def write_file(
    kind: Format, exported: ExportedModel, plan: ExportPlan, path: str
) -> Mapping[str, Any]:
    """Write the model in a format; returns the description stored in the file.

    Raises:
        ExportError: the format lacks an operation of the model, or its converter fails.
    """

    def graph() -> Any:
        return InferenceModule(exported, plan).classify.get_concrete_function()

    with conversion_errors(kind.name, graph):
        return kind.write(exported, plan, path)


def load_file(kind: Format, path: str) -> InferenceFn:
    """The file's inference function, run by the format's own runtime.

    Raises:
        ExportError: the runtime cannot read the file, or later, cannot run it.
    """

    def checked(action: Callable[..., Any], argument: Any) -> Any:
        try:
            return action(argument)
        except TficError:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise ExportError(
                f"The {kind.name} file was written, but its own runtime cannot run it: "
                f"{brief(error)}. Nothing was kept."
            ) from error

    with quiet.hidden():
        infer = checked(kind.load, path)
    return lambda images: checked(infer, images)


_INTEGERS = (NONE, DYNAMIC, INT8)
FORMATS = {
    SAVED_MODEL: Format(
        SAVED_MODEL, SAVED_MODEL, True, (NONE,), _write_saved_model, _load_saved_model
    ),
    LITERT: Format(LITERT, FILE_NAMES[LITERT], False, QUANTIZATIONS, write_litert, load_litert),
    ONNX: Format(ONNX, FILE_NAMES[ONNX], False, _INTEGERS, write_onnx, load_onnx),
    HUGGINGFACE: Format(
        HUGGINGFACE, SAVED_MODEL, True, (NONE,), write_huggingface, load_packaged, is_package=True
    ),
    MLFLOW: Format(
        MLFLOW,
        f"{MLFLOW_DATA}/{SAVED_MODEL}",
        True,
        (NONE,),
        write_mlflow,
        load_packaged,
        is_package=True,
    ),
}
"""The formats that are made from the exported model alone; "keras" needs the spec as well."""

WEB_FORMAT = dataclasses.replace(FORMATS[ONNX], name=WEB)
WEB_PAGE = os.path.join(os.path.dirname(__file__), "web_page.html")
"""The page beside a file in ``WEB_FORMAT``, which runs it in a browser."""
