"""Intervals for paired differences of means and of other metrics.

low, high, note = mean_difference(losses_of_b - losses_of_a, people, largest=1.0)
low, high, note = metric_difference(label, metric, rows_of_a, rows_of_b, people)

The ends are those of one-sided intervals of level ``ALPHA`` each, in the metric's own direction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import counted
from tf_image_classification.evaluation.intervals import MIN_RESAMPLED
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.curves import Ranking, mean_area
from tf_image_classification.metrics.definitions import LabelRows, Metric

Array = npt.NDArray[Any]

ALPHA = 0.05
"""Error of each one-sided test; both together are a 90 % interval."""

_NUM_RESAMPLES = 2_000
_NUM_OF_METRIC, _NUM_OF_MANY = 1_000, 200
"""Resamples of a metric that is computed anew for each; the fewer for more than ``_MANY`` scores,
of which areas under curves would take minutes."""

_MANY = 500_000
_NUMBERS_AT_ONCE = 10_000_000
_UNSEEN = 2.0
"""Mean number of unseen changes of each direction that are added to a resample. With two, the
5 % quantile of a sample without a change is three changes: the rule of three."""


class Ends(NamedTuple):
    """The ends of an interval; NaN with the reason in ``note``."""

    low: float
    high: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class _Units:
    """What is resampled: examples, or groups of them.

    Attributes:
        places: [n], the unit of each example.
        counts: examples of each unit.
        noun: for messages.
    """

    places: Array
    counts: Array
    noun: str

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def too_few(self) -> str:
        """Why there is no interval, or ""."""
        if len(self) >= MIN_RESAMPLED:
            return ""
        return f"{counted(len(self), self.noun)}, at least {MIN_RESAMPLED} are needed"


def _units(groups: Array | None, count: int) -> _Units:
    if groups is None:
        return _Units(np.arange(count), np.ones(count), "example")
    _, places = np.unique(groups, return_inverse=True)
    return _Units(places, np.bincount(places).astype(np.float64), "group")


def mean_difference(
    differences: Array, groups: Array | None, *, largest: float, seed: int = 0
) -> Ends:
    """The interval of a mean of paired differences.

    The bootstrap-t interval (Efron and Tibshirani, 1993, chapter 12.5) with 2,000 resamples of
    examples or groups. Where fewer than 10 of them change, each end is the upper bound of the
    fraction that changes (Clopper and Pearson, 1934) times the largest change.

    Args:
        differences: [n], one per example.
        groups: [n], clusters of examples; None: every example is its own.
        largest: change of one example that is not exceeded.
        seed: of the resampling.
    """
    units = _units(groups, len(differences))
    if units.too_few:
        return Ends(np.nan, np.nan, units.too_few)
    sums = np.bincount(units.places, differences, len(units))
    if np.count_nonzero(sums) < MIN_RESAMPLED:
        return _of_few_changes(sums, units, largest)
    mean, deviation = (float(one) for one in _mean_and_deviation(sums, units.counts, None))
    if deviation == 0:
        return Ends(mean, mean)
    scores = []
    random = np.random.default_rng(seed)
    fractions = np.full(len(units), 1 / len(units))
    at_once = max(1, _NUMBERS_AT_ONCE // len(units))
    for start in range(0, _NUM_RESAMPLES, at_once):
        size = min(at_once, _NUM_RESAMPLES - start)
        times = random.multinomial(len(units), fractions, size).astype(np.float64)
        means, deviations = _mean_and_deviation(sums, units.counts, times)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores.append((means - mean) / deviations)
    low, high = np.quantile(np.nan_to_num(np.concatenate(scores)), [ALPHA, 1 - ALPHA]).tolist()
    return Ends(mean - high * deviation, mean - low * deviation)


def _mean_and_deviation(sums: Array, counts: Array, times: Array | None) -> tuple[Array, Array]:
    """The ratio of two sums over units and its standard error, of a sample or of resamples."""
    weights = np.ones([1, len(sums)]) if times is None else times
    total = weights @ counts
    mean = weights @ sums / total
    squares = (
        weights @ sums**2 - 2 * mean * (weights @ (sums * counts)) + mean**2 * (weights @ counts**2)
    )
    scale = len(sums) / (len(sums) - 1)
    deviation = np.sqrt(np.maximum(squares, 0.0) * scale) / total
    deviation[deviation < 1e-12 * np.abs(sums).max()] = 0.0
    return (mean[0], deviation[0]) if times is None else (mean, deviation)


def _of_few_changes(sums: Array, units: _Units, largest: float) -> Ends:
    """Bounds for a mean to which few units contribute."""
    from scipy import special  # late: it takes half a second

    def bound(changed: int) -> float:
        if changed == len(units):
            return 1.0
        return float(special.betaincinv(changed + 1, len(units) - changed, 1 - ALPHA))

    factor = largest * float(units.counts.max() / units.counts.mean())
    fewer, more = int((sums < 0).sum()), int((sums > 0).sum())
    return Ends(-bound(fewer) * factor, bound(more) * factor)


def metric_difference(
    label: Label,
    metric: Metric,
    a: LabelRows,
    b: LabelRows,
    groups: Array | None,
    *,
    seed: int = 0,
) -> Ends:
    """The interval of the difference of any metric, by a paired bootstrap.

    1,000 resamples (200 of more than 500,000 scores), stratified by class, or of groups; both
    models have the same in each. The percentiles are those of Student's distribution (Hesterberg,
    arXiv 1411.5279), for a mean over classes with the number of examples of the rarest one.
    Changes that the sample does not show are added, see ``_UNSEEN``: without them no flip in 20
    examples would prove that the models are equal. Groups get them where fewer than 10 change.

    Args:
        label: the label.
        metric: one number.
        a: truth and predictions of the first model.
        b: those of the second.
        groups: [n], clusters of examples; None: every example is its own.
        seed: of the resampling.
    """
    from scipy import stats  # late, as above

    count = len(a.truth)
    units = _units(groups, count)
    if units.too_few:
        return Ends(np.nan, np.nan, units.too_few)
    is_changed = _differs(a, b)
    num_changed = len(np.unique(units.places[is_changed]))
    has_unseen = num_changed < MIN_RESAMPLED or (metric.is_bounded and groups is None)
    of_a, of_b = _values_of(label, metric, a, b, has_unseen=has_unseen)
    number = _NUM_OF_METRIC if a.probabilities.size <= _MANY else _NUM_OF_MANY
    random = np.random.default_rng(seed)
    weights = _resamples(label, a, units, random, number, has_unseen=has_unseen)
    found = np.array([of_b(each) - of_a(each) for each in weights], np.float64)
    found = found[np.isfinite(found)]
    if len(found) < number / 2:
        return Ends(np.nan, np.nan, f"{metric.name} is undefined in most resamples")
    parts = [np.ones(count), *([np.zeros(2 * count)] if has_unseen else [])]
    value = of_b(np.concatenate(parts)) - of_a(np.concatenate(parts))
    size = len(units)
    if metric.mean_of and label.is_class and groups is None:  # the rarest class decides
        counts = np.bincount(a.truth)
        size = max(MIN_RESAMPLED, int(counts[counts > 0].min()))
    level = stats.norm.sf(np.sqrt(size / (size - 1)) * stats.t.isf(ALPHA, size - 1))
    low, high = (np.quantile(found, [level, 1 - level]) - found.mean()).tolist()
    return Ends(float(value + low), float(value + high))


def _differs(a: LabelRows, b: LabelRows) -> npt.NDArray[np.bool_]:
    """Whether the predictions of each example differ, [n]."""
    differs = (a.predicted != b.predicted).reshape(len(a.truth), -1).any(axis=1)
    return np.asarray(differs | (a.probabilities != b.probabilities).any(axis=1))


_Value = Callable[[Array], float]


def _values_of(
    label: Label, metric: Metric, a: LabelRows, b: LabelRows, *, has_unseen: bool
) -> tuple[_Value, _Value]:
    """Weights to the metric of each model.

    With unseen changes the weights are [3 n]: of the examples, of those that only the second model
    loses, and of those that only the first one loses.
    """
    if not has_unseen:
        return _value_of(label, metric, a), _value_of(label, metric, b)
    largest = _largest_error(a, b)
    return (
        _value_of(label, metric, _joined(a, a, _spoiled(label, a, largest))),
        _value_of(label, metric, _joined(b, _spoiled(label, b, largest), b)),
    )


def _value_of(label: Label, metric: Metric, rows: LabelRows) -> _Value:
    if metric.curve:
        ranking = Ranking(rows.is_class(label), rows.probabilities)
        return lambda weights: float(mean_area(ranking.areas(metric.curve, weights)))
    return lambda weights: float(metric.of(label, rows, weights).result())


def _resamples(
    label: Label,
    rows: LabelRows,
    units: _Units,
    random: np.random.Generator,
    number: int,
    *,
    has_unseen: bool,
) -> Iterator[Array]:
    """Times that each example is in a resample, [n] or with unseen changes [3 n]."""
    size = len(rows.truth)
    is_by_class = label.is_class and len(units) == size
    strata = rows.truth if is_by_class else np.zeros(len(units), int)
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start, length = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    # The loss of an example of a rare class moves a mean over classes more.
    of_class = np.empty(len(units))
    of_class[order] = 1 / (length * len(sizes))
    for _ in range(number):
        chosen = order[start + (random.random(len(units)) * length).astype(int)]
        times = [np.bincount(chosen, minlength=len(units))]
        for _ in range(2 * has_unseen):
            unseen = random.choice(len(units), random.poisson(_UNSEEN), p=of_class)
            times.append(np.bincount(unseen, minlength=len(units)))
        yield np.concatenate([each[units.places] for each in times]).astype(np.float64)


def _largest_error(a: LabelRows, b: LabelRows) -> float:
    return float(max(np.abs(each.predicted - each.truth).max() for each in (a, b)))


def _spoiled(label: Label, rows: LabelRows, largest: float) -> LabelRows:
    """The rows with predictions that are as wrong as can be.

    For regression, that is the largest error of either model.
    """
    truth = rows.truth
    if not label.has_classes:
        direction = np.where(rows.predicted < truth, -1.0, 1.0)
        return LabelRows(truth, truth + largest * direction, rows.probabilities)
    if label.kind == MULTILABEL:
        return LabelRows(truth, 1 - truth, 1.0 - truth)
    others = rows.probabilities.copy()
    others[np.arange(len(truth)), truth] = -1.0
    wrong = others.argmax(axis=1)
    return LabelRows(truth, wrong, np.eye(label.depth)[wrong])


def _joined(*parts: LabelRows) -> LabelRows:
    fields = ("truth", "predicted", "probabilities")
    return LabelRows(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))
