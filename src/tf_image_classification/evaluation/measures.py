"""How good a model is, each number with its 95 % interval, from kept predictions alone.

    measures = measure(label, predictions.labels[label.name])
    measures.overall["accuracy"]        Interval(value, low, high, count)
    measures.of_classes["cat"]["recall"]

The numbers are those of ``metrics.definitions``. A mean over examples, and every fraction of a
class, has the interval of ``intervals``; all others the percentile bootstrap over 200 draws, within
each class, or of whole groups where there are some.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import (
    FEWEST_TO_DRAW,
    SHARE,
    TOO_FEW,
    TOO_FEW_GROUPS,
    Interval,
    mean_with_interval,
    wilson,
    without_interval,
)
from tf_image_classification.evaluation.predictions import OfLabel
from tf_image_classification.labels import Label
from tf_image_classification.metrics.curves import mean_area
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
_NUM_DRAWS = 200
_MOST_TO_DRAW = 500_000
"""Examples times classes; beyond, areas under curves have no interval: it would take long."""
_ENDS = (2.5, 97.5)
_ROUNDING = 1e-12
TOO_MANY = "too many to draw"


@dataclasses.dataclass(frozen=True)
class Measures:
    """The numbers of one label.

    Attributes:
        overall: by name.
        of_classes: by class and name; empty of a real value.
        confusion: int64 [D, D], rows are true classes; None where an example has no one class.
    """

    overall: Mapping[str, Interval]
    of_classes: Mapping[str, Mapping[str, Interval]]
    confusion: npt.NDArray[np.int64] | None = None


def measure(label: Label, of_label: OfLabel, groups: Array | None = None) -> Measures:
    """All numbers of a label, over the examples whose label is known.

    Args:
        label: the label.
        of_label: truth and predictions.
        groups: [n], whose examples are drawn together, such as people; None: each by itself.
    """
    known = of_label.known
    found = of_label.rows(known)
    if not len(found.truth):
        return Measures({}, {})
    sample = _Sample(
        label,
        found.seen,
        None if groups is None else np.asarray(groups)[known],
    )
    by_class = {m.name: sample.by_class(m) for m in metrics_of(label, by_class=True)}
    overall = {m.name: sample.overall(m, by_class.get(m.mean_of)) for m in metrics_of(label)}
    of_classes = {
        name: {metric: found.intervals[k] for metric, found in by_class.items()}
        for k, name in enumerate(label.named_classes())
    }
    confusion = None
    if label.is_class:
        places = found.truth * label.depth + found.predicted
        confusion = np.bincount(places, minlength=label.depth**2).reshape([label.depth] * 2)
    return Measures(overall, of_classes, confusion)


@dataclasses.dataclass(frozen=True)
class _ByClass:
    """A number by class: its intervals, the examples or groups behind each, [D], and its draws."""

    intervals: list[Interval]
    units: Array
    draws: Array | None = None


class _Sample:
    """The known examples of one label, which can be drawn again and again."""

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
        """One number with its interval; ``by_class`` is what it is a mean of, if it is."""
        if metric.each is not None:
            values = metric.each(self.label, self.rows)
            bounds = SHARE if metric.is_over == FRACTION else None
            found = mean_with_interval(values, self.groups, bounds=bounds)
            return _root(found) if metric.is_over == ROOT else found
        if metric.redraw is None and by_class is not None:
            value = float(mean_area(np.array([one.value for one in by_class.intervals])))
        else:
            value = float(metric.of(self.label, self.rows).result())
        if self.num_units < FEWEST_TO_DRAW:
            return without_interval(value, self.size, self.too_few)
        if metric.redraw is None and by_class is not None:
            if by_class.draws is None:
                return without_interval(value, self.size, TOO_MANY)
            drawn = np.array([mean_area(one) for one in by_class.draws])
        else:
            drawn = self._drawn(metric)
        units = float(self.num_units)
        if by_class is not None and by_class.units.any():
            # Kish's effective number of examples where each class weighs the same.
            present = by_class.units[by_class.units > 0]
            units = len(present) ** 2 / float((1 / present).sum())
        return _between(value, drawn, self.size, units if metric.is_bounded else None)

    def by_class(self, metric: Metric) -> _ByClass:
        """A number for each class with its interval."""
        values = np.asarray(metric.of(self.label, self.rows).result()).tolist()
        among = self._among()
        units = np.min([self._num_units(among[name]) for name in metric.among], axis=0)
        counts = among[TRUE].sum(axis=0).tolist()  # shown beside each class
        if metric.is_over and self.groups is None:
            of_fraction = [
                _of_fraction(value, n, count, is_dice=metric.is_over == DICE)
                for value, n, count in zip(values, units.tolist(), counts, strict=True)
            ]
            return _ByClass(of_fraction, units)
        if not metric.is_over and self.rows.probabilities.size > _MOST_TO_DRAW:
            plain = [without_interval(*one, TOO_MANY) for one in zip(values, counts, strict=True)]
            return _ByClass(plain, units)
        drawn = self._drawn(metric)
        intervals = [
            _between(value, drawn[:, k], counts[k], float(units[k]))
            if units[k] >= FEWEST_TO_DRAW
            else without_interval(value, counts[k], self.too_few)
            for k, value in enumerate(values)
        ]
        return _ByClass(intervals, units, drawn)

    def _among(self) -> dict[str, Array]:
        """By name of ``definitions``, which examples they are for each class, bool [n, D]."""
        turned = dataclasses.replace(self.rows, truth=self.rows.predicted)
        true, predicted = (rows.is_class(self.label) for rows in (self.rows, turned))
        return {TRUE: true, OTHER: ~true, PREDICTED: predicted, EITHER: true | predicted}

    def _num_units(self, which: Array) -> Array:
        """How many examples, or groups with one, each class has, [D]."""
        if self.groups is None:
            return np.asarray(which.sum(axis=0))
        has = np.zeros([self.num_units, which.shape[1]], bool)
        np.logical_or.at(has, self.groups, which)
        return np.asarray(has.sum(axis=0))

    def _drawn(self, metric: Metric) -> Array:
        """A metric over draws with replacement, [draws] or [draws, D]."""
        if metric.redraw is not None:
            redrawn = metric.redraw(self.label, self.rows)
        else:

            def redrawn(weights: Array) -> Any:
                return metric.of(self.label, self.rows, weights).result()

        return np.array([redrawn(weights) for weights in self._weights()])

    def _weights(self) -> Iterator[Array]:
        """How often each example is drawn, [n]: within its class, or with its group."""
        random = np.random.default_rng(0)
        if self.groups is not None:
            for _ in range(_NUM_DRAWS):
                drawn = random.integers(0, self.num_units, self.num_units)
                of_groups = np.bincount(drawn, minlength=self.num_units)
                yield of_groups[self.groups].astype(np.float64)
            return
        strata = self.rows.truth if self.label.is_class else np.zeros(self.size, int)
        order = np.argsort(strata, kind="stable")
        _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
        start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        for _ in range(_NUM_DRAWS):
            drawn = order[start + (random.random(self.size) * size).astype(int)]
            yield np.bincount(drawn, minlength=self.size).astype(np.float64)


def _root(interval: Interval) -> Interval:
    value, low, high = np.sqrt([interval.value, interval.low, interval.high]).tolist()
    return dataclasses.replace(interval, value=value, low=low, high=high)


def _of_fraction(value: float, units: int, count: int, *, is_dice: bool) -> Interval:
    """Wilson's interval; of F1 that of the fraction behind it."""
    if not units or np.isnan(value):
        return Interval(value, np.nan, np.nan, count)
    if not is_dice:
        return Interval(value, *wilson(value, units), count)
    low, high = (2 * end / (1 + end) for end in wilson(value / (2 - value), units))
    return Interval(value, low, high, count)


def _between(value: float, drawn: Array, count: int, units: float | None) -> Interval:
    """The percentile interval of what was drawn.

    Args:
        value: over all examples.
        drawn: over each draw, [draws]; NaN where a draw did not give it.
        count: examples, to be shown.
        units: examples behind the number, if it lies between 0 and 1: Wilson's interval of so many
            is given where all draws are the same.
    """
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or len(known) < _NUM_DRAWS / 2:
        return without_interval(value, count)
    if units is not None and np.ptp(known) < _ROUNDING:
        return Interval(value, *wilson(min(max(value, 0.0), 1.0), units), count)
    low, high = np.percentile(known, _ENDS).tolist()
    return Interval(value, low, high, count)
