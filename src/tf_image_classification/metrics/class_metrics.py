"""Metrics of class labels.

``labels`` and ``predictions`` are class numbers [n] unless said otherwise, or one-hot rows [n, D],
which are converted; ``weights`` [n], 0 or more, weighs the examples, 0 leaves one out. Without
weights all counts are whole numbers, so that results do not depend on how the examples were split.
NaN when there was no example.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import (
    Array,
    classes,
    ratio,
    rows,
    scored,
    size,
    tally,
    total,
)

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Every log loss counts a smaller probability as this one, as scikit-learn does with float32, so
that one example costs 15.9 at most."""


def accuracy(
    labels: Any, predictions: Any, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of examples whose class was predicted, 0..1.

    Raises:
        SpecError: shapes differ, a value is no class number, or a tensor is symbolic.

    Example:
        >>> accuracy([0, 1, 2, 2], [0, 1, 1, 2]).result()
        0.75
    """
    a, b, kept = _class_pair("accuracy", labels, predictions, weights, None)
    return _fraction("accuracy", a == b, kept)


def worst_group_accuracy(
    labels: Any, predictions: Any, groups: Any, num_groups: int, *, fewest: int = 5
) -> StreamingMetric:
    """The accuracy of the group of examples in which it is least, 0..1.

    Args:
        labels: class numbers [n].
        predictions: class numbers [n].
        groups: each example's group [n], 0 to num_groups - 1; -1 for none.
        num_groups: of the whole set.
        fewest: smaller groups say nothing.

    Raises:
        SpecError: shapes differ, a value is no class number, or a tensor is symbolic.
    """
    a, b, _ = _class_pair("worst_group_accuracy", labels, predictions, None, None)
    places = np.asarray(groups)
    inside = places >= 0
    sums = {
        "right": np.bincount(places[inside], (a == b)[inside], num_groups).astype(np.int64),
        "count": np.bincount(places[inside], minlength=num_groups),
    }

    def worst(sums: Sums) -> float:
        enough = sums["count"] >= fewest
        if not enough.any():
            return float("nan")
        return float((sums["right"][enough] / sums["count"][enough]).min())

    return StreamingMetric(sums, worst, f"worst_group_accuracy(fewest={fewest})")


def top_k(
    labels: Any, predictions: Any, k: int = 5, weights: Any = None, *, name: str | None = None
) -> StreamingMetric:
    """The fraction of examples whose class is among the k highest scores, 0..1.

    Of equal scores the lower class number comes first, as in ``argmax``, so that the top 1 is the
    accuracy, and a model that scores all classes alike is not right every time. An example with a
    score that is not finite is a miss.

    Args:
        labels: class numbers [n].
        predictions: probabilities or logits [n, D].
        k: 1 or more.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes do not fit, a label is no class, k is below 1, or a tensor is symbolic.

    Example:
        >>> top_k([0, 1], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], k=2).result()
        0.5
    """
    if k < 1:
        raise SpecError(f"top_k: k is {k}, expected 1 or more.")
    numbers, scores, kept = scored("top_k", weights, labels, predictions)
    return _fraction(f"top_k(k={k})", is_in_top(numbers, scores, k), kept)


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

    Args:
        labels: class numbers [n].
        probabilities: [n, D], each row adding up to 1; a NaN among them makes the result NaN.
        weights: [n] or None.
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: shapes do not fit, a label is no class, a row is no distribution, or a tensor is
            symbolic.
    """
    numbers, values, kept = scored("log_loss", weights, labels, probabilities)
    # 1 %: what a softmax in bfloat16 may be off. Comparisons with NaN are False: it passes.
    wrong = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 0.01)
    if wrong.any():
        row = values[wrong][0]
        raise SpecError(
            f"log_loss: a row of probabilities adds up to {row.sum():g} with {row.min():g} as its "
            "least, expected numbers of 0 or more that add up to 1. Logits need tf.nn.softmax."
        )
    losses = negative_logs(numbers, values)
    sums = {"correct": total(kept, losses), "count": size(kept, len(losses))}
    return StreamingMetric(sums, compute_fraction, "log_loss")


def negative_logs(numbers: Array, probabilities: Array) -> Array:
    """What ``log_loss`` is the mean of, float64 [n]."""
    of_label = probabilities[np.arange(len(numbers)), numbers].astype(np.float64)
    return np.asarray(-np.log(np.clip(of_label, LEAST_PROBABILITY, 1.0)))


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
        name: accepted as in tf.metrics and not used; the metric's key in metric_ops names it.

    Raises:
        SpecError: the options do not fit each other, shapes differ, a value is no class, or a
            tensor is symbolic.

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

    In a mean, a class without labels counts as 0 if it is predicted somewhere. Arguments and errors
    are those of ``precision``.
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

    NaN for a class that is neither a label nor a prediction anywhere. "macro" is the mean of the
    classes' values, not the value of mean precision and recall. Arguments and errors are those of
    ``precision``.
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
    """The mean of the classes' own accuracies, over the classes among the labels, 0..1.

    Also called balanced accuracy: each class counts the same, however many examples it has.

    Raises:
        SpecError: shapes differ, a value is no class, or a tensor is symbolic.
    """
    metric = "mean_per_class_accuracy"
    a, b, kept = _class_pair(metric, labels, predictions, weights, num_classes)
    sums = _class_sums(a, b, kept, num_classes)
    return StreamingMetric(sums, compute_balanced, f"{metric}(num_classes={num_classes})")


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: int, *, name: str | None = None
) -> StreamingMetric:
    """Counts, int64 [num_classes, num_classes]: rows are true classes, columns predicted ones.

    Zeros when there was no example.

    Raises:
        SpecError: shapes differ, a value is no class, or a tensor is symbolic.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 0, 1], num_classes=2).result().tolist()
        [[1, 0], [1, 1]]
    """
    a, b, _ = _class_pair("confusion_matrix", labels, predictions, None, num_classes)
    counts = tally(a * num_classes + b, None, num_classes**2).reshape(num_classes, num_classes)
    kind = f"confusion_matrix(num_classes={num_classes})"
    return StreamingMetric({"counts": counts}, _compute_counts, kind)


def _class_pair(
    metric: str, labels: Any, predictions: Any, weights: Any, num_classes: int | None
) -> tuple[Array, Array, Array | None]:
    if num_classes is not None and num_classes < 2:
        raise SpecError(f"{metric}: num_classes is {num_classes}, expected 2 or more.")
    (a, b), kept = rows(metric, weights, labels=labels, predictions=predictions)
    true = classes(metric, "labels", a, num_classes)
    return true, classes(metric, "predictions", b, num_classes), kept


def _fraction(kind: str, hits: Array, weights: Array | None) -> StreamingMetric:
    sums = {"correct": total(weights, hits), "count": size(weights, len(hits))}
    return StreamingMetric(sums, compute_fraction, kind)


def _class_sums(a: Array, b: Array, weights: Array | None, num_classes: int) -> Sums:
    hit = a == b
    return {
        "hits": tally(a[hit], None if weights is None else weights[hit], num_classes),
        "labelled": tally(a, weights, num_classes),
        "predicted": tally(b, weights, num_classes),
    }


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
    num = num_classes or 2
    a, b, kept = _class_pair(metric, labels, predictions, weights, num)
    compute = functools.partial(compute_of_counts, metric, average, positive_class)
    options = f"positive_class={positive_class}" if average == "binary" else f"num_classes={num}"
    kind = f"{metric}(average={average}, {options})"
    return StreamingMetric(_class_sums(a, b, kept, num), compute, kind)


def compute_fraction(sums: Sums) -> Any:
    """``correct`` over ``count``."""
    return ratio(sums["correct"], sums["count"])


def _compute_counts(sums: Sums) -> Any:
    return sums["counts"]


def compute_balanced(sums: Sums) -> Any:
    """The mean recall of the classes that some example has, from the same sums."""
    each = ratio(sums["hits"], sums["labelled"])
    return _mean_of(each, sums["labelled"] > 0)


def compute_of_counts(metric: str, average: str | None, positive_class: int, sums: Sums) -> Any:
    """Precision, recall or F1 from ``hits``, ``labelled`` and ``predicted`` of each class, [D]."""
    hits, labelled, predicted = sums["hits"], sums["labelled"], sums["predicted"]
    whole = {"precision": predicted, "recall": labelled, "f1": (labelled + predicted) / 2}[metric]
    if average == "micro":
        return ratio(hits.sum(), whole.sum())
    occurs = labelled + predicted > 0
    if average is None:
        return ratio(hits, whole)
    # 0 / 0 is 0 where the other count says that the class matters, as in scikit-learn.
    each = np.where(occurs & (whole == 0), 0.0, ratio(hits, whole))
    if average == "binary":
        return each[positive_class]
    if average == "macro":
        return _mean_of(each, occurs)
    return ratio((each * labelled)[labelled > 0].sum(), labelled.sum())


def _mean_of(values: Array, chosen: Array) -> Any:
    return ratio(values[chosen].sum(), chosen.sum())
