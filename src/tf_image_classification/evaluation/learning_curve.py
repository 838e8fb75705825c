"""Learning curves of the linear probe, and what they forecast for more labels.

    curve = learning_curve(space, labels, num_classes=6)
    forecast(curve, 800)                     # Expected(0.81, 0.77, 0.85)

The error falls with the number n of labels like e + b * n^-c: a power law with an asymptote (Hestness et
al., 2017, arXiv 1712.00409; Rosenfeld et al., 2020, arXiv 1909.12673). With few points e and c cannot
be told apart, and the best fit alone extrapolates badly (Viering and Loog, 2023, arXiv 2103.10948).
So every c of a grid is fitted, and its forecast counts by its likelihood.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.probe import Floats, Ints, fit_probe, one_thread

FARTHEST = 4.0
"""No forecast beyond so many times the labels that there are."""

MIN_LABELS = 40
MIN_OF_CLASS = 5

_FOLDS = 5
_REPEATS = 4
_POINTS = 6
_STEP = 2**0.5  # ratio of neighbouring numbers of labels
_EXPONENTS = np.linspace(0.1, 1.0, 10)
_BOOTSTRAPS = 300
_DEVIATIONS = 1.645  # of a normal distribution: 90 %
_ERROR_PER_DOUBLING = 0.01  # of the extrapolation; calibrated by benchmarks/forecast.py
_MOST_LABELS = 20_000


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Out-of-fold results by number of labels.

    Attributes:
        sizes: [m], mean numbers of labels, increasing.
        hits: [m, N], how often each example was predicted correctly when it was left out, 0-1.
    """

    sizes: Floats
    hits: Floats

    @property
    def accuracies(self) -> Floats:
        """The accuracy at each size, [m]."""
        found: Floats = self.hits.mean(axis=1)
        return found


@dataclasses.dataclass(frozen=True)
class Expected:
    """An expected value with its 90 % interval."""

    value: float
    low: float
    high: float


def learning_curve(
    space: Floats,
    labels: Ints,
    *,
    num_classes: int,
    seed: int = 0,
    on_fits: Callable[[int, int], Any] = lambda done, count: None,
) -> LearningCurve:
    """The curve over nested random subsets, each judged on the examples of the fold left out.

    Args:
        space: [N, d], ``probe_space`` of the labelled examples.
        labels: [N], numbers of the classes.
        num_classes: of the labels.
        seed: of folds and subsets.
        on_fits: called with the number of fits that are done, and of all.
    """
    random = np.random.default_rng(seed)
    count = len(labels)
    fractions = _STEP ** -np.arange(_POINTS)[::-1]
    hits = np.zeros([_POINTS, count])
    sizes = np.zeros(_POINTS)
    with one_thread():
        for repeat in range(_REPEATS):
            folds = _rank_in_class(labels, random) % _FOLDS
            for fold in range(_FOLDS):
                inside = np.flatnonzero(folds != fold)
                outside = np.flatnonzero(folds == fold)
                order = inside[_nested_order(labels[inside], random)]
                for k, fraction in enumerate(fractions):
                    some = order[: max(2, round(fraction * len(order)))]
                    probe = fit_probe(space[some], labels[some], num_classes)
                    hits[k, outside] += probe.predicted(space[outside]) == labels[outside]
                    sizes[k] += len(some)
                on_fits(repeat * _FOLDS + fold + 1, _REPEATS * _FOLDS)
    return LearningCurve(sizes / (_REPEATS * _FOLDS), hits / _REPEATS)


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


def forecast(curve: LearningCurve, num_labels: float, seed: int = 0) -> Expected:
    """The accuracy to expect of a probe that is fitted to so many labels.

    The 90 % interval adds three variances: a bootstrap over the examples, the disagreement of the
    exponents, and an error that grows with every doubling beyond the largest number of labels.
    """
    random = np.random.default_rng(seed)
    count = curve.hits.shape[1]
    weights = random.multinomial(count, np.full(count, 1 / count), _BOOTSTRAPS) / count
    bootstrapped = weights @ curve.hits.T  # [bootstraps, m]
    noise = np.maximum(bootstrapped.std(axis=0), 1e-3)
    value, spread = _extrapolated(curve.sizes, curve.accuracies[None], noise, num_labels)
    values, _ = _extrapolated(curve.sizes, bootstrapped, noise, num_labels)
    doublings = max(0.0, math.log2(num_labels / curve.sizes[-1]))
    variance = values.var() + spread[0] ** 2 + (_ERROR_PER_DOUBLING * doublings) ** 2
    half = _DEVIATIONS * math.sqrt(variance)
    middle = float(value[0])
    return Expected(middle, max(0.0, middle - half), min(1.0, middle + half))


def _extrapolated(
    sizes: Floats, accuracies: Floats, noise: Floats, num_labels: float
) -> tuple[Floats, Floats]:
    """Forecasts [B] of curves [B, m], and the standard deviations among the exponents."""
    errors = 1 - accuracies
    forecasts, misfits = [], []
    for c in _EXPONENTS:
        x = (sizes / sizes[-1]) ** -c
        a, b = _line(x, errors, 1 / noise**2)
        residuals = (errors - a[:, None] - b[:, None] * x) / noise
        misfits.append((residuals**2).sum(axis=1))
        forecasts.append(a + b * (num_labels / sizes[-1]) ** -c)
    found = 1 - np.array(forecasts)  # [exponents, B]
    likelihood = np.exp(-0.5 * (np.array(misfits) - np.min(misfits, axis=0)))
    likelihood /= likelihood.sum(axis=0)
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
