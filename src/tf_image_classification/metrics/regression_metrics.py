"""Metrics of regression labels: means and errors of real values.

``labels`` and ``predictions`` are [n]. Sums are float64. ``weights``, ``name``, empty results and
errors are as in ``class_metrics``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, mean_metric
from tf_image_classification.metrics.metric_inputs import Array, rows


def mean(values: Any, weights: Any = None, *, name: str | None = None) -> StreamingMetric:
    """The mean of one number per example, [n].

    Example:
        >>> mean([1.0, 2.0]).merge(mean([6.0])).result()
        3.0
    """
    (numbers,), weights = rows("mean", weights, values=values)
    return mean_metric("mean", numbers.astype(np.float64), weights)


def mean_absolute_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean absolute difference of prediction and label, in the unit of the label.

    Example:
        >>> mean_absolute_error([1.0, 2.0], [1.5, 4.0]).result()
        1.25
    """
    error, weights = _checked_errors("mean_absolute_error", labels, predictions, weights)
    return mean_metric("mean_absolute_error", np.abs(error), weights)


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean of (prediction - label)², in the label's unit squared.

    Example:
        >>> mean_squared_error([1.0, 2.0], [2.0, 5.0]).result()
        5.0
    """
    error, weights = _checked_errors("mean_squared_error", labels, predictions, weights)
    return mean_metric("mean_squared_error", np.square(error), weights)


def root_mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The root of the mean of (prediction - label)² over all examples, in the label's unit.

    Example:
        >>> root_mean_squared_error([0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]).result()
        2.0
    """
    error, weights = _checked_errors("root_mean_squared_error", labels, predictions, weights)
    return mean_metric("root_mean_squared_error", np.square(error), weights, is_root=True)


def within(
    labels: Any,
    predictions: Any,
    tolerance: float,
    weights: Any = None,
    *,
    name: str | None = None,
) -> StreamingMetric:
    """The fraction of examples whose prediction is off by at most the tolerance, 0..1.

    For ages in years and a tolerance of 5 this is the cumulative score CS@5; for ordinal class
    numbers and 1, the fraction of exact and off-by-one classes. ``tolerance`` is in the label's
    unit, 0 or more.

    Raises:
        SpecError: as all metrics of this module, or the tolerance is negative.

    Example:
        >>> within([30, 40], [33.0, 50.0], 5).result()
        0.5
    """
    if not tolerance >= 0:
        raise SpecError(f"within: tolerance is {tolerance!r}, expected 0 or more.")
    error, weights = _checked_errors("within", labels, predictions, weights)
    return mean_metric(f"within(tolerance={tolerance:g})", np.abs(error) <= tolerance, weights)


def errors(truth: Array, predicted: Array) -> Array:
    """Prediction minus label of each example, float64 [n]."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity: the result is NaN
        return np.asarray(predicted.astype(np.float64) - truth.astype(np.float64))


def _checked_errors(
    metric: str, labels: Any, predictions: Any, weights: Any
) -> tuple[Array, Array | None]:
    (true, predicted), weights = rows(metric, weights, labels=labels, predictions=predictions)
    return errors(true, predicted), weights
