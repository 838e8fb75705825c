"""Exact inference for the paired difference of two fractions, e.g. of two accuracies.

>>> found = PairedFractions(gained=0, lost=0, count=20)
>>> found.p_below(-0.01) > 0.05          # no flip in 20 examples does not exclude a loss of 1 point
True

The test orders the outcomes by Tango's score statistic (Statistics in Medicine 17, 1998, 891-908)
and takes the largest probability over the nuisance parameter, the fraction of examples that
change, within its confidence interval (Berger and Boos, JASA 89, 1994, 1012-1016; for paired
fractions Hsueh, Liu and Chen, Biometrics 57, 2001, 478-483; as an interval Tang, Tang and Chan,
Statistics in Medicine 22, 2003, 1217-1233). So its error is at most the stated one for every
number of examples. Tango's interval alone is too short where few examples change: without a flip
it excludes a loss of 1 point from 268 examples on, whose probability is then 6.8 %.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LEAST_P_VALUE = 0.001
"""Probability that the fraction of changes lies outside its interval; it is added to p."""

_NUM_NUISANCE = 48
_DEVIATIONS = 8  # of the lost examples that are summed over
_ROUNDING = 1e-9
_STEPS = 20  # of the bisection: 2 / 2^20 is far below one example of any set


@dataclasses.dataclass(frozen=True)
class PairedFractions:
    """The outcome of a paired comparison of right and wrong.

    Attributes:
        gained: examples that only the second model has right.
        lost: examples that only the first model has right.
        count: all examples.
    """

    gained: int
    lost: int
    count: int

    @property
    def value(self) -> float:
        """The difference of the fractions, second minus first."""
        return (self.gained - self.lost) / self.count

    def p_below(self, difference: float) -> float:
        """The p-value of the hypothesis that the true difference is at most this, -1..1."""
        return _p_value(self.gained, self.lost, self.count, difference)

    def p_above(self, difference: float) -> float:
        """The p-value of the hypothesis that the true difference is at least this, -1..1."""
        return _p_value(self.lost, self.gained, self.count, -difference)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The differences that neither one-sided test of level ``alpha`` rejects."""
        low = _lower_end(self.gained, self.lost, self.count, alpha)
        return low, -_lower_end(self.lost, self.gained, self.count, alpha)


def _lower_end(gained: int, lost: int, count: int, alpha: float) -> float:
    """The largest rejected difference below the observed one."""
    low, high = -1.0, (gained - lost) / count
    if low == high:
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _p_value(gained, lost, count, middle) <= alpha:
            low = middle
        else:
            high = middle
    return low


def _p_value(gained: int, lost: int, count: int, difference: float) -> float:
    """Of the hypothesis that the true difference is at most ``difference``."""
    if difference >= 1:
        return 1.0
    if difference < -1 or (difference == -1 and lost < count):
        return 0.0
    from scipy import special  # late: it takes half a second

    observed = float(_score(gained, lost, count, difference))
    changed = _changed(gained + lost, count, abs(difference))
    if changed is None:  # a fraction of changes that would be compatible is excluded
        return LEAST_P_VALUE
    of_lost = (changed - difference) / 2  # [nuisance]
    of_gained = changed - of_lost
    mean = count * of_lost
    spread = _DEVIATIONS * np.sqrt(count * of_lost * (1 - of_lost)) + _DEVIATIONS
    first = max(0, int((mean - spread).min()))
    last = min(count, int(np.ceil((mean + spread).max())))
    some_lost = np.arange(first, last + 1)
    fewest = _fewest_gained(some_lost, count, difference, observed)
    log_lost = (
        special.gammaln(count + 1)
        - special.gammaln(some_lost + 1)
        - special.gammaln(count - some_lost + 1)
        + special.xlogy(some_lost, of_lost[:, None])
        + special.xlog1py(count - some_lost, -of_lost[:, None])
    )
    rest = count - some_lost
    fraction = np.clip(of_gained / np.maximum(1 - of_lost, _ROUNDING), 0.0, 1.0)[:, None]
    # P(gained >= k of the rest) is a regularised incomplete beta function.
    k = np.clip(fewest, 1, None)
    tail = special.betainc(k, np.maximum(rest - k + 1, 1), fraction)
    tail = np.where(fewest <= 0, 1.0, np.where(fewest > rest, 0.0, tail))
    found = (np.exp(log_lost) * tail).sum(axis=1).max()
    return float(min(1.0, found + LEAST_P_VALUE))


def _changed(observed: int, count: int, least: float) -> Array | None:
    """Fractions of changed examples to try, [nuisance]; None if none is compatible.

    Args:
        observed: changed examples.
        count: all examples.
        least: the smallest fraction that allows the difference.
    """
    from scipy import special  # late, as above

    half = LEAST_P_VALUE / 2
    low, high = 0.0, 1.0
    if observed:
        low = float(special.betaincinv(observed, count - observed + 1, half))
    if observed < count:
        high = float(special.betaincinv(observed + 1, count - observed, 1 - half))
    low = max(low, least)
    if high < low:
        return None
    return np.linspace(low, high, _NUM_NUISANCE)


def _fewest_gained(lost: Array, count: int, difference: float, least: float) -> Array:
    """For each number of lost examples the fewest gained ones whose score is at least ``least``.

    It is one more than there can be where no number is enough. The score rises with them.
    """
    low, high = np.zeros(len(lost), np.int64), count - lost + 1
    while (low < high).any():
        middle = (low + high) // 2
        is_enough = _score(middle, lost, count, difference) >= least - _ROUNDING
        is_open = low < high
        high = np.where(is_open & is_enough, middle, high)
        low = np.where(is_open & ~is_enough, middle + 1, low)
    return low


def _score(gained: Any, lost: Any, count: int, difference: float) -> Any:
    """Tango's score statistic of a true difference, gained minus lost."""
    a = 2.0 * count
    b = (a - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    of_lost = (np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = count * (2 * of_lost + difference * (1 - difference))
    excess = gained - lost - count * difference
    deviation = np.sqrt(np.maximum(variance, 0.0))
    at_end = np.where(np.abs(excess) < _ROUNDING, 0.0, np.copysign(np.inf, excess))
    return np.where(deviation > _ROUNDING, excess / np.maximum(deviation, _ROUNDING), at_end)
