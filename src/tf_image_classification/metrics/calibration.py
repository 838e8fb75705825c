"""Whether probabilities can be believed, and what makes them so.

    calibration = fit(truth, probabilities)        on examples that nothing else was chosen by
    calibration.apply(probabilities)               the same classes, believable probabilities
    calibration.conformal_set(probabilities)       classes that hold the true one, 90 of 100 times

Probabilities are [n, D]; of a label that can have several classes each column is a decision of its
own. Everything is in float64, without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
COVERAGE = 0.9
"""How often a conformal set is meant to hold the true class."""

NUM_BINS = 15
_LEAST = 1e-12
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
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    conformal: float = 0.0
    coverage: float = COVERAGE
    is_several: bool = False
    count: int = 0

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

    Of softmax outputs it is the softmax of the logits divided by the temperature.
    """
    exact = np.asarray(probabilities, np.float64)
    if is_several:
        exact = np.clip(exact, *LIMITS_OF_SEVERAL)
        logits = np.log(exact) - np.log1p(-exact)
        return np.asarray(1 / (1 + np.exp(-logits / temperature)))
    logits = np.log(np.maximum(exact, _LEAST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit(
    truth: Array, probabilities: Array, *, is_several: bool = False, coverage: float = COVERAGE
) -> Calibration:
    """Temperature, thresholds and conformal limit from examples with known classes.

    Args:
        truth: int [n] class numbers; of several classes 0 or 1 [n, D].
        probabilities: [n, D].
        is_several: whether each class is a decision of its own; then there are no sets.
        coverage: how often a set is to hold the true class, 0..1.
    """
    from scipy import optimize  # late: it takes half a second

    def loss(log_temperature: float) -> float:
        calibrated = tempered(probabilities, np.exp(log_temperature), is_several=is_several)
        return negative_log_likelihood(truth, calibrated, is_several=is_several)

    best = optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    temperature = float(np.exp(best.x))
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
    return Calibration(temperature, thresholds, limit, coverage, is_several, len(truth))


def negative_log_likelihood(truth: Array, probabilities: Array, *, is_several: bool) -> float:
    """The mean negative logarithm of what the truth was given, in nats."""
    exact = np.clip(probabilities, _LEAST, 1 - _LEAST)
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
