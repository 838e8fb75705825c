"""An exported file, wherever it lies, run on encoded images with its own preprocessing.

file = open_exported("runs/pets/exports/litert-int8")
file.schema, file.outputs(images)["label_probabilities"]
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.export.formats import FORMATS, load_file
from tf_image_classification.export.litert_format import METADATA, litert_description
from tf_image_classification.export.names import (
    FILE_NAMES,
    LITERT,
    ONNX,
    PIXELS,
    SAVED_MODEL,
    UINT8,
)
from tf_image_classification.export.optional_packages import import_extra
from tf_image_classification.export.pixel_scaling import IDENTITY, pixel_scaling
from tf_image_classification.export.runtimes import InferenceFn, Outputs
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.light.decode import decode
from tf_image_classification.serving.light.preprocess import LightPreprocessing
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.system import files

Array = npt.NDArray[Any]
Prepare = Callable[[bytes], Any]

_SUFFIXES = {".tflite": LITERT, ".lite": LITERT, ".onnx": ONNX}


def exported_kind(path: str) -> str:
    """The format of an exported file or of the file in a folder; "" if it is none.

    A SavedModel counts if its description lies beside it.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    kind, file = _file_in(path)
    return "" if kind == SAVED_MODEL and not _description(kind, file) else kind


def run_folder_of(path: str) -> str:
    """The model folder that an exported file lies in, or ""."""
    parent = os.path.abspath(path)
    for _ in range(4):
        parent = os.path.dirname(parent)
        if os.path.isfile(ModelFolder(parent).manifest):
            return parent
    return ""


@dataclasses.dataclass(frozen=True)
class ExportedFile:
    """An exported file in its runtime.

    Attributes:
        path: the file.
        schema: its labels with their classes.
        step: of the model that it was made from.
    """

    path: str
    schema: LabelSchema
    step: int
    _infer: InferenceFn
    _prepare: Prepare | None
    _is_single: bool

    def outputs(self, images: Sequence[bytes]) -> Outputs:
        """Encoded images to outputs by name, as the exported file gives them."""
        if self._prepare is None:
            return self._infer(np.array(list(images), object))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            prepared = list(pool.map(self._prepare, images))
        if not self._is_single:
            return self._infer(np.stack(prepared))
        parts = [self._infer(one[None]) for one in prepared]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def open_exported(path: str) -> ExportedFile:
    """The exported file at a path, or in the folder at it.

    Raises:
        DataError: it does not exist, or this package has not written it.
        ExportError: its runtime cannot read it.
        ConfigError: its runtime is not installed.
    """
    suffix = os.path.splitext(path)[1].lower()
    kind, file = (_SUFFIXES[suffix], path) if suffix in _SUFFIXES else _file_in(path)
    if not files.exists(file) and not os.path.isdir(file):
        raise DataError(f"There is no file {file}.")
    description = _description(kind, file)
    try:
        schema = LabelSchema.from_json(description["labels"])
        takes, preprocessing = description["input"], description["preprocessing"]
        step = int(description["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} has no description of its classes and preprocessing: it was not written by "
            "tfic export. Compare its predictions as a CSV."
        ) from error
    is_pixels = takes.get("name") == PIXELS
    prepare = None
    if kind != SAVED_MODEL:
        is_uint8 = takes.get("dtype") == UINT8
        prepare = _preparation(file, preprocessing, is_pixels=is_pixels, is_uint8=is_uint8)
    return ExportedFile(file, schema, step, load_file(FORMATS[kind], file), prepare, is_pixels)


def _file_in(path: str) -> tuple[str, str]:
    """The format and path of the exported file in a folder; ("", "") without one."""
    for kind, name in FILE_NAMES.items():
        if os.path.isfile(os.path.join(path, name)):
            return kind, os.path.join(path, name)
    for folder in (path, os.path.join(path, SAVED_MODEL)):
        if os.path.isfile(os.path.join(folder, "saved_model.pb")):
            return SAVED_MODEL, folder
    return "", ""


def _description(kind: str, file: str) -> Mapping[str, Any]:
    """What the file says of itself; {} if nothing."""
    if kind == LITERT:
        return litert_description(file)
    if kind == ONNX:
        return _onnx_description(file)
    beside = os.path.join(os.path.dirname(os.path.abspath(file)), "model.json")
    try:
        return dict(files.read_json(beside))
    except (OSError, ValueError, DataError):
        return {}


def _onnx_description(file: str) -> Mapping[str, Any]:
    runtime = import_extra("onnxruntime", "ONNX")
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map.get(METADATA, "{}")
    return dict(json.loads(text))


def _preparation(
    file: str, preprocessing: Mapping[str, Any], *, is_pixels: bool, is_uint8: bool
) -> Prepare:
    """An encoded image to the file's input."""
    if preprocessing.get("kind") != "built-in":
        return _of_run(file, is_uint8=is_uint8)
    low, high = preprocessing["png16_range"]
    light = LightPreprocessing(
        image_size=int(preprocessing["image_size"]),
        eval_crop=float(preprocessing["eval_crop"]),
        eval_stretch=float(preprocessing["eval_stretch"]),
        max_pixels=int(preprocessing["max_pixels"]),
        png16_range=(low, high),
    )
    if is_pixels:
        return lambda data: decode(data, max_pixels=light.max_pixels, png16_range=light.png16_range)
    if is_uint8:
        return lambda data: IDENTITY.pixels(light.prepare(data))
    return light.prepare


def _of_run(file: str, *, is_uint8: bool) -> Prepare:
    """The preprocessing of the spec of the run that a file lies in."""
    folder = run_folder_of(file)
    if not folder:
        raise DataError(
            f"{file} has the preprocessing of a spec of its own, which is in its model folder. "
            "Name the file in exports/ of that folder."
        )
    predictor = load_model(folder)
    if not is_uint8:
        return lambda data: np.asarray(predictor.prepare(data))
    scaling = pixel_scaling(ExportedModel(ModelFolder(folder).saved_model).load())
    assert scaling is not None  # else it could not have been exported
    return lambda data: scaling.pixels(np.asarray(predictor.prepare(data)))
