"""The files of a model folder that predict without TensorFlow.

    for file in light_files(folder):
        print(file.kind, file.path, file.step)

A training ends with one in ``light/``; ``tfic export`` writes others to ``exports/``. A file counts
where it was made from the folder's exported model and agrees with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from tf_image_classification.export import optional_packages
from tf_image_classification.export.identity import file_fingerprint, saved_model_fingerprint
from tf_image_classification.export.names import FILE_NAMES, LITERT, ONNX
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files

CONVERTERS = {kind: optional_packages.CONVERTERS[kind] for kind in (LITERT, ONNX)}
"""By kind of file the packages that write and verify it; the preferred kind first."""

MAX_DIFFERENCE = 1e-5
"""Largest difference of a probability from the exported model's, as ``export.verify`` measures."""


@dataclasses.dataclass(frozen=True)
class LightFile:
    """A file that predicts as the exported model does.

    Attributes:
        kind: "litert" or "onnx".
        path: the file.
        step: of the model.
    """

    kind: str
    path: str
    step: int


def light_files(folder: ModelFolder) -> Iterator[LightFile]:
    """The files that agree with a folder's exported model, the preferred one first.

    Without the exported model, e.g. in a copy for serving, those that agreed with the one that
    they were made from.
    """
    fingerprint = ""
    if files.exists(files.join(folder.saved_model, "saved_model.pb")):
        fingerprint = saved_model_fingerprint(folder.saved_model)
    for parent, kinds in ((folder.light, (LITERT, ONNX)), *_exports(folder)):
        for kind in kinds:
            path = files.join(parent, FILE_NAMES[kind])
            if files.exists(path) and (step := _agreed_step(path, fingerprint)) is not None:
                yield LightFile(kind, path, step)


def _exports(folder: ModelFolder) -> list[tuple[str, tuple[str, ...]]]:
    return [(files.join(folder.path, "exports", kind), (kind,)) for kind in FILE_NAMES]


def _agreed_step(path: str, fingerprint: str) -> int | None:
    """The step of a file's model; None if it is another's, differs too much or was changed."""
    parent = path.rpartition("/")[0]
    try:
        description = files.read_json(files.join(parent, "model.json"))
        parity = files.read_json(files.join(parent, "parity.json"))
        made_from, difference = str(description["saved_model"]), float(parity["largest"])
        step = int(description["step"])
        takes, verified = description["input"]["dtype"], parity["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_same = made_from == fingerprint or not fingerprint
    is_close = math.isfinite(difference) and difference <= MAX_DIFFERENCE
    if not (is_same and is_close and takes == "float32"):
        return None
    return step if file_fingerprint(path) == verified else None
