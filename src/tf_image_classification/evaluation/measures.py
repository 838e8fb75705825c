"""The metrics of a label with 95 % confidence intervals, computed from stored predictions.

    measures = measure(label, predictions.labels[label.name])
    measures.overall["accuracy"]             Interval(value, low, high, count)
    measures.of_classes["cat"]["recall"]

The metrics are those of ``metrics.definitions``. Means over examples and fractions have the
intervals of ``intervals``; all others the percentile bootstrap with 200 resamples, stratified by
class, or a cluster bootstrap where examples are grouped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import (
    FRACTION_BOUNDS,
    MIN_RESAMPLED,
    TOO_FEW,
    TOO_FEW_GROUPS,
    Interval,
    mean_with_interval,
    wilson,
    without_interval,
)
from tf_image_classification.evaluation.predictions import LabelPredictions
from tf_image_classification.labels import Label
from tf_image_classification.metrics.class_metrics import confusion_matrix
from tf_image_classification.metrics.curves import Ranking, mean_area
from tf_image_classification.metrics.definitions import (
    DICE,
    EITHER,
    FRACTION,
    OTHER,
    PREDICTED,
    ROOT,
    TRUE,
    LabelRows,
    Metric,
    metrics_of,
)

Array = npt.NDArray[Any]
_NUM_RESAMPLES = 200
_MAX_RESAMPLED = 500_000
"""Examples times classes; beyond, areas under curves have no interval, which would take minutes."""
_PERCENTILES = (2.5, 97.5)
_ROUNDING = 1e-12
TOO_MANY = "too many to resample"


@dataclasses.dataclass(frozen=True)
class Measures:
    """The metrics of one label.

    Attributes:
        overall: by name.
        of_classes: by class and name; empty for regression.
        confusion: int64 [D, D], rows are true classes; None for multilabel and regression.
    """

    overall: Mapping[str, Interval]
    of_classes: Mapping[str, Mapping[str, Interval]]
    confusion: npt.NDArray[np.int64] | None = None


def measure(label: Label, of_label: LabelPredictions, groups: Array | None = None) -> Measures:
    """All metrics of a label, over its labelled examples.

    Args:
        label: the label.
        of_label: truth and predictions.
        groups: [n], clusters of examples that are resampled together, e.g. people; None: every
            example is its own.
    """
    rows = of_label.labelled()
    if not len(rows.truth):
        return Measures({}, {})
    sample = _Sample(label, rows, None if groups is None else np.asarray(groups)[of_label.mask])
    by_class = {m.name: sample.by_class(m) for m in metrics_of(label, by_class=True)}
    overall = {m.name: sample.overall(m, by_class.get(m.mean_of)) for m in metrics_of(label)}
    of_classes = {
        name: {metric: found.intervals[k] for metric, found in by_class.items()}
        for k, name in enumerate(label.named_classes())
    }
    confusion = None
    if label.is_class:
        confusion = np.asarray(confusion_matrix(rows.truth, rows.predicted, label.depth).result())
    return Measures(overall, of_classes, confusion)


@dataclasses.dataclass(frozen=True)
class _ByClass:
    """Intervals per class, the examples or groups behind each, [D], and its resampled values."""

    intervals: list[Interval]
    units: Array
    resampled: Array | None = None


class _Sample:
    """The labelled examples of one label, for resampling."""

    def __init__(self, label: Label, rows: LabelRows, groups: Array | None) -> None:
        self.label = label
        self.rows = rows
        self.size = len(rows.truth)
        self.groups: Array | None = None
        self.num_units = self.size
        self.too_few = TOO_FEW if groups is None else TOO_FEW_GROUPS
        if groups is not None:
            names, self.groups = np.unique(groups, return_inverse=True)
            self.num_units = len(names)

    def overall(self, metric: Metric, by_class: _ByClass | None) -> Interval:
        """One metric with its interval; ``by_class`` is the metric that it is the mean of."""
        if metric.per_example is not None:
            values = metric.per_example(self.label, self.rows)
            bounds = FRACTION_BOUNDS if metric.statistic == FRACTION else None
            found = mean_with_interval(values, self.groups, bounds=bounds)
            return _root(found) if metric.statistic == ROOT else found
        if metric.curve and by_class is not None:
            value = float(mean_area(np.array([one.value for one in by_class.intervals])))
        else:
            value = float(metric.of(self.label, self.rows).result())
        if self.num_units < MIN_RESAMPLED:
            return without_interval(value, self.size, self.too_few)
        if metric.curve and by_class is not None:
            if by_class.resampled is None:
                return without_interval(value, self.size, TOO_MANY)
            resampled = np.array([mean_area(one) for one in by_class.resampled])
        else:
            resampled = self._resampled(metric)
        units = float(self.num_units)
        if by_class is not None and by_class.units.any():
            # Kish's effective sample size of a mean in which each class has the same weight.
            occurring = by_class.units[by_class.units > 0]
            units = len(occurring) ** 2 / float((1 / occurring).sum())
        return _percentile_interval(
            value, resampled, self.size, units if metric.is_bounded else None
        )

    def by_class(self, metric: Metric) -> _ByClass:
        """One metric for each class, with intervals."""
        values = np.asarray(metric.of(self.label, self.rows).result()).tolist()
        among = self._among()
        units = np.min([self._num_units(among[name]) for name in metric.among], axis=0)
        counts = among[TRUE].sum(axis=0).tolist()  # shown beside each class
        if metric.statistic and self.groups is None:
            of_fraction = [
                _of_fraction(value, n, count, is_dice=metric.statistic == DICE)
                for value, n, count in zip(values, units.tolist(), counts, strict=True)
            ]
            return _ByClass(of_fraction, units)
        if not metric.statistic and self.rows.probabilities.size > _MAX_RESAMPLED:
            plain = [without_interval(*one, TOO_MANY) for one in zip(values, counts, strict=True)]
            return _ByClass(plain, units)
        resampled = self._resampled(metric)
        intervals = [
            _percentile_interval(value, resampled[:, k], counts[k], float(units[k]))
            if units[k] >= MIN_RESAMPLED
            else without_interval(value, counts[k], self.too_few)
            for k, value in enumerate(values)
        ]
        return _ByClass(intervals, units, resampled)

    def _among(self) -> dict[str, Array]:
        """By name in ``definitions``, whether each example is among those of a class, [n, D]."""
        true, predicted = self.rows.is_class(self.label), self.rows.is_predicted(self.label)
        return {TRUE: true, OTHER: ~true, PREDICTED: predicted, EITHER: true | predicted}

    def _num_units(self, which: Array) -> Array:
        """The number of examples, or of groups with one, per class, [D]."""
        if self.groups is None:
            return np.asarray(which.sum(axis=0))
        has = np.zeros([self.num_units, which.shape[1]], bool)
        np.logical_or.at(has, self.groups, which)
        return np.asarray(has.sum(axis=0))

    def _resampled(self, metric: Metric) -> Array:
        """A metric over bootstrap resamples, [resamples] or [resamples, D]."""
        of_weights: Callable[[Array], Any]
        if metric.curve:
            ranking = Ranking(self.rows.is_class(self.label), self.rows.probabilities)
            of_weights = functools.partial(ranking.areas, metric.curve)
        else:

            def of_weights(weights: Array) -> Any:
                return metric.of(self.label, self.rows, weights).result()

        return np.array([of_weights(weights) for weights in self._weights()])

    def _weights(self) -> Iterator[Array]:
        """Times that each example is in a resample, [n]: stratified by class, or by cluster."""
        random = np.random.default_rng(0)
        if self.groups is not None:
            for _ in range(_NUM_RESAMPLES):
                chosen = random.integers(0, self.num_units, self.num_units)
                of_groups = np.bincount(chosen, minlength=self.num_units)
                yield of_groups[self.groups].astype(np.float64)
            return
        strata = self.rows.truth if self.label.is_class else np.zeros(self.size, int)
        order = np.argsort(strata, kind="stable")
        _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
        start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        for _ in range(_NUM_RESAMPLES):
            chosen = order[start + (random.random(self.size) * size).astype(int)]
            yield np.bincount(chosen, minlength=self.size).astype(np.float64)


def _root(interval: Interval) -> Interval:
    value, low, high = np.sqrt([interval.value, interval.low, interval.high]).tolist()
    return dataclasses.replace(interval, value=value, low=low, high=high)


def _of_fraction(value: float, units: int, count: int, *, is_dice: bool) -> Interval:
    """Wilson's interval; for F1 that of the fraction behind it."""
    if not units or np.isnan(value):
        return Interval(value, np.nan, np.nan, count)
    if not is_dice:
        return Interval(value, *wilson(value, units), count)
    low, high = (2 * end / (1 + end) for end in wilson(value / (2 - value), units))
    return Interval(value, low, high, count)


def _percentile_interval(
    value: float, resampled: Array, count: int, units: float | None
) -> Interval:
    """The percentile interval of resampled values.

    Args:
        value: over all examples.
        resampled: over each resample, [resamples]; NaN where it is not defined.
        count: examples, to be shown.
        units: examples behind a number in 0..1: where all resamples are equal, the interval is
            Wilson's for so many. None for other numbers.
    """
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(value) or len(defined) < _NUM_RESAMPLES / 2:
        return without_interval(value, count)
    if units is not None and np.ptp(defined) < _ROUNDING:
        return Interval(value, *wilson(min(max(value, 0.0), 1.0), units), count)
    low, high = np.percentile(defined, _PERCENTILES).tolist()
    return Interval(value, low, high, count)
