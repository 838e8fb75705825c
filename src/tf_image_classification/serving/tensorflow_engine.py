"""Inference with TensorFlow: a run's SavedModel, with its own preprocessing and heat maps.

engine = TensorFlowEngine(ExportedModel(folder).load(), schema, max_pixels=50_000_000)
engine.predictions([engine.prepare(data)])
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.image.diagnose import explain_failure
from tf_image_classification.errors import BadImageError, DataError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.export.frozen_graph import constant_weights
from tf_image_classification.export.names import FEATURES, TENSORFLOW
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.system.autograph import unconverted

_FEW_IMAGES = 16  # oneDNN computes more with weights that it has reordered by a tenth slower


class TensorFlowEngine:
    """An exported model in TensorFlow; may be used from several threads.

    Attributes:
        name: "tensorflow".
        step: of the model.
        num_calls: 1: an operation takes all cores.
        made_from: fingerprint of the model.
        scores_of: "", as it gives features.
    """

    name = TENSORFLOW
    num_calls = 1
    scores_of = ""

    def __init__(
        self,
        exported: ExportedModel,
        schema: LabelSchema,
        *,
        max_pixels: int,
        png16_range: PixelRange = FULL_RANGE,
    ) -> None:
        """Wrap a model that is loaded.

        Args:
            exported: the model.
            schema: its labels.
            max_pixels: larger images are rejected.
            png16_range: as ``decode_image`` takes it.
        """
        self.step, self.made_from = exported.step, exported.fingerprint()
        self._exported, self._schema, self._max_pixels = exported, schema, max_pixels
        decode = decoder(max_pixels, png16_range)
        self._prepare = tf.function(
            unconverted(lambda data: exported.preproc(decode(data), 0, 0)),
            input_signature=[tf.TensorSpec([], tf.string)],
        )
        self._prepare_pixels = tf.function(
            unconverted(lambda image: exported.preproc(image, 0, 0)),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )

    def fingerprint(self) -> str:
        """A hash of graph and weights."""
        return self.made_from

    def prepare(self, data: bytes) -> tf.Tensor:
        """One encoded image, decoded and preprocessed, [H, W, C].

        Raises:
            BadImageError: it cannot be used; gives the reason.
            DataError: TensorFlow fails otherwise.
        """
        with _failures():
            try:
                return self._prepare(tf.constant(data))
            except tf.errors.InvalidArgumentError as error:
                reason = explain_failure(data, max_pixels=self._max_pixels)
                raise BadImageError(reason) from error

    def prepare_pixels(self, pixels: npt.NDArray[np.uint8]) -> tf.Tensor:
        """An image of pixels, uint8 [h, w, 3], preprocessed, [H, W, C].

        Raises:
            DataError: TensorFlow fails.
        """
        with _failures():
            return self._prepare_pixels(tf.constant(pixels))

    def predictions(self, images: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """Prepared images to predictions, as ``predictions_from``, and to FEATURES if it can."""
        found = self._logits(_batch(images))
        features = {FEATURES: found.pop(FEATURES)} if FEATURES in found else {}
        found = predictions_from(self._schema, found) | features
        return {key: value.numpy() for key, value in found.items()}

    @property
    def no_features(self) -> str:
        """Reason why ``predictions`` has no FEATURES, or ""."""
        return self._exported.no_features

    def _logits(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Prepared images [B, H, W, C] to logits by label, and FEATURES."""
        if len(images) <= _FEW_IMAGES and self._with_constants is not None:
            return self._with_constants(images)
        return dict(self._function(images))

    @property
    def _function(self) -> Any:
        loaded = self._exported.loaded
        return loaded.classify if self.no_features else loaded.features

    @functools.cached_property
    def _with_constants(self) -> Callable[[tf.Tensor], dict[str, tf.Tensor]] | None:
        """The same for few images, on processors, if possible.

        oneDNN reorders the weights of variables at every call. Made for the first prediction, as
        exports, heat maps and large batches do without.
        """
        if tf.config.list_physical_devices("GPU"):
            return None
        return constant_weights(self._function.concrete_functions[0])

    @property
    def no_heat_maps(self) -> str:
        """Reason why ``explain`` returns {}, or ""."""
        return self._exported.no_heat_maps

    def explain(self, images: Sequence[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images to Grad-CAM heat [B, h, w], 0..1, by label; {} without maps."""
        return {n: heat.numpy() for n, heat in self._exported.explain(_batch(images)).items()}


def _batch(images: Sequence[Any]) -> tf.Tensor:
    """A list of prepared images as one tensor; a batch as it is."""
    return tf.stack(images) if isinstance(images, (list, tuple)) else tf.convert_to_tensor(images)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Inside the block TensorFlow's errors, e.g. of a full memory, become a ``DataError``."""
    try:
        yield
    except tf.errors.OpError as error:
        raise DataError(str(error)) from error


def prepare_threads() -> None:
    """Let TensorFlow begin more operations at once than there are cores.

    Otherwise the decoding of large images occupies all of its threads, and small images wait.
    """
    if "TF_NUM_INTEROP_THREADS" in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # TensorFlow is in use already, in a larger program
        tf.config.threading.set_inter_op_parallelism_threads(2 * (os.cpu_count() or 1) + 2)
