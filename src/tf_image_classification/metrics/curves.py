"""The area under a curve of a binary classifier, from mergeable histograms of its probabilities."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import Array, classes, ratio, rows, tally


def auc(
    labels: Any,
    probabilities: Any,
    weights: Any = None,
    *,
    curve: str = "ROC",
    name: str | None = None,
) -> StreamingMetric:
    """The area under the ROC or the precision-recall curve, 0..1.

    Only histograms of the probabilities are kept, of positive and of negative examples, in some
    4000 fixed bins. Probabilities in one bin differ by less than 1/2048, and their odds by less
    than 1.7 % (above 1e-7 and below 1 - 1e-7), so that a confident classifier, with nearly all
    probabilities near 0 and 1, is resolved as well. Probabilities in one bin count as ties, and the
    error of the result comes from nothing else. With p and q the positive and negative examples of
    a bin, P and Q those of all bins, t and f those of the bins above it, it is at most

    * ROC: the sum over bins of p q / (2 P Q), half the share of pairs of a positive and a negative
      example that fall in one bin;
    * PR: the sum over bins of p / P * ((t + p) / (t + p + f) - t / (t + f + q)).

    "ROC": the trapezoid rule; equals the probability that a positive example has a higher one than
    a negative (Hanley and McNeil, Radiology 143, 1982), ties counted half. NaN unless there are
    both. "PR": the average precision, the sum over thresholds of precision times gain in recall;
    the trapezoid rule is too optimistic there (Davis and Goadrich, ICML 2006). NaN without
    positive examples. A NaN probability makes the result NaN.

    Args:
        labels: [n], 1 or True for a positive example, 0 or False for a negative; for one of several
            classes ``labels[name] == i``.
        probabilities: [n], of being positive: ``predictions[name + "_probabilities"][:, i]``.
        weights: [n] or None.
        curve: "ROC" or "PR".
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes differ, a label is not 0 or 1, a probability is not in 0..1, curve is
            unknown, or a tensor is symbolic.

    Example:
        >>> auc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]).result()
        0.75
    """
    if curve not in _CURVES:
        raise SpecError(f"auc: curve is {curve!r}, expected ROC or PR.")
    (numbers, values), kept = rows("auc", weights, labels=labels, probabilities=probabilities)
    is_positive = classes("auc", "labels", numbers, 2) == 1
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        raise SpecError(
            f"auc: a probability is {values[wrong][0]:g}, expected 0 to 1. Logits need tf.sigmoid "
            "or tf.nn.softmax."
        )
    is_nan = np.isnan(values)
    bins = np.searchsorted(bin_edges(), values, side="right")

    def histogram(chosen: Array) -> Array:
        return tally(bins[chosen], None if kept is None else kept[chosen], len(bin_edges()) + 1)

    sums = {
        "positive": histogram(is_positive & ~is_nan),
        "negative": histogram(~is_positive & ~is_nan),
        "not_a_number": is_nan.sum(),
    }
    return StreamingMetric(sums, functools.partial(_compute_area, curve), f"auc(curve={curve})")


@functools.cache
def bin_edges() -> Array:
    """The lower edges of all bins but the first, float64, increasing.

    The multiples of 1/2048, which resolve the middle, and the sigmoids of 2047 equal steps of
    logits from -16.6 to 16.6, which resolve the ends: float32 knows no numbers nearer to 1.
    """
    logits = np.linspace(-16.6, 16.6, 2047)
    edges = np.sort(np.concatenate([np.arange(1, 2048) / 2048, 1 / (1 + np.exp(-logits))]))
    edges.flags.writeable = False  # shared by all calls
    return edges


def _compute_area(curve: str, sums: Sums) -> Any:
    if sums["not_a_number"]:
        return np.nan
    # From the highest probability down, as a threshold passes.
    return _CURVES[curve](sums["positive"][::-1], sums["negative"][::-1])


def _area_under_roc(positive: Array, negative: Array) -> Any:
    """Pairs ranked the right way round, ties half, over all pairs."""
    below = negative.sum() - np.cumsum(negative)
    # float64 first: the product of two counts may leave int64.
    pairs = (positive.astype(np.float64) * (below + negative / 2)).sum()
    return ratio(pairs, float(positive.sum()) * float(negative.sum()))


def _average_precision(positive: Array, negative: Array) -> Any:
    """Precision at each threshold times the gain in recall there."""
    true_positives = np.cumsum(positive)
    precision = ratio(true_positives, true_positives + np.cumsum(negative))
    found = positive > 0
    return ratio((precision[found] * positive[found]).sum(), positive.sum())


_CURVES = {"ROC": _area_under_roc, "PR": _average_precision}
