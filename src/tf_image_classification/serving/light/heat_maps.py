"""Heat maps without TensorFlow: class activation maps from the feature maps of a light file.

    maps = HeatMaps(folder, schema, engine="litert", file=file, runtime=runtime)
    maps.reason or maps.explain(images)          heat [B, h, w] by label

The file in ``light/`` gives the last feature maps; the weights of the head lie beside it. Nothing
is read before the first question.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import SpecError
from tf_image_classification.export.identity import file_fingerprint
from tf_image_classification.export.names import ONNX, OPENVINO
from tf_image_classification.export.runtimes import Runtime
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.light.files import (
    HEAD,
    LightFile,
    light_files,
    open_file,
    read_parity,
)
from tf_image_classification.system import files

Floats = npt.NDArray[np.float32]

MAX_DIFFERENCE = 1e-4
"""Largest difference of a heat, 0..1, from that of the exported model."""

_ADVICE = "; use the engine tensorflow"


class HeatMaps:
    """The heat maps of a model folder for an engine without TensorFlow."""

    def __init__(
        self,
        folder: ModelFolder,
        schema: LabelSchema,
        *,
        engine: str,
        file: LightFile,
        runtime: Runtime,
    ) -> None:
        """Store what is needed; ``explain`` reads it.

        Args:
            folder: of the run.
            schema: the model's labels.
            engine: name of the engine that predicts.
            file: the file that predicts.
            runtime: the file, loaded; serves for heat maps too if it gives feature maps.
        """
        self._folder, self._schema = folder, schema
        self._engine, self._file, self._runtime = engine, file, runtime

    @functools.cached_property
    def reason(self) -> str:
        """Reason why there are none, or ""."""
        try:
            self._explaining_file()
        except SpecError as error:
            return f"{error}{_ADVICE}"
        return ""

    def explain(self, images: Floats) -> dict[str, Floats]:
        """Prepared images [B, H, W, C] to heat [B, h, w], 0..1, by label; {} without maps."""
        if self.reason:
            return {}
        runtime, head = self._loaded
        return heat_from(runtime.feature_maps(images), head)

    def _explaining_file(self) -> LightFile:
        """The file that gives feature maps: the one that predicts, or that in ``light/``.

        Raises:
            SpecError: there is none.
        """
        parity = read_parity(self._folder.light)
        if not parity.get(HEAD):
            default = "this model folder has no file for them"
            raise SpecError(str(parity.get("no_heat_maps") or default))
        path = files.join(self._folder.light, HEAD)
        if not files.exists(path) or file_fingerprint(path) != parity[HEAD].get("sha256"):
            raise SpecError(f"{path} is missing or damaged")
        found = next(light_files(self._folder, parents=(self._folder.light,)), None)
        if found is None or found.made_from != self._file.made_from:
            raise SpecError(f"no file in {self._folder.light} is of the model that predicts")
        return self._file if found.path == self._file.path else found

    @functools.cached_property
    def _loaded(self) -> tuple[Runtime, Mapping[str, tuple[Floats, Floats]]]:
        file = self._explaining_file()
        head = read_head(files.join(self._folder.light, HEAD), self._schema)
        if file is self._file:
            return self._runtime, head
        is_for_openvino = self._engine == OPENVINO and file.kind == ONNX
        return open_file(OPENVINO if is_for_openvino else file.kind, file.path), head


def heat_from(maps: Floats, head: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Floats]:
    """Heat [B, h, w] by label, each image's maximum 1, for the largest logit.

    Args:
        maps: the last feature maps [B, h, w, C].
        head: kernel [C, D] and offset [D] by label name.
    """
    pooled = maps.mean(axis=(1, 2))
    found = {}
    for name, (kernel, offset) in head.items():
        chosen = (pooled @ kernel + offset).argmax(axis=1)
        heat = np.maximum(np.einsum("bhwc,cb->bhw", maps, kernel[:, chosen]), 0)
        largest = heat.max(axis=(1, 2), keepdims=True)
        found[name] = np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)
    return found


def head_bytes(head: Mapping[str, tuple[Floats, Floats]], schema: LabelSchema) -> bytes:
    """The content of the file with the weights of the head; labels by number, as in the schema."""
    arrays = {}
    for number, label in enumerate(schema):
        arrays[f"kernel_{number}"], arrays[f"offset_{number}"] = head[label.name]
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def read_head(path: str, schema: LabelSchema) -> dict[str, tuple[Floats, Floats]]:
    """Kernel [C, D] and offset [D] by label name."""
    with np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False) as arrays:
        return {
            label.name: (arrays[f"kernel_{number}"], arrays[f"offset_{number}"])
            for number, label in enumerate(schema)
        }
