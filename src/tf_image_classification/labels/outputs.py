"""A model's outputs for one label: their names, and the confidence of a prediction.

>>> probabilities_key("pet"), exported_outputs(Label("pet", depth=2), is_calibrated=True)
('pet_probabilities', ('pet_probabilities', 'pet_calibrated'))
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.labels.schema import MULTILABEL, SEPARATOR, Label


def probabilities_key(name: str) -> str:
    """The key of a label's class probabilities, float32 [B, D]."""
    return f"{name}_probabilities"


def calibrated_key(name: str) -> str:
    """The key of an exported model's calibrated probabilities, float32 [B, D]."""
    return f"{name}_calibrated"


def logits_key(name: str) -> str:
    """The key of a label's logits, float32 [B, ...]."""
    return f"{name}_logits"


def expected_key(name: str) -> str:
    """The key of the mean of an ordinal label's distribution, float32 [B]."""
    return f"{name}_expected"


def class_names_key(label: Label) -> str:
    """The key of an exported model's predicted class names, string [B]; joined for multilabel."""
    return f"{label.name}_class_name{'s' if label.kind == MULTILABEL else ''}"


def prediction_keys(name: str) -> tuple[str, ...]:
    """All keys of a label in ``predictions``, the argument of ``metric_ops``."""
    return (name, logits_key(name), probabilities_key(name), expected_key(name))


def exported_outputs(label: Label, *, is_calibrated: bool) -> tuple[str, ...]:
    """The numeric outputs of an exported file for a label; some formats add ``class_names_key``."""
    if not label.has_classes:
        return (label.name,)
    calibrated = (calibrated_key(label.name),) if is_calibrated else ()
    return (probabilities_key(label.name), *calibrated)


def label_of_output(key: str) -> str:
    """The name of the label that an exported model's output belongs to.

    Example:
        >>> label_of_output("kind_calibrated")
        'kind'
    """
    for key_of in (probabilities_key, calibrated_key):
        key = key.removesuffix(key_of(""))
    return key


def confidence_of(predicted: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> Any:
    """The probability of each example's prediction, float64 [n].

    Args:
        predicted: class numbers [n], which need not be the most probable; or 0 and 1 [n, D], for
            which the result is the probability of the least certain decision.
        probabilities: [n, D].

    Example:
        >>> confidence_of(np.array([1, 0]), np.array([[0.25, 0.75], [0.5, 0.5]])).tolist()
        [0.75, 0.5]
        >>> confidence_of(np.array([[1, 0]]), np.array([[0.75, 0.5]])).tolist()
        [0.5]
    """
    exact = probabilities.astype(np.float64)
    if predicted.ndim == 2:
        return np.where(predicted > 0, exact, 1 - exact).min(axis=1)
    return np.take_along_axis(exact, predicted[:, None], axis=1)[:, 0]


def predicted_names(label: Label, predicted: npt.NDArray[Any]) -> list[str]:
    """The name of each example's predicted class; for multilabel, names joined by ``SEPARATOR``.

    Args:
        label: a label with classes.
        predicted: class numbers [n]; for multilabel 0 or 1 [n, D].

    Example:
        >>> predicted_names(Label("pet", depth=2, class_names=("cat", "dog")), np.array([1, 0]))
        ['dog', 'cat']
    """
    names = np.array(label.named_classes(), object)
    if label.kind == MULTILABEL:
        return [SEPARATOR.join(names[row.astype(bool)]) for row in predicted]
    found: list[str] = names[predicted].tolist()
    return found
