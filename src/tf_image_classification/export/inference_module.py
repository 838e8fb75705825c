"""The inference graph of an exported file: images to probabilities and regression values.

module = InferenceModule(exported, ExportPlan(schema, calibrations, description))
module.classify(images)         outputs by name, see ``signature``
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation.calibration import MULTILABEL_LIMITS, Calibration
from tf_image_classification.evaluation.unknown_detector import Detector
from tf_image_classification.export.names import (
    FEATURE_MAPS,
    FEATURES,
    FLOAT32,
    NONE,
    UNKNOWN_SCORE,
)
from tf_image_classification.export.pixel_scaling import PixelScaling
from tf_image_classification.export.saved_model import ExportedModel, named_predictions
from tf_image_classification.export.unknown_output import unknown_score
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import (
    calibrated_key,
    class_names_key,
    logits_key,
    probabilities_key,
)
from tf_image_classification.system.autograph import unconverted

SCOPE = "tfic_outputs"
"""Part of the names of all operations after the logits, which stay float in a quantised file."""


@dataclasses.dataclass(frozen=True)
class ExportPlan:
    """Contents of an exported file besides the weights.

    Attributes:
        schema: the labels.
        calibrations: by label name.
        description: plain values that are stored in the file.
        quantization: one of ``names.QUANTIZATIONS``.
        representative_images: preprocessed training images, [1, H, W, C] each; for ``int8`` only.
        input_type: one of ``names.INPUT_TYPES``; "uint8" takes cropped and resized
            pixels and gives probabilities as 0-255, "pixels" takes decoded images of any size.
        scaling: of pixels to preprocessed images; None if unknown.
        decode: one encoded image to pixels; for a file of encoded images with a detector.
        has_feature_maps: whether the file gives FEATURE_MAPS too, apart from its other outputs;
            for models with a ``class_activation.linear_head``.
        has_features: whether the file gives FEATURES too.
        detector: whose UNKNOWN_SCORE the file gives; None without it.
    """

    schema: LabelSchema
    calibrations: Mapping[str, Calibration]
    description: Mapping[str, Any]
    quantization: str = NONE
    representative_images: Callable[[], Iterable[npt.NDArray[np.float32]]] = tuple
    input_type: str = FLOAT32
    scaling: PixelScaling | None = None
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None
    has_feature_maps: bool = False
    has_features: bool = False
    detector: Detector | None = None


def outputs_from(plan: ExportPlan, logits: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The numeric outputs of a file by name; works traced and eagerly.

    Args:
        plan: of the file.
        logits: as ``estimator_specs.split_logits`` gives them.
    """
    with tf.name_scope(SCOPE):
        return _with_calibrated(plan, predictions_from(plan.schema, logits))


def output_place(name: str) -> tuple[int, bool, str]:
    """Sorts a file's outputs: probabilities, others, score and features, feature maps."""
    added = (UNKNOWN_SCORE, FEATURES, FEATURE_MAPS)
    place = 1 + added.index(name) if name in added else 0
    return place, not name.endswith(probabilities_key("")), name


def _with_calibrated(
    plan: ExportPlan, predictions: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    found = {}
    for label in plan.schema:
        if not label.has_classes:
            found[label.name] = predictions[label.name]
            continue
        key = probabilities_key(label.name)
        found[key] = predictions[key]
        calibration = plan.calibrations.get(label.name)
        if calibration is not None:
            found[calibrated_key(label.name)] = (
                _tempered_logits(predictions[logits_key(label.name)], calibration)
                if calibration.is_multilabel
                else _tempered(predictions[key], calibration)
            )
    return found


def _tempered(probabilities: tf.Tensor, calibration: Calibration) -> tf.Tensor:
    """As ``calibration.tempered``, in float32."""
    exact = tf.clip_by_value(probabilities, 1e-12, 1.0)
    return tf.nn.softmax(tf.math.log(exact) / calibration.temperature)


def _tempered_logits(logits: tf.Tensor, calibration: Calibration) -> tf.Tensor:
    """The same of a multilabel label; from logits, as runtimes round small probabilities."""
    low, high = (math.log(p) - math.log1p(-p) for p in MULTILABEL_LIMITS)
    return tf.sigmoid(tf.clip_by_value(logits, low, high) / calibration.temperature)


def _outputs(exported: ExportedModel, plan: ExportPlan, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """The outputs of preprocessed images."""
    if plan.detector is None and not plan.has_features:
        return outputs_from(plan, exported.forward(images, False))
    logits, features = exported.forward_with_features(images)
    found = outputs_from(plan, logits)
    with tf.name_scope(SCOPE):
        if plan.has_features:
            found[FEATURES] = tf.identity(features)
        if plan.detector is not None:
            found[UNKNOWN_SCORE] = unknown_score(plan.detector, features)
    return found


class InferenceModule(tf.Module):
    """The functions that a SavedModel exports and the converters take.

    Attributes:
        classify: preprocessed images to numeric outputs by name.
        classify_one: the same of a single image; None where ``classify`` serves as well.
        serve: encoded images to the same outputs and class names.
        describe: () to the description, as JSON.
    """

    def __init__(self, exported: ExportedModel, plan: ExportPlan) -> None:
        super().__init__()
        self.model = exported.loaded
        self.description = tf.constant(json.dumps(plan.description))
        shape, dtype = exported.image_spec.shape, exported.image_spec.dtype
        self.classify = tf.function(
            unconverted(lambda images: _outputs(exported, plan, images)),
            input_signature=[tf.TensorSpec([None, *shape], dtype, "images")],
        )
        self.classify_one = None
        if exported.is_traced_for_one:
            self.classify_one = tf.function(
                unconverted(lambda images: outputs_from(plan, exported.forward_one(images))),
                input_signature=[tf.TensorSpec([1, *shape], dtype, "images")],
            )

        def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            names = [class_names_key(label) for label in plan.schema.labels_with_classes]
            if plan.detector is None:
                predictions = exported.loaded.serve(image_bytes)
                return _with_calibrated(plan, predictions) | {k: predictions[k] for k in names}
            decode = plan.decode
            assert decode is not None
            images = tf.map_fn(
                lambda data: exported.preproc(decode(data), 0, 0),
                image_bytes,
                fn_output_signature=exported.image_spec,
            )
            logits, features = exported.forward_with_features(images)
            predictions = named_predictions(plan.schema, logits)
            found = _with_calibrated(plan, predictions) | {k: predictions[k] for k in names}
            return found | {UNKNOWN_SCORE: unknown_score(plan.detector, features)}

        encoded = tf.TensorSpec([None], tf.string, "image_bytes")
        self.serve = tf.function(unconverted(serve), input_signature=[encoded])
        self.describe = tf.function(lambda: self.description, input_signature=[])
