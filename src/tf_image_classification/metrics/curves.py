"""Areas under ROC and precision-recall curves, from stored scores or from histograms.

auc(labels["pet"] == 1, predictions["pet_probabilities"][:, 1])
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import Rows, StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import Array, as_array, classes, ratio, rows

_SCORES_AT_ONCE = 2**21


def auc(
    labels: Any,
    probabilities: Any,
    weights: Any = None,
    *,
    curve: str = "ROC",
    name: str | None = None,
) -> StreamingMetric:
    """The area under the ROC or the precision-recall curve, 0..1; equal scores count as ties.

    "ROC": the trapezoid rule; equals the probability that a positive example has a higher one than
    a negative (Hanley and McNeil, Radiology 143, 1982), ties counted half. NaN unless there are
    both. "PR": the average precision, the sum over thresholds of precision times gain in recall;
    the trapezoid rule is too optimistic there (Davis and Goadrich, ICML 2006). NaN without
    positive examples. A NaN probability makes the result NaN.

    Exact for up to ``merging.MAX_STORED`` numbers, which are stored. Beyond, histograms with some
    4000 fixed bins replace them. Probabilities in one bin differ by less than 1/2048, and their
    odds by less than 1.7 % (above 1e-7 and below 1 - 1e-7); they count as ties, which is the only
    error of the result. With p and q the positive and negative examples of a bin, P and Q those of
    all bins, t and f those of the bins above it, the error is at most

    * ROC: the sum over bins of p q / (2 P Q), half the fraction of pairs of a positive and a
      negative example that fall into one bin;
    * PR: the sum over bins of p / P * ((t + p) / (t + p + f) - t / (t + f + q)).

    Args:
        labels: [n], 1 or True for a positive example, 0 or False for a negative; for class i of
            more than two ``labels[name] == i``.
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
    if curve not in ("ROC", "PR"):
        raise SpecError(f"auc: curve is {curve!r}, expected ROC or PR.")
    (numbers, values), weights = rows("auc", weights, labels=labels, probabilities=probabilities)
    is_positive = classes("auc", "labels", numbers, 2) == 1
    compute = functools.partial(_one_area, curve)
    return _stored(f"auc(curve={curve})", is_positive[:, None], values[:, None], weights, compute)


def areas(
    metric: str, labels: Any, probabilities: Any, weights: Any = None, *, curve: str, average: bool
) -> StreamingMetric:
    """The area of each class, [D], or the mean over the classes that have one.

    Args:
        metric: its name, for messages.
        labels: [n, D], 1 for each class that an example has.
        probabilities: [n, D], 0..1.
        weights: [n] or None.
        curve: as ``auc``.
        average: whether the result is the mean.

    Raises:
        SpecError: shapes differ, a value is out of range, or a tensor is symbolic.

    Example:
        >>> scores = [[0.9, 0.1], [0.2, 0.8]]
        >>> areas("auc", [[1, 0], [0, 1]], scores, curve="ROC", average=False).result().tolist()
        [1.0, 1.0]
    """
    true = as_array(metric, "labels", labels)
    scores = as_array(metric, "predictions", probabilities)
    if true.ndim != 2 or true.shape != scores.shape or not np.isin(true, (0, 1)).all():
        raise SpecError(
            f"{metric}: labels have shape {list(true.shape)} and predictions "
            f"{list(scores.shape)}, expected [n, D] twice, the labels 0 or 1: whether an "
            "example has each of D classes."
        )
    (numbers,), weights = rows(metric, weights, labels=np.arange(len(true)))
    is_positive, scores = true[numbers].astype(bool), scores[numbers]
    compute = functools.partial(_mean_area if average else _areas, curve)
    kind = f"{metric}(num_classes={true.shape[1]})"
    return _stored(kind, is_positive, scores, weights, compute)


def mean_area(areas_of_classes: Array) -> Any:
    """The mean over the classes that have an area; NaN without any.

    Example:
        >>> mean_area(np.array([1.0, np.nan, 0.5]))
        array(0.75)
    """
    is_known = ~np.isnan(areas_of_classes)
    return ratio(areas_of_classes[is_known].sum(), is_known.sum())


class Ranking:
    """Examples sorted by score, class by class; for areas with many different weights."""

    def __init__(self, is_positive: Array, scores: Array) -> None:
        """Sort the examples.

        Args:
            is_positive: bool [n, D].
            scores: [n, D].
        """
        columns = np.ascontiguousarray(scores.T)  # [D, n]
        num_classes, n = columns.shape
        self._order = np.argsort(-columns, axis=1, kind="stable")
        ordered = np.take_along_axis(columns, self._order, axis=1)
        self._is_broken = np.isnan(columns).any(axis=1)
        differs = ordered[:, 1:] != ordered[:, :-1]
        edge = np.ones([num_classes, 1], bool)
        places = np.arange(n)
        # For each example the first and the last one with its score.
        first = np.where(np.concatenate([edge, differs], axis=1)[:, :n], places, 0)
        last = np.where(np.concatenate([differs, edge], axis=1)[:, :n], places, n)
        first = np.maximum.accumulate(first, axis=1)
        last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        # From here on the positive examples only, class by class in the order of their scores.
        ranked = np.take_along_axis(is_positive.T, self._order, axis=1)
        self._class, self._place = np.nonzero(ranked)
        self._first = first[self._class, self._place]
        self._last = last[self._class, self._place]
        tie = self._class * (n + 1) + self._last
        self._from, self._upto = np.searchsorted(tie, tie), np.searchsorted(tie, tie, "right")
        self._start = np.searchsorted(self._class, np.arange(num_classes))

    def areas(self, curve: str, weights: Array | None = None) -> Array:
        """The area of each class, [D]; curves as ``auc``."""
        num_classes, n = self._order.shape
        each = np.ones(n) if weights is None else np.asarray(weights, np.float64)
        upto = np.zeros([num_classes, n + 1])  # weight of the examples before each place
        np.cumsum(each[self._order], axis=1, out=upto[:, 1:])
        k = self._class
        own = each[self._order[k, self._place]]
        positive = np.concatenate([[0.0], np.cumsum(own)])
        before_class = positive[self._start][k]
        true = positive[self._upto] - before_class
        all_found = upto[k, self._last + 1]
        num_positive = np.bincount(k, own, num_classes)
        if curve == "PR":
            precision = np.where(own > 0, ratio(true, all_found), 0.0)
            return self._known(np.bincount(k, own * precision, num_classes), num_positive)
        num_negative = upto[:, -1] - num_positive
        false = all_found - true
        false_before = upto[k, self._first] - (positive[self._from] - before_class)
        pairs = own * (num_negative[k] - (false + false_before) / 2)
        return self._known(np.bincount(k, pairs, num_classes), num_positive * num_negative)

    def _known(self, part: Array, whole: Array) -> Array:
        return np.where(self._is_broken, np.nan, ratio(part, whole))


def _stored(
    kind: str, is_positive: Array, scores: Array, weights: Array | None, compute: Any
) -> StreamingMetric:
    wrong = (scores < 0) | (scores > 1)
    if wrong.any():
        raise SpecError(
            f"{kind.partition('(')[0]}: a probability is {scores[wrong][0]:g}, expected 0 to 1. "
            "Logits need tf.sigmoid or tf.nn.softmax."
        )
    is_small = bool((scores.astype(np.float32) == scores).all())  # as outputs of models are
    each = np.ones(len(scores)) if weights is None else weights
    parts: Rows = {
        "scores": (scores.astype(np.float32) if is_small else scores,),
        "is_positive": (is_positive,),
        "weights": (each,),
    }
    return StreamingMetric({}, compute, kind, parts, _histograms)


def _areas(curve: str, values: Sums) -> Array:
    """The area of each class, [D]."""
    if "scores" not in values:
        return _areas_of_histograms(curve, values)
    scores, is_positive, weights = (values[k] for k in ("scores", "is_positive", "weights"))
    width = max(1, _SCORES_AT_ONCE // max(1, len(scores)))
    found = [
        Ranking(is_positive[:, k : k + width], scores[:, k : k + width]).areas(curve, weights)
        for k in range(0, scores.shape[1], width)
    ]
    return np.concatenate(found)


def _one_area(curve: str, values: Sums) -> Any:
    return _areas(curve, values)[0]


def _mean_area(curve: str, values: Sums) -> Any:
    broken = np.isnan(values["scores"]) if "scores" in values else values["not_a_number"]
    return np.nan if broken.any() else mean_area(_areas(curve, values))


# --- histograms, for more scores than are stored ------------------------------------------------


@functools.cache
def bin_edges() -> Array:
    """The lower edges of all bins but the first, float64, increasing.

    The multiples of 1/2048, which resolve the middle, and the sigmoids of 2047 equally spaced
    logits from -16.6 to 16.6, which resolve the ends: float32 has no numbers nearer to 1.
    """
    logits = np.linspace(-16.6, 16.6, 2047)
    edges = np.sort(np.concatenate([np.arange(1, 2048) / 2048, 1 / (1 + np.exp(-logits))]))
    edges.flags.writeable = False  # shared by all calls
    return edges


def _histograms(values: Sums) -> Sums:
    """Weights of positive and negative examples per class and bin, [D, bins]."""
    scores, is_positive, weights = (values[k] for k in ("scores", "is_positive", "weights"))
    num_bins = len(bin_edges()) + 1
    sums = {name: np.zeros([scores.shape[1], num_bins]) for name in ("positive", "negative")}
    is_nan = np.isnan(scores)
    for k in range(scores.shape[1]):
        bins = np.searchsorted(bin_edges(), scores[:, k].astype(np.float64), side="right")
        for name, chosen in (("positive", is_positive[:, k]), ("negative", ~is_positive[:, k])):
            selected = chosen & ~is_nan[:, k]
            sums[name][k] = np.bincount(bins[selected], weights[selected], num_bins)
    return {**sums, "not_a_number": is_nan.sum(axis=0)}


def _areas_of_histograms(curve: str, sums: Sums) -> Array:
    """The area of each class, [D]: a positive and a negative example per bin, with its weight."""
    weights = np.concatenate([sums["positive"], sums["negative"]], axis=1)
    bins = np.arange(weights.shape[1]) % sums["positive"].shape[1]
    is_positive = np.arange(weights.shape[1]) < sums["positive"].shape[1]
    ranking = Ranking(is_positive[:, None], bins[:, None].astype(np.float64))
    found = np.array([ranking.areas(curve, of_class)[0] for of_class in weights])
    return np.where(sums["not_a_number"] > 0, np.nan, found)
