"""Metrics of labels with any number of classes at once, [n, D] of 0 and 1.

All are NaN when there was no example to tell from.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.curves import auc
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import (
    Array,
    as_array,
    ratio,
    rows,
    size,
    total,
)


def exact_match(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The share of the examples whose classes are all told right, 0..1.

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
    return StreamingMetric(sums, _compute_share, f"exact_match(num_classes={true.shape[1]})")


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
    true, predicted = _decisions("several_f1", labels, predictions)

    def count(decisions: Array) -> Array:
        each = [rows("several_f1", weights, labels=column) for column in decisions.T]
        return np.array([total(kept, column.astype(bool)) for (column,), kept in each])

    sums = {"hits": count(true & predicted), "labelled": count(true), "predicted": count(predicted)}
    kind = f"several_f1(average={average}, num_classes={true.shape[1]})"
    return StreamingMetric(sums, functools.partial(_compute_f1, average), kind)


def mean_average_precision(
    labels: Any, probabilities: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean over classes of the average precision, 0..1; classes without an example left out.

    Kept in histograms, as ``auc`` does, whose docstring bounds the error: 64 kB a class.

    Args:
        labels: [n, D], 1 for each class that an example has.
        probabilities: [n, D], 0..1.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes differ, a value is out of range, or a tensor is symbolic.
    """
    metric = "mean_average_precision"
    true, scores = _pair(metric, labels, probabilities)
    curves = [auc(a, b, weights, curve="PR") for a, b in zip(true.T, scores.T, strict=True)]
    sums = {f"{i}/{key}": value for i, c in enumerate(curves) for key, value in c.sums.items()}
    compute = functools.partial(_compute_mean_of_curves, [c.compute for c in curves])
    return StreamingMetric(sums, compute, f"{metric}(num_classes={true.shape[1]})")


def _pair(metric: str, labels: Any, predictions: Any) -> tuple[Array, Array]:
    """Labels bool [n, D] and predictions [n, D]."""
    true, predicted = (
        as_array(metric, "labels", labels),
        as_array(metric, "predictions", predictions),
    )
    if true.ndim != 2 or true.shape != predicted.shape or not np.isin(true, (0, 1)).all():
        raise SpecError(
            f"{metric}: labels have shape {list(true.shape)} and predictions "
            f"{list(predicted.shape)}, expected [n, D] twice, the labels 0 or 1: whether an "
            "example has each of D classes."
        )
    return true.astype(bool), predicted


def _decisions(metric: str, labels: Any, predictions: Any) -> tuple[Array, Array]:
    """Both bool [n, D]."""
    true, predicted = _pair(metric, labels, predictions)
    if not np.isin(predicted, (0, 1)).all():
        raise SpecError(
            f"{metric}: predictions are not 0 or 1. Predicted classes are in predictions[name], "
            'probabilities in predictions[name + "_probabilities"].'
        )
    return true, predicted.astype(bool)


def _compute_share(sums: Sums) -> Any:
    return ratio(sums["correct"], sums["count"])


def _compute_f1(average: str, sums: Sums) -> Any:
    whole = (sums["labelled"] + sums["predicted"]) / 2
    if average == "micro":
        return ratio(sums["hits"].sum(), whole.sum())
    each = ratio(sums["hits"], whole)
    return ratio(each[whole > 0].sum(), (whole > 0).sum())


def _compute_mean_of_curves(computes: list[Any], sums: Sums) -> Any:
    names = ("positive", "negative", "not_a_number")
    each = [
        compute({name: sums[f"{i}/{name}"] for name in names}) for i, compute in enumerate(computes)
    ]
    is_broken = any(sums[f"{i}/not_a_number"].any() for i in range(len(computes)))
    values = np.array(each, np.float64)
    return np.nan if is_broken else ratio(np.nansum(values), (~np.isnan(values)).sum())
