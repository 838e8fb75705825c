"""Predictions of a model that was not evaluated here, for the examples of an evaluation that was.

    outputs = {"kind": LabelOutputs(("cat", "dog"), probabilities=array)}
    found = predictions_of(reference, rows, outputs)

Such a model may know the classes in another order, some of them only, or further ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL
from tf_image_classification.model_outputs import predicted_classes

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class LabelOutputs:
    """What a model gives for one label.

    Attributes:
        classes: the names of its classes; () of a regression label.
        probabilities: [n, classes], or None if it gives none.
        predicted: class names [n], joined by ``SEPARATOR`` for multilabel; real values [n] of a
            regression label; None: from the probabilities.
    """

    classes: Sequence[str]
    probabilities: Array | None = None
    predicted: Sequence[Any] | None = None


def predictions_of(
    reference: Predictions, rows: Array, outputs: Mapping[str, LabelOutputs], source: str
) -> Predictions:
    """The predictions for some examples of a reference, with its true labels.

    Args:
        reference: an evaluation.
        rows: the rows of its examples.
        outputs: by label name, in the order of ``rows``; labels that the reference lacks are left
            out.
        source: of the outputs, for messages.

    Raises:
        DataError: they have no label or class in common, or a value is no number.
    """
    labels, found = [], {}
    for label in reference.schema:
        if label.name in outputs:
            own, predictions = _of_label(
                label, reference.labels[label.name].rows(rows), outputs[label.name], source
            )
            labels.append(own)
            found[label.name] = predictions
    if not labels:
        raise DataError(
            f"{source} has the labels {', '.join(outputs)}, but the evaluation has "
            f"{', '.join(reference.schema.names)}. Compare models of the same labels."
        )
    return Predictions(
        LabelSchema(tuple(labels)),
        reference.ids[rows],
        [reference.uris[row] for row in rows.tolist()],
        found,
        0,
        reference.data,
        {name: [texts[row] for row in rows.tolist()] for name, texts in reference.slices.items()},
        [reference.found_groups[row] for row in rows.tolist()] if reference.found_groups else (),
    )


def _of_label(
    label: Label, truth: LabelPredictions, outputs: LabelOutputs, source: str
) -> tuple[Label, LabelPredictions]:
    if not label.has_classes:
        if outputs.predicted is None:
            raise DataError(f"{source} has classes for label {label.name!r}, which has values.")
        values = np.asarray(outputs.predicted, np.float64)
        return label, dataclasses.replace(truth, predicted=values)
    if not outputs.classes:
        raise DataError(f"{source} has values for label {label.name!r}, which has classes.")
    known = label.named_classes()
    if not {*known} & {*outputs.classes}:
        raise DataError(
            f"{source} has the classes {', '.join(outputs.classes[:5])} for label {label.name!r}, "
            f"but the evaluation has {', '.join(known[:5])}. Compare models of the same classes."
        )
    more = [name for name in outputs.classes if name not in known]
    if more and label.kind == ORDINAL:
        raise DataError(f"{source} has the classes {', '.join(more[:5])}, which A lacks.")
    wide = dataclasses.replace(label, depth=label.depth + len(more), class_names=(*known, *more))
    places = {name: k for k, name in enumerate(wide.class_names)}
    count = len(truth.truth)
    probabilities = np.zeros([count, wide.depth], np.float32)
    if outputs.probabilities is not None:
        to = [places[name] for name in outputs.classes]
        probabilities[:, to] = outputs.probabilities
    is_multilabel = label.kind == MULTILABEL
    if outputs.predicted is None:
        predicted = np.asarray(predicted_classes(wide, probabilities)).astype(np.int64)
    elif is_multilabel:
        predicted = np.zeros([count, wide.depth], np.int64)
        for row, text in zip(predicted, outputs.predicted, strict=True):
            row[[places[name] for name in str(text).split(SEPARATOR) if name]] = 1
    else:
        predicted = np.array([places[name] for name in outputs.predicted], np.int64)
    if outputs.probabilities is None:  # measures of probabilities are refused elsewhere
        probabilities = (predicted if is_multilabel else np.eye(wide.depth)[predicted]).astype(
            np.float32
        )
    of_truth = truth.truth
    if is_multilabel:
        of_truth = np.pad(of_truth, [(0, 0), (0, len(more))])
    return wide, LabelPredictions(of_truth, predicted, probabilities, truth.mask)
