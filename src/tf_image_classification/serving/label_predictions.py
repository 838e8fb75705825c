"""The prediction of one image: by label its class or value, probabilities and prediction sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.labels import Label
from tf_image_classification.labels.outputs import confidence_of, predicted_names, probabilities_key
from tf_image_classification.labels.schema import MULTILABEL


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Options of an inference.

    Attributes:
        top_k: number of most probable classes in ``LabelPrediction.top``.
        reject_below: predictions with a lower probability are marked as rejected, 0..1.
        is_calibrated: whether to calibrate the probabilities of labels with a calibration.
        batch_size: images that are computed together.
    """

    top_k: int = 5
    reject_below: float = 0.0
    is_calibrated: bool = True
    batch_size: int = 32

    def check(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: an option is out of its range.
        """
        if self.top_k < 1 or self.batch_size < 1 or not 0 <= self.reject_below <= 1:
            raise ConfigError(
                f"top_k is {self.top_k}, batch_size {self.batch_size}, reject_below "
                f"{self.reject_below}; expected at least 1, at least 1, and 0 to 1."
            )


@dataclasses.dataclass(frozen=True)
class LabelPrediction:
    """The prediction of one label of an image.

    Attributes:
        name: the class; of a multilabel label its classes joined by "|"; "" of a regression label.
        value: the class's number or the regression value; of a multilabel label the number of
            classes.
        probability: of the class, calibrated if the model is; of a multilabel label that of the
            least certain decision; None of a regression label.
        probabilities: of all classes, in the order of the class names.
        top: the most probable classes with their probabilities.
        conformal_set: prediction set: classes that include the true one with the coverage that the
            evaluation was set to; None without calibration.
        above_threshold: classes whose probability reaches their threshold, the one with the best
            F1 in the evaluation; may be empty; None without calibration.
        is_rejected: whether the probability is below ``reject_below``.
    """

    name: str
    value: float
    probability: float | None = None
    probabilities: Sequence[float] = ()
    top: Sequence[tuple[str, float]] = ()
    conformal_set: Sequence[str] | None = None
    above_threshold: Sequence[str] | None = None
    is_rejected: bool = False


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction of one image.

    Attributes:
        uri: its path, or its number in the given images.
        labels: by label name; empty for a bad image.
        error: why it could not be used, or "".
        unknown_score: distance to the training set; with a limit in units of it. None without.
        is_unknown: whether the picture shows none of the classes, by the limit; None without one.
    """

    uri: str
    labels: dict[str, LabelPrediction]
    error: str = ""
    unknown_score: float | None = None
    is_unknown: bool | None = None


def label_predictions(
    label: Label,
    outputs: Mapping[str, npt.NDArray[Any]],
    calibration: Calibration | None,
    options: PredictOptions,
) -> list[LabelPrediction]:
    """One label's prediction of each image.

    Args:
        label: the label.
        outputs: as ``estimator_specs.predictions_from``, [n, ...].
        calibration: of the label, or None to keep the model's own probabilities.
        options: of the inference.
    """
    predicted = outputs[label.name]
    if not label.has_classes:
        return [LabelPrediction("", float(value)) for value in predicted.tolist()]
    probabilities = outputs[probabilities_key(label.name)].astype(np.float64)
    if calibration is not None:
        probabilities = calibration.apply(probabilities)
    names = np.array(label.named_classes(), object)
    is_multilabel = label.kind == MULTILABEL
    values = predicted.sum(axis=1) if is_multilabel else predicted
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : options.top_k]
    sets, above = None, None
    if calibration is not None:
        above = calibration.above_threshold(probabilities)
        sets = None if is_multilabel else calibration.conformal_set(probabilities)
    name = predicted_names(label, predicted)
    probability = confidence_of(predicted, probabilities).tolist()
    return [
        LabelPrediction(
            name[i],
            float(values[i]),
            probability[i],
            probabilities[i].tolist(),
            [(names[k], float(probabilities[i, k])) for k in order[i]],
            None if sets is None else names[sets[i]].tolist(),
            None if above is None else names[above[i]].tolist(),
            probability[i] < options.reject_below,
        )
        for i in range(len(predicted))
    ]
