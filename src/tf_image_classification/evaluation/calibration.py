"""Calibration of probabilities: temperature, thresholds and conformal sets.

    calibration = fit(truth, probabilities)        on examples that nothing else was fitted to
    calibrated = calibration.apply(probabilities)
    calibration.conformal_set(calibrated)          contains the true class with 90 % probability

Probabilities are [n, D]; for multilabel each column is a binary decision. Arithmetic is in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
COVERAGE = 0.9
"""Probability with which a conformal set contains the true class."""

NUM_BINS = 15
_MIN = 1e-12
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_ROUNDING = 1e-9  # (9 + 1) * (1 - 0.9) is a little less than 1

MULTILABEL_LIMITS = (_MIN, 1 - 1e-6)
"""Multilabel probabilities are clipped to this range before their logits are taken: float32 has a
resolution of 6e-8 near 1, and runtimes round differently."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The calibration of one label, fitted to an evaluation.

    Attributes:
        temperature: probabilities are raised to the power of 1 / temperature (Guo et al., arXiv
            1706.04599); above 1 for an overconfident model.
        thresholds: for each class the calibrated probability with the best F1 of the class against
            all others.
        conformal: min calibrated probability of a class in a conformal set (Sadinle et al., arXiv
            1609.00451).
        coverage: target probability that a set contains the true class, 0..1.
        is_multilabel: whether each class is a binary decision.
        count: examples that it was fitted to.
        note: how the best-fitting temperature was changed, in a sentence, or "".
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    conformal: float = 0.0
    coverage: float = COVERAGE
    is_multilabel: bool = False
    count: int = 0
    note: str = ""

    def apply(self, probabilities: Array) -> Array:
        """Calibrated probabilities, float64 [n, D]; the ranking of an example's classes stays."""
        return tempered(probabilities, self.temperature, is_multilabel=self.is_multilabel)

    def conformal_set(self, calibrated: Array) -> npt.NDArray[np.bool_]:
        """Whether each class is in an example's set, [n, D]; the most probable class always is."""
        inside = np.asarray(calibrated) >= self.conformal
        inside[np.arange(len(inside)), np.argmax(calibrated, axis=1)] = True
        return inside

    def above_threshold(self, calibrated: Array) -> npt.NDArray[np.bool_]:
        """Whether each class of an example reaches its threshold, [n, D]."""
        return np.asarray(calibrated) >= np.array(self.thresholds)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The calibration from ``to_json``; also from its earlier form, with ``is_several``."""
        names = {"is_several": "is_multilabel"}
        fields = {names.get(name, name): field for name, field in value.items()}
        return cls(**{**fields, "thresholds": tuple(fields["thresholds"])})


def tempered(probabilities: Array, temperature: float, *, is_multilabel: bool = False) -> Array:
    """Probabilities with their logits divided by the temperature, float64 [n, D].

    The softmax of the scaled logits, for multilabel the sigmoid. Unchanged at temperature 1.

    Example:
        >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
        [[0.667, 0.333]]
    """
    exact = np.asarray(probabilities, np.float64)
    if temperature == 1:
        return exact
    if is_multilabel:
        exact = np.clip(exact, *MULTILABEL_LIMITS)
        logits = np.log(exact) - np.log1p(-exact)
        return np.asarray(1 / (1 + np.exp(-logits / temperature)))
    logits = np.log(np.maximum(exact, _MIN)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit(
    truth: Array,
    probabilities: Array,
    *,
    is_multilabel: bool = False,
    coverage: float = COVERAGE,
    temperature: float | None = None,
    note: str = "",
) -> Calibration:
    """Temperature, thresholds and conformal limit, fitted to labelled examples.

    Args:
        truth: int [n] class numbers; for multilabel 0 or 1 [n, D].
        probabilities: [n, D].
        is_multilabel: whether each class is a binary decision; then there are no sets.
        coverage: target probability that a set contains the true class, 0..1.
        temperature: fixed; None to fit it with ``fit_temperature``.
        note: on a fixed temperature.
    """
    if temperature is None:
        temperature, note = fit_temperature(truth, probabilities, is_multilabel=is_multilabel)
    calibrated = tempered(probabilities, temperature, is_multilabel=is_multilabel)
    num_classes = calibrated.shape[1]
    is_class = truth.astype(bool) if is_multilabel else truth[:, None] == np.arange(num_classes)
    thresholds = tuple(
        _best_threshold(is_class[:, k], calibrated[:, k]) for k in range(num_classes)
    )
    limit = 0.0
    if not is_multilabel:
        scores = np.sort(calibrated[np.arange(len(truth)), truth])
        # The k-th smallest of n scores, so that a new example's is above it with this coverage.
        rank = int(np.floor((len(scores) + 1) * (1 - coverage) + _ROUNDING))
        limit = float(scores[rank - 1]) if rank >= 1 else 0.0
    return Calibration(temperature, thresholds, limit, coverage, is_multilabel, len(truth), note)


def fit_temperature(
    truth: Array, probabilities: Array, *, is_multilabel: bool = False
) -> tuple[float, str]:
    """The temperature of the max penalised likelihood, with safeguards for few examples.

    * log T has a normal prior with mean 0 and standard deviation log 2: it keeps few examples near
      the model's own probabilities and is negligible with many.
    * T < 1 is limited to a mean confidence of (n + 1) / (n + 2), Laplace's rule as in the targets
      of Platt (1999): n correct examples do not prove that the next one is correct.
    * A temperature at the upper bound of the search is not used.

    Returns:
        The temperature, and a sentence on which of these rules changed it, or "".
    """
    from scipy import optimize  # late: it takes half a second

    count = len(truth)

    def loss(temperature: float) -> float:
        calibrated = tempered(probabilities, temperature, is_multilabel=is_multilabel)
        # Clipping at 1.2e-7 would hide the effect of the temperature.
        exact = log_loss(truth, calibrated, is_multilabel=is_multilabel, min_probability=_MIN)
        return count * exact

    def confidence(temperature: float) -> float:
        calibrated = tempered(probabilities, temperature, is_multilabel=is_multilabel)
        sure = np.maximum(calibrated, 1 - calibrated) if is_multilabel else calibrated.max(axis=1)
        return float(sure.mean())

    temperature, _ = best_temperature(loss)
    if temperature > 0.99 * _MAX_TEMPERATURE:
        return 1.0, (
            f"left out: up to {_MAX_TEMPERATURE:g} a larger temperature always fits better, as for "
            "a model that predicts at random"
        )
    highest = (count + 1) / (count + 2)
    if temperature >= 1 or confidence(temperature) <= highest:
        return temperature, ""
    if confidence(1.0) >= highest:
        return 1.0, f"left out: {count} examples do not support more confidence than the model has"
    shrunk = float(optimize.brentq(lambda t: confidence(t) - highest, temperature, 1.0))
    return shrunk, (
        f"shrunk from {temperature:.3g} to {shrunk:.3g}: {count} examples support a mean "
        f"confidence of at most {highest:.4g}"
    )


def best_temperature(loss: Callable[[float], float]) -> tuple[float, float]:
    """The temperature of the min loss plus prior, and this minimum.

    Args:
        loss: temperature to a negative log likelihood in nats. The prior of the logarithm is normal
            with mean 0 and standard deviation log 2.

    Example:
        >>> round(best_temperature(lambda t: 1000 * (t - 2.0) ** 2)[0], 2)
        2.0
    """
    from scipy import optimize  # late: it takes half a second

    def penalised(log_temperature: float) -> float:
        prior = float(log_temperature**2 / (2 * np.log(2.0) ** 2))
        return loss(float(np.exp(log_temperature))) + prior

    bounds = np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE)
    best = optimize.minimize_scalar(penalised, bounds=bounds, method="bounded")
    return float(np.exp(best.x)), float(best.fun)


def log_loss(
    truth: Array,
    probabilities: Array,
    *,
    is_multilabel: bool,
    min_probability: float | None = None,
) -> float:
    """The log loss of ``metrics.definitions``, in nats; ``fit`` clips at less."""
    # Late: they need TensorFlow, which applying a calibration does not.
    from tf_image_classification.metrics.class_metrics import MIN_PROBABILITY, negative_logs
    from tf_image_classification.metrics.multilabel_metrics import decision_logs

    each = decision_logs if is_multilabel else negative_logs
    limit = MIN_PROBABILITY if min_probability is None else min_probability
    return float(np.mean(each(truth, probabilities, limit)))


def _best_threshold(is_class: Array, probabilities: Array) -> float:
    from sklearn.metrics import precision_recall_curve  # late: it takes a second

    if not is_class.any() or is_class.all():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(is_class, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, _MIN)
    return float(thresholds[int(np.argmax(f1[:-1]))])


@dataclasses.dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram.

    Attributes:
        low: min confidence of the bin, 0..1.
        high: max confidence.
        confidence: mean over its examples; NaN without any.
        accuracy: fraction of them that are right.
        count: number of examples.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def reliability(confidence: Array, is_right: Array, num_bins: int = NUM_BINS) -> list[Bin]:
    """The reliability diagram: bins of equal width over the confidence of the predicted class.

    Example:
        >>> bins = reliability(np.array([0.9, 0.9, 0.2]), np.array([True, False, True]), 2)
        >>> [(each.count, round(each.accuracy, 3)) for each in bins]
        [(1, 1.0), (2, 0.5)]
    """
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
    """The risk-coverage curve of selective prediction (Geifman and El-Yaniv, arXiv 1705.08500).

    Examples with the same confidence are accepted or rejected together.

    Returns:
        Confidence limits, descending [k]; the fraction of examples accepted at each (coverage);
        the fraction of these that are wrong (risk).
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    limits = np.asarray(confidence)[order]
    accepted = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~np.asarray(is_right, bool)[order])
    is_last = np.append(limits[1:] < limits[:-1], True)  # of equal confidences
    return limits[is_last], (accepted / len(order))[is_last], (wrong / accepted)[is_last]
