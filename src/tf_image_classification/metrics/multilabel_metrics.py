"""Metrics of multilabel labels: any number of classes per example, as rows [n, D] of 0 and 1.

``labels`` has 1 for each class that an example has, ``predictions`` for each class predicted.
``weights``, ``name``, empty results and errors are as in ``class_metrics``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.class_metrics import MIN_PROBABILITY, of_counts
from tf_image_classification.metrics.curves import areas
from tf_image_classification.metrics.merging import StreamingMetric, Sums, mean_metric
from tf_image_classification.metrics.metric_inputs import Array, as_array, rows


def exact_match(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of examples with exactly the right set of classes (subset accuracy), 0..1.

    Example:
        >>> exact_match([[1, 0], [1, 1]], [[1, 0], [0, 1]]).result()
        0.5
    """
    true, predicted, weights = _decisions("exact_match", labels, predictions, weights)
    kind = f"exact_match(num_classes={true.shape[1]})"
    return mean_metric(kind, np.asarray((true == predicted).all(axis=1)), weights)


def multilabel_f1(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    average: str = "macro",
    name: str | None = None,
) -> StreamingMetric:
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), 0..1.

    ``average`` is "macro", the mean over the classes that occur, or "micro", over all decisions.

    Raises:
        SpecError: as all metrics of this module, or the average is unknown.

    Example:
        >>> multilabel_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]], average="micro").result()
        0.8
    """
    if average not in ("macro", "micro"):
        raise SpecError(f"multilabel_f1: average is {average!r}, expected macro or micro.")
    true, predicted, weights = _decisions("multilabel_f1", labels, predictions, weights)
    return of_counts("f1", average, decision_counts(true, predicted, weights))


def decision_counts(true: Array, predicted: Array, weights: Array | None) -> Sums:
    """The counts of each class, [D], that ``class_metrics.of_counts`` takes.

    Args:
        true: bool [n, D].
        predicted: bool [n, D].
        weights: [n] or None.
    """
    parts = {"hits": true & predicted, "labelled": true, "predicted": predicted}
    if weights is None:
        return {name: part.sum(axis=0, dtype=np.int64) for name, part in parts.items()}
    return {name: weights @ part.astype(np.float64) for name, part in parts.items()}


def mean_average_precision(
    labels: Any, probabilities: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean average precision of the classes that some example has, 0..1.

    ``probabilities`` [n, D], 0..1. Exact for up to ``merging.MAX_STORED`` numbers, from histograms
    beyond, as ``auc``.

    Example:
        >>> mean_average_precision([[1, 0], [0, 1]], [[0.9, 0.6], [0.2, 0.4]]).result()
        0.75
    """
    name = "mean_average_precision"
    return areas(name, labels, probabilities, weights, curve="PR", average=True)


def decision_logs(
    truth: Array, probabilities: Array, min_probability: float = MIN_PROBABILITY
) -> Array:
    """The mean binary cross-entropy over the classes of each example, float64 [n].

    Args:
        truth: [n, D], 1 for each class that an example has.
        probabilities: [n, D].
        min_probability: both probabilities of a decision are clipped at it.
    """
    exact = np.clip(probabilities.astype(np.float64), min_probability, 1 - min_probability)
    return np.asarray(-np.where(truth > 0, np.log(exact), np.log1p(-exact)).mean(axis=1))


def _decisions(
    metric: str, labels: Any, predictions: Any, weights: Any
) -> tuple[Array, Array, Array | None]:
    """Both bool [n, D], and the weights, without rows of weight 0."""
    true = as_array(metric, "labels", labels)
    predicted = as_array(metric, "predictions", predictions)
    if true.ndim != 2 or true.shape != predicted.shape or not np.isin(true, (0, 1)).all():
        raise SpecError(
            f"{metric}: labels have shape {list(true.shape)} and predictions "
            f"{list(predicted.shape)}, expected [n, D] twice, the labels 0 or 1: whether an "
            "example has each of D classes."
        )
    if not np.isin(predicted, (0, 1)).all():
        raise SpecError(
            f"{metric}: predictions are not 0 or 1. Predicted classes are in predictions[name], "
            'probabilities in predictions[name + "_probabilities"].'
        )
    (numbers,), weights = rows(metric, weights, labels=np.arange(len(true)))
    return true[numbers].astype(bool), predicted[numbers].astype(bool), weights
