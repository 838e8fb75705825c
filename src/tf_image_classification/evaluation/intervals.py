"""Means over examples with 95 % confidence intervals.

mean_with_interval(errors, groups=people)             cluster bootstrap
mean_with_interval(is_right, bounds=FRACTION_BOUNDS)  an accuracy: Wilson's interval
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
FRACTION_BOUNDS = (0.0, 1.0)
"""Range of a fraction, e.g. an accuracy."""

DIFFERENCE_BOUNDS = (-1.0, 1.0)
"""Range of a difference of two fractions."""

MIN_RESAMPLED = 10
"""Examples, or groups, below which there is no bootstrap. The percentile interval of a mean is
narrower than Student's, by 18 % with 10 examples and 37 % with 5 (Hesterberg, arXiv 1411.5279)."""

OF_FOLDS = 1.25
"""How many times wider an interval of pooled predictions of a cross-validation is. Its folds share
training examples, and no unbiased estimate of the variance exists (Bengio and Grandvalet, JMLR 5,
2004). The factor is the smallest of a few round ones whose intervals hold the mean accuracy of the
fold models in at least 93 % of simulated sets: ``benchmarks/cross_validation_intervals.py``."""

DIFFERENCE_OF_FOLDS = 1.4
"""The same for the paired difference of two cross-validations."""

TOO_FEW, TOO_FEW_GROUPS = "too few examples", "too few groups"
_NUM_RESAMPLES = 2_000
_NUMBERS_AT_ONCE = 10_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with its confidence interval.

    Attributes:
        value: the number; NaN where it is not defined.
        low: lower end of the interval; NaN without an interval.
        high: upper end.
        count: number of examples.
        note: the reason why there is no interval, or "".

    Example:
        >>> print(Interval(0.75, 0.6, 0.85, 40))
        0.750 [0.600, 0.850]
    """

    value: float
    low: float
    high: float
    count: int
    note: str = ""

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not known"
        if np.isnan(self.low):
            return f"{self.value:.3f} ({self.note or 'no interval'})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def without_interval(value: float, count: int, note: str = TOO_FEW) -> Interval:
    """A number that has no interval, for the reason in ``note``."""
    return Interval(value, np.nan, np.nan, count, "" if np.isnan(value) else note)


def of_folds(
    interval: Interval,
    num_folds: int,
    bounds: tuple[float, float] | None = None,
    factor: float = OF_FOLDS,
) -> Interval:
    """The interval of a cross-validation, from that of its pooled predictions; see ``OF_FOLDS``.

    Args:
        interval: computed as if the predictions were those of one model.
        num_folds: 0: they are, and the interval stays.
        bounds: range of the number, or None.
        factor: ``OF_FOLDS`` or ``DIFFERENCE_OF_FOLDS``.

    Example:
        >>> print(of_folds(Interval(0.75, 0.65, 0.85, 40), 5))
        0.750 [0.625, 0.875]
    """
    if not num_folds:
        return interval
    low = interval.value - factor * (interval.value - interval.low)
    high = interval.value + factor * (interval.high - interval.value)
    if bounds is not None:
        low, high = np.clip([low, high], *bounds).tolist()
    return dataclasses.replace(interval, low=low, high=high)


def wilson(fraction: float, count: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The ends of Wilson's (1927) score interval of a fraction.

    Args:
        fraction: 0..1.
        count: number of examples, more than 0.
        confidence: coverage of the interval, 0..1.

    Example:
        >>> tuple(round(end, 3) for end in wilson(0.9, 10))
        (0.596, 0.982)
    """
    z = _deviations(confidence)
    centre = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
    variance = fraction * (1 - fraction) / count + z**2 / (4 * count**2)
    half = z * np.sqrt(variance) / (1 + z**2 / count)
    low = 0.0 if fraction == 0 else max(0.0, centre - half)
    high = 1.0 if fraction == 1 else min(1.0, centre + half)
    return float(low), float(high)


@functools.cache
def _deviations(confidence: float) -> float:
    """Half the width of a normal distribution's interval, in standard deviations."""
    from scipy import stats  # late: it takes half a second

    return float(stats.norm.ppf((1 + confidence) / 2))


def mean_with_interval(
    values: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The mean of one number per example, with its interval.

    A fraction of ungrouped examples has Wilson's interval. All others have the percentile
    bootstrap (Efron and Tibshirani, 1993, chapter 13) with 2,000 resamples of examples, or of
    whole groups (cluster bootstrap), from ``MIN_RESAMPLED`` of them on. Where all groups are
    equal, a fraction has Wilson's interval for the number of groups. Where all differences of
    fractions are 0, the upper end of that interval extends to both sides.

    Args:
        values: [n], e.g. errors, or 0 and 1 for wrong and right; NaN is left out.
        groups: [n], clusters of examples, e.g. people; None: every example is its own.
        bounds: ``FRACTION_BOUNDS`` if the values are 0 and 1 for wrong and right,
            ``DIFFERENCE_BOUNDS`` if they are differences of such values; None otherwise.
        confidence: coverage of the interval, 0..1.
        seed: of the resampling.

    Example:
        >>> interval = mean_with_interval(range(12))
        >>> interval.value, interval.count
        (5.5, 12)
    """
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    numbers = numbers[known]
    count = len(numbers)
    if not count:
        return Interval(np.nan, np.nan, np.nan, 0)
    sums: npt.NDArray[Any] = numbers
    counts: npt.NDArray[Any] = np.ones(count)
    if groups is not None:
        _, places = np.unique(np.asarray(groups)[known], return_inverse=True)
        sums, counts = np.bincount(places, numbers), np.bincount(places).astype(np.float64)
    mean = float(sums.sum() / counts.sum())
    if bounds == FRACTION_BOUNDS and groups is None:
        return Interval(mean, *wilson(mean, count, confidence), count)
    if bounds and np.ptp(sums / counts) == 0 and mean in (-1.0, 0.0, 1.0):
        width = wilson(0.0, len(counts), confidence)[1]
        low, high = max(mean - width, bounds[0]), min(mean + width, bounds[1])
        return Interval(mean, low, high, count)
    if len(counts) < MIN_RESAMPLED:
        return without_interval(mean, count, TOO_FEW if groups is None else TOO_FEW_GROUPS)
    return Interval(mean, *_bootstrap(sums, counts, confidence, seed), count)


def _bootstrap(
    sums: npt.NDArray[Any], counts: npt.NDArray[Any], confidence: float, seed: int
) -> tuple[float, float]:
    from scipy import stats  # late: it takes half a second

    if np.ptp(sums / counts) == 0:
        return float(sums[0] / counts[0]), float(sums[0] / counts[0])
    result = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        confidence_level=confidence,
        n_resamples=_NUM_RESAMPLES,
        batch=max(1, _NUMBERS_AT_ONCE // len(counts)),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends = result.confidence_interval
    return float(ends.low), float(ends.high)
