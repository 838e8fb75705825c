"""Metrics of labels with one class per example, single-label and ordinal.

``labels`` and ``predictions`` are class numbers [n] unless the function names another shape, or
one-hot rows [n, D]. ``weights`` [n], 0 or more, or None: an example of weight 0 is left out.
``name`` is accepted as in tf.metrics and not used: the key in ``metric_ops`` names the metric.
Without weights all sums are whole numbers, so that the result is the same for every split into
batches. Without examples the result is NaN. Every function raises ``SpecError`` when shapes
differ, a value is no class number, or a tensor is symbolic.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, Sums, mean_metric
from tf_image_classification.metrics.metric_inputs import (
    Array,
    classes,
    ratio,
    rows,
    scored,
    tally,
)

MIN_PROBABILITY = float(np.finfo(np.float32).eps)
"""Every log loss clips probabilities from below at this value, as scikit-learn does with float32,
so that one example contributes at most 15.9."""

MIN_IN_A_GROUP = 5
"""Smaller groups of examples, e.g. slices, have no accuracy of their own."""


def accuracy(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of examples whose class is predicted, 0..1.

    Example:
        >>> accuracy([0, 1, 2, 2], [0, 1, 1, 2]).result()
        0.75
    """
    a, b, weights = _class_pair("accuracy", labels, predictions, weights, None)
    return mean_metric("accuracy", a == b, weights)


def top_k(
    labels: Any, predictions: Any, k: int = 5, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of examples whose class is among the k highest scores, 0..1.

    Of equal scores the lower class number comes first, as in ``argmax``: the top 1 is the accuracy,
    and a model with equal scores for all classes is not always right. An example with a score that
    is not finite is a miss. ``predictions`` are probabilities or logits [n, D].

    Raises:
        SpecError: as all metrics of this module, or k is below 1.

    Example:
        >>> top_k([0, 1], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], k=2).result()
        0.5
    """
    if k < 1:
        raise SpecError(f"top_k: k is {k}, expected 1 or more.")
    numbers, scores, weights = scored("top_k", weights, labels, predictions)
    return mean_metric(f"top_k(k={k})", is_in_top(numbers, scores, k), weights)


def is_in_top(numbers: Array, scores: Array, k: int) -> Array:
    """Whether each example's class is among the k highest scores, bool [n]; as ``top_k``."""
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    exact = np.where(finite[:, None], scores, 0.0)
    of_label = exact[np.arange(len(numbers)), numbers][:, None]
    is_before = np.arange(scores.shape[1]) < numbers[:, None]
    rank = ((exact > of_label) | ((exact == of_label) & is_before)).sum(axis=1)
    return np.asarray(finite & (rank < k))


def log_loss(
    labels: Any, probabilities: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The mean of -ln(probability of the true class), 0..15.9.

    ``probabilities`` [n, D]: each row adds up to 1; a NaN among them makes the result NaN.

    Raises:
        SpecError: as all metrics of this module, or a row is no distribution.

    Example:
        >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]).result(), 4)
        0.6931
    """
    numbers, values, weights = scored("log_loss", weights, labels, probabilities)
    # 1 %: the rounding of a softmax in bfloat16. Comparisons with NaN are False, so NaN passes.
    wrong = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 0.01)
    if wrong.any():
        row = values[wrong][0]
        raise SpecError(
            f"log_loss: a row of probabilities adds up to {row.sum():g} with minimum "
            f"{row.min():g}, expected numbers of 0 or more that add up to 1. Logits need "
            "tf.nn.softmax."
        )
    return mean_metric("log_loss", negative_logs(numbers, values), weights)


def negative_logs(
    numbers: Array, probabilities: Array, min_probability: float = MIN_PROBABILITY
) -> Array:
    """The log loss of each example, float64 [n]."""
    of_label = probabilities[np.arange(len(numbers)), numbers].astype(np.float64)
    return np.asarray(-np.log(np.clip(of_label, min_probability, 1.0)))


def precision(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    num_classes: int | None = None,
    average: str | None = "binary",
    positive_class: int = 1,
    name: str | None = None,
) -> StreamingMetric:
    """The fraction of the examples predicted as a class that belong to it, 0..1.

    In a mean, a class that is never predicted counts as 0 if it occurs among the labels.

    Args:
        labels: class numbers [n].
        predictions: class numbers [n].
        weights: [n] or None.
        num_classes: D; not needed for "binary".
        average: "binary": of ``positive_class``, for two classes. "macro": mean over the classes
            that occur. "weighted": the same, by number of labels. "micro": over all predictions,
            which equals the accuracy. None: the array [D], NaN for a class that is never
            predicted (for ``recall``: that no label has).
        positive_class: 0 or 1, for "binary".
        name: as in all metrics of this module.

    Raises:
        SpecError: as all metrics of this module, or the options do not fit each other.

    Example:
        >>> precision([0, 1, 1], [1, 1, 1], weights=[1, 1, 2]).result()
        0.75
        >>> precision([0, 1, 2], [0, 1, 1], num_classes=3, average=None).result().tolist()
        [1.0, 0.5, nan]
    """
    options = (num_classes, average, positive_class)
    return _per_class("precision", labels, predictions, weights, *options)


def recall(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    num_classes: int | None = None,
    average: str | None = "binary",
    positive_class: int = 1,
    name: str | None = None,
) -> StreamingMetric:
    """The fraction of a class's examples that are predicted as it, 0..1.

    In a mean, a class without labels counts as 0 if it is predicted. Arguments and errors as
    ``precision``.

    Example:
        >>> recall([0, 1, 1, 1], [0, 1, 0, 0], num_classes=2, average=None).result().round(3)
        array([1.   , 0.333])
    """
    options = (num_classes, average, positive_class)
    return _per_class("recall", labels, predictions, weights, *options)


def f1(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    num_classes: int | None = None,
    average: str | None = "binary",
    positive_class: int = 1,
    name: str | None = None,
) -> StreamingMetric:
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), 0..1.

    NaN for a class without labels and predictions. "macro" is the mean of the classes' F1, not the
    F1 of mean precision and mean recall. Arguments and errors as ``precision``.

    Example:
        >>> round(f1([0, 1, 2], [0, 1, 1], num_classes=3, average="macro").result(), 4)
        0.5556
    """
    options = (num_classes, average, positive_class)
    return _per_class("f1", labels, predictions, weights, *options)


def mean_per_class_accuracy(
    labels: Any,
    predictions: Any,
    num_classes: int,
    weights: Any = None,
    *,
    name: str | None = None,
) -> StreamingMetric:
    """The mean recall of the classes that occur among the labels (balanced accuracy), 0..1.

    Example:
        >>> mean_per_class_accuracy([0, 0, 0, 1], [0, 0, 0, 0], num_classes=2).result()
        0.5
    """
    counts = _class_counts("mean_per_class_accuracy", labels, predictions, weights, num_classes)
    return of_counts("recall", "balanced", counts)


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: int, *, name: str | None = None
) -> StreamingMetric:
    """Counts, int64 [num_classes, num_classes]: rows are true classes, columns predicted ones.

    Zeros without examples.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 0, 1], num_classes=2).result().tolist()
        [[1, 0], [1, 1]]
    """
    a, b, _ = _class_pair("confusion_matrix", labels, predictions, None, num_classes)
    counts = tally(a * num_classes + b, None, num_classes**2).reshape(num_classes, num_classes)
    kind = f"confusion_matrix(num_classes={num_classes})"
    return StreamingMetric({"counts": counts}, _compute_counts, kind)


def worst_group_accuracy(
    is_right: Array, groups: Array, num_groups: int, *, min_examples: int = MIN_IN_A_GROUP
) -> StreamingMetric:
    """The lowest accuracy of a group of examples, 0..1.

    Args:
        is_right: bool [n].
        groups: each example's group [n], 0 to num_groups - 1; -1 for none.
        num_groups: of the whole set.
        min_examples: smaller groups are left out.

    Example:
        >>> right = np.array([True, True, False, True])
        >>> worst_group_accuracy(right, np.array([0, 0, 1, 1]), 2, min_examples=2).result()
        0.5
    """
    inside = groups >= 0
    sums = {
        "right": np.bincount(groups[inside], is_right[inside], num_groups).astype(np.int64),
        "count": np.bincount(groups[inside], minlength=num_groups),
    }

    def worst(sums: Sums) -> float:
        enough = sums["count"] >= min_examples
        if not enough.any():
            return float("nan")
        return float((sums["right"][enough] / sums["count"][enough]).min())

    return StreamingMetric(sums, worst, f"worst_group_accuracy(min_examples={min_examples})")


def _class_pair(
    metric: str, labels: Any, predictions: Any, weights: Any, num_classes: int | None
) -> tuple[Array, Array, Array | None]:
    if num_classes is not None and num_classes < 2:
        raise SpecError(f"{metric}: num_classes is {num_classes}, expected 2 or more.")
    (a, b), weights = rows(metric, weights, labels=labels, predictions=predictions)
    true = classes(metric, "labels", a, num_classes)
    return true, classes(metric, "predictions", b, num_classes), weights


def _per_class(
    metric: str,
    labels: Any,
    predictions: Any,
    weights: Any,
    num_classes: int | None,
    average: str | None,
    positive_class: int,
) -> StreamingMetric:
    if average not in ("binary", "macro", "micro", "weighted", None):
        raise SpecError(
            f"{metric}: average is {average!r}, expected binary, macro, micro, weighted or None."
        )
    if average == "binary" and (num_classes not in (None, 2) or positive_class not in (0, 1)):
        raise SpecError(
            f"{metric}: num_classes is {num_classes} and positive_class {positive_class} with "
            'average="binary", which is for the classes 0 and 1. For more classes choose '
            'average="macro", "micro", "weighted" or None.'
        )
    if average != "binary" and (num_classes is None or positive_class != 1):
        raise SpecError(
            f"{metric}: num_classes is {num_classes} and positive_class {positive_class} with "
            f"average={average!r}. Give num_classes, the same in each batch; positive_class is for "
            'average="binary" only.'
        )
    counts = _class_counts(metric, labels, predictions, weights, num_classes or 2)
    return of_counts(metric, average, counts, positive_class)


def _class_counts(
    metric: str, labels: Any, predictions: Any, weights: Any, num_classes: int
) -> Sums:
    a, b, weights = _class_pair(metric, labels, predictions, weights, num_classes)
    return class_counts(a, b, weights, num_classes)


def class_counts(truth: Array, predicted: Array, weights: Array | None, num_classes: int) -> Sums:
    """The counts of each class, [D], that ``of_counts`` takes, from class numbers [n]."""
    hit = truth == predicted
    return {
        "hits": tally(truth[hit], None if weights is None else weights[hit], num_classes),
        "labelled": tally(truth, weights, num_classes),
        "predicted": tally(predicted, weights, num_classes),
    }


def of_counts(
    metric: str, average: str | None, counts: Sums, positive_class: int = 1
) -> StreamingMetric:
    """Precision, recall or F1 from counts of classes, for every label with classes.

    Args:
        metric: "precision", "recall" or "f1".
        average: as ``precision``, or "balanced": the mean over the classes that some label has.
        counts: "hits", "labelled" and "predicted" of each class, [D].
        positive_class: as ``precision``.
    """
    compute = functools.partial(_compute_of_counts, metric, average, positive_class)
    is_binary = average == "binary"
    option = (
        f"positive_class={positive_class}" if is_binary else f"num_classes={len(counts['hits'])}"
    )
    return StreamingMetric(counts, compute, f"{metric}(average={average}, {option})")


def _compute_counts(sums: Sums) -> Any:
    return sums["counts"]


def _compute_of_counts(metric: str, average: str | None, positive_class: int, sums: Sums) -> Any:
    hits, labelled, predicted = sums["hits"], sums["labelled"], sums["predicted"]
    whole = {"precision": predicted, "recall": labelled, "f1": (labelled + predicted) / 2}[metric]
    if average == "micro":
        return ratio(hits.sum(), whole.sum())
    occurs = labelled + predicted > 0
    if average is None:
        return ratio(hits, whole)
    if average == "balanced":
        occurs = labelled > 0
    # 0 / 0 is 0 where the other count shows that the class occurs, as in scikit-learn.
    each = np.where(occurs & (whole == 0), 0.0, ratio(hits, whole))
    if average == "binary":
        return each[positive_class]
    if average == "weighted":
        return ratio((each * labelled)[labelled > 0].sum(), labelled.sum())
    return ratio(each[occurs].sum(), occurs.sum())
