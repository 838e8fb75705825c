"""Metrics of numbers: means and the errors of real-valued predictions.

All are NaN when there was no example. Arithmetic is in float64. ``labels`` and ``predictions`` are
[n]; ``weights`` [n], 0 or more, weighs the examples, 0 leaves one out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import Array, ratio, rows, size, total


def mean(values: Any, weights: Any = None, *, name: str | None = None) -> StreamingMetric:
    """The mean of one number an example, [n].

    Raises:
        SpecError: the shape is not [n], or a tensor is symbolic.

    Example:
        >>> mean([1.0, 2.0]).merge(mean([6.0])).result()
        3.0
    """
    (numbers,), kept = rows("mean", weights, values=values)
    return _mean("mean", numbers, kept)


def mean_absolute_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean of |prediction - label|, in the label's unit.

    Raises:
        SpecError: shapes differ or are not [n], or a tensor is symbolic.
    """
    error, kept = _error("mean_absolute_error", labels, predictions, weights)
    return _mean("mean_absolute_error", np.abs(error), kept)


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean of (prediction - label)², in the label's unit squared.

    Raises:
        SpecError: shapes differ or are not [n], or a tensor is symbolic.
    """
    error, kept = _error("mean_squared_error", labels, predictions, weights)
    return _mean("mean_squared_error", np.square(error), kept)


def root_mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The root of the mean of (prediction - label)² over all examples, in the label's unit.

    Raises:
        SpecError: shapes differ or are not [n], or a tensor is symbolic.
    """
    error, kept = _error("root_mean_squared_error", labels, predictions, weights)
    sums = _mean("", np.square(error), kept).sums
    return StreamingMetric(sums, _compute_root, "root_mean_squared_error")


def within(
    labels: Any,
    predictions: Any,
    tolerance: float,
    weights: Any = None,
    *,
    name: str | None = None,
) -> StreamingMetric:
    """The share of examples whose prediction is off by at most the tolerance, 0..1.

    Of ages in years and a tolerance of 5 this is the cumulative score CS@5; of class numbers in
    order and 1, the share of exact and one-off classes.

    Args:
        labels: [n].
        predictions: [n].
        tolerance: in the label's unit, 0 or more.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes differ or are not [n], a tensor is symbolic, or the tolerance is negative.

    Example:
        >>> within([30, 40], [33.0, 50.0], 5).result()
        0.5
    """
    if not tolerance >= 0:
        raise SpecError(f"within: tolerance is {tolerance!r}, expected 0 or more.")
    error, kept = _error("within", labels, predictions, weights)
    return _mean(f"within(tolerance={tolerance:g})", np.abs(error) <= tolerance, kept)


def _error(metric: str, labels: Any, predictions: Any, weights: Any) -> tuple[Array, Array | None]:
    (a, b), kept = rows(metric, weights, labels=labels, predictions=predictions)
    with np.errstate(invalid="ignore"):  # infinity minus infinity: the result is NaN
        return b.astype(np.float64) - a.astype(np.float64), kept


def _mean(kind: str, values: Array, weights: Array | None) -> StreamingMetric:
    sums = {"total": total(weights, values.astype(np.float64)), "count": size(weights, len(values))}
    return StreamingMetric(sums, _compute_mean, kind)


def _compute_mean(sums: Sums) -> Any:
    return ratio(sums["total"], sums["count"])


def _compute_root(sums: Sums) -> Any:
    return np.sqrt(ratio(sums["total"], sums["count"]))
