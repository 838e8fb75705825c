"""Predicted classes of one label: their names, and the model's confidence in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.labels.schema import MULTILABEL, SEPARATOR, Label


def predicted_names(label: Label, predicted: npt.NDArray[Any]) -> list[str]:
    """The name of each example's predicted class; a multilabel label's joined by ``SEPARATOR``.

    Args:
        label: a label with classes.
        predicted: class numbers [n]; of a multilabel label 0 or 1 [n, D].

    Example:
        >>> predicted_names(Label("pet", depth=2, class_names=("cat", "dog")), np.array([1, 0]))
        ['dog', 'cat']
    """
    names = np.array(label.named_classes(), object)
    if label.kind == MULTILABEL:
        return [SEPARATOR.join(names[row.astype(bool)]) for row in predicted]
    found: list[str] = names[predicted].tolist()
    return found


def confidence(predicted: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The probability of each example's predicted class, [n].

    An ordinal label's predicted class may not be the most probable one. Of a multilabel label it is
    the probability of the least certain of the D decisions.

    Args:
        predicted: class numbers [n]; of a multilabel label 0 or 1 [n, D].
        probabilities: [n, D].

    Example:
        >>> confidence(np.array([1]), np.array([[0.25, 0.75]])).tolist()
        [0.75]
    """
    if predicted.ndim == 2:
        decided = np.where(predicted.astype(bool), probabilities, 1 - probabilities)
        return np.asarray(decided.min(axis=1))
    return np.asarray(np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0])
