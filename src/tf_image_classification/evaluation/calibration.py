"""Whether probabilities can be believed, and what makes them so.

    calibration = fit(truth, probabilities)        on examples that nothing else was chosen by
    calibration.apply(probabilities)               the same classes, believable probabilities
    calibration.conformal_set(probabilities)       classes that hold the true one, 90 of 100 times

Probabilities are [n, D]; of a label that can have several classes each column is a decision of its
own. Everything is in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.metrics.class_metrics import negative_logs
from tf_image_classification.metrics.several_metrics import negative_logs_of_decisions

Array = npt.NDArray[Any]
COVERAGE = 0.9
"""How often a conformal set is meant to hold the true class."""

NUM_BINS = 15
_LEAST = 1e-12
LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 0.05, 20.0
_ROUNDING = 1e-9  # (9 + 1) * (1 - 0.9) is a little less than 1

LIMITS_OF_SEVERAL = (_LEAST, 1 - 1e-6)
"""Where the probabilities of several classes are cut off before their logits are taken: float32
knows one near 1 to 6e-8 only, and runtimes round it differently."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What an evaluation has learned of one label's probabilities.

    Attributes:
        temperature: the probabilities are taken to the power of one over it (Guo et al., arXiv
            1706.04599); above 1 for a model that is too sure of itself.
        thresholds: for each class the calibrated probability from which on calling an example of
            this class gives the best F1 against all others.
        conformal: least calibrated probability of a class to be in the set that holds the true one
            as often as ``coverage`` says (Sadinle et al., arXiv 1609.00451).
        coverage: 0..1.
        is_several: whether each class is a decision of its own.
        count: examples that all this was fitted to.
        note: what was done to the temperature that fits best, in a sentence, or "".
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    conformal: float = 0.0
    coverage: float = COVERAGE
    is_several: bool = False
    count: int = 0
    note: str = ""

    def apply(self, probabilities: Array) -> Array:
        """Calibrated probabilities, float64 [n, D]; the order of an example's classes stays."""
        return tempered(probabilities, self.temperature, is_several=self.is_several)

    def conformal_set(self, calibrated: Array) -> npt.NDArray[np.bool_]:
        """The classes of each example's set, [n, D]; never empty: the likeliest is always in."""
        inside = np.asarray(calibrated) >= self.conformal
        inside[np.arange(len(inside)), np.argmax(calibrated, axis=1)] = True
        return inside

    def above_threshold(self, calibrated: Array) -> npt.NDArray[np.bool_]:
        """The classes of each example that reach their threshold, [n, D]; none, or several."""
        return np.asarray(calibrated) >= np.array(self.thresholds)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """What ``to_json`` gave."""
        return cls(**{**value, "thresholds": tuple(value["thresholds"])})


def tempered(probabilities: Array, temperature: float, *, is_several: bool = False) -> Array:
    """Probabilities to the power of 1 / temperature, made to add up to one again.

    Of softmax outputs it is the softmax of the logits divided by the temperature. At temperature 1
    they stay as they are.
    """
    exact = np.asarray(probabilities, np.float64)
    if temperature == 1:
        return exact
    if is_several:
        exact = np.clip(exact, *LIMITS_OF_SEVERAL)
        logits = np.log(exact) - np.log1p(-exact)
        return np.asarray(1 / (1 + np.exp(-logits / temperature)))
    logits = np.log(np.maximum(exact, _LEAST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit(
    truth: Array,
    probabilities: Array,
    *,
    is_several: bool = False,
    coverage: float = COVERAGE,
    temperature: float | None = None,
    note: str = "",
) -> Calibration:
    """Temperature, thresholds and conformal limit from examples with known classes.

    Args:
        truth: int [n] class numbers; of several classes 0 or 1 [n, D].
        probabilities: [n, D].
        is_several: whether each class is a decision of its own; then there are no sets.
        coverage: how often a set is to hold the true class, 0..1.
        temperature: used as it is; None: as ``fit_temperature`` finds it.
        note: of a temperature that is given.
    """
    if temperature is None:
        temperature, note = fit_temperature(truth, probabilities, is_several=is_several)
    calibrated = tempered(probabilities, temperature, is_several=is_several)
    num_classes = calibrated.shape[1]
    is_class = truth.astype(bool) if is_several else truth[:, None] == np.arange(num_classes)
    thresholds = tuple(
        _best_threshold(is_class[:, k], calibrated[:, k]) for k in range(num_classes)
    )
    limit = 0.0
    if not is_several:
        scores = np.sort(calibrated[np.arange(len(truth)), truth])
        # The smallest k of n scores such that one more example is at least so likely in coverage.
        rank = int(np.floor((len(scores) + 1) * (1 - coverage) + _ROUNDING))
        limit = float(scores[rank - 1]) if rank >= 1 else 0.0
    return Calibration(temperature, thresholds, limit, coverage, is_several, len(truth), note)


def fit_temperature(
    truth: Array, probabilities: Array, *, is_several: bool = False
) -> tuple[float, str]:
    """The temperature with the least log loss, as far as so few examples bear it out.

    * Penalised likelihood: log T has a normal prior around 0 with standard deviation log 2, which
      holds a few examples near the model's own probabilities and has no weight beside many.
    * Below 1 it goes no further than to a mean probability of the predicted class of (n + 1) /
      (n + 2), as Platt (1999) sets his targets by Laplace's rule: n examples that are all right do
      not show that the next one is.
    * One that ends at the search's upper bound is not used.

    Returns:
        The temperature, and what of this changed it, or "".
    """
    from scipy import optimize  # late: it takes half a second

    count = len(truth)

    def loss(log_temperature: float) -> float:
        calibrated = tempered(probabilities, np.exp(log_temperature), is_several=is_several)
        return count * _exact_loss(truth, calibrated, is_several) + log_prior(log_temperature)

    def confidence(temperature: float) -> float:
        calibrated = tempered(probabilities, temperature, is_several=is_several)
        sure = np.maximum(calibrated, 1 - calibrated) if is_several else calibrated.max(axis=1)
        return float(sure.mean())

    bounds = np.log(LEAST_TEMPERATURE), np.log(LARGEST_TEMPERATURE)
    best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    temperature = float(np.exp(best.x))
    if temperature > 0.99 * LARGEST_TEMPERATURE:
        return 1.0, (
            f"left out: up to {LARGEST_TEMPERATURE:g} a larger temperature always fits better, as "
            "of a model that knows nothing of the class"
        )
    highest = (count + 1) / (count + 2)
    if temperature >= 1 or confidence(temperature) <= highest:
        return temperature, ""
    if confidence(1.0) >= highest:
        return 1.0, f"left out: {count} examples do not bear out more confidence than the model has"
    shrunk = float(optimize.brentq(lambda t: confidence(t) - highest, temperature, 1.0))
    return shrunk, (
        f"shrunk from {temperature:.3g} to {shrunk:.3g}: {count} examples bear out a mean "
        f"confidence of {highest:.4g} at most"
    )


def log_prior(log_temperature: float) -> float:
    """What a temperature costs a fit, in nats: its logarithm has a normal prior, log 2 wide."""
    return float(log_temperature**2 / (2 * np.log(2.0) ** 2))


def log_loss(truth: Array, probabilities: Array, *, is_several: bool) -> float:
    """The log loss as everywhere, in nats; see ``definitions``."""
    if is_several:
        return float(np.mean(negative_logs_of_decisions(truth, probabilities)))
    return float(np.mean(negative_logs(truth, probabilities)))


def _exact_loss(truth: Array, calibrated: Array, is_several: bool) -> float:
    """The same without its least probability, which would hide what a temperature does."""
    exact = np.clip(calibrated, _LEAST, 1 - _LEAST)
    if is_several:
        return float(-np.mean(np.where(truth > 0, np.log(exact), np.log1p(-exact))))
    return float(-np.mean(np.log(exact[np.arange(len(truth)), truth])))


def _best_threshold(is_class: Array, probabilities: Array) -> float:
    from sklearn.metrics import precision_recall_curve  # late: it takes a second

    if not is_class.any() or is_class.all():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(is_class, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, _LEAST)
    return float(thresholds[int(np.argmax(f1[:-1]))])


@dataclasses.dataclass(frozen=True)
class Bin:
    """Examples of about the same confidence.

    Attributes:
        low: least confidence of the bin, 0..1.
        high: largest.
        confidence: mean of its examples; NaN without any.
        accuracy: share of them that are right.
        count: how many.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def reliability(confidence: Array, is_right: Array, num_bins: int = NUM_BINS) -> list[Bin]:
    """Bins of equal width over the confidence of the predicted class."""
    places = np.clip((np.asarray(confidence) * num_bins).astype(int), 0, num_bins - 1)
    pair = (np.asarray(confidence), np.asarray(is_right))
    bins = []
    for i in range(num_bins):
        inside = places == i
        count = int(inside.sum())
        sure, right = (float(np.mean(x[inside])) if count else np.nan for x in pair)
        bins.append(Bin(i / num_bins, (i + 1) / num_bins, sure, right, count))
    return bins


def expected_calibration_error(bins: list[Bin]) -> float:
    """The mean over examples of |confidence - accuracy| of their bin (Naeini et al., AAAI 2015)."""
    total = sum(each.count for each in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins if b.count) / max(total, 1)


def risk_and_coverage(confidence: Array, is_right: Array) -> tuple[Array, Array, Array]:
    """What remains wrong when the least confident are left out (Geifman, arXiv 1705.08500).

    Examples of the same confidence are kept or left out together, since no limit divides them.

    Returns:
        Confidence limits, descending [k]; the share of examples that are kept at each; the share of
        those that are wrong.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    limits = np.asarray(confidence)[order]
    kept = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~np.asarray(is_right, bool)[order])
    is_last = np.append(limits[1:] < limits[:-1], True)  # of those with its confidence
    return limits[is_last], (kept / len(order))[is_last], (wrong / kept)[is_last]
