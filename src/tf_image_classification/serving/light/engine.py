"""Inference without TensorFlow: a verified file in its own runtime, and the light preprocessing.

engine = LightEngine("litert", file, folder, schema, preprocessing_of(run))
engine.predictions([engine.prepare(data)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.export.identity import file_fingerprint
from tf_image_classification.export.names import FEATURES, OPENVINO, UNKNOWN_SCORE
from tf_image_classification.export.runtimes import NUM_CALLS
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import probabilities_key
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.model_outputs import predicted_classes
from tf_image_classification.serving.light.files import LightFile, open_file
from tf_image_classification.serving.light.heat_maps import HeatMaps
from tf_image_classification.serving.light.preprocess import LightPreprocessing


class LightEngine:
    """An exported file in its runtime; may be used from several threads.

    Attributes:
        name: of the runtime.
        step: of the model.
        num_calls: 2, so that the cores have work while the threads of one call wait for one
            another; 1 in OpenVINO.
        made_from: fingerprint of the exported model that the file was made from.
        scores_of: fingerprint of the detector whose scores the file gives, or "".
        no_features: reason why ``predictions`` has no FEATURES, or "".
    """

    def __init__(
        self,
        name: str,
        file: LightFile,
        folder: ModelFolder,
        schema: LabelSchema,
        preprocessing: LightPreprocessing,
    ) -> None:
        """Read the file.

        Args:
            name: of the runtime.
            file: the file.
            folder: of the run.
            schema: the model's labels.
            preprocessing: of its images.

        Raises:
            ConfigError: the runtime is not installed; names the extra.
        """
        self.name, self.step, self.made_from = name, file.step, file.made_from
        self.num_calls = 1 if name == OPENVINO else NUM_CALLS
        self._schema, self._preprocessing = schema, preprocessing
        self._path = file.path
        self.scores_of = file.scores_of
        self._infer = open_file(name, file.path)
        self.no_features = "" if file.has_features else _NO_FEATURES.format(file.path)
        self._heat_maps = HeatMaps(folder, schema, engine=name, file=file, runtime=self._infer)

    def fingerprint(self) -> str:
        """A hash of the file."""
        return file_fingerprint(self._path)

    def prepare(self, data: bytes) -> npt.NDArray[np.float32]:
        """One encoded image, decoded and preprocessed, [H, W, C].

        Raises:
            BadImageError: it cannot be used; gives the reason.
        """
        return self._preprocessing.prepare(data)

    def prepare_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """An image of pixels, uint8 [h, w, 3], preprocessed, [H, W, C]."""
        return self._preprocessing.prepare_pixels(pixels)

    def predictions(self, images: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """Prepared images to predictions: classes and probabilities, or values, by label."""
        outputs = self._infer(_batch(images))
        found = {}
        for label in self._schema:
            if not label.has_classes:
                found[label.name] = outputs[label.name].reshape(len(images))
                continue
            key = probabilities_key(label.name)
            found[key] = outputs[key]
            found[label.name] = predicted_classes(label, outputs[key])
        for key in (FEATURES, UNKNOWN_SCORE):
            if key in outputs:
                found[key] = outputs[key]
        return found

    @property
    def no_heat_maps(self) -> str:
        """Reason why ``explain`` returns {}, or ""."""
        return self._heat_maps.reason

    def explain(self, images: Sequence[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images to heat [B, h, w], 0..1, by label; {} without maps."""
        return self._heat_maps.explain(_batch(images))


_NO_FEATURES = (
    "{} gives no features, from which the score is computed; use the engine auto or tensorflow"
)


def _batch(images: Sequence[Any]) -> npt.NDArray[np.float32]:
    return np.stack(list(map(np.asarray, images)))
