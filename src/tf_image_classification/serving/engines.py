"""The choice of the engine that runs a folder's model.

    name, file = choose_engine(ModelFolder("runs/pets"), "auto")

Needs no TensorFlow, so that an engine without it starts in a fraction of a second.
"""

from __future__ import annotations

from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.export.names import (
    AUTO,
    FILE_NAMES,
    LITERT,
    ONNX,
    OPENVINO,
    TENSORFLOW,
    engine_named,
)
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.light.files import LightFile, light_files
from tf_image_classification.serving.light.preprocess import preprocessing_of
from tf_image_classification.system import packages

_PACKAGES = {LITERT: "ai_edge_litert", ONNX: "onnxruntime", OPENVINO: "openvino"}
_KINDS = {LITERT: LITERT, ONNX: ONNX, OPENVINO: ONNX}
"""By engine the kind of its files."""


def choose_engine(folder: ModelFolder, wanted: str) -> tuple[str, LightFile | None]:
    """The engine for a folder's model, and the engine's file; None for TensorFlow.

    Args:
        folder: of the run.
        wanted: as ``engine_named`` takes it. "auto": the first engine without TensorFlow that is
            installed and has a file that agrees with the exported model; else TensorFlow.

    Raises:
        CheckpointError: the folder is not a run's.
        ConfigError: the engine cannot run this model; names what is missing.
        UsageError: there is no such engine.
    """
    wanted = engine_named(wanted)
    manifest = folder.known_manifest()
    if wanted == TENSORFLOW:
        return TENSORFLOW, None
    try:
        preprocessing_of({"spec": manifest.spec, "settings": manifest.settings})
    except SpecError as error:
        if wanted != AUTO:
            raise ConfigError(f"{error} Use --engine {TENSORFLOW}.") from error
        return _tensorflow(str(error)), None
    engines = (LITERT, ONNX, OPENVINO) if wanted == AUTO else (wanted,)
    candidates = []
    for file in light_files(folder, kinds={_KINDS[engine] for engine in engines}):
        candidates.append(file)
        for engine in engines:
            if file.kind == _KINDS[engine] and (
                wanted != AUTO or packages.is_installed(_PACKAGES[engine])
            ):
                return engine, file
    if wanted == AUTO:
        return _tensorflow(_why_none(folder, candidates)), None
    kind = _KINDS[wanted]
    raise ConfigError(
        f"{folder.path} holds no {FILE_NAMES[kind]} that agrees with its exported model. Write it, "
        f"where TensorFlow is installed, with: tfic export {folder.path} --format {kind}"
    )


def _why_none(folder: ModelFolder, candidates: list[LightFile]) -> str:
    """Why no engine without TensorFlow can run a model of the built-in preprocessing."""
    if not candidates:
        return (
            f"{folder.path} holds no file of another engine that agrees with its exported model. "
            f"Write it, where TensorFlow is installed, with: tfic export {folder.path} --format "
            f"{LITERT}"
        )
    file = candidates[0]
    return (
        f"{file.path} needs {_PACKAGES[file.kind]}. Install it with: "
        f"pip install 'tf_image_classification[{file.kind}]'"
    )


def _tensorflow(reason: str) -> str:
    """The engine TensorFlow, where no other one can run the model.

    Raises:
        ConfigError: it is not installed.
    """
    if not packages.is_installed("tensorflow"):
        raise ConfigError(
            f"No other engine than TensorFlow can run the model: {reason.rstrip('.')}. "
            f"{packages.advice('tensorflow')}"
        )
    return TENSORFLOW
