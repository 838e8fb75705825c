"""The test of a claim about one metric on some examples.

test = ClaimTest(metric, is_grouped=False)
test.tested("all examples", pair, claim, mask).is_shown
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import counted
from tf_image_classification.evaluation.analysis import main_score
from tf_image_classification.evaluation.claims import BETTER, EQUIVALENT, NOT_WORSE, Claim
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.paired_fractions import LEAST_P_VALUE, PairedFractions
from tf_image_classification.evaluation.paired_intervals import (
    ALPHA,
    mean_difference,
    metric_difference,
)
from tf_image_classification.evaluation.pairing import LabelPair
from tf_image_classification.evaluation.power import Power, power_of
from tf_image_classification.evaluation.predictions import LabelPredictions
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.definitions import FRACTION, ROOT, Metric

Array = npt.NDArray[Any]

_LARGEST_LOG_LOSS = -math.log(1.2e-7)


@dataclasses.dataclass(frozen=True)
class Tested:
    """The test of a claim on one set of examples.

    Attributes:
        name: "all examples", or the slice as ``column = value``.
        a: the metric of the first model.
        b: that of the second.
        difference: b minus a, with its 90 % interval: two one-sided ones of 95 %.
        p_value: the largest of the tests that the claim consists of; NaN where none can be made.
        is_shown: whether the claim is shown.
        reason: why not, or "".
        num_better: examples for which b is better; of a metric without a number per example, those
            that only b has right.
        num_worse: examples for which b is worse.
        power: what these examples can show; None without an interval.
    """

    name: str
    a: float
    b: float
    difference: Interval
    p_value: float
    is_shown: bool
    reason: str
    num_better: int
    num_worse: int
    power: Power | None


@dataclasses.dataclass(frozen=True)
class ClaimTest:
    """The test of one metric.

    Attributes:
        metric: the metric.
        is_grouped: whether groups of examples are resampled.
    """

    metric: Metric
    is_grouped: bool

    def method(self) -> str:
        """The test in words."""
        unit = "groups" if self.is_grouped else "examples"
        if self.metric.statistic == FRACTION and not self.is_grouped:
            return "exact test of paired fractions (Tango's score)"
        if self._has_mean:
            return f"paired bootstrap-t over {unit}"
        return f"paired bootstrap of the metric over {unit}"

    @property
    def _has_mean(self) -> bool:
        return self.metric.per_example is not None and self.metric.statistic != ROOT

    def tested(self, name: str, found: LabelPair, claim: Claim, mask: Array) -> Tested:
        """The test of a claim on some examples of a label."""
        label, metric = found.label, self.metric
        a, b = found.a.rows(mask), found.b.rows(mask)
        groups = None if found.groups is None else found.groups[mask]
        sign = -1 if metric.higher_is_better is False else 1
        of_a, of_b = (float(metric.of(label, rows).result()) for rows in (a, b))
        changes = _changes(label, metric, a, b) * sign
        better, worse = int((changes > 0).sum()), int((changes < 0).sum())
        count = len(a.truth)
        if math.isnan(of_b - of_a):
            low, high, p_value = math.nan, math.nan, math.nan
            note = f"{metric.name} is undefined on these examples"
        else:
            low, high, note, p_value = self._interval(label, a, b, groups, claim, sign)
        if note:
            low = high = p_value = math.nan
        difference = Interval(of_b - of_a, low, high, count, note)
        ends = (low, high) if sign > 0 else (-high, -low)
        is_shown = not note and _is_shown(claim, *ends) and not p_value > ALPHA
        power = None
        if not note:
            power = self._power(claim, better + worse, count, high - low)
        reason = "" if is_shown else note or _reason(claim, *ends, metric)
        return Tested(name, of_a, of_b, difference, p_value, is_shown, reason, better, worse, power)

    def _interval(
        self,
        label: Label,
        a: LabelPredictions,
        b: LabelPredictions,
        groups: Array | None,
        claim: Claim,
        sign: int,
    ) -> tuple[float, float, str, float]:
        """Low and high end, why there are none, and the p-value; NaN except of the exact test."""
        metric = self.metric
        if not self._has_mean:
            return *metric_difference(label, metric, a, b, groups), math.nan
        assert metric.per_example is not None
        of_a, of_b = (metric.per_example(label, rows).astype(np.float64) for rows in (a, b))
        if metric.statistic != FRACTION or groups is not None:
            largest = _largest_change(label, metric, of_a, of_b)
            return *mean_difference(of_b - of_a, groups, largest=largest), math.nan
        outcome = PairedFractions(int((of_b > of_a).sum()), int((of_b < of_a).sum()), len(of_a))
        p_values = []
        if claim.kind == BETTER:
            p_values.append(outcome.p_below(claim.margin))
        else:
            p_values.append(outcome.p_below(-claim.margin))
        if claim.kind == EQUIVALENT:
            p_values.append(outcome.p_above(claim.margin))
        return *outcome.interval(ALPHA), "", max(p_values)

    def _power(self, claim: Claim, changed: int, count: int, width: float) -> Power:
        """By the number of changes; of groups and other metrics by the width of the interval."""
        from scipy import special  # late: it takes half a second

        if self.metric.statistic != FRACTION or self.is_grouped:
            deviation = width / 2 / float(special.ndtri(1 - ALPHA))
            return power_of(claim, variance=count * deviation**2, count=count, is_fraction=False)
        high = 1.0
        if changed < count:
            high = float(special.betaincinv(changed + 1, count - changed, 1 - ALPHA))
        low = float(special.betaincinv(changed, count - changed + 1, ALPHA)) if changed else 0.0
        return power_of(claim, variance=max(changed, 1) / count, count=count, variances=(low, high))


def _is_shown(claim: Claim, low: float, high: float) -> bool:
    """Whether an interval shows a claim; both in the direction in which more is better."""
    if claim.kind == EQUIVALENT:
        return -claim.margin < low and high < claim.margin
    return low > (claim.margin if claim.kind == BETTER else -claim.margin)


def _reason(claim: Claim, low: float, high: float, metric: Metric) -> str:
    """Why an interval does not show a claim."""
    unit = metric.name.replace("_", " ")
    if claim.kind == BETTER:
        if low <= 0:
            return f"a loss in {unit} of up to {-low:.4f} is not excluded"
        return f"a gain in {unit} of {low:.4f} only is certain"
    if claim.kind == NOT_WORSE or low <= -claim.margin:
        if high < -claim.margin:
            return f"B is worse: {unit} is lost by at least {-high:.4f}"
        return f"a loss in {unit} of up to {-low:.4f} is not excluded"
    if low > claim.margin:
        return f"B is better: {unit} is gained by at least {low:.4f}"
    return f"a gain in {unit} of up to {high:.4f} is not excluded"


def _changes(label: Label, metric: Metric, a: LabelPredictions, b: LabelPredictions) -> Array:
    """Each example's difference, b minus a, [n]."""
    per_example = metric.per_example
    if per_example is None:
        sign = -1 if metric.higher_is_better is False else 1
        _, of_a = main_score(label, a)
        _, of_b = main_score(label, b)
        return (of_b - of_a) * (sign if label.has_classes else -sign)
    return np.asarray(
        per_example(label, b).astype(np.float64) - per_example(label, a).astype(np.float64)
    )


def _largest_change(label: Label, metric: Metric, of_a: Array, of_b: Array) -> float:
    """The largest change of one example: of unbounded errors the largest error of either model."""
    if metric.statistic == FRACTION:
        return 1.0
    if metric.name == "brier_score":
        return 1.0 if label.kind == MULTILABEL else 2.0
    if metric.name == "log_loss":
        return _LARGEST_LOG_LOSS
    if label.has_classes:
        return float(label.depth - 1)
    return float(max(np.abs(of_a).max(), np.abs(of_b).max()))


def p_value_text(p_value: float) -> str:
    """A p-value as text; the exact test for fractions gives none below ``LEAST_P_VALUE``."""
    if p_value < 1.05 * LEAST_P_VALUE:
        return f"p <= {LEAST_P_VALUE:g}"
    return f"p = {p_value:.2g}"


def power_text(found: Tested, claim: Claim) -> str:
    """What the examples of a test can show, in a sentence; "" without power."""
    power = found.power
    if power is None:
        return ""
    text = (
        f"with {counted(power.count, 'example')} a difference of {power.detectable:.2g} can be told"
    )
    if power.needed is None or found.is_shown:
        return text
    text += f"; for the margin {claim.margin:g} about {_rounded(power.needed):,} are needed"
    low, high = power.needed_low, power.needed_high
    if low is not None and high is not None and _rounded(low) != _rounded(high):
        text += f" ({_rounded(low):,} to {_rounded(high):,})"
    return text


def _rounded(count: int) -> int:
    """With two significant digits."""
    scale: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // scale) * scale
