"""The table of metrics: every number that is computed from the predictions of one label.

Evaluations during a training, ``tfic evaluate``, reports, ``best_metric`` and the table in
docs/reference/metrics.md take names, directions and formulas from here.

>>> label = Label("pet", depth=2)
>>> rows = LabelRows(np.array([0, 1, 1]), np.array([0, 1, 0]), np.eye(2)[[0, 1, 0]])
>>> round(find_metric("pet/accuracy").of(label, rows).result(), 3)
0.667
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import (
    MULTILABEL,
    ORDINAL,
    REGRESSION,
    SINGLE_LABEL,
    THRESHOLDS,
)
from tf_image_classification.metrics import class_metrics
from tf_image_classification.metrics.curves import areas
from tf_image_classification.metrics.merging import StreamingMetric, Sums, mean_metric
from tf_image_classification.metrics.metric_inputs import Array, ratio
from tf_image_classification.metrics.multilabel_metrics import decision_counts, decision_logs
from tf_image_classification.metrics.regression_metrics import errors

FRACTION, MEAN, ROOT, DICE = "fraction", "mean", "root of a mean", "Dice"
"""Statistic over examples: a fraction of them, the mean of a number each, its square root, or
2 J / (1 + J) of the fraction J of the examples in a union that are in the intersection (F1)."""

TRUE, OTHER, PREDICTED, EITHER = "true", "other", "predicted", "either"
"""Examples behind a number of a class: of the class, of other classes, predicted as it, or both."""

_ONE_CLASS, _CLASSES = (SINGLE_LABEL, ORDINAL), (SINGLE_LABEL, ORDINAL, MULTILABEL)


@dataclasses.dataclass(frozen=True)
class LabelRows:
    """Labels and predictions of some examples, for one label.

    Attributes:
        truth: class numbers int64 [n], values float64 [n], or 0 and 1 int64 [n, D].
        predicted: like ``truth``.
        probabilities: [n, D]; [n, 0] for regression.
    """

    truth: Array
    predicted: Array
    probabilities: Array

    def is_class(self, label: Label) -> Array:
        """Whether each example has each class, bool [n, D]."""
        return _as_rows(label, self.truth)

    def is_predicted(self, label: Label) -> Array:
        """Whether each example is predicted as each class, bool [n, D]."""
        return _as_rows(label, self.predicted)

    @property
    def is_right(self) -> Array:
        """Whether the prediction is the truth, for multilabel in all classes, bool [n]."""
        same = self.truth == self.predicted
        return np.asarray(same.all(axis=1) if same.ndim == 2 else same, bool)


def _as_rows(label: Label, values: Array) -> Array:
    if label.kind == MULTILABEL:
        return values.astype(bool)
    return np.asarray(values[:, None] == np.arange(label.depth))


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number, or one number per class.

    Exactly one of ``per_example``, ``counts``, ``curve`` and ``formula`` defines it.

    Attributes:
        name: the same in every file, table and chart.
        kinds: kinds of label that have it.
        summary: definition in words, for the docs.
        higher_is_better: None where neither is better, as for a bias.
        per_example: label and rows to the numbers [n] that the metric is the mean of.
        counts: "precision", "recall" or "f1" and its average, as ``class_metrics.of_counts``.
        curve: "ROC" or "PR": the metric is the area under it, or the mean over classes.
        formula: label, rows and weights [n] or None to any other metric.
        statistic: ``FRACTION``, ``MEAN`` or ``ROOT`` of ``per_example``; ``FRACTION`` or ``DICE``
            of ``among``; "" otherwise. It decides the confidence interval.
        among: for a metric per class, the examples behind it; the smaller number decides.
        mean_of: the metric per class that this is the mean of.
        is_bounded: whether a metric without ``per_example`` lies in 0..1.
        is_by_class: whether it is an array with a number per class.
        in_training: whether evaluations during a training have it by default.
        needs: examples that the evaluation set must contain, for messages and docs.
        applies: which labels of these kinds have it.
    """

    name: str
    kinds: tuple[str, ...]
    summary: str
    higher_is_better: bool | None = True
    per_example: Callable[[Label, LabelRows], Array] | None = None
    counts: tuple[str, str | None] | None = None
    curve: str = ""
    formula: Callable[[Label, LabelRows, Array | None], StreamingMetric] | None = None
    statistic: str = ""
    among: tuple[str, ...] = ()
    mean_of: str = ""
    is_bounded: bool = True
    is_by_class: bool = False
    in_training: bool | Callable[[Label], bool] = False
    needs: str = ""
    applies: Callable[[Label], bool] = lambda label: True

    def of(self, label: Label, rows: LabelRows, weights: Array | None = None) -> StreamingMetric:
        """The metric over some labelled examples, which merges with those over others.

        Args:
            label: the label.
            rows: its examples.
            weights: [n], 0 or more, or None.
        """
        if self.per_example is not None:
            values = self.per_example(label, rows)
            kind = f"{self.name} of {label.kind}"
            return mean_metric(kind, values, weights, is_root=self.statistic == ROOT)
        if self.counts is not None:
            return class_metrics.of_counts(*self.counts, _counts(label, rows, weights))
        if self.curve:
            scores = rows.is_class(label), rows.probabilities, weights
            return areas(self.name, *scores, curve=self.curve, average=not self.is_by_class)
        assert self.formula is not None
        return self.formula(label, rows, weights)

    @property
    def merged_over_workers(self) -> str:
        """What workers exchange, for the docs."""
        if self.per_example is not None:
            return "sum and count"
        if self.counts is not None:
            return "counts per class"
        return "scores" if self.curve else "values"

    def is_in_training(self, label: Label) -> bool:
        """Whether evaluations during a training have it by default."""
        return self.in_training(label) if callable(self.in_training) else self.in_training


def metrics_of(label: Label, *, by_class: bool = False) -> list[Metric]:
    """The metrics of a label, in the order of the table.

    Args:
        label: the label.
        by_class: those with a number per class instead of one number.
    """
    return [
        metric
        for metric in METRICS
        if label.kind in metric.kinds and metric.is_by_class == by_class and metric.applies(label)
    ]


def metric_names(schema: LabelSchema) -> dict[str, tuple[Label, Metric]]:
    """The metrics that are one number, by name; with two or more labels as ``age/accuracy``."""
    prefixed = len(schema.labels) > 1
    return {
        f"{label.name}/{metric.name}" if prefixed else metric.name: (label, metric)
        for label in schema
        for metric in metrics_of(label)
    }


def find_metric(name: str) -> Metric | None:
    """The metric of this name, with or without a label's name before a slash, or None."""
    bare = name.rpartition("/")[2]
    return next((metric for metric in METRICS if metric.name == bare), None)


# --- numbers per example ------------------------------------------------------------------------


def _is_right(label: Label, rows: LabelRows) -> Array:
    return rows.is_right


def _is_in_top_5(label: Label, rows: LabelRows) -> Array:
    return class_metrics.is_in_top(rows.truth, rows.probabilities, 5)


def _log_loss(label: Label, rows: LabelRows) -> Array:
    of_kind = decision_logs if label.kind == MULTILABEL else class_metrics.negative_logs
    return of_kind(rows.truth, rows.probabilities)


def _brier(label: Label, rows: LabelRows) -> Array:
    squares = np.square(rows.probabilities.astype(np.float64) - rows.is_class(label))
    return np.asarray(squares.mean(axis=1) if label.kind == MULTILABEL else squares.sum(axis=1))


def _error(label: Label, rows: LabelRows) -> Array:
    return errors(rows.truth, rows.predicted)


def _absolute_error(label: Label, rows: LabelRows) -> Array:
    return np.abs(_error(label, rows))


def _squared_error(label: Label, rows: LabelRows) -> Array:
    return np.square(_error(label, rows))


def _error_of_expected(label: Label, rows: LabelRows) -> Array:
    expected = rows.probabilities.astype(np.float64) @ np.arange(label.depth)
    return np.abs(errors(rows.truth, expected))


# --- other formulas -----------------------------------------------------------------------------


def _counts(label: Label, rows: LabelRows, weights: Array | None) -> Sums:
    if label.kind == MULTILABEL:
        return decision_counts(rows.is_class(label), rows.is_predicted(label), weights)
    return class_metrics.class_counts(rows.truth, rows.predicted, weights, label.depth)


def _r2(label: Label, rows: LabelRows, weights: Array | None) -> StreamingMetric:
    parts = {"truth": rows.truth.astype(np.float64), "predicted": rows.predicted}
    parts["weights"] = np.ones(len(rows.truth)) if weights is None else weights
    return StreamingMetric({}, _explained, "r2", {name: (part,) for name, part in parts.items()})


def _explained(rows: Sums) -> Any:
    truth, weights = rows["truth"], rows["weights"]
    mean = ratio((weights * truth).sum(), weights.sum())
    spread = (weights * np.square(truth - mean)).sum()
    return 1 - ratio((weights * np.square(rows["predicted"] - truth)).sum(), spread)


def _within(distance: int) -> Metric:
    """The fraction of ordinal predictions that are off by at most so many classes."""
    return Metric(
        f"within_{distance}",
        (ORDINAL,),
        f"fraction of examples whose predicted class is at most {distance} from the true one "
        f"(cumulative score CS@{distance})",
        per_example=lambda label, rows: _absolute_error(label, rows) <= distance,
        statistic=FRACTION,
        in_training=lambda label: distance == 1 or (distance == 5 and label.depth > 10),
        applies=lambda label: label.depth > distance + 1,
    )


# --- the table ----------------------------------------------------------------------------------

_HAS_CLASS = "an example of the class"
_BOTH = "examples of the class and of others"
_OCCURS = "an example that has or is predicted as the class"

# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy", _ONE_CLASS, "fraction of examples whose class is predicted",
        per_example=_is_right, statistic=FRACTION, in_training=True,
    ),
    Metric(
        "exact_match", (MULTILABEL,), "fraction of examples with exactly the right set of classes",
        per_example=_is_right, statistic=FRACTION, in_training=True,
    ),
    Metric(
        "balanced_accuracy", _ONE_CLASS, "mean recall of the classes that some example has",
        counts=("recall", "balanced"), mean_of="recall",
    ),
    Metric(
        "top_5_accuracy", _ONE_CLASS,
        "fraction of examples whose class is among the five most probable; for more than 5 classes",
        per_example=_is_in_top_5, statistic=FRACTION,
        in_training=lambda label: label.kind == SINGLE_LABEL,
        applies=lambda label: label.depth > 5,
    ),
    Metric(
        "mean_absolute_error", (ORDINAL, REGRESSION),
        "mean absolute difference of the predicted and the true class number or value",
        higher_is_better=False, per_example=_absolute_error, statistic=MEAN, in_training=True,
    ),
    Metric(
        "mean_absolute_error_of_expected", (ORDINAL,),
        "mean absolute difference of the distribution's mean and the true class number; for the "
        "codings expectation and distribution",
        higher_is_better=False, per_example=_error_of_expected, statistic=MEAN, in_training=True,
        applies=lambda label: label.coding != THRESHOLDS,
    ),
    Metric(
        "root_mean_squared_error", (ORDINAL, REGRESSION),
        "root of the mean squared difference of the predicted and the true class number or value",
        higher_is_better=False, per_example=_squared_error, statistic=ROOT,
        in_training=lambda label: label.kind == REGRESSION,
    ),
    *map(_within, (1, 2, 5)),
    Metric(
        "bias", (REGRESSION,), "mean of predicted minus true value",
        higher_is_better=None, per_example=_error, statistic=MEAN,
    ),
    Metric(
        "r2", (REGRESSION,), "coefficient of determination",
        formula=_r2, is_bounded=False, needs="two different values",
    ),
    Metric(
        "macro_f1", _CLASSES, "mean F1 of the classes that occur in labels or predictions",
        counts=("f1", "macro"), mean_of="f1", needs=_OCCURS,
        in_training=lambda label: label.kind != ORDINAL,
    ),
    Metric(
        "micro_f1", (MULTILABEL,), "F1 of all decisions together",
        counts=("f1", "micro"), needs=_OCCURS, in_training=True,
    ),
    Metric(
        "weighted_f1", _CLASSES, "mean F1 of the classes, weighted by their examples",
        counts=("f1", "weighted"), needs=_HAS_CLASS,
    ),
    Metric(
        "macro_precision", _CLASSES,
        "mean precision of the classes that occur; 0 for one that is never predicted",
        counts=("precision", "macro"), mean_of="precision", needs=_OCCURS,
    ),
    Metric(
        "macro_recall", (MULTILABEL,), "mean recall of the classes that some example has",
        counts=("recall", "balanced"), mean_of="recall", needs=_HAS_CLASS,
    ),
    Metric(
        "macro_auc", _CLASSES, "mean area under the ROC curve of each class against all others",
        curve="ROC", mean_of="auc", needs=_BOTH,
    ),
    Metric(
        "mean_average_precision", _CLASSES,
        "mean average precision of the classes that some example has",
        curve="PR", mean_of="average_precision", needs=_HAS_CLASS,
        in_training=lambda label: label.kind == MULTILABEL,
    ),
    Metric(
        "log_loss", _CLASSES,
        "mean negative logarithm of the true class's probability, which is clipped at 1.2e-7; for "
        "multilabel the mean binary cross-entropy of the classes",
        higher_is_better=False, per_example=_log_loss, statistic=MEAN,
        in_training=lambda label: label.kind != MULTILABEL,
    ),
    Metric(
        "brier_score", _CLASSES,
        "squared difference of probabilities and one-hot truth, summed over the classes; for "
        "multilabel the mean over the classes",
        higher_is_better=False, per_example=_brier, statistic=MEAN,
    ),
    Metric(
        "precision", _CLASSES, "fraction of the examples predicted as the class that have it",
        counts=("precision", None), statistic=FRACTION, among=(PREDICTED,), is_by_class=True,
        needs="an example that is predicted as the class",
    ),
    Metric(
        "recall", _CLASSES, "fraction of the class's examples that are predicted as it",
        counts=("recall", None), statistic=FRACTION, among=(TRUE,), is_by_class=True,
        needs=_HAS_CLASS,
    ),
    Metric(
        "f1", _CLASSES, "harmonic mean of precision and recall",
        counts=("f1", None), statistic=DICE, among=(EITHER,), is_by_class=True, needs=_OCCURS,
    ),
    Metric(
        "auc", _CLASSES, "area under the ROC curve of the class against all others",
        curve="ROC", among=(TRUE, OTHER), is_by_class=True, needs=_BOTH,
    ),
    Metric(
        "average_precision", _CLASSES, "average precision of the class against all others",
        curve="PR", among=(TRUE,), is_by_class=True, needs=_HAS_CLASS,
    ),
)
# fmt: on
