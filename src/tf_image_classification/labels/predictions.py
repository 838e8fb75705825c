"""Names of predicted classes."""

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
