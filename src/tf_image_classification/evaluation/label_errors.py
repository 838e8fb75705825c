"""Labels that may be wrong, by what a model predicts for examples it has not learned from.

    found = label_errors(labels, probabilities)
    found.candidates        to look at, the likeliest first
    found.text()            how many of them are wrong, where that can be told

Candidates are those of confident learning (Northcutt et al., arXiv 1911.00068), by cleanlab; they
are mistakes of the model where it makes many. A number is given only where the predictions bear it
out; ``benchmarks/label_errors.py`` measures both on planted errors.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation.calibration import (
    LARGEST_TEMPERATURE,
    LEAST_TEMPERATURE,
    log_prior,
    tempered,
)

Array = npt.NDArray[Any]
_OWN_ALLOWANCE = 0.08
"""The fraction of a model's own mistakes that are as sure as a wrong label looks; measured."""

_LEAST_PRECISION = 0.5
_LEAST_EVIDENCE = 10.83  # likelihood ratio that chance exceeds once in a thousand times
_MOST_TO_FIT = 2_000_000  # examples times classes
_MOST_NOISE = 0.5


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """What predictions say of wrong labels.

    Attributes:
        candidates: numbers of the examples, int64, the likeliest error first.
        num_likely: how many of the first ones are more likely wrong than right, by the fit.
        expected_precision: the fraction of these that are wrong; None where that cannot be told.
        count: examples that were looked at.
    """

    candidates: npt.NDArray[np.int64]
    num_likely: int
    expected_precision: float | None
    count: int

    @property
    def num_wrong(self) -> float | None:
        """About how many of the first candidates are wrong; None where that cannot be told."""
        precision = self.expected_precision
        return None if precision is None else precision * self.num_likely

    def text(self) -> str:
        """The finding in a sentence or two."""
        if self.num_wrong is not None:
            return (
                f"Of the first {self.num_likely} candidates for wrong labels about "
                f"{self.num_wrong:.0f} are wrong (expected precision "
                f"{self.expected_precision:.0%}); {len(self.candidates)} candidates of "
                f"{self.count} labels in all."
            )
        if not len(self.candidates):
            return f"None of {self.count} labels is a candidate for a wrong one."
        return (
            f"{len(self.candidates)} of {self.count} labels are candidates for wrong ones, the "
            "likeliest first. How many are wrong cannot be told: the model's own mistakes look the "
            "same."
        )


def label_errors(labels: npt.NDArray[np.int64], probabilities: Array) -> LabelErrors:
    """Candidates for wrong labels, and how many are wrong where that can be told.

    The labels are taken to be drawn from the model's calibrated probabilities, but for a fraction
    that is any class at random; temperature and fraction are fitted together. A model's own
    mistakes can be as sure as wrong labels look: 8 % of those that it is expected to make are
    taken off the fraction. What remains must be at least half of it, and beyond chance.

    Args:
        labels: class numbers [n].
        probabilities: [n, D], of a model that has not seen these examples.

    Raises:
        ConfigError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues  # late: it takes two seconds
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Finding wrong labels needs cleanlab. Install it with: "
            "pip install 'tf_image_classification[quality]'."
        ) from error
    present, places = np.unique(labels, return_inverse=True)
    count = len(labels)
    if len(present) < 2:
        return LabelErrors(np.zeros(0, np.int64), 0, None, count)
    kept = np.asarray(probabilities, np.float64)[:, present]
    kept = kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with one example, of which it flags none
        is_candidate = np.asarray(find_label_issues(places, kept, n_jobs=1), bool)
    fitted = _fit(places, kept)
    is_likely = fitted.is_wrong > 0.5
    is_candidate |= is_likely
    candidates = np.flatnonzero(is_candidate)
    order = np.argsort(-fitted.is_wrong[candidates], kind="stable")
    if fitted.noise == 0:  # no label looks wrong; the least probable ones are the candidates
        order = np.argsort(fitted.of_label[candidates], kind="stable")
    precision = None
    if is_likely.any() and fitted.evidence > _LEAST_EVIDENCE:
        own = 1 - _OWN_ALLOWANCE * fitted.own_mistakes / fitted.noise
        precision = float(fitted.is_wrong[is_likely].mean()) * own
    if precision is not None and precision < _LEAST_PRECISION:
        precision = None
    return LabelErrors(candidates[order].astype(np.int64), int(is_likely.sum()), precision, count)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The fitted fraction of random labels and what follows from it.

    ``is_wrong`` is the probability that each label is random, [n]; ``of_label`` the calibrated
    probability of each label, [n]; ``own_mistakes`` the fraction of examples that the calibrated
    model is expected to get wrong; ``evidence`` the likelihood ratio against no random label.
    """

    noise: float
    is_wrong: Array
    of_label: Array
    own_mistakes: float
    evidence: float


def _fit(labels: Array, probabilities: Array) -> _Fit:
    from scipy import optimize  # late: it takes half a second

    count, num_classes = probabilities.shape
    some = evenly_spaced(count, max(2, _MOST_TO_FIT // num_classes))

    def of_labels(temperature: float, rows: Array) -> Array:
        return tempered(probabilities[rows], temperature)[np.arange(len(rows)), labels[rows]]

    def loss(log_temperature: float, *, with_noise: bool) -> float:
        given = np.maximum(of_labels(float(np.exp(log_temperature)), some), 1e-12)
        noise = _noise(given, num_classes) if with_noise else 0.0
        return float(-np.log(_mixed(given, noise, num_classes)).sum()) + log_prior(log_temperature)

    bounds = np.log(LEAST_TEMPERATURE), np.log(LARGEST_TEMPERATURE)
    how: dict[str, Any] = {"bounds": bounds, "method": "bounded"}
    best = optimize.minimize_scalar(lambda x: loss(x, with_noise=True), **how)
    plain = optimize.minimize_scalar(lambda x: loss(x, with_noise=False), **how)
    temperature = float(np.exp(best.x))
    noise = _noise(np.maximum(of_labels(temperature, some), 1e-12), num_classes)
    calibrated = tempered(probabilities, temperature)
    of_label = np.maximum(calibrated[np.arange(count), labels], 1e-12)
    return _Fit(
        noise,
        noise / num_classes / _mixed(of_label, noise, num_classes),
        of_label,
        float(1 - calibrated.max(axis=1).mean()),
        2 * (plain.fun - best.fun),
    )


def _mixed(of_label: Array, noise: float, num_classes: int) -> Array:
    return (1 - noise) * of_label + noise / num_classes


def _noise(of_label: Array, num_classes: int) -> float:
    """The fraction of random labels with the largest likelihood, 0 to a half."""
    from scipy import optimize  # late, as above

    def slope(noise: float) -> float:
        change = 1 / num_classes - of_label
        return float((change / _mixed(of_label, noise, num_classes)).sum())

    if slope(0.0) <= 0:
        return 0.0
    return _MOST_NOISE if slope(_MOST_NOISE) >= 0 else float(optimize.brentq(slope, 0, _MOST_NOISE))
