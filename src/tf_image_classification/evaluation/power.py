"""How small a difference an evaluation set can tell, and how many examples a claim needs.

>>> found = power_of(Claim(EQUIVALENT, 0.01), variance=0.05, count=153)
>>> round(found.detectable, 3), found.needed
(0.045, 4282)

By the normal approximation (Connor, Biometrics 43, 1987, 207-211, for paired fractions), with the
observed variance of one example's difference, and two models that are equal. Of equal models no
number of examples shows that one is better, so ``needed`` is None for such a claim.
"""

from __future__ import annotations

import dataclasses
import math

from tf_image_classification.evaluation.claims import BETTER, EQUIVALENT, Claim
from tf_image_classification.evaluation.paired_intervals import ALPHA

POWER = 0.8
"""Probability with which a set of the needed size shows a claim that is true."""


@dataclasses.dataclass(frozen=True)
class Power:
    """What the examples of a test can show.

    Attributes:
        count: examples of the test.
        detectable: the smallest true difference that they show to be more than 0, with probability
            ``POWER``.
        needed: examples that show the claim with this probability if the models are equal; None
            for a margin of 0 and for superiority.
        needed_low: the same with the lower end of the interval of the variance.
        needed_high: with its upper end.
    """

    count: int
    detectable: float
    needed: int | None
    needed_low: int | None
    needed_high: int | None


def power_of(
    claim: Claim,
    *,
    variance: float,
    count: int,
    variances: tuple[float, float] | None = None,
    is_fraction: bool = True,
) -> Power:
    """The power of a test.

    Args:
        claim: to be shown.
        variance: of one example's difference; of groups that of an example times the design effect.
        count: examples.
        variances: ends of its interval, or None.
        is_fraction: whether at least the rule of three limits the number of examples.
    """
    low, high = variances or (variance, variance)
    detectable = (_deviations(1 - ALPHA) + _deviations(POWER)) * math.sqrt(variance / count)
    needed, needed_low, needed_high = (
        _needed(claim, each, is_fraction=is_fraction) for each in (variance, low, high)
    )
    return Power(count, detectable, needed, needed_low, needed_high)


def _needed(claim: Claim, variance: float, *, is_fraction: bool) -> int | None:
    if claim.kind == BETTER or not claim.margin:
        return None
    # Both tests of an equivalence must reject, each with half the error.
    reached = (1 + POWER) / 2 if claim.kind == EQUIVALENT else POWER
    deviations = _deviations(1 - ALPHA) + _deviations(reached)
    count = deviations**2 * variance / claim.margin**2
    if is_fraction and claim.margin < 1:  # without any change
        count = max(count, math.log(ALPHA) / math.log1p(-claim.margin))
    return max(1, math.ceil(count))


def _deviations(probability: float) -> float:
    from scipy import stats  # late: it takes half a second

    return float(stats.norm.ppf(probability))
