"""Metrics of labels with any number of classes at once, [n, D] of 0 and 1.

All are NaN when there was no example to tell from.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics import class_metrics
from tf_image_classification.metrics.curves import areas
from tf_image_classification.metrics.merging import StreamingMetric
from tf_image_classification.metrics.metric_inputs import Array, as_array, rows, size, total


def exact_match(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of the examples all of whose classes are predicted right, 0..1.

    Args:
        labels: [n, D], 1 for each class that an example has.
        predictions: [n, D], the same as predicted.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes differ, a value is neither 0 nor 1, or a tensor is symbolic.

    Example:
        >>> exact_match([[1, 0], [1, 1]], [[1, 0], [0, 1]]).result()
        0.5
    """
    true, predicted = _decisions("exact_match", labels, predictions)
    hits = (true == predicted).all(axis=1)
    (kept_hits,), kept = rows("exact_match", weights, labels=hits)
    sums = {"correct": total(kept, kept_hits.astype(bool)), "count": size(kept, len(kept_hits))}
    return StreamingMetric(
        sums, class_metrics.compute_fraction, f"exact_match(num_classes={true.shape[1]})"
    )


def several_f1(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    average: str = "macro",
    name: str | None = None,
) -> StreamingMetric:
    """The harmonic mean of precision and recall of the classes, 2 TP / (2 TP + FP + FN), 0..1.

    Args:
        labels: [n, D], 1 for each class that an example has.
        predictions: [n, D], the same as predicted.
        weights: [n] or None.
        average: "macro": mean over the classes that occur. "micro": of all decisions together.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: as ``exact_match``, or the average is unknown.
    """
    if average not in ("macro", "micro"):
        raise SpecError(f"several_f1: average is {average!r}, expected macro or micro.")
    return of_decisions("f1", average, labels, predictions, weights)


def of_decisions(
    metric: str, average: str | None, labels: Any, predictions: Any, weights: Any = None
) -> StreamingMetric:
    """Precision, recall or F1 over the decisions about each class.

    Args:
        metric: "precision", "recall" or "f1".
        average: as ``class_metrics.precision``, or "balanced": the mean over the classes that some
            example has.
        labels: [n, D], 1 for each class that an example has.
        predictions: [n, D], the same as predicted.
        weights: [n] or None.

    Raises:
        SpecError: as ``exact_match``.
    """
    name = f"several_{metric}"
    true, predicted = _decisions(name, labels, predictions)
    (numbers,), kept = rows(name, weights, labels=np.arange(len(true)))
    true, predicted = true[numbers], predicted[numbers]

    def count(decisions: Array) -> Array:
        if kept is None:
            return np.asarray(decisions.sum(axis=0, dtype=np.int64))
        return np.asarray(kept @ decisions)

    sums = {"hits": count(true & predicted), "labelled": count(true), "predicted": count(predicted)}
    compute = (
        class_metrics.compute_balanced
        if average == "balanced"
        else functools.partial(class_metrics.compute_of_counts, metric, average, 1)
    )
    return StreamingMetric(sums, compute, f"{name}(average={average}, num_classes={true.shape[1]})")


def mean_average_precision(
    labels: Any, probabilities: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean over classes of the average precision, 0..1; classes without an example left out.

    Exact while there are up to ``merging.MOST_KEPT`` probabilities, from histograms beyond, as in
    ``auc``.

    Args:
        labels: [n, D], 1 for each class that an example has.
        probabilities: [n, D], 0..1.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes differ, a value is out of range, or a tensor is symbolic.
    """
    name = "mean_average_precision"
    return areas(name, labels, probabilities, weights, curve="PR", average=True)


def negative_logs_of_decisions(truth: Array, probabilities: Array) -> Array:
    """What a log loss over decisions is the mean of, float64 [n]: each example's mean over classes.

    Args:
        truth: [n, D], 1 for each class that an example has.
        probabilities: [n, D].
    """
    least = class_metrics.LEAST_PROBABILITY
    exact = np.clip(probabilities.astype(np.float64), least, 1 - least)
    return np.asarray(-np.where(truth > 0, np.log(exact), np.log1p(-exact)).mean(axis=1))


def _decisions(metric: str, labels: Any, predictions: Any) -> tuple[Array, Array]:
    """Both bool [n, D]."""
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
    return true.astype(bool), predicted.astype(bool)
