"""The files of a model folder that predict without TensorFlow.

    for file in light_files(folder):
        print(file.kind, file.path, file.step)

A training ends with one in ``light/``; ``tfic export`` writes others to ``exports/``. A file counts
where it was made from the folder's exported model and agrees with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tf_image_classification.export import optional_packages
from tf_image_classification.export.identity import file_fingerprint, saved_model_fingerprint
from tf_image_classification.export.names import FEATURES, FILE_NAMES, LITERT, ONNX, OPENVINO
from tf_image_classification.export.runtimes import (
    File,
    Runtime,
    load_litert,
    load_onnx,
    load_openvino,
)
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files, quiet

CONVERTERS = {kind: optional_packages.CONVERTERS[kind] for kind in (LITERT, ONNX)}
"""By kind of file the packages that write and verify it; the preferred kind first."""

HEAD, PARITY = "heat_maps.npz", "parity.json"
"""Names of the files beside them: the weights of the head, for heat maps; the verification."""

_LOADERS: Mapping[str, Callable[[File], Runtime]] = {
    LITERT: load_litert,
    ONNX: load_onnx,
    OPENVINO: load_openvino,
}

MAX_DIFFERENCE = 1e-5
"""Largest difference of a probability from the exported model's, as ``export.verify`` measures."""


MAX_FEATURE_DIFFERENCE = 1e-3
"""Largest difference of a feature from the exported model's, over the largest feature."""


@dataclasses.dataclass(frozen=True)
class LightFile:
    """A file that predicts as the exported model does.

    Attributes:
        kind: "litert" or "onnx".
        path: the file.
        step: of the model.
        made_from: fingerprint of the exported model that it was made from.
        has_features: whether it gives FEATURES too, for the score of unknown pictures.
        scores_of: fingerprint of the detector whose UNKNOWN_SCORE it gives, or "".
    """

    kind: str
    path: str
    step: int
    made_from: str
    has_features: bool = False
    scores_of: str = ""


def light_files(
    folder: ModelFolder,
    *,
    kinds: Collection[str] = tuple(FILE_NAMES),
    parents: Collection[str] | None = None,
) -> Iterator[LightFile]:
    """The files that agree with a folder's exported model, the preferred one first.

    Without the exported model, e.g. in a copy for serving, those that agreed with the one that
    they were made from. Each is hashed when it is asked for.

    Args:
        folder: of the run.
        kinds: the kinds of files that are wanted.
        parents: the folders to look in; None: ``light/`` and those of ``tfic export``.
    """
    fingerprint = ""
    if files.exists(files.join(folder.saved_model, "saved_model.pb")):
        fingerprint = saved_model_fingerprint(folder.saved_model)
    for parent, its_kinds in ((folder.light, (LITERT, ONNX)), *_exports(folder)):
        for kind in its_kinds:
            if kind not in kinds or (parents is not None and parent not in parents):
                continue
            path = files.join(parent, FILE_NAMES[kind])
            found = _agreeing(kind, path, fingerprint) if files.exists(path) else None
            if found is not None:
                yield found


def _exports(folder: ModelFolder) -> list[tuple[str, tuple[str, ...]]]:
    return [(files.join(folder.path, "exports", kind), (kind,)) for kind in FILE_NAMES]


def _agreeing(kind: str, path: str, fingerprint: str) -> LightFile | None:
    """The file; None if it is of another model, differs too much or was changed."""
    parent = path.rpartition("/")[0]
    try:
        description = files.read_json(files.join(parent, "model.json"))
        parity = files.read_json(files.join(parent, PARITY))
        made_from, difference = str(description["saved_model"]), float(parity["largest"])
        step = int(description["step"])
        takes, verified = description["input"]["dtype"], parity["sha256"]
        scores_of = str((description.get("unknown") or {}).get("fingerprint", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_same = made_from == fingerprint or not fingerprint
    is_close = math.isfinite(difference) and difference <= MAX_DIFFERENCE
    if not (is_same and is_close and takes == "float32"):
        return None
    if file_fingerprint(path) != verified:
        return None
    return LightFile(
        kind, path, step, made_from, FEATURES in (parity.get("added") or {}), scores_of
    )


def read_parity(parent: str) -> dict[str, Any]:
    """The verification of the file in a folder; {} without a readable one."""
    try:
        return dict(files.read_json(files.join(parent, PARITY)))
    except (OSError, ValueError, TypeError):
        return {}


def open_file(engine: str, path: str) -> Runtime:
    """A file in the runtime of an engine.

    Raises:
        ConfigError: the runtime is not installed; names the extra.
    """
    # A local file is mapped into memory.
    content = files.read_bytes(path) if files.is_remote(path) else path
    with quiet.hidden():  # its notices
        return _LOADERS[engine](content)
