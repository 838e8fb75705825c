"""Means over examples with an interval that says how far they can be trusted.

mean_with_interval(errors, groups=people)   examples of one person say less than as many people
mean_with_interval(is_right, bounds=SHARE)  an accuracy; it has a width even if all are right
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
SHARE = (0.0, 1.0)
"""Between which a share lies, such as an accuracy."""

CHANGE = (-1.0, 1.0)
"""Between which a difference of two shares lies."""
_NUM_RESAMPLES = 2_000
_NUMBERS_AT_ONCE = 10_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and where it would lie with other examples of the same kind.

    Attributes:
        value: the mean; NaN without examples.
        low: lower end of the interval; NaN where nothing can be said.
        high: upper end.
        count: number of examples.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_with_interval(
    values: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The mean of a number an example, with its interval.

    The percentile bootstrap (Efron and Tibshirani, 1993, chapter 13): 2,000 times as many examples,
    or groups, are drawn with replacement. Where all are equal that gives an interval without width.
    Of shares Wilson's (1927) is given then, of examples or groups; of differences of shares that
    are all 0 its width to both sides: so large a share may change, for the better or the worse.

    Args:
        values: [n], such as errors, or 0 and 1 for wrong and right; NaN is left out.
        groups: [n], whose examples are drawn together, such as people; None: each by itself.
        bounds: ``SHARE`` if the values are 0 and 1 for wrong and right, ``CHANGE`` if they are
            differences of such; None of other numbers.
        confidence: how often such an interval holds the mean, 0..1.
        seed: decides what is drawn.

    Example:
        >>> interval = mean_with_interval([1.0, 2.0, 3.0, 4.0])
        >>> interval.value, interval.count
        (2.5, 4)
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
    low, high = _ends(sums, counts, mean, bounds, confidence, seed)
    return Interval(mean, low, high, count)


def _ends(
    sums: npt.NDArray[Any],
    counts: npt.NDArray[Any],
    mean: float,
    bounds: tuple[float, float] | None,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    from scipy import stats  # late: it takes half a second

    if np.ptp(sums / counts) == 0:
        if bounds and mean in (-1.0, 0.0, 1.0):
            width = stats.binomtest(0, len(counts)).proportion_ci(confidence, method="wilson").high
            return max(mean - width, bounds[0]), min(mean + width, bounds[1])
        return (np.nan, np.nan) if len(counts) == 1 else (mean, mean)
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
