"""Label errors, found by the predictions of a model that was not trained on the examples.

    found = label_errors(labels, probabilities)
    found.candidates        to review, most probable errors first
    found.text()            the number of wrong labels, if it can be estimated

Candidates come from confident learning (Northcutt et al., arXiv 1911.00068), by cleanlab; for an
inaccurate model most of them are mistakes of the model. The number of wrong labels is given only
with enough evidence; ``benchmarks/label_errors.py`` measures both on planted errors.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation.calibration import best_temperature, tempered

Array = npt.NDArray[Any]
_OWN_ALLOWANCE = 0.08
"""The fraction of a model's own mistakes that look as confident as a wrong label; measured."""

_MIN_PRECISION = 0.5
_MIN_EVIDENCE = 10.83  # likelihood ratio with a p-value of 0.001 (chi-squared, 1 degree of freedom)
_MAX_FITTED = 2_000_000  # examples times classes
_MAX_NOISE = 0.5


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """Candidates for label errors.

    Attributes:
        candidates: indices of examples, int64, most probable errors first.
        num_likely: number of first candidates that are more likely wrong than right, by the fit.
        expected_precision: estimated fraction of these that are wrong; None without an estimate.
        count: examples that were checked.
    """

    candidates: npt.NDArray[np.int64]
    num_likely: int
    expected_precision: float | None
    count: int

    @property
    def num_wrong(self) -> float | None:
        """Estimated number of wrong labels among the first candidates; None without an estimate."""
        precision = self.expected_precision
        return None if precision is None else precision * self.num_likely

    def text(self) -> str:
        """The result in one or two sentences."""
        if self.num_wrong is not None:
            return (
                f"About {self.num_wrong:.0f} of the first {self.num_likely} candidates for label "
                f"errors are wrong (expected precision {self.expected_precision:.0%}); "
                f"{len(self.candidates)} candidates among {self.count} labels."
            )
        if not len(self.candidates):
            return f"None of {self.count} labels is a candidate for a label error."
        return (
            f"{len(self.candidates)} of {self.count} labels are candidates for label errors, most "
            "probable first. The number of errors cannot be estimated: the model's own mistakes "
            "look the same."
        )


def label_errors(labels: npt.NDArray[np.int64], probabilities: Array) -> LabelErrors:
    """Candidates for label errors, and an estimate of their number.

    The model of the labels is a mixture: with probability 1 - noise a class from the calibrated
    probabilities, otherwise a uniformly random class; temperature and noise are fitted together. A
    model's own mistakes can look like wrong labels: 8 % of its expected mistakes are subtracted
    from the noise. The remainder must be at least half of it and significant.

    Args:
        labels: class numbers [n].
        probabilities: [n, D], of a model that was not trained on these examples.

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
    occurring, places = np.unique(labels, return_inverse=True)
    count = len(labels)
    if len(occurring) < 2:
        return LabelErrors(np.zeros(0, np.int64), 0, None, count)
    of_occurring = np.asarray(probabilities, np.float64)[:, occurring]
    of_occurring = of_occurring / np.maximum(of_occurring.sum(axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes with one example, which it never flags
        is_candidate = np.asarray(find_label_issues(places, of_occurring, n_jobs=1), bool)
    fitted = _fit(places, of_occurring)
    is_likely = fitted.is_wrong > 0.5
    is_candidate |= is_likely
    candidates = np.flatnonzero(is_candidate)
    order = np.argsort(-fitted.is_wrong[candidates], kind="stable")
    if fitted.noise == 0:  # no evidence of wrong labels: sort by the label's probability
        order = np.argsort(fitted.of_label[candidates], kind="stable")
    precision = None
    if is_likely.any() and fitted.evidence > _MIN_EVIDENCE:
        own = 1 - _OWN_ALLOWANCE * fitted.own_mistakes / fitted.noise
        precision = float(fitted.is_wrong[is_likely].mean()) * own
    if precision is not None and precision < _MIN_PRECISION:
        precision = None
    return LabelErrors(candidates[order].astype(np.int64), int(is_likely.sum()), precision, count)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The fitted mixture.

    ``noise`` is the fraction of random labels; ``is_wrong`` the probability that each label is
    random, [n]; ``of_label`` the calibrated probability of each label, [n]; ``own_mistakes`` the
    expected fraction of mistakes of the calibrated model; ``evidence`` twice the log likelihood
    ratio against no noise.
    """

    noise: float
    is_wrong: Array
    of_label: Array
    own_mistakes: float
    evidence: float


def _fit(labels: Array, probabilities: Array) -> _Fit:
    count, num_classes = probabilities.shape
    some = evenly_spaced(count, max(2, _MAX_FITTED // num_classes))

    def of_labels(temperature: float, rows: Array) -> Array:
        return tempered(probabilities[rows], temperature)[np.arange(len(rows)), labels[rows]]

    def loss(temperature: float, *, with_noise: bool = True) -> float:
        given = np.maximum(of_labels(temperature, some), 1e-12)
        noise = _noise(given, num_classes) if with_noise else 0.0
        return float(-np.log(_mixed(given, noise, num_classes)).sum())

    temperature, best = best_temperature(loss)
    _, without_noise = best_temperature(functools.partial(loss, with_noise=False))
    noise = _noise(np.maximum(of_labels(temperature, some), 1e-12), num_classes)
    calibrated = tempered(probabilities, temperature)
    of_label = np.maximum(calibrated[np.arange(count), labels], 1e-12)
    return _Fit(
        noise,
        noise / num_classes / _mixed(of_label, noise, num_classes),
        of_label,
        float(1 - calibrated.max(axis=1).mean()),
        2 * (without_noise - best),
    )


def _mixed(of_label: Array, noise: float, num_classes: int) -> Array:
    return (1 - noise) * of_label + noise / num_classes


def _noise(of_label: Array, num_classes: int) -> float:
    """The max-likelihood fraction of random labels, 0 to 0.5."""
    from scipy import optimize  # late: it takes half a second

    def slope(noise: float) -> float:
        change = 1 / num_classes - of_label
        return float((change / _mixed(of_label, noise, num_classes)).sum())

    if slope(0.0) <= 0:
        return 0.0
    return _MAX_NOISE if slope(_MAX_NOISE) >= 0 else float(optimize.brentq(slope, 0, _MAX_NOISE))
