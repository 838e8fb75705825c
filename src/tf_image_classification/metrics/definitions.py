"""The table of metrics: every number that is worked out from one label's predictions.

Trainings, ``tfic evaluate``, reports, ``best_metric`` and the docs take names, directions and
formulas from here, so that a name stands for one number wherever it is shown.

    for metric in metrics_of(label):
        print(metric.name, metric.of(label, rows).result())
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import (
    MULTILABEL,
    ORDINAL,
    REGRESSION,
    SINGLE_LABEL,
    THRESHOLDS,
)
from tf_image_classification.metrics import class_metrics, several_metrics
from tf_image_classification.metrics.curves import Ranking, areas
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import Array, ratio, size, total

FRACTION, MEAN, ROOT, DICE = "fraction", "mean", "root of a mean", "Dice"
"""What a metric is of examples: a fraction of them, the mean of a number each, the root of such, or
2 J / (1 + J) of a fraction J, which F1 is of the examples on either side that are on both."""

TRUE, OTHER, PREDICTED, EITHER = "true", "other", "predicted", "either"
"""Examples that a number of a class is of: that have it, have not, are given it, or one of both."""

_ONE_OF, _WITH_CLASSES = (SINGLE_LABEL, ORDINAL), (SINGLE_LABEL, ORDINAL, MULTILABEL)


@dataclasses.dataclass(frozen=True)
class LabelRows:
    """What metrics see of one label: the examples whose label is known.

    Attributes:
        truth: class numbers [n], values [n], or 0 and 1 [n, D].
        predicted: like ``truth``.
        probabilities: [n, D]; [n, 0] of a real value.
    """

    truth: Array
    predicted: Array
    probabilities: Array

    def is_class(self, label: Label) -> Array:
        """Whether each example has each class, bool [n, D]."""
        if label.kind == MULTILABEL:
            return self.truth.astype(bool)
        return np.asarray(self.truth[:, None] == np.arange(label.depth))

    @property
    def is_right(self) -> Array:
        """Where truth and prediction are the same; of several classes all of them, bool [n]."""
        same = self.truth == self.predicted
        return np.asarray(same.all(axis=1) if same.ndim == 2 else same, bool)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number, or one number for each class.

    Attributes:
        name: the same in every file, table and chart.
        kinds: kinds of label that have it.
        summary: what it is, for the docs.
        is_higher_better: None where neither is, as for a bias.
        each: label and rows to the numbers [n] that the metric is the mean of; None where it is no
            such mean.
        is_over: ``FRACTION``, ``MEAN`` or ``ROOT`` of ``each``; ``FRACTION`` or ``DICE`` of
            ``among``; "" of anything else.
        among: of a number by class, the examples that decide it, whichever are fewer.
        whole: label, rows and weights [n] or None to the metric, where ``each`` is None.
        redraw: label and rows to a function of weights that gives what ``whole`` would, sooner.
        mean_of: the metric by class that it is a mean of.
        is_bounded: whether what is no mean lies between 0 and 1.
        is_by_class: whether it is an array with a number for each class.
        in_training: whether evaluations during a training have it unasked.
        needs: what the evaluation examples must hold besides a known label, for messages and docs.
        applies: which labels of these kinds have it.
    """

    name: str
    kinds: tuple[str, ...]
    summary: str
    is_higher_better: bool | None = True
    each: Callable[[Label, LabelRows], Array] | None = None
    is_over: str = ""
    among: tuple[str, ...] = ()
    whole: Callable[[Label, LabelRows, Array | None], StreamingMetric] | None = None
    redraw: Callable[[Label, LabelRows], Callable[[Array], Any]] | None = None
    mean_of: str = ""
    is_bounded: bool = True
    is_by_class: bool = False
    in_training: bool | Callable[[Label], bool] = False
    needs: str = ""
    applies: Callable[[Label], bool] = lambda label: True

    def of(self, label: Label, rows: LabelRows, weights: Array | None = None) -> StreamingMetric:
        """The metric over some examples, mergeable with those of others.

        Args:
            label: the label.
            rows: its examples.
            weights: [n], 0 or more, or None.
        """
        if self.whole is not None:
            return self.whole(label, rows, weights)
        assert self.each is not None
        values = self.each(label, rows)
        sums = {"total": total(weights, values), "count": size(weights, len(values))}
        compute = _root if self.is_over == ROOT else _mean
        return StreamingMetric(sums, compute, f"{self.name} of {label.kind}")

    def is_trained(self, label: Label) -> bool:
        """Whether evaluations during a training have it unasked."""
        return self.in_training(label) if callable(self.in_training) else self.in_training


def metrics_of(label: Label, *, by_class: bool = False) -> list[Metric]:
    """The metrics that a label has, in the order of the table.

    Args:
        label: the label.
        by_class: those with a number for each class instead of one number.
    """
    return [
        metric
        for metric in METRICS
        if label.kind in metric.kinds and metric.is_by_class == by_class and metric.applies(label)
    ]


def find_metric(name: str) -> Metric | None:
    """The metric of this name, a label's name before a slash aside; None if the table has none."""
    bare = name.rpartition("/")[2]
    return next((metric for metric in METRICS if metric.name == bare), None)


# --- what a metric is the mean of ---------------------------------------------------------------


def _is_right(label: Label, rows: LabelRows) -> Array:
    return rows.is_right


def _is_in_top_5(label: Label, rows: LabelRows) -> Array:
    return class_metrics.is_in_top(rows.truth, rows.probabilities, 5)


def _log_loss(label: Label, rows: LabelRows) -> Array:
    if label.kind == MULTILABEL:
        return several_metrics.negative_logs_of_decisions(rows.truth, rows.probabilities)
    return class_metrics.negative_logs(rows.truth, rows.probabilities)


def _brier(label: Label, rows: LabelRows) -> Array:
    squares = np.square(rows.probabilities.astype(np.float64) - rows.is_class(label))
    return np.asarray(squares.mean(axis=1) if label.kind == MULTILABEL else squares.sum(axis=1))


def _error(label: Label, rows: LabelRows) -> Array:
    return rows.predicted.astype(np.float64) - rows.truth.astype(np.float64)


def _absolute_error(label: Label, rows: LabelRows) -> Array:
    return np.abs(_error(label, rows))


def _squared_error(label: Label, rows: LabelRows) -> Array:
    return np.square(_error(label, rows))


def _error_of_expected(label: Label, rows: LabelRows) -> Array:
    expected = rows.probabilities.astype(np.float64) @ np.arange(label.depth)
    return np.abs(expected - rows.truth)


def _mean(sums: Sums) -> Any:
    return ratio(sums["total"], sums["count"])


def _root(sums: Sums) -> Any:
    return np.sqrt(_mean(sums))


# --- what is no mean over examples --------------------------------------------------------------


def _of_counts(metric: str, average: str | None) -> dict[str, Any]:
    """``whole`` and ``redraw`` of precision, recall or F1; ``average`` as ``of_decisions``."""

    def whole(label: Label, rows: LabelRows, weights: Array | None) -> StreamingMetric:
        pair = rows.truth, rows.predicted
        if label.kind == MULTILABEL:
            return several_metrics.of_decisions(metric, average, *pair, weights)
        if average == "balanced":
            return class_metrics.mean_per_class_accuracy(*pair, label.depth, weights)
        function = getattr(class_metrics, metric)
        found = function(*pair, weights, num_classes=label.depth, average=average)
        assert isinstance(found, StreamingMetric)
        return found

    def redraw(label: Label, rows: LabelRows) -> Callable[[Array], Any]:
        compute = whole(label, rows, None).compute
        if label.kind == MULTILABEL:
            true, predicted = rows.truth.astype(float), rows.predicted.astype(float)
            both = true * predicted
            return lambda w: compute(
                {"hits": w @ both, "labelled": w @ true, "predicted": w @ predicted}
            )
        right, depth = rows.is_right, label.depth
        return lambda w: compute(
            {
                "hits": np.bincount(rows.truth[right], w[right], depth),
                "labelled": np.bincount(rows.truth, w, depth),
                "predicted": np.bincount(rows.predicted, w, depth),
            }
        )

    return {"whole": whole, "redraw": redraw}


def _of_curve(name: str, curve: str) -> dict[str, Any]:
    """``whole`` and ``redraw`` of an area by class."""

    def redraw(label: Label, rows: LabelRows) -> Callable[[Array], Any]:
        ranking = Ranking(rows.is_class(label), rows.probabilities)
        return functools.partial(ranking.areas, curve)

    return {"whole": _areas(name, curve, average=False), "redraw": redraw}


def _areas(name: str, curve: str, *, average: bool) -> Any:
    def whole(label: Label, rows: LabelRows, weights: Array | None) -> StreamingMetric:
        scores = rows.is_class(label), rows.probabilities
        return areas(name, *scores, weights, curve=curve, average=average)

    return whole


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
    """The fraction of ordinal labels that are off by so many classes at most."""

    def is_asked(label: Label) -> bool:
        return distance == 1 or (distance == 5 and label.depth > 10)

    return Metric(
        f"within_{distance}",
        (ORDINAL,),
        f"fraction of examples whose predicted class is at most {distance} from the true one "
        f"(CS@{distance})",
        each=lambda label, rows: np.abs(rows.predicted - rows.truth) <= distance,
        is_over=FRACTION,
        in_training=is_asked,
        applies=lambda label: label.depth > distance + 1,
    )


# --- the table ----------------------------------------------------------------------------------

_BOTH = "an example that has a class, and one that has not"

METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy",
        _ONE_OF,
        "fraction of examples whose class is predicted",
        each=_is_right,
        is_over=FRACTION,
        in_training=True,
    ),
    Metric(
        "exact_match",
        (MULTILABEL,),
        "fraction of examples all of whose classes are predicted right",
        each=_is_right,
        is_over=FRACTION,
        in_training=True,
    ),
    Metric(
        "balanced_accuracy",
        _ONE_OF,
        "mean recall of the classes that some example has",
        **_of_counts("recall", "balanced"),
        mean_of="recall",
    ),
    Metric(
        "top_5_accuracy",
        _ONE_OF,
        "fraction of examples whose class is among the five most probable, of more than 5 classes",
        each=_is_in_top_5,
        is_over=FRACTION,
        in_training=lambda label: label.kind == SINGLE_LABEL,
        applies=lambda label: label.depth > 5,
    ),
    Metric(
        "mean_absolute_error",
        (ORDINAL, REGRESSION),
        "mean distance of the predicted class or value from the true one",
        is_higher_better=False,
        each=_absolute_error,
        is_over=MEAN,
        in_training=True,
    ),
    Metric(
        "mean_absolute_error_of_expected",
        (ORDINAL,),
        "the same of the distribution's mean, for codings that predict one",
        is_higher_better=False,
        each=_error_of_expected,
        is_over=MEAN,
        in_training=True,
        applies=lambda label: label.coding != THRESHOLDS,
    ),
    Metric(
        "root_mean_squared_error",
        (ORDINAL, REGRESSION),
        "root of the mean squared distance",
        is_higher_better=False,
        each=_squared_error,
        is_over=ROOT,
        in_training=lambda label: label.kind == REGRESSION,
    ),
    *map(_within, (1, 2, 5)),
    Metric(
        "bias",
        (REGRESSION,),
        "mean of predicted less true value",
        is_higher_better=None,
        each=_error,
        is_over=MEAN,
    ),
    Metric(
        "r2",
        (REGRESSION,),
        "coefficient of determination",
        whole=_r2,
        is_bounded=False,
        needs="two different values",
    ),
    Metric(
        "macro_f1",
        _WITH_CLASSES,
        "mean F1 of the classes that occur in truth or predictions",
        **_of_counts("f1", "macro"),
        mean_of="f1",
        in_training=lambda label: label.kind != ORDINAL,
        needs="an example that has a class or is given one",
    ),
    Metric(
        "micro_f1",
        (MULTILABEL,),
        "F1 of all decisions together",
        **_of_counts("f1", "micro"),
        in_training=True,
        needs="an example that has a class or is given one",
    ),
    Metric(
        "weighted_f1",
        _WITH_CLASSES,
        "mean F1 of the classes, weighted by their examples",
        **_of_counts("f1", "weighted"),
        needs="an example that has a class",
    ),
    Metric(
        "macro_precision",
        _WITH_CLASSES,
        "mean precision of the classes that occur; 0 for one that is never predicted",
        **_of_counts("precision", "macro"),
        mean_of="precision",
        needs="an example that has a class or is given one",
    ),
    Metric(
        "macro_recall",
        (MULTILABEL,),
        "mean recall of the classes that some example has",
        **_of_counts("recall", "balanced"),
        mean_of="recall",
        needs="an example that has a class",
    ),
    Metric(
        "macro_auc",
        _WITH_CLASSES,
        "mean area under the ROC curve of each class against all others",
        whole=_areas("macro_auc", "ROC", average=True),
        mean_of="auc",
        needs=_BOTH,
    ),
    Metric(
        "mean_average_precision",
        _WITH_CLASSES,
        "mean average precision of the classes that some example has",
        whole=_areas("mean_average_precision", "PR", average=True),
        mean_of="average_precision",
        in_training=lambda label: label.kind == MULTILABEL,
        needs="an example that has a class",
    ),
    Metric(
        "log_loss",
        _WITH_CLASSES,
        "mean negative logarithm of the true class's probability, at least 1.2e-7; of several "
        "classes the mean over the decisions",
        is_higher_better=False,
        each=_log_loss,
        is_over=MEAN,
        in_training=lambda label: label.kind != MULTILABEL,
    ),
    Metric(
        "brier_score",
        _WITH_CLASSES,
        "squared distance of the probabilities from the truth, summed over the classes; of several "
        "classes the mean",
        is_higher_better=False,
        each=_brier,
        is_over=MEAN,
    ),
    Metric(
        "precision",
        _WITH_CLASSES,
        "fraction of the examples predicted as the class that have it",
        **_of_counts("precision", None),
        is_over=FRACTION,
        among=(PREDICTED,),
        is_by_class=True,
        needs="an example that is predicted as the class",
    ),
    Metric(
        "recall",
        _WITH_CLASSES,
        "fraction of the class's examples that are predicted as it",
        **_of_counts("recall", None),
        is_over=FRACTION,
        among=(TRUE,),
        is_by_class=True,
        needs="an example of the class",
    ),
    Metric(
        "f1",
        _WITH_CLASSES,
        "harmonic mean of precision and recall",
        **_of_counts("f1", None),
        is_over=DICE,
        among=(EITHER,),
        is_by_class=True,
        needs="an example that has the class or is predicted as it",
    ),
    Metric(
        "auc",
        _WITH_CLASSES,
        "area under the ROC curve of the class against all others",
        **_of_curve("auc", "ROC"),
        among=(TRUE, OTHER),
        is_by_class=True,
        needs=_BOTH,
    ),
    Metric(
        "average_precision",
        _WITH_CLASSES,
        "average precision of the class against all others",
        **_of_curve("average_precision", "PR"),
        among=(TRUE,),
        is_by_class=True,
        needs="an example of the class",
    ),
)
