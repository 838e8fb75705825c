"""Learning curves of the linear probe, and what they forecast for more labels.

    curve = learning_curve(space, labels, num_classes=6)
    forecast(curve, now=400, then=800).then          # Expected(0.81, 0.77, 0.85)

The error falls with the number n of labels like e + b * n^-c: a power law with an asymptote
(Hestness et al., 2017, arXiv 1712.00409; Rosenfeld et al., 2020, arXiv 1909.12673). With few points
e and c cannot be told apart, and the best fit alone extrapolates badly (Viering and Loog, 2023,
arXiv 2103.10948). So every c of a grid is fitted, and its forecast counts by its likelihood.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_image_classification.evaluation.probe import Floats, Ints, fit_probe, one_thread

FARTHEST = 4.0
"""No forecast beyond so many times the labels that there are."""

MIN_LABELS = 40
MIN_OF_CLASS = 5

_FOLDS = 5
_REPEATS, _REPEATS_OF_CLASS = 4, 2
_POINTS = 4
_STEP = 2**0.5  # ratio of neighbouring numbers of labels
_BOOTSTRAPS = 300
_DEVIATIONS = 1.645  # of a normal distribution: 90 %


@dataclasses.dataclass(frozen=True)
class _Model:
    """The power laws that are fitted, and the standard deviations of what they get wrong.

    Attributes:
        exponents: each is fitted.
        error: of a score.
        error_per_doubling: further error for each doubling of the labels.
    """

    exponents: Floats
    error: float
    error_per_doubling: float


# Calibrated by benchmarks/forecast.py. Exponents of images are 0.3 to 0.5 (Hestness et al.); a
# class that grows alone among others is soon as good as they let it be.
_OF_ALL = _Model(np.linspace(0.1, 0.5, 9), 0.01, 0.02)
_OF_CLASS = _Model(np.linspace(1.0, 2.0, 6), 0.07, 0.11)


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Out-of-fold scores by number of labels; a score is a ratio of two sums over the examples.

    Attributes:
        sizes: [m], mean numbers of labels, increasing.
        numerators: [m, N], what each example adds to the numerator.
        denominators: [m, N], the same of the denominator.
        model: the power laws to fit.
    """

    sizes: Floats
    numerators: Floats
    denominators: Floats
    model: _Model = _OF_ALL

    @property
    def scores(self) -> Floats:
        """The score at each size, [m]."""
        found: Floats = self.weighted(np.ones([1, self.numerators.shape[1]]))[0]
        return found

    def weighted(self, weights: Floats) -> Floats:
        """The scores [B, m] where the examples have weights [B, N]."""
        found: Floats = (weights @ self.numerators.T) / np.maximum(
            weights @ self.denominators.T, 1e-9
        )
        return found


@dataclasses.dataclass(frozen=True)
class Expected:
    """An expected value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A score with the labels that there are and with more of them.

    Attributes:
        now: with the labels that there are.
        then: with more.
        gain: the difference; surer than both, since the same examples judge them.
    """

    now: Expected
    then: Expected
    gain: Expected


def learning_curve(
    space: Floats,
    labels: Ints,
    *,
    num_classes: int,
    seed: int = 0,
    on_fits: Callable[[int, int], Any] = lambda done, count: None,
) -> LearningCurve:
    """The accuracy over nested random subsets, each judged on the fold left out.

    Args:
        space: [N, d], ``probe_space`` of the labelled examples.
        labels: [N], numbers of the classes.
        num_classes: of the labels.
        seed: of folds and subsets.
        on_fits: called with the number of folds that are done, and of all.
    """
    random = np.random.default_rng(seed)
    fractions = _STEP ** -np.arange(_POINTS)[::-1]
    hits = np.zeros([_POINTS, len(labels)])
    sizes = np.zeros(_POINTS)
    splits = _splits(labels, _REPEATS, random)
    with one_thread():
        for done, (inside, outside) in enumerate(splits, start=1):
            order = inside[_nested_order(labels[inside], random)]
            for k, fraction in enumerate(fractions):
                some = order[: max(2, round(fraction * len(order)))]
                probe = fit_probe(space[some], labels[some], num_classes)
                hits[k, outside] += probe.predicted(space[outside]) == labels[outside]
                sizes[k] += len(some)
            on_fits(done, len(splits))
    return LearningCurve(sizes / len(splits), hits, np.full(hits.shape, float(_REPEATS)))


def class_curve(
    space: Floats, labels: Ints, number: int, *, num_classes: int, seed: int = 0
) -> LearningCurve:
    """The F1 score of a class over nested subsets of it; the other classes keep all examples.

    F1 counts both the examples of the class that are missed and those of others that are called
    by its name, of which there are more with more labels of the class.

    Args:
        space: [N, d], ``probe_space`` of the labelled examples.
        labels: [N], numbers of the classes.
        number: of the class.
        num_classes: of the labels.
        seed: of folds and subsets.
    """
    random = np.random.default_rng(seed)
    fractions = _STEP ** -np.arange(_POINTS)[::-1]
    hits = np.zeros([_POINTS, len(labels)])
    called = np.zeros(hits.shape)
    sizes = np.zeros(_POINTS)
    splits = _splits(labels, _REPEATS_OF_CLASS, random)
    is_class = labels == number
    with one_thread():
        for inside, outside in splits:
            others = inside[~is_class[inside]]
            own = random.permutation(inside[is_class[inside]])
            for k, fraction in enumerate(fractions):
                some = own[: max(1, round(fraction * len(own)))]
                rows = np.concatenate([others, some])
                predicted = fit_probe(space[rows], labels[rows], num_classes).predicted(
                    space[outside]
                )
                called[k, outside] += predicted == number
                hits[k, outside] += (predicted == number) & is_class[outside]
                sizes[k] += len(some)
    positives = called + _REPEATS_OF_CLASS * is_class
    return LearningCurve(sizes / len(splits), 2 * hits, positives, _OF_CLASS)


def _splits(labels: Ints, repeats: int, random: np.random.Generator) -> list[tuple[Ints, Ints]]:
    """The examples inside and outside of each fold."""
    found = []
    for _ in range(repeats):
        folds = _rank_in_class(labels, random) % _FOLDS
        found += [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(_FOLDS)]
    return [(inside, outside) for inside, outside in found if len(outside)]


def _rank_in_class(labels: Ints, random: np.random.Generator) -> Ints:
    """A random rank of each example among those of its class, [N]."""
    ranks = np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == k))
        ranks[members] = np.arange(len(members)) + random.integers(_FOLDS)
    return ranks


def _nested_order(labels: Ints, random: np.random.Generator) -> Ints:
    """An order of which every beginning has the classes in their proportions."""
    places = np.empty(len(labels))
    for k in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == k))
        places[members] = (np.arange(len(members)) + random.random()) / len(members)
    order: Ints = np.argsort(places, kind="stable")
    return order


def forecast(curve: LearningCurve, *, now: float, then: float, seed: int = 0) -> Forecast:
    """The scores to expect of probes that are fitted to two numbers of labels.

    The variance of each 90 % interval is the sum of three: a bootstrap over the examples, the
    disagreement of the exponents, and an error of the model that grows with every doubling.

    Args:
        curve: of the labels that there are.
        now: their number.
        then: a larger number.
        seed: of the bootstrap.
    """
    random = np.random.default_rng(seed)
    count = curve.numerators.shape[1]
    weights = random.multinomial(count, np.full(count, 1 / count), _BOOTSTRAPS).astype(np.float64)
    weights = np.concatenate([np.ones([1, count]), weights])
    scores = curve.weighted(weights)  # of the examples themselves, and of the bootstraps
    noise = np.maximum(scores[1:].std(axis=0), 1e-3)
    targets = np.array([now, then])
    values, spread = _extrapolated(curve, scores, noise, targets)  # [2, 1 + bootstraps]
    doublings = np.log2(np.maximum(targets / curve.sizes[-1], 1))
    model = curve.model
    error = model.error**2 + (model.error_per_doubling * doublings) ** 2
    variances = values[:, 1:].var(axis=1) + spread[:, 0] ** 2 + error
    gains = values[1] - values[0]
    between = (spread[1, 0] - spread[0, 0]) ** 2
    growth = (model.error_per_doubling * math.log2(then / now)) ** 2
    return Forecast(
        now=_expected(values[0, 0], variances[0], 0.0),
        then=_expected(values[1, 0], variances[1], 0.0),
        gain=_expected(gains[0], gains[1:].var() + between + growth, -1.0),
    )


def _expected(value: float, variance: float, least: float) -> Expected:
    half = _DEVIATIONS * math.sqrt(variance)
    value = min(1.0, max(least, value))
    return Expected(float(value), float(max(least, value - half)), float(min(1.0, value + half)))


def _extrapolated(
    curve: LearningCurve, scores: Floats, noise: Floats, targets: Floats
) -> tuple[Floats, Floats]:
    """Forecasts [T, B] of curves [B, m], and the standard deviations among the exponents."""
    errors, sizes = 1 - scores, curve.sizes
    forecasts, misfits = [], []
    for c in curve.model.exponents:
        x = (sizes / sizes[-1]) ** -c
        a, b = _line(x, errors, 1 / noise**2)
        residuals = (errors - a[:, None] - b[:, None] * x) / noise
        misfits.append((residuals**2).sum(axis=1))
        forecasts.append(a + b * (targets[:, None] / sizes[-1]) ** -c)
    found = 1 - np.array(forecasts)  # [exponents, T, B]
    likelihood = np.exp(-0.5 * (np.array(misfits) - np.min(misfits, axis=0)))
    likelihood = (likelihood / likelihood.sum(axis=0))[:, None]
    mean = (likelihood * found).sum(axis=0)
    spread = np.sqrt((likelihood * (found - mean) ** 2).sum(axis=0))
    return mean, spread


def _line(x: Floats, errors: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted least squares of a + b x with a >= 0 and b >= 0; [B] each."""
    w = weights / weights.sum()
    mean_x, mean_y = w @ x, errors @ w
    b = np.maximum(((errors - mean_y[:, None]) * (x - mean_x)) @ w / (w @ (x - mean_x) ** 2), 0)
    a = mean_y - b * mean_x
    through_zero = (errors * x) @ w / (w @ x**2)
    return np.maximum(a, 0), np.where(a < 0, through_zero, b)
